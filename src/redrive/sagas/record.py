"""A journal in the store, and one turn's right to write it.

Invariants:
    1. Every write is conditional on the version read, so that a turn that was taken over can write nothing
       (`JournalLost`), whenever it wakes.
    2. What an operator or the waker wrote meanwhile is no take-over: it is merged, and the turn goes on.
    3. A write whose answer was lost is looked up: it happened, or it is made again, or somebody else has written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Self

from redrive.clock import Clock
from redrive.errors import JournalLost, StoreError, ValueTooLarge, VersionConflict
from redrive.sagas.journal import LARGEST_RESULT, Journal, Owner
from redrive.store import ABSENT, SAGAS, Store

_log = logging.getLogger("redrive.saga")
KEPT_MS = 14 * 24 * 3600 * 1000
"""How long a settled instance is shown, and a second start of it known: as long as a dead letter may be kept on SQS."""
_TRIES = 5
_FIRST_PAUSE = 0.05


def key_of(saga: str, instance: str) -> str:
    """Where an instance stands in the store; a slash in its id ends nothing."""
    return f"{saga}/{instance.replace('%', '%25').replace('/', '%2F')}"


class _Heard(Exception):
    """An operator wrote, and the turn does not know yet."""


class Record:
    """One instance, as one turn has it."""

    def __init__(self, store: Store, clock: Clock, journal: Journal, version: int = ABSENT) -> None:
        self._store, self._clock, self._version = store, clock, version
        self.journal = journal
        self._writing = asyncio.Lock()
        self._token: str | None = None
        self._size = 0
        self._changes = self._written = 0
        self._later: asyncio.Task[None] | None = None

    @classmethod
    async def load(cls, store: Store, clock: Clock, saga: str, instance: str) -> Self | None:
        """The instance as it stands; None: there is none.

        Raises:
            NewerRecord: If a later version of redrive wrote it.
            StoreError: If the store is away.
        """
        entry = await store.get(SAGAS, key_of(saga, instance))
        if entry is None:
            return None
        found = cls(store, clock, Journal.from_json(entry.value), entry.version)
        found._size = len(entry.value)
        return found

    def take(self, owner: Owner) -> None:
        """From the next write on the instance is this turn's."""
        self._token, self.journal.owner = owner.token, owner
        self.journal.woken_at_ms = None
        self.changed()

    def changed(self) -> None:
        """The journal has changed: the next write has something to write."""
        self._changes += 1

    def soon(self) -> None:
        """Write if nothing else writes before the loop turns: what follows at once is one write with it."""
        self.changed()
        if self._later is None or self._later.done():
            self._later = asyncio.ensure_future(self._write_later())

    async def write(self, *, unless: Callable[[], None] | None = None) -> None:
        """Durable when it returns, with everything that changed before the call.

        Args:
            unless: asked before, and when something was merged; where it raises, nothing is written.

        Raises:
            JournalLost: If another turn took over.
            ValueTooLarge: If the document is over what the store keeps.
            StoreError: If the store stayed away; whether it was written is not known.
        """
        wanted = self._changes
        async with self._writing:
            if unless is not None:
                unless()
            if self._written >= wanted:
                return
            changes = self._changes
            await self._put(unless)
            self._written = changes

    async def settle(self) -> None:
        """Wait for a write that is under way."""
        if self._later is not None:
            await asyncio.gather(self._later, return_exceptions=True)

    def has_room(self, results: int) -> bool:
        """Whether so many more results are sure to fit, beside what the turn has added since it last wrote."""
        return self._size + (results + 1) * LARGEST_RESULT <= self._store.max_value

    async def _write_later(self) -> None:
        try:
            await self.write(unless=self._leave_to_the_turn)
        except _Heard:
            return
        except StoreError as error:
            _log.warning("the journal of %s is not written yet: %s", self.journal.id, error)
        except JournalLost:
            return  # the turn's next write says so

    def _leave_to_the_turn(self) -> None:
        """What an operator wrote meanwhile, the turn's own next write has to answer."""
        if self.journal.cancelled is not None and self.journal.cause is None:
            raise _Heard

    async def _put(self, unless: Callable[[], None] | None) -> None:
        journal, now_ms = self.journal, self._clock.now_ms()
        for left in reversed(range(_TRIES)):
            journal.changed_at_ms = now_ms
            value = journal.to_json()
            self._size = len(value)
            try:
                self._version = await self._store.put(
                    SAGAS,
                    key_of(journal.saga, journal.id),
                    value,
                    if_version=self._version,
                    due_at_ms=journal.due_at_ms(),
                    expires_at_ms=now_ms + KEPT_MS if journal.is_settled else None,
                )
            except VersionConflict:
                await self._merge()
                if unless is not None:
                    unless()
            except ValueTooLarge:
                raise
            except StoreError:
                if not left:
                    raise
                await asyncio.sleep(_FIRST_PAUSE * 2.0 ** (_TRIES - 1 - left))
                if await self._stands(value):
                    return
            else:
                return
        raise JournalLost(journal.id)

    async def _stands(self, value: bytes) -> bool:
        """Invariant 3: whether the last write happened after all."""
        try:
            entry = await self._store.get(SAGAS, key_of(self.journal.saga, self.journal.id))
        except StoreError:
            return False
        if entry is None or entry.value != value:
            return False
        self._version = entry.version
        return True

    async def _merge(self) -> None:
        """Invariant 2."""
        entry = await self._store.get(SAGAS, key_of(self.journal.saga, self.journal.id))
        if entry is None:
            raise JournalLost(self.journal.id)
        theirs = Journal.from_json(entry.value)
        if theirs.owner is None or theirs.owner.token != self._token:
            raise JournalLost(self.journal.id)
        self._version = entry.version
        self.journal.cancelled, self.journal.deeds = theirs.cancelled, theirs.deeds
        if theirs.cancelled is not None:  # it was first: what is not written yet is not passed
            self.journal.beyond_return = theirs.beyond_return
