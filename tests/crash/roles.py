"""What the processes of the loop do until they are killed. Every one of them writes, and checkpoints often."""

from __future__ import annotations

import asyncio
import contextlib
import json
import mmap
import os
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import cast

from typing_extensions import override

import redrive.sqlite.log
from redrive.broker import Acknowledge, Broker, Forward, Outgoing, QueueSpec, Return, Settlement
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import SteadyClock, SystemClock
from redrive.errors import LimitExceeded, QueueConflict
from redrive.message import Delivery, Message, message_id
from redrive.moves import forward
from redrive.sqlite.log import Log
from redrive.sqlite.turn import Turn
from redrive.sqlite.writer import FileDatabase
from redrive.stores.sqlite import SqliteStore
from redrive.testing import History, Recorded, Recorder
from redrive.testing.history import SUFFIX, Outcome
from tests.crash.broken import BROKEN

QUEUES = [
    QueueSpec(name="inbox"),
    QueueSpec(name="orders-dead"),
    QueueSpec(name="orders", dead_letter_queue="orders-dead", max_receives=3),
    QueueSpec(name="lines-dead", fifo=True),
    QueueSpec(name="lines", fifo=True, dead_letter_queue="lines-dead", max_receives=3),
]
GROUPS = 6
TASKS = 3
TURNS = mmap.mmap(-1, 4096)
"""Shared by all that are forked: one byte for each process, by its slot, says what it has the turn for."""
COMMITTING, CHECKPOINTING = 1, 2
OFTEN = 40
"""Pages of the log after which a process checkpoints; redrive's own figure would hardly be reached in a short life."""


