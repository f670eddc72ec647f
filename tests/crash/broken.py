"""Brokers that are broken on purpose: each is the real one with one fault, and the checker has to notice it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

from typing_extensions import override

from redrive.broker import Acknowledge, Outgoing, QueueSpec, Results, Sends, Settlement
from redrive.brokers.sqlite import SqliteBroker
from redrive.message import Delivery
from redrive.sqlite.writer import Database

Ids = Sequence[str] | None


class AnswersBeforeItWrites(SqliteBroker):
    """Keeps sends in memory for a moment, for speed: a kill loses them."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._in_memory: list[Outgoing] = []

    @override
    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        if queue != "orders":
            return await super().send(queue, messages)
        self._in_memory += messages
        if len(self._in_memory) >= 20:
            together, self._in_memory = self._in_memory, []
            await super().send(queue, together)
        return [None] * len(messages)


class LeasesTooShort(SqliteBroker):
    """Hides a message for a tenth of its lease."""

    @override
    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Ids = None
    ) -> list[Delivery]:
        return await super().receive(queue, limit=limit, lease=lease / 10, wait=wait, ids=ids)


class SpreadsGroups(SqliteBroker):
    """Keeps a group in three lines, as a broker does that partitions by message."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._number = count()
        self._held: dict[str, Delivery] = {}

    @override
    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        return await super().send(queue, [self._spread(one) for one in messages])

    @override
    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Ids = None
    ) -> list[Delivery]:
        taken = await super().receive(queue, limit=limit, lease=lease, wait=wait, ids=ids)
        self._held |= {one.receipt: one for one in taken}
        return [_gathered(one) for one in taken]

    @override
    async def settle(self, settlements: Sequence[Settlement]) -> Results:
        return await super().settle([replace(one, delivery=self._held[one.delivery.receipt]) for one in settlements])

    @override
    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Results:
        return await super().extend([self._held[one.receipt] for one in deliveries], lease=lease)

    def _spread(self, one: Outgoing) -> Outgoing:
        group = one.message.group
        if group is None:
            return one
        return replace(one, message=replace(one.message, group=f"{group}/{next(self._number) % 3}"))


def _gathered(one: Delivery) -> Delivery:
    group = one.message.group
    return one if group is None else replace(one, message=replace(one.message, group=group.partition("/")[0]))


class GivesUpLate(SqliteBroker):
    """Counts one off: a message is received once too often."""

    @override
    async def declare(self, queues: Sequence[QueueSpec]) -> None:
        await super().declare([_with_receives(one, 1) for one in queues])


class GivesUpEarly(SqliteBroker):
    """Counts one off in the other direction."""

    @override
    async def declare(self, queues: Sequence[QueueSpec]) -> None:
        await super().declare([_with_receives(one, -1) for one in queues])


def _with_receives(one: QueueSpec, more: int) -> QueueSpec:
    return one if one.max_receives is None else replace(one, max_receives=one.max_receives + more)


class ForgetsWhatWasSent(SqliteBroker):
    """Deduplicates by message and not by deduplication id."""

    @override
    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        return await super().send(queue, [replace(one, deduplication_id=one.message.id[-12:]) for one in messages])


class AcknowledgesLater(SqliteBroker):
    """Answers acknowledgements before they are written: after a kill the messages come back."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._later: list[Settlement] = []

    @override
    async def settle(self, settlements: Sequence[Settlement]) -> Results:
        if not all(isinstance(one, Acknowledge) and one.delivery.queue == "orders" for one in settlements):
            return await super().settle(settlements)
        self._later += settlements
        if len(self._later) >= 20:
            later, self._later = self._later, []
            await super().settle(later)
        await asyncio.sleep(0)
        return [None] * len(settlements)


BROKEN: Mapping[str | None, type[SqliteBroker]] = {
    None: SqliteBroker,
    **{
        one.__name__: one
        for one in (
            AnswersBeforeItWrites,
            LeasesTooShort,
            SpreadsGroups,
            GivesUpLate,
            GivesUpEarly,
            ForgetsWhatWasSent,
            AcknowledgesLater,
        )
    },
}
