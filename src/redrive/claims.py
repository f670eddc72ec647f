"""Claims: one effect for each idempotency key, whatever is delivered twice.

    absent ──take──► in progress ──finish──► done          kept 14 days
       ▲                 │  ▲
       └──── release ────┘  └── taken over when its lease ran out

Invariants:
    1. Every write is conditional on the version read. Whoever takes a claim over changes the version, so that the
       former holder's finish writes nothing (ClaimLost).
    2. Each take raises the fence by one; an effect that can compare numbers can refuse a late one.
    3. A key whose message is parked or dead does not expire: its later copy must still be known.
    4. What the work sends is written in the same write that says it is done, and taken out once it was sent: whoever
       finds the key done and something unsent sends it, without doing the work again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from dataclasses import dataclass, field
from typing import Any

from redrive.clock import Clock
from redrive.errors import ClaimLost, NewerRecord, VersionConflict
from redrive.store import ABSENT, CLAIMS, Store

KEPT_MS = 14 * 24 * 3600 * 1000
"""How long a finished key is known: as long as a dead letter may be kept on Amazon SQS.

Source: Amazon SQS quotas, "Message retention": 14 days at most.
"""
UNSENT_KEPT_MS = 365 * 24 * 3600 * 1000
"""How long a finished key with something unsent is known: longer than its message will be away."""
_VERSION = 2
_PLAIN = 1
"""The version of a claim with nothing unsent: an older worker, which would not send it, must not take the other one."""
_log = logging.getLogger("redrive.claims")


@dataclass(frozen=True, slots=True, kw_only=True)
class InProgress:
    """Somebody else has the claim."""

    left: float
    """Seconds until its lease ends, unless extended; over 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A finished claim as it stands in the store."""

    key: str
    document: dict[str, Any]
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The key's work is finished."""

    same_payload: bool
    """Whether it was done for this payload, or for another one under the same key."""
    result: Any = None
    """What the finisher left: JSON, or None."""
    unsent: Any = None
    """What it had still to send, as `finish` got it: JSON, or None (invariant 4)."""
    written: Written | None = field(default=None, repr=False, compare=False)
    """The entry that says so, for `sent`."""


@dataclass(slots=True, kw_only=True)
class Claim:
    """A claim that this turn holds."""

    key: str
    payload_hash: str
    message_id: str
    lease: float
    version: int
    fence: int
    held_for: list[str] = field(default_factory=list)
    """Messages, parked or dead, for which the key must not be forgotten (invariant 3)."""
    ended: bool = False
    """Finished or released: there is nothing left to extend."""
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One write at a time: the turn's and the lease keeper's would take each other for a stranger's."""


