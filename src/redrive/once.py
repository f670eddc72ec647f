"""Claims: one effect for each idempotency key, whatever is delivered twice.

    absent ──take──► in progress ──finish──► done          kept 14 days
       ▲                 │  ▲
       └──── release ────┘  └── taken over when its lease ran out

Invariants:
    1. Every write is conditional on the version read. Whoever takes a claim over changes the version, so that the
       former holder's finish writes nothing (ClaimLost).
    2. Each take raises the fence by one; an effect that can compare numbers can refuse a late one.
    3. A key whose message is parked or dead does not expire: its later copy must still be known.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from redrive.clock import Clock
from redrive.errors import ClaimLost, NewerRecord, VersionConflict
from redrive.store import ABSENT, CLAIMS, Store

KEPT_MS = 14 * 24 * 3600 * 1000
"""How long a finished key is known: as long as a dead letter may be kept on Amazon SQS.

Source: Amazon SQS quotas, "Message retention": 14 days at most.
"""
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class InProgress:
    """Somebody else has the claim."""

    left: float
    """Seconds until its lease ends, unless extended; over 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The key's work is finished."""

    same_payload: bool
    """Whether it was done for this payload, or for another one under the same key."""
    result: Any = None
    """What the finisher left: JSON, or None."""


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
            entry = await self._store.get(CLAIMS, _digest(key))
            document: dict[str, Any] = {"fence": 0, "held": []} if entry is None else _read(entry.value)
            if found := self._standing(document, payload_hash):
                if isinstance(found, Done) and entry is not None and message_id in document["held"]:
                    await self._let_go(key, document, entry.version, message_id)
                return found
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

    async def finish(self, claim: Claim, result: Any = None) -> None:  # noqa: ANN401 - any JSON
        """The work is done: from now on the key is refused, for 14 days.

        Raises:
            ClaimLost: If it was taken over.
        """
        await self._write(claim, "done", result=result, expires=not claim.held_for)

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

    def _standing(self, document: dict[str, Any], payload_hash: str) -> InProgress | Done | None:
        state = document.get("state", "free")
        left = document.get("lease_until_ms", 0) - self._clock.now_ms()
        if state == "done":
            return Done(same_payload=document["payload"] == payload_hash, result=document.get("result"))
        return InProgress(left=left / 1000) if state == "claimed" and left > 0 else None

    async def _write(self, claim: Claim, state: str, *, expires: bool, result: Any = None) -> None:  # noqa: ANN401
        async with claim.writing:
            if claim.ended:
                return
            now = self._clock.now_ms()
            document = {
                "v": _VERSION,
                "state": state,
                "fence": claim.fence,
                "payload": claim.payload_hash,
                "message": claim.message_id,
                "held": claim.held_for,
                "lease_until_ms": now + int(claim.lease * 1000),
                "result": result,
            }
            try:
                claim.version = await self._store.put(
                    CLAIMS,
                    _digest(claim.key),
                    json.dumps(document).encode(),
                    if_version=claim.version,
                    expires_at_ms=now + KEPT_MS if expires else None,
                )
            except VersionConflict:
                raise ClaimLost(claim.key) from None
            claim.ended = state != "claimed"

    async def forget(self, key: str, message_id: str) -> None:
        """A parked or dead message was deleted: its key need not be known for it any more."""
        entry = await self._store.get(CLAIMS, _digest(key))
        if entry is not None and message_id in (document := _read(entry.value))["held"]:
            await self._let_go(key, document, entry.version, message_id)

    async def _let_go(self, key: str, document: dict[str, Any], version: int, message_id: str) -> None:
        """A held message is gone: the key may expire again, once it is held for nobody else."""
        document["held"].remove(message_id)
        expires = None if document["held"] else self._clock.now_ms() + KEPT_MS
        value = json.dumps(document).encode()
        try:
            await self._store.put(CLAIMS, _digest(key), value, if_version=version, expires_at_ms=expires)
        except VersionConflict:
            return  # somebody wrote; the hold stays, which is safe


def _read(value: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(value)
    if document["v"] > _VERSION:
        raise NewerRecord("claim", document["v"], _VERSION)
    return document


def payload_hash(body: bytes) -> str:
    """What tells one payload from another, in 32 hexadecimal digits."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