@dataclass(frozen=True, kw_only=True)
class Life:
    """One process, from its start to its kill."""

    folder: Path
    """Where the database is."""
    logs: Path
    """Where everything is written down."""
    name: str
    slot: int
    """Of `TURNS`."""
    seed: int
    pace: float
    """Mean pause between two calls of a task, in seconds."""
    before: str | None = None
    """The process that it follows."""
    broken: str | None = None
    """Which fault the broker is given."""

    @property
    def path(self) -> str:
        """The database."""
        return os.fspath(self.folder / "loop.db")

    @property
    def random(self) -> Random:
        """Repeatable, as far as processes that run side by side are."""
        return Random(f"{self.seed}/{self.name}")  # noqa: S311 - repeatable on purpose

    def database(self) -> FileDatabase:
        """The file, opened so that checkpoints come often and are counted, and waits for the turn are timed."""
        redrive.sqlite.log.LONG = OFTEN
        database = FileDatabase(self.path, SteadyClock(SystemClock()))
        _Watched.waits, _Watched.slot = self._appended("waits"), self.slot
        _Counted.checkpoints = self._appended("checkpoints")
        database._session._turn.__class__ = _Watched
        database._session._log.__class__ = _Counted
        return database

    def broker(self, database: FileDatabase) -> Recorded:
        """The broker on it, recorded."""
        return Recorded(BROKEN[self.broken](database), Recorder(self.logs, self.name))

    def _appended(self, name: str) -> int:
        return os.open(self.logs / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


class _Watched(Turn):
    """Says how long this process waited behind the others, eight bytes for each turn; and when it has the turn."""

    waits, slot, purpose = -1, -1, COMMITTING

    @override
    def take(self) -> None:
        clock = SystemClock()
        began = clock.monotonic()
        super().take()
        TURNS[self.slot] = self.purpose
        os.write(self.waits, struct.pack("d", clock.monotonic() - began))

    @override
    def give(self) -> None:
        TURNS[self.slot] = 0
        super().give()


class _Counted(Log):
    """Says when it was shortened: a byte each time."""

    checkpoints = -1

    @override
    def shorten(self, turn: Turn) -> None:
        _Watched.purpose = CHECKPOINTING
        super().shorten(turn)
        _Watched.purpose = COMMITTING
        os.write(self.checkpoints, b".")


async def produce(life: Life) -> None:
    """Send: singly and in batches, to all kinds of queues; what the one before left open is sent again."""
    broker = life.broker(life.database())
    await _send_again(broker, life)
    await _side_by_side(life, lambda random: _Producer(broker, random).step())


async def consume(life: Life) -> None:
    """Receive, and do with it whatever can be done."""
    broker = life.broker(life.database())
    await _side_by_side(life, lambda random: _Consumer(broker, random).step())


async def move(life: Life) -> None:
    """Forward from the inbox, and bring dead letters back, by hand and by move tasks."""
    broker = life.broker(life.database())

    async def step(random: Random) -> None:
        await _forward(broker, "inbox", "orders", random)
        if random.random() < 0.4:
            await _look_at_the_dead(broker, random)
        if random.random() < 0.02:
            await _start_move(broker, random)

    await _side_by_side(life, step)


async def work(life: Life) -> None:
    """A worker of the shop, with its healer, on a recorded broker."""
    from tests.crash.shop import app  # noqa: PLC0415 - it reads its folder from the environment

    database = life.database()
    clock = SteadyClock(SystemClock())
    await app.open_on(life.broker(database), SqliteStore(database), clock=clock, random=life.random)
    await app.work(stop=asyncio.Event())


ROLES: dict[str, Callable[[Life], Awaitable[None]]] = {
    "producer": produce,
    "consumer": consume,
    "mover": move,
    "worker": work,
}


async def _side_by_side(life: Life, step: Callable[[Random], Awaitable[None]]) -> None:
    """Some tasks, each one step after the other, for ever."""

    async def repeated(random: Random) -> None:
        while True:
            await step(random)
            await asyncio.sleep(random.expovariate(1 / life.pace))  # the load, not a wait for anything

    random = life.random
    async with asyncio.TaskGroup() as tasks:
        for _ in range(TASKS):
            tasks.create_task(repeated(Random(random.random())))  # noqa: S311 - likewise


def body_of(identity: str) -> bytes:
    """A body that can be made again from the id; some hundred bytes, now and then some thousand."""
    size = 6_000 if zlib.crc32(identity.encode()) % 20 == 0 else 150
    return json.dumps({"id": identity, "filler": "x" * size}).encode()


def is_poison(identity: str) -> bool:
    """Whether nobody ever handles it, while the loop runs."""
    return zlib.crc32(identity.encode()) % 8 == 0


def outgoing(random: Random, *, group: str | None = None, deduplication_id: str | None = None) -> Outgoing:
    identity = message_id(SystemClock().now_ms(), random.randbytes(4) + os.urandom(6))
    return _again(identity, group, deduplication_id or (None if group is None else f"d-{identity}"))


def _again(identity: str, group: str | None, deduplication_id: str | None) -> Outgoing:
    message = Message(id=identity, body=body_of(identity), sent_at_ms=1, group=group)
    return Outgoing(message=message, deduplication_id=deduplication_id)


async def _send_again(broker: Broker, life: Life) -> None:
    """As a client does that does not know: the same message, under the same deduplication id."""
    if life.before is None:
        return
    log = life.logs / f"{life.before}{SUFFIX}"
    history = History.of({life.before: log.read_text() if log.exists() else ""})
    unknown = [one for one in history.sends if one.outcome is Outcome.UNKNOWN and one.queue == "lines"]
    unknown.sort(key=lambda one: (one.call.began, one.position))
    if unknown:
        await broker.send("lines", [_again(one.id, one.group, one.deduplication_id) for one in unknown])


class _Producer:
    def __init__(self, broker: Broker, random: Random) -> None:
        self._broker, self._random = broker, random

    async def step(self) -> None:
        random = self._random
        chance = random.random()
        if chance < 0.4:
            await self._broker.send("orders", [outgoing(random)])
        elif chance < 0.5:
            await self._broker.send(random.choice(["orders", "inbox"]), self._batch(None))
        elif chance < 0.55:
            await self._broker.send("coffees", [_coffee(random)])
        elif chance < 0.65:
            await self._broker.send("inbox", [outgoing(random)])
        else:
            await self._to_a_line()

    async def _to_a_line(self) -> None:
        """Once, in a batch, or twice: under the same deduplication id, as the same message or as another one."""
        random = self._random
        group = f"g{random.randrange(GROUPS)}"
        chance = random.random()
        if chance < 0.2:
            await self._broker.send("lines", self._batch(group))
            return
        one = outgoing(random, group=group)
        await self._broker.send("lines", [one])
        if chance < 0.4:
            again = one if chance < 0.3 else outgoing(random, group=group, deduplication_id=one.deduplication_id)
            await self._broker.send("lines", [again])

    def _batch(self, group: str | None) -> list[Outgoing]:
        return [outgoing(self._random, group=group) for _ in range(self._random.randint(2, 12))]


def _coffee(random: Random) -> Outgoing:
    drink = random.choices(["latte", "gravel", "surprise"], [10, 1, 1])[0]
    identity = message_id(SystemClock().now_ms(), os.urandom(10))
    return Outgoing(message=Message(id=identity, body=json.dumps({"drink": drink}).encode(), sent_at_ms=1))


class _Consumer:
    def __init__(self, broker: Broker, random: Random) -> None:
        self._broker, self._random = broker, random
        self._forgotten: list[Delivery] = []

    async def step(self) -> None:
        random = self._random
        queue = random.choice(["orders", "lines", "lines"])
        limit, lease = random.randint(1, 10), random.uniform(0.4, 1.5)
        deliveries = await self._broker.receive(queue, limit=limit, lease=lease, wait=0.1)
        extended = [one for one in deliveries if random.random() < 0.1]
        if extended:
            await self._broker.extend(extended, lease=random.uniform(0.3, 2.0))
        settlements = [settlement for one in deliveries if (settlement := self._settlement(one)) is not None]
        if random.random() < 0.2 and self._forgotten:
            settlements.append(Acknowledge(delivery=self._forgotten.pop(0)))  # too late, more often than not
        if settlements:
            await self._broker.settle(settlements)

    def _settlement(self, delivery: Delivery) -> Settlement | None:
        chance = self._random.random()
        if is_poison(delivery.message.id):
            chance = 0.8 + 0.16 * chance
        if chance < 0.8:
            return Acknowledge(delivery=delivery)
        if chance < 0.9:
            return Return(delivery=delivery, delay=self._random.choice([0.0, 0.0, 0.2]))
        if chance < 0.93:
            return Return(delivery=delivery, uncounted=True)
        if chance < 0.96:
            self._forgotten.append(delivery)
            return None
        return Forward(delivery=delivery, queue=delivery.queue, message=delivery.message)


async def _forward(broker: Broker, source: str, target: str, random: Random) -> None:
    deliveries = await broker.receive(source, limit=random.randint(1, 10), lease=1.0, wait=0.05)
    if deliveries:
        await broker.settle([forward(one, target, one.message) for one in deliveries])


async def _look_at_the_dead(broker: Broker, random: Random) -> None:
    """As a person does: most stay where they are, and a few are brought back."""
    source, target = random.choice([("orders-dead", "orders"), ("lines-dead", "lines")])
    deliveries = await broker.receive(source, limit=10, lease=0.5)
    if deliveries:
        back = [forward(one, target, one.message) for one in deliveries if random.random() < 0.05]
        back_ids = {one.delivery.message.id for one in back}
        stay = [Return(delivery=one) for one in deliveries if one.message.id not in back_ids]
        await broker.settle([*back, *stay])


async def _start_move(broker: Recorded, random: Random) -> None:
    source = random.choice(["orders-dead", "lines-dead"])
    inner = cast("SqliteBroker", broker.broker)
    broker.recorder.moving(source, None)
    with contextlib.suppress(QueueConflict):  # it is being moved already
        await inner.start_move(source, rate=random.choice([None, 50]))
    for task in await inner.moves(source):
        if task.status == "RUNNING" and random.random() < 0.1:
            with contextlib.suppress(LimitExceeded):  # it is over by now
                await inner.cancel_move(task.id)
