"""Notes on the messages of a broker that cannot rewrite one: they stand in the store until the message leaves.

    received the first time    nothing is read: there can be no notes
    received again             its notes are read; if they cannot be, everything that was received goes back
    returned with notes        the notes are written, then the message is returned
    acknowledged, forwarded    then its notes are forgotten; a forward carries them in the message

A crash after any step repeats it: notes are written as a whole and not added to, and what is left behind expires.

Invariants:
    1. Nothing is handed up with other notes than those of its last return.
    2. Notes belong to one stay in one queue: their key holds the number of forwards, which each forward raises. What an
       earlier stay left behind, or what belongs to a copy elsewhere, is never taken for them.
    3. Whoever lost the lease writes nothing over the notes of a later receive.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace

from redrive.broker import Broker, Capabilities, Results, Return, Settlement
from redrive.clock import Clock
from redrive.errors import BrokerError, BrokerUnavailable, StoreError, VersionConflict
from redrive.message import Delivery, Message, Notes
from redrive.relay import Relay
from redrive.store import ABSENT, Entry, Namespace, Store

_log = logging.getLogger("redrive.annotations")
NOTES = Namespace(name="notes")
KEPT_MS = 15 * 24 * 3600 * 1000
"""How long notes are kept after they were written: a day longer than the message can be in its queue.

Source: Amazon SQS quotas, "Message retention": 14 days at most.
"""
_VERSION = 1
_WRITE_TRIES = 5
_STORE_AWAY_DELAY = 1.0


def annotated(broker: Broker, store: Store, clock: Clock) -> Broker:
    """The broker itself where it can rewrite a message on retry; else one in front of it, with notes in the store."""
    return broker if broker.capabilities.annotates_retry else AnnotatingBroker(broker, store, clock)


class Annotations:
    """The notes in a store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    async def read(self, queue: str, message: Message) -> Notes | None:
        """The notes of a message's last return; None: it has none but those that it carries.

        Raises:
            StoreError: If the store is away; nothing is known.
        """
        entry = await self._store.get(NOTES, _key(queue, message))
        if entry is None:
            return None
        document = json.loads(entry.value)
        if document["v"] > _VERSION:
            return Notes(newer=entry.value.decode())
        return Notes.from_json(document["notes"])

    async def write(self, delivery: Delivery, notes: Notes) -> None:
        """Write the notes of a delivery that is about to be returned; nothing if it was received again since.

        Raises:
            StoreError: If the store is away; they are written or not.
        """
        key = _key(delivery.queue, delivery.message)
        document = {"v": _VERSION, "receive_count": delivery.receive_count, "notes": notes.to_json()}
        value = json.dumps(document).encode("ascii")
        for left in reversed(range(_WRITE_TRIES)):
            entry = await self._store.get(NOTES, key)
            if entry is not None and _receive_count(entry) > delivery.receive_count:
                return  # the lease was lost, and the broker will say so
            version = ABSENT if entry is None else entry.version
            try:
                await self._store.put(
                    NOTES, key, value, if_version=version, expires_at_ms=self._clock.now_ms() + KEPT_MS
                )
            except VersionConflict:
                if not left:
                    raise
            else:
                return

    async def forget(self, queue: str, message: Message) -> None:
        """The message has left the queue; a store that is away lets its notes expire instead."""
        with contextlib.suppress(StoreError):
            entry = await self._store.get(NOTES, _key(queue, message))
            if entry is not None:
                await self._store.delete(NOTES, entry.key, if_version=entry.version)


class AnnotatingBroker(Relay):
    """A broker in front of one that cannot rewrite a message on retry; with a store it can.

    A store that is away makes the broker as good as away: what needs it fails with BrokerUnavailable.
    """

    def __init__(self, broker: Broker, store: Store, clock: Clock) -> None:
        super().__init__(broker)
        self._annotations = Annotations(store, clock)

    @property
    def capabilities(self) -> Capabilities:
        """What the broker promises, and notes; what cannot rewrite a message cannot take back a count either."""
        return replace(self._broker.capabilities, annotates_retry=True, uncounts=False)

    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Sequence[str] | None = None
    ) -> list[Delivery]:
        """Take messages, those that were received before with their notes, which are read at once.

        Raises:
            BrokerUnavailable: If notes cannot be read; everything received went back (invariant 1), also what needs
                none, so that nothing of a FIFO queue overtakes.
        """
        deliveries = await super().receive(queue, limit=limit, lease=lease, wait=wait, ids=ids)
        if not any(map(_may_have_notes, deliveries)):
            return deliveries
        try:
            return list(await asyncio.gather(*map(self._noted, deliveries)))
        except StoreError as error:
            await self._hand_back(deliveries)
            raise BrokerUnavailable(self.address, f"notes cannot be read: {error}") from error
        except BaseException:
            await self._hand_back(deliveries)
            raise

    async def settle(self, settlements: Sequence[Settlement]) -> Results:
        """Settle, with notes written before and forgotten after; BrokerUnavailable for those that cannot be written."""
        if not any(map(_concerns_notes, settlements)):
            return await super().settle(settlements)
        unwritten = await asyncio.gather(*map(self._write, settlements))
        given = [_bare(one) for one, error in zip(settlements, unwritten, strict=True) if error is None]
        answers = iter(await super().settle(given) if given or not settlements else [])
        results = [next(answers) if error is None else error for error in unwritten]
        await asyncio.gather(*(self._forget(one) for one, error in zip(settlements, results, strict=True) if not error))
        return results

    async def _noted(self, delivery: Delivery) -> Delivery:
        if not _may_have_notes(delivery):
            return delivery
        notes = await self._annotations.read(delivery.queue, delivery.message)
        return delivery if notes is None else replace(delivery, message=replace(delivery.message, notes=notes))

    async def _write(self, settlement: Settlement) -> BrokerError | None:
        if isinstance(settlement, Return) and settlement.notes is not None:
            try:
                await self._annotations.write(settlement.delivery, settlement.notes)
            except StoreError as error:
                return BrokerUnavailable(self.address, f"notes cannot be written: {error}")
        return None

    async def _forget(self, settlement: Settlement) -> None:
        delivery = settlement.delivery
        if delivery.receive_count > 1 and not isinstance(settlement, Return):
            await self._annotations.forget(delivery.queue, delivery.message)

    async def _hand_back(self, deliveries: Sequence[Delivery]) -> None:
        """Soon ready again; what cannot be handed back comes when its lease ends."""
        if not deliveries:
            return
        with contextlib.suppress(BrokerError):
            await super().settle([Return(delivery=one, delay=_STORE_AWAY_DELAY) for one in deliveries])
        _log.warning("%d messages of %s are handed back: their notes cannot be read", len(deliveries), self.address)


def _may_have_notes(delivery: Delivery) -> bool:
    """Whether the store has to be asked; what nobody returned has no notes there."""
    return delivery.receive_count > 1 and delivery.message.notes.newer is None


def _concerns_notes(settlement: Settlement) -> bool:
    """Whether there is something to write before it, or to forget after it."""
    return isinstance(settlement, Return) or settlement.delivery.receive_count > 1


def _bare(settlement: Settlement) -> Settlement:
    return replace(settlement, notes=None) if isinstance(settlement, Return) else settlement


def _receive_count(entry: Entry) -> int:
    return int(json.loads(entry.value)["receive_count"])


def _key(queue: str, message: Message) -> str:
    return f"{queue}/{message.notes.forwards}/{message.id}"
