"""The wall clock is set, by a second or by a century: no message is lost, comes early, is stuck or expires for it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from redrive.broker import Outgoing, QueueSpec
from redrive.brokers.sqlite import SqliteBroker
from redrive.message import Message
from redrive.sqlite.database import connect
from redrive.sqlite.session import Session
from redrive.sqlite.writer import FileDatabase
from tests.sqlite.clocks import HOUR, JUMPS, START_MS, YEAR, MachineClock

SLACK = 2.0
"""Seconds: a wall clock that was set by one is followed, at once or at half pace."""
DAY = 86_400.0
QUEUES = [QueueSpec(name="orders", retention=DAY), QueueSpec(name="short", retention=3_600.0)]


@pytest.fixture
def path(short_path: Path) -> str:
    return str(short_path / "c.db")


@pytest.fixture
def clock() -> MachineClock:
    return MachineClock()


def outgoing(name: str, delay: float = 0.0) -> Outgoing:
    return Outgoing(message=Message(id=name, body=b"1", sent_at_ms=START_MS), delay=delay)


async def three_waiting(database: FileDatabase) -> SqliteBroker:
    """One message is leased for 30 seconds, one delayed for 60, one ready."""
    broker = SqliteBroker(database)
    await broker.declare(QUEUES)
    await broker.send("orders", [outgoing("leased")])
    assert await received(broker, lease=30) == ["leased"]
    await broker.send("orders", [outgoing("delayed", 60.0), outgoing("ready")])
    return broker


async def received(broker: SqliteBroker, queue: str = "orders", lease: float = 43_200.0) -> list[str]:
    return sorted(one.message.id for one in await broker.receive(queue, limit=10, lease=lease))


@pytest.mark.parametrize("jump", JUMPS)
async def test_while_running_nothing_notices(path: str, clock: MachineClock, jump: int) -> None:
    """Leases and delays end when they should, not before and not after; nothing expires."""
    broker = await three_waiting(FileDatabase(path, clock))
    clock.jump(jump)
    assert await received(broker) == ["ready"]
    clock.advance(30 - SLACK)
    assert await received(broker) == []
    clock.advance(2 * SLACK)
    assert await received(broker) == ["leased"]
    clock.advance(30 - 2 * SLACK)
    assert await received(broker) == []
    clock.advance(2 * SLACK)
    assert await received(broker) == ["delayed"]
    assert (await broker.depth("orders")).total == 3
    await broker.close()


@pytest.mark.parametrize("jump", JUMPS)
async def test_across_a_restart_nothing_is_lost_or_stuck(path: str, clock: MachineClock, jump: int) -> None:
    """Whatever the clock says then: each message comes, at the latest when its time has passed once more."""
    broker = await three_waiting(FileDatabase(path, clock))
    await broker.close()
    clock.jump(jump)
    broker = SqliteBroker(FileDatabase(path, clock))
    assert "ready" in await received(broker, lease=1)
    clock.advance(60 + SLACK)
    assert await received(broker) == ["delayed", "leased", "ready"]
    await broker.close()


@pytest.mark.parametrize("jump", [-1_000, -HOUR, -YEAR, 100 * YEAR])
async def test_across_a_restart_a_clock_that_is_wrong_for_sure_brings_nothing_early(
    path: str, clock: MachineClock, jump: int
) -> None:
    """One that is behind, or more than a year ahead, is not believed."""
    broker = await three_waiting(FileDatabase(path, clock))
    await broker.close()
    clock.jump(jump)
    broker = SqliteBroker(FileDatabase(path, clock))
    assert await received(broker) == ["ready"]
    clock.advance(30 - SLACK)
    assert await received(broker) == []
    await broker.close()


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_process_that_comes_later_does_not_bring_the_wrong_time(
    path: str, clock: MachineClock, jump: int
) -> None:
    """A command, or a worker that is replaced, opens the file after the jump: it asks those who run, not the clock."""
    database = FileDatabase(path, clock)
    broker = await three_waiting(database)
    clock.jump(jump)
    clock.advance(2)
    later = FileDatabase(path, clock)
    await SqliteBroker(later).declare([QueueSpec(name="another")])
    for one in (database, later):
        assert await one.run(lambda tables: tables.now_ms) == pytest.approx(START_MS + 2_000, abs=1_000)
    assert await received(broker) == ["ready"]
    later.close()
    await broker.close()


async def test_where_no_clock_is_shared_the_wall_clock_is_asked(path: str) -> None:
    """Where the system does not say which start of the machine it is: as after a restart."""
    clock = MachineClock(boot=None)
    database = FileDatabase(path, clock)
    await SqliteBroker(database).declare(QUEUES)
    clock.jump(2 * HOUR)
    later = FileDatabase(path, clock)
    assert await later.run(lambda tables: tables.now_ms) == START_MS + 2 * HOUR
    later.close()
    database.close()


async def test_a_clock_that_is_not_believed_is_told(
    path: str, clock: MachineClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, with how far it is off, and from when time goes on; later restarts with a right clock are as ever."""
    broker = await three_waiting(FileDatabase(path, clock))
    await broker.close()
    clock.jump(100 * YEAR)
    database = FileDatabase(path, clock)
    assert await database.run(lambda tables: tables.now_ms) == START_MS
    database.close()
    assert f"the wall clock is 36500 days ahead of {path}, more than a year; it is not believed" in caplog.text
    assert "time goes on from 2023-11-14 22:13:20 UTC" in caplog.text
    clock.jump(-100 * YEAR)
    clock.advance(600)
    database = FileDatabase(path, clock)
    assert await database.run(lambda tables: tables.now_ms) == START_MS + 600_000
    database.close()


