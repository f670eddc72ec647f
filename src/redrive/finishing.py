"""Finishing work under a claim that sends messages: done and what to send in one write, then the sends, then that too.

1. what does not fit into the claim is written beside it    a crash: the claim is in progress; the work is repeated
2. the claim is done, with what is unsent in it              a crash: whoever finds the key done sends
3. the messages are sent                                     a crash: they are sent again, under the same ids
4. the claim forgets what was unsent                         nothing is left
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import Any

from redrive.claims import UNSENT_KEPT_MS, Claim, Claims, Done, Written, digest
from redrive.errors import BrokerError, StoreError, UnsentLost, VersionConflict
from redrive.runtime import Runtime
from redrive.store import ABSENT, UNSENT
from redrive.unsent import Unsent, from_json, leave, to_json

_log = logging.getLogger("redrive.claims")
_TRIES = 5
_IN_THE_CLAIM = 32 * 1024
"""Bytes of JSON; what is larger is kept in entries of its own."""
_PIECE = 256 * 1024


class Finishing:
    """Ends claims, and sends what the work under them has sent."""

    def __init__(self, runtime: Runtime, claims: Claims) -> None:
        self._runtime, self._claims = runtime, claims

    async def finish(self, claim: Claim, result: Any = None, unsent: list[Unsent] | None = None) -> None:  # noqa: ANN401
        """The work is done; a store that is away for a moment must not let it be done twice. Then send.

        Args:
            claim: the claim.
            result: JSON, for whoever comes later.
            unsent: what the work sends; empty when this returns.

        Raises:
            ClaimLost: If the claim was taken over; nothing is sent.
            StoreError: If the store stays away.
            BrokerError: If not everything was sent; the key is done, and `send_left` sends.
        """
        written = await self._done(claim, result, unsent)
        if unsent:
            await leave(self._runtime, unsent)
            if written is not None:
                await self._forget(written)

    async def send_left(self, done: Done) -> None:
        """Send what was left unsent when the work was done, by whoever did it.

        Raises:
            StoreError: If the store is away.
            BrokerError: If not everything was sent; nothing is forgotten.
            UnsentLost: If the store has lost what there was to send.
        """
        if done.unsent is None or done.written is None:
            return
        unsent = await self._read(done.written)
        _log.info("%d messages of work that was done before are sent", len(unsent))
        await leave(self._runtime, unsent)
        await self._forget(done.written)

    async def _done(self, claim: Claim, result: Any, unsent: list[Unsent] | None) -> Written | None:  # noqa: ANN401
        for left in reversed(range(_TRIES)):
            try:
                kept = await self._kept(claim, unsent) if unsent else None
                return await self._claims.finish(claim, result, unsent=kept)
            except (StoreError, BrokerError):
                if not left:
                    raise
                await asyncio.sleep(0.05 * 2.0 ** (_TRIES - left))
        raise AssertionError

    async def _kept(self, claim: Claim, unsent: list[Unsent]) -> Any:  # noqa: ANN401 - JSON
        """What stands in the claim: the messages, or how many entries they are in."""
        value = to_json(unsent)
        if len(value) <= _IN_THE_CLAIM:
            return json.loads(value)
        size = min(_PIECE, self._runtime.store.max_value)
        pieces = [value[start : start + size] for start in range(0, len(value), size)]
        expires = self._runtime.clock.now_ms() + UNSENT_KEPT_MS
        for number, piece in enumerate(pieces):
            key = _piece(claim.key, claim.fence, number)
            with contextlib.suppress(VersionConflict):  # written at a former try
                await self._runtime.store.put(UNSENT, key, piece, if_version=ABSENT, expires_at_ms=expires)
        return {"pieces": len(pieces)}

    async def _read(self, written: Written) -> list[Unsent]:
        found = written.document["unsent"]
        if isinstance(found, list):
            return [Unsent.from_document(one) for one in found]
        value = b""
        for number in range(found["pieces"]):
            entry = await self._runtime.store.get(UNSENT, _piece(written.key, written.document["fence"], number))
            if entry is None:
                raise UnsentLost(written.key)
            value += entry.value
        return from_json(value)

    async def _forget(self, written: Written) -> None:
        """Where it cannot be forgotten, a duplicate sends it once more."""
        try:
            await self._claims.sent(written)
            found = written.document["unsent"]
            for number in range(0 if isinstance(found, list) else found["pieces"]):
                await self._drop(_piece(written.key, written.document["fence"], number))
        except (StoreError, BrokerError) as error:
            _log.warning("that the messages of %r were sent cannot be noted: %s", written.key, error)

    async def _drop(self, key: str) -> None:
        entry = await self._runtime.store.get(UNSENT, key)
        if entry is not None:
            with contextlib.suppress(VersionConflict):
                await self._runtime.store.delete(UNSENT, key, if_version=entry.version)


def _piece(key: str, fence: int, number: int) -> str:
    return f"{digest(key)}/{fence}/{number}"
