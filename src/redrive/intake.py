"""The intake: holds the catalogue against what is in the dead-letter queues, on one worker.

    a letter without an entry      the broker's own limit made it dead, and that knows no reasons: it gets an entry and
                                   a record, with what was noted before
    an entry without its letter    it expired, or somebody purged or moved it with other tools: the entry says `gone`
    a letter that will expire      where brokers delete what is old, it is sent again under its own id

Where the broker can be browsed it looks and disturbs nobody. Elsewhere it receives, looks and hands back, which hides
letters for as long as that takes; so it does it only when their number changed, when a while has passed, or when an
operator asks.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

from redrive.annotations import Annotations
from redrive.broker import Broker, Forward
from redrive.catalogue import DEAD, GONE, Catalogue, Letter
from redrive.clock import Clock
from redrive.consumer import dead_queue
from redrive.errors import VersionConflict
from redrive.message import Delivery, Failure, Message, Notes
from redrive.store import Store
from redrive.sweep import RENEWED_AFTER_MS, Sweep

_log = logging.getLogger("redrive.catalogue")
_LOOK_EVERY = 60.0
_COUNT_EVERY = 15.0
_SWEEP_EVERY = 600.0
_SWEEP_PER_LETTER = 0.1
_ARRIVING_MS = 60_000
"""An entry is written before its letter arrives: a young one without a letter is no news."""
_WHO = "intake"
_SENT_AGAIN = "sent again before the broker would delete it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of looking through one queue's letters."""

    letters: int = 0
    """How many were seen."""
    entered: int = 0
    """How many of them got an entry."""
    gone: int = 0
    """How many entries had no letter any more."""
    renewed: int = 0
    """How many were sent again, before the broker would delete them."""
    complete: bool = True
    """Whether every letter was seen: not if there are too many, or if somebody has some in hand."""


@dataclass(slots=True)
class _Looked:
    """When and at what the intake looked last."""

    count: int = -1
    counted_at: float = float("-inf")
    swept_at: float = float("-inf")
    missing: set[str] = field(default_factory=set)
    """Entries without a letter, the last time that all were seen."""