class Claims:
    """Takes, extends, finishes and releases claims in a store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    async def take(self, key: str, *, payload_hash: str, message_id: str, lease: float) -> Claim | InProgress | Done:
        """Take the claim for a key, unless somebody has it or its work is done.

        Args:
            key: any text; its digest is the store's key, so that its length does not matter.
            payload_hash: of the payload that the key stands for.
            message_id: the message in hand.
            lease: seconds until another may take over.

        Raises:
            StoreUnavailable: If the store cannot be reached; the work must not be done.
            NewerRecord: If a later version of redrive wrote the claim; the message must be handed back.
        """
        while True:
            entry = await self._store.get(CLAIMS, digest(key))
            document: dict[str, Any] = {"fence": 0, "held": []} if entry is None else _read(entry.value)
            if left := self._left(document):
                return InProgress(left=left)
            if document.get("state") == "done" and entry is not None:
                return await self._done(
                    Written(key=key, document=document, version=entry.version), payload_hash, message_id
                )
            claim = Claim(
                key=key,
                payload_hash=payload_hash,
                message_id=message_id,
                lease=lease,
                version=ABSENT if entry is None else entry.version,
                fence=document["fence"] + 1,
                held_for=[one for one in document["held"] if one != message_id],
            )
            try:
                await self._write(claim, "claimed", expires=not claim.held_for)
            except ClaimLost:
                continue
            return claim

    async def extend(self, claim: Claim) -> None:
        """Let the claim's lease start anew.

        Raises:
            ClaimLost: If it was taken over.
        """
        if not claim.ended:
            await self._write(claim, "claimed", expires=not claim.held_for)

    async def finish(self, claim: Claim, result: Any = None, *, unsent: Any = None) -> Written | None:  # noqa: ANN401
        """The work is done: from now on the key is refused, for 14 days.

        Args:
            claim: the claim.
            result: JSON, for whoever comes later; left out where the store has no room for it.
            unsent: JSON that says what the work sends, of at most 64 KB: tell `sent` once it was sent (invariant 4).

        Raises:
            ClaimLost: If it was taken over.
        """
        return await self._write(claim, "done", result=result, unsent=unsent, expires=not claim.held_for)

    async def sent(self, written: Written) -> None:
        """What was unsent is sent: nobody has to send it again. Where somebody wrote meanwhile, nothing happens.

        Raises:
            StoreUnavailable: If the store is away; whoever finds the key sends once more, under the same ids.
        """
        document = {**written.document, "v": _PLAIN}
        document.pop("unsent", None)
        await self._rewrite(written.key, document, written.version)

    async def release(self, claim: Claim, *, hold: bool) -> None:
        """The work is not done: the key is free again.

        Args:
            claim: the claim.
            hold: the message is going to be parked or dead, and its key must be known for as long (invariant 3).

        Raises:
            ClaimLost: If it was taken over.
        """
        if hold:
            claim.held_for = [*claim.held_for, claim.message_id]
        await self._write(claim, "free", expires=not claim.held_for)  # kept for its fence (invariant 2)

    def _left(self, document: dict[str, Any]) -> float:
        """Seconds until the lease of who has it ends; 0: nobody has it."""
        if document.get("state") != "claimed":
            return 0.0
        until_ms: int = document["lease_until_ms"]
        return max(0.0, (until_ms - self._clock.now_ms()) / 1000)

    async def _done(self, written: Written, payload_hash: str, message_id: str) -> Done:
        if message_id in written.document["held"]:
            written = await self._let_go(written, message_id)
        document = written.document
        return Done(
            same_payload=document["payload"] == payload_hash,
            result=document.get("result"),
            unsent=document.get("unsent"),
            written=written,
        )

    async def _write(
        self,
        claim: Claim,
        state: str,
        *,
        expires: bool,
        result: Any = None,  # noqa: ANN401 - any JSON
        unsent: Any = None,  # noqa: ANN401 - any JSON
    ) -> Written | None:
        """Write what stands; None where the claim has ended, and nothing was written."""
        async with claim.writing:
            if claim.ended:
                return None
            now = self._clock.now_ms()
            document = {
                "v": _PLAIN if unsent is None else _VERSION,
                "state": state,
                "fence": claim.fence,
                "payload": claim.payload_hash,
                "message": claim.message_id,
                "held": claim.held_for,
                "lease_until_ms": now + int(claim.lease * 1000),
                "result": result,
            }
            if unsent is not None:
                document["unsent"] = unsent
            kept_ms = KEPT_MS if unsent is None else UNSENT_KEPT_MS
            try:
                claim.version = await self._store.put(
                    CLAIMS,
                    digest(claim.key),
                    self._fitting(claim, document),
                    if_version=claim.version,
                    expires_at_ms=now + kept_ms if expires else None,
                )
            except VersionConflict:
                raise ClaimLost(claim.key) from None
            claim.ended = state != "claimed"
            return Written(key=claim.key, document=document, version=claim.version)

    def _fitting(self, claim: Claim, document: dict[str, Any]) -> bytes:
        """The document as it is written; without the result where the store has no room: the work is done anyway."""
        value = json.dumps(document).encode()
        if len(value) > self._store.max_value and document["result"] is not None:
            document["result"] = None
            _log.warning("the result of %r is not kept: it has %d bytes", claim.key, len(value))
            value = json.dumps(document).encode()
        return value

    async def forget(self, key: str, message_id: str) -> None:
        """A parked or dead message was deleted: its key need not be known for it any more."""
        entry = await self._store.get(CLAIMS, digest(key))
        if entry is not None and message_id in (document := _read(entry.value))["held"]:
            await self._let_go(Written(key=key, document=document, version=entry.version), message_id)

    async def _let_go(self, written: Written, message_id: str) -> Written:
        """A held message is gone: the key may expire again, once it is held for nobody else."""
        document = {**written.document, "held": [one for one in written.document["held"] if one != message_id]}
        version = await self._rewrite(written.key, document, written.version)
        return Written(key=written.key, document=document, version=version or written.version)

    async def _rewrite(self, key: str, document: dict[str, Any], version: int) -> int | None:
        """Write an entry that is nobody's claim; None where somebody wrote meanwhile, which is left as it is."""
        kept_ms = KEPT_MS if document.get("unsent") is None else UNSENT_KEPT_MS
        expires = None if document["held"] else self._clock.now_ms() + kept_ms
        value = json.dumps(document).encode()
        try:
            return await self._store.put(CLAIMS, digest(key), value, if_version=version, expires_at_ms=expires)
        except VersionConflict:
            return None  # of a hold that stays, or of what is sent once more: both are safe


def _read(value: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(value)
    if document["v"] > _VERSION:
        raise NewerRecord("claim", document["v"], _VERSION)
    return document


def payload_hash(body: bytes) -> str:
    """What tells one payload from another, in 32 hexadecimal digits."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def digest(key: str) -> str:
    """The key of a claim in the store, in 40 hexadecimal digits."""
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
