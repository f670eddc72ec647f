"""Little room on the disk: sends are refused in plain words, and all that makes room goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from redrive.broker import Acknowledge, Forward, Outgoing, QueueSpec, Return, Sends, Settlement
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import ManualClock
from redrive.errors import BrokerUnavailable, DiskNearlyFull
from redrive.message import Message
from redrive.sqlite.space import FLOOR, Space
from redrive.sqlite.writer import FileDatabase, Tables
from redrive.store import ABSENT, CIRCUITS
from redrive.stores.sqlite import SqliteStore

GIB, MIB = 2**30, 2**20


@dataclass
class Disk:
    """A disk of a size, whose room somebody else takes and gives."""

    f_blocks: int
    f_bavail: int
    f_frsize: int = 1
    measured: int = 0
    now: float = 0.0

    def measure(self, _: str) -> Disk:
        self.measured += 1
        return self

    def space(self) -> Space:
        return Space("sqlite:a.db", "a.db", measure=self.measure, monotonic=lambda: self.now)


def test_the_refusal_says_how_much_how_little_and_what_to_do() -> None:
    """Value, limit and remedy; it is the broker that is unavailable, so that whoever can tries again later."""
    error = Disk(100 * GIB, 12 * MIB).space().shortage()
    assert isinstance(error, BrokerUnavailable)
    assert isinstance(error, DiskNearlyFull)
    assert (error.free, error.floor) == (12 * MIB, 64 * MIB)
    words = "takes no more messages: 12.0 MiB are free on its disk, under the floor of 64.0 MiB; make room"
    assert str(error) == f"broker 'sqlite:a.db' {words}"


@pytest.mark.parametrize(
    ("size", "free", "refused"),
    [
        (100 * GIB, FLOOR - 1, True),
        (100 * GIB, FLOOR, False),
        (100 * MIB, 10 * MIB - 1, True),
        (100 * MIB, 10 * MIB, False),
        (0, 0, False),
    ],
)
def test_the_floor_is_64_mib_or_a_tenth_of_a_small_disk(size: int, free: int, refused: bool) -> None:  # noqa: FBT001
    """Whichever is less; a file system that knows no size is not called full."""
    assert bool(Disk(size, free).space().shortage()) is refused


@pytest.mark.parametrize(
    ("free", "least", "most"),
    [
        pytest.param(50 * GIB, 3, 5, id="plenty"),
        pytest.param(FLOOR + 100 * MIB, 9, 12, id="as long as the fastest disk needs to fill up to the floor"),
        pytest.param(FLOOR, 999, 1_000, id="on the edge"),
        pytest.param(0, 40, 51, id="nothing"),
    ],
)
def test_the_disk_is_measured_as_often_as_it_has_to_be(free: int, least: int, most: int) -> None:
    """However often it is asked: a thousand times in a second, here."""
    disk = Disk(100 * GIB, free)
    space = disk.space()
    for _ in range(1_000):
        space.shortage()
        disk.now += 0.001
    assert least <= disk.measured <= most


def test_a_disk_that_does_not_answer_is_not_called_full() -> None:
    """The commit will say what is wrong."""

    def away(_: str) -> Disk:
        raise OSError(5, "Input/output error")

    assert Space("sqlite:a.db", "a.db", measure=away).shortage() is None


@pytest.fixture
def disk() -> Disk:
    return Disk(100 * GIB, 50 * GIB)


@pytest.fixture
def database(short_path: Path, disk: Disk) -> Iterator[FileDatabase]:
    database = FileDatabase(str(short_path / "w.db"), ManualClock())
    database._session._space = disk.space()
    yield database
    database.close()


def outgoing(number: int) -> Outgoing:
    return Outgoing(message=Message(id=f"m{number}", body=b"1", sent_at_ms=1))


async def send(database: FileDatabase, messages: list[Outgoing]) -> Sends:
    """What a broker does."""

    def work(tables: Tables) -> Sends:
        tables.refuse_if_full()
        return tables.engine.send("orders", messages, tables.now_ms)

    return await database.run(work)


async def test_below_the_floor_only_sends_are_refused(database: FileDatabase, disk: Disk) -> None:
    """What waits is received, acknowledged, tried again and declared dead, and the store is written, as ever."""
    broker, store = SqliteBroker(database), SqliteStore(database)
    await broker.declare([QueueSpec(name="orders"), QueueSpec(name="orders-dead")])
    await broker.send("orders", [outgoing(number) for number in range(3)])
    disk.now, disk.f_bavail = 1.0, FLOOR - 1
    with pytest.raises(DiskNearlyFull):
        await send(database, [outgoing(9)])
    done, again, dead = await broker.receive("orders", limit=3, lease=30)
    settlements: list[Settlement] = [
        Acknowledge(delivery=done),
        Return(delivery=again),
        Forward(delivery=dead, queue="orders-dead", message=dead.message),
    ]
    assert await broker.settle(settlements) == [None] * 3
    await store.put(CIRCUITS, "payments", b"open", if_version=ABSENT)
    assert [(await broker.depth(queue)).total for queue in ("orders", "orders-dead")] == [1, 1]


async def test_with_room_again_sends_go_on(database: FileDatabase, disk: Disk) -> None:
    """By themselves, within the quarter of a second that a measurement is good for."""
    broker = SqliteBroker(database)
    await broker.declare([QueueSpec(name="orders")])
    disk.now, disk.f_bavail = 1.0, 0
    with pytest.raises(DiskNearlyFull):
        await send(database, [outgoing(1)])
    disk.now, disk.f_bavail = 1.25, 50 * GIB
    assert await send(database, [outgoing(2)]) == [None]
    assert (await broker.depth("orders")).total == 1


async def test_who_sends_together_is_refused_together(database: FileDatabase, disk: Disk) -> None:
    """Each with an error of its own."""
    broker = SqliteBroker(database)
    await broker.declare([QueueSpec(name="orders")])
    disk.now, disk.f_bavail = 1.0, 0
    sends = [send(database, [outgoing(number)]) for number in range(50)]
    answers = await asyncio.gather(*sends, return_exceptions=True)
    assert {type(one) for one in answers} == {DiskNearlyFull}
    assert len({id(one) for one in answers}) == 50
    assert (await broker.depth("orders")).total == 0