@pytest.mark.parametrize("rest", [3, 24 * 30])
async def test_a_rest_does_not_count_for_retention(path: str, clock: MachineClock, rest: int) -> None:
    """Nobody could handle anything in hours, or weeks: what had most of its hour left has it still."""
    broker = SqliteBroker(FileDatabase(path, clock))
    await broker.declare(QUEUES)
    await broker.send("short", [outgoing("m")])
    clock.advance(600)
    await broker.close()
    clock.advance(rest * 3_600)
    broker = SqliteBroker(FileDatabase(path, clock))
    assert (await broker.depth("short")).total == 1
    clock.advance(2_000)
    assert (await broker.depth("short")).total == 1
    clock.advance(1_700)
    assert (await broker.depth("short")).total == 0
    await broker.close()


async def test_a_rest_is_taken_off_once(path: str, clock: MachineClock) -> None:
    """However many processes open the file after it, at once or one after the other."""
    broker = SqliteBroker(FileDatabase(path, clock))
    await broker.declare(QUEUES)
    await broker.send("short", [outgoing("m")])
    await broker.close()
    clock.advance(5 * 3_600)
    opened: list[FileDatabase] = []
    threads = [threading.Thread(target=lambda: opened.append(FileDatabase(path, clock))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    opened.append(FileDatabase(path, clock))
    clock.advance(3_500)
    broker = SqliteBroker(opened[0])
    assert (await broker.depth("short")).total == 1
    clock.advance(200)
    assert (await broker.depth("short")).total == 0
    for one in opened:
        one.close()


async def test_half_an_hour_is_no_rest(path: str, clock: MachineClock) -> None:
    """A deploy, a reboot: retention goes on."""
    broker = SqliteBroker(FileDatabase(path, clock))
    await broker.declare([QueueSpec(name="short", retention=60.0)])
    await broker.send("short", [outgoing("m")])
    await broker.close()
    clock.advance(1_800)
    broker = SqliteBroker(FileDatabase(path, clock))
    assert (await broker.depth("short")).total == 0
    await broker.close()


@pytest.mark.parametrize("jump", [*JUMPS, -50_000, 50_000])
async def test_nobody_asks_again_and_again(path: str, jump: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a message while the clock is set asks about once a second, in real time, not all the time."""
    transactions: list[float] = []
    run = Session.run

    def counting(session: Session, works: list[object]) -> list[object]:
        transactions.append(time.monotonic())
        return run(session, works)  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(Session, "run", counting)
    clock = Running()
    broker = SqliteBroker(FileDatabase(path, clock))
    await broker.declare(QUEUES)
    await broker.send("orders", [outgoing("soon", 0.02)])
    waiting = asyncio.ensure_future(broker.receive("orders", limit=1, lease=30, wait=0.7))
    await asyncio.sleep(0)
    clock.jump(jump)
    transactions.clear()
    await waiting
    await broker.close()
    assert len(transactions) < 15, f"{len(transactions)} transactions in 0.7 s"


class Running(MachineClock):
    """Real clocks, of which the wall clock can be set."""

    def __init__(self) -> None:
        super().__init__()
        self._off = 0.0

    def now_ms(self) -> int:
        return int(time.time() * 1000 + self._off)

    def monotonic(self) -> float:
        return time.monotonic()

    def jump(self, ms: float) -> None:
        self._off += ms


def mark(path: str) -> int:
    connection = connect(path)
    found: int = connection.execute("SELECT clock_high_water_ms FROM meta").get
    connection.close()
    return found


async def test_time_is_stored_while_nobody_writes(path: str, clock: MachineClock) -> None:
    """Every five minutes, or a kill would look like a rest of hours; not with every look."""
    database = FileDatabase(path, clock)
    await SqliteBroker(database).declare(QUEUES)
    for _ in range(29):
        clock.advance(10)
        await database.run(lambda tables: tables.now_ms)
    assert mark(path) == START_MS
    clock.advance(10)
    await database.run(lambda tables: tables.now_ms)
    assert mark(path) == START_MS + 300_000
    database.close()


async def test_time_is_stored_while_nobody_asks_for_anything(
    path: str, clock: MachineClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer wakes up for it by itself."""
    stored = threading.Event()
    monkeypatch.setattr("redrive.sqlite.writer._IDLE", 0.01)
    database = FileDatabase(path, clock)
    await SqliteBroker(database).declare(QUEUES)
    await database.run(lambda tables: tables.connection.set_update_hook(lambda *_: stored.set()))
    stored.clear()
    clock.advance(301)
    assert await asyncio.to_thread(stored.wait, 10)
    database.close()
    assert mark(path) == START_MS + 301_000