class Intake:
    """Holds the catalogue against the dead-letter queues."""

    def __init__(self, broker: Broker, store: Store, clock: Clock) -> None:
        self._broker, self._clock = broker, clock
        self._catalogue, self._annotations = Catalogue(store, clock), Annotations(store, clock)
        self._looked: dict[str, _Looked] = {}

    async def step(self, queue: str) -> int:
        """Look through a queue's dead letters if that is due; how many got an entry.

        Raises:
            BrokerError: If the broker is away.
            StoreError: If the store is away.
        """
        looked, now = self._looked.setdefault(queue, _Looked(swept_at=self._clock.monotonic())), self._clock.monotonic()
        sweeps = not self._broker.capabilities.browses
        if sweeps and now - looked.counted_at < _COUNT_EVERY:
            return 0
        count, looked.counted_at = (await self._broker.depth(dead_queue(queue))).total, now
        every = max(_SWEEP_EVERY, count * _SWEEP_PER_LETTER) if sweeps else _LOOK_EVERY
        known = looked.count if sweeps else max(looked.count, 0)
        if count == known and ((not count and not sweeps) or now - looked.swept_at < every):
            return 0
        found = await self.look_through(queue)
        looked.count, looked.swept_at = count, now
        return found.entered

    async def look_through(self, queue: str, *, sure: bool = False) -> Found:
        """Look through all of a queue's letters now.

        Args:
            queue: whose letters.
            sure: an entry that has no letter is gone; else only if it had none the last time either.

        Raises:
            BrokerError: If the broker is away.
            StoreError: If the store is away.
        """
        if self._broker.capabilities.browses:
            return await self._browse(queue)
        entries = {letter.id: letter async for letter in self._catalogue.letters(queue)}
        seen: set[str] = set()
        entered = renewed = 0
        async with Sweep(self._broker, dead_queue(queue), self._clock) as sweep:
            while page := await sweep.page():
                for delivery in page:
                    message = delivery.message
                    if message.id not in entries:
                        entered += await self._take_in(queue, message)
                    elif message.id not in seen and self._is_old(entries[message.id], delivery):
                        sweep.take(delivery)
                        renewed += await self._renew(entries[message.id], delivery)
                    seen.add(message.id)
        gone = await self._settle_gone(queue, entries, seen, sure=sure) if sweep.complete else 0
        return Found(letters=len(seen), entered=entered, gone=gone, renewed=renewed, complete=sweep.complete)

    async def _browse(self, queue: str) -> Found:
        seen = entered = 0
        cursor: str | None = None
        while True:
            page = await self._broker.browse(dead_queue(queue), cursor=cursor, limit=200)
            for message in page.messages:
                seen += 1
                entered += await self._take_in(queue, message)
            if (cursor := page.cursor) is None:
                return Found(letters=seen, entered=entered)

    async def _take_in(self, queue: str, message: Message) -> bool:
        letter = await self._catalogue.letter(queue, message.id)
        if letter is not None and letter.state == DEAD:
            return False
        notes = await self._last_notes(queue, message)
        if letter is not None and notes.failure == letter.record and (notes.redriven_at_ms or 0) < letter.died_at_ms:
            mark = letter.fingerprint  # a copy, or another tool moved it there and back: nothing new is known of it
        else:
            failure = Failure(at_ms=self._clock.now_ms(), kind="crashed", queue=queue)
            reason = "received too often without ever being settled; the broker's own limit made it dead"
            notes, mark = notes.noting(failure, reason=reason), "backstop"
        message = replace(message, notes=notes)
        try:
            await self._catalogue.enter(queue, message, mark)
        except VersionConflict:
            return False  # another writer is at it
        why = "" if notes.failure is None else notes.failure.reason
        _log.error("message %s of %s is dead: %s", message.id, queue, why)
        return True

    async def _last_notes(self, queue: str, message: Message) -> Notes:
        """What was last noted of a message that the broker itself moved; some brokers count that as a forward."""
        forwards, found = message.notes.forwards, [message.notes]
        for stay in {forwards, max(0, forwards - 1)}:
            before = replace(message, notes=replace(message.notes, forwards=stay))
            if (notes := await self._annotations.read(queue, before)) is not None:
                found.append(notes)
        return max(found, key=lambda notes: 0 if notes.failure is None else notes.failure.total)

    async def _settle_gone(self, queue: str, entries: dict[str, Letter], seen: set[str], *, sure: bool) -> int:
        before = self._clock.now_ms() - _ARRIVING_MS
        missing = {one.id for one in entries.values() if one.id not in seen and one.died_at_ms < before}
        looked = self._looked.setdefault(queue, _Looked())
        gone, looked.missing = missing if sure else missing & looked.missing, missing
        settled = 0
        for identity in sorted(gone):
            try:
                what = "found gone from the dead-letter queue"
                await self._catalogue.settle(entries[identity], state=GONE, who=_WHO, what=what)
            except VersionConflict:
                continue  # somebody was faster: it is not gone unseen
            settled += 1
            _log.error("letter %s of %s is gone: it expired, or was purged or moved by other tools", identity, queue)
        return settled

    def _is_old(self, letter: Letter, delivery: Delivery) -> bool:
        kept = [one["at_ms"] for one in letter.audit if one["what"] == _SENT_AGAIN]
        since = letter.sent_at_ms if letter.fingerprint == "backstop" else letter.died_at_ms
        if self._clock.now_ms() - max([since, *kept]) < RENEWED_AFTER_MS:
            return False
        if delivery.sequence is not None:  # on a FIFO queue: sent again it would lose its place
            _log.warning("letter %s of %s is a week old, and the broker deletes old ones", letter.id, letter.queue)
        return delivery.sequence is None

    async def _renew(self, letter: Letter, delivery: Delivery) -> bool:
        """Send, then settle, then write it down: a crash in between sends it once more."""
        notes = delivery.message.notes
        message = replace(delivery.message, notes=notes.forwarded(notes.key))  # still dead: its key is still held
        forward = Forward(delivery=delivery, queue=delivery.queue, message=message)
        (error,) = await self._broker.settle([forward])
        if error is not None:
            _log.warning("letter %s of %s could not be sent again: %s", letter.id, letter.queue, error)
            return False
        try:
            await self._catalogue.note(letter, who=_WHO, what=_SENT_AGAIN)
        except VersionConflict:
            return True  # somebody did something to it: that counts as much
        return True
