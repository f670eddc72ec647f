"""The waker: one leader that sends a wake-up to every instance that is due and has none.

Due are those whose sleep or wait is over, whose deadline has passed, and whose owner has not been heard of for longer
than he asked for: his own wake-up comes back by its lease, unless somebody deleted it.

The journal says that a wake-up was sent, then it is sent. A crash in between has it sent half a minute later.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from random import Random

from redrive.broker import Outgoing
from redrive.clock import Clock
from redrive.errors import BrokerError, NewerRecord, VersionConflict
from redrive.leadership import Leadership
from redrive.message import Message, message_id
from redrive.runtime import Runtime
from redrive.sagas.journal import Journal
from redrive.store import SAGAS, Entry

_log = logging.getLogger("redrive.saga")
INSTANCE = "redrive-saga"
"""The attribute of a wake-up that names its instance: an id function that changed in a deploy cannot mislead it."""
IDLE = 0.5
_BATCH = 100


class Waker:
    """Wakes the instances of all applications on a store, as long as this process leads."""

    def __init__(self, runtime: Runtime, *, leadership: Leadership | None = None) -> None:
        self._runtime = runtime
        self._foreign = 0
        """How many of those that are due a later version wrote: they stay due, and others are behind them."""
        self._leader = leadership or Leadership(runtime.store, runtime.clock, task="waker", holder=runtime.worker)

    async def step(self) -> float:
        """Wake what is due; seconds until it should be called again.

        Raises:
            StoreError: If the store is away; what is due stays due.
        """
        if not await self._leader.held():
            return IDLE
        limit, self._foreign = _BATCH + self._foreign, 0
        entries = await self._runtime.store.due(SAGAS, before_ms=self._runtime.clock.now_ms(), limit=limit)
        woken = [one for one in await asyncio.gather(*map(self._claimed, entries)) if one is not None]
        for queue in sorted({one.saga for one in woken}):
            await self._send(queue, [one for one in woken if one.saga == queue])
        return IDLE if len(entries) < limit else 0.0

    async def resign(self) -> None:
        """Let another lead."""
        await self._leader.resign()

    async def _claimed(self, entry: Entry) -> Journal | None:
        """Note that a wake-up is sent; None where somebody wrote meanwhile."""
        try:
            journal = Journal.from_json(entry.value)
        except NewerRecord as error:
            _log.debug("%s", error)  # with every look: its wake-ups say it louder
            self._foreign += 1
            return None
        journal.woken_at_ms = self._runtime.clock.now_ms()
        try:
            await self._runtime.store.put(
                SAGAS, entry.key, journal.to_json(), if_version=entry.version, due_at_ms=journal.due_at_ms()
            )
        except VersionConflict:
            return None
        return journal

    async def _send(self, queue: str, journals: Sequence[Journal]) -> None:
        size = self._runtime.broker.capabilities.max_batch
        for start in range(0, len(journals), size):
            part = journals[start : start + size]
            try:
                results = await self._runtime.broker.send(queue, [self._outgoing(one) for one in part])
            except BrokerError as error:  # one queue's trouble is its own; they stay due
                _log.error("%d sagas of %s are not woken yet: %s", len(part), queue, error)
                return
            for one, result in zip(part, results, strict=True):
                if isinstance(result, BrokerError):
                    _log.error("saga %s of %s is not woken yet: %s", one.id, queue, result)

    def _outgoing(self, journal: Journal) -> Outgoing:
        return Outgoing(message=wake_up(journal, clock=self._runtime.clock, random=self._runtime.random))


def wake_up(journal: Journal, *, clock: Clock, random: Random) -> Message:
    """A message that wakes an instance: its input again, and its name."""
    return Message(
        id=message_id(clock.now_ms(), random.randbytes(10)),
        body=json.dumps(journal.input).encode(),
        sent_at_ms=journal.sent_at_ms,
        attributes={INSTANCE: journal.id},
        group=journal.group,
    )


async def wake(runtime: Runtime, journal: Journal) -> None:
    """Send an instance a wake-up now.

    Raises:
        BrokerError: If it was not sent, or nobody knows; the waker or another call sends one.
    """
    message = wake_up(journal, clock=runtime.clock, random=runtime.random)
    (result,) = await runtime.broker.send(journal.saga, [Outgoing(message=message)])
    if isinstance(result, BrokerError):
        raise result
