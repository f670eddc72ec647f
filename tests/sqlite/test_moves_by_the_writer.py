"""A message move goes on by itself, in whichever process has the file open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from redrive.broker import Outgoing, QueueSpec
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import ManualClock, SystemClock
from redrive.message import Message
from redrive.sqlite.engine import Engine
from redrive.sqlite.writer import FileDatabase

DEADLINE = 10.0
QUEUES = [QueueSpec(name="dead"), QueueSpec(name="orders", dead_letter_queue="dead", max_receives=3)]


async def opened(path: Path) -> tuple[FileDatabase, SqliteBroker]:
    database = await asyncio.to_thread(FileDatabase, str(path), SystemClock())
    return database, SqliteBroker(database)


async def with_letters(path: Path, count: int) -> tuple[FileDatabase, SqliteBroker]:
    database, broker = await opened(path)
    await broker.declare(QUEUES)
    letters = [Outgoing(message=Message(id=f"m{one}", body=b"1", sent_at_ms=1)) for one in range(count)]
    await broker.send("dead", letters)
    return database, broker


@asynccontextmanager
async def arrival(database: FileDatabase) -> AsyncIterator[None]:
    """Wait, asking nothing of the database, until something may have arrived in `orders`."""
    with database.signals.listening("orders") as changed:
        yield
        async with asyncio.timeout(DEADLINE):
            await changed.wait()


async def until_moved(database: FileDatabase, broker: SqliteBroker, count: int) -> None:
    with database.signals.listening("orders") as changed:
        async with asyncio.timeout(DEADLINE):
            while (await broker.depth("orders")).total < count:
                await changed.wait()
                changed.clear()


async def test_a_move_that_was_begun_goes_on_while_nobody_asks_for_anything(short_path: Path) -> None:
    """All of it, in as many transactions as it takes."""
    database, broker = await with_letters(short_path / "m.db", 1_200)
    async with arrival(database):
        await broker.start_move("dead", "orders")
    await until_moved(database, broker, 1_200)
    (task,) = await broker.moves("dead")
    assert (task.status, task.moved) == ("COMPLETED", 1_200)
    await broker.close()


async def test_a_move_keeps_its_rate(short_path: Path) -> None:
    """Twenty letters at fifty a second are not there at once."""
    database, broker = await with_letters(short_path / "m.db", 20)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await broker.start_move("dead", "orders", rate=50)
    await until_moved(database, broker, 20)
    assert loop.time() - began > 0.35
    await broker.close()


async def test_another_process_goes_on_with_a_move_whose_starter_is_gone(short_path: Path) -> None:
    """From where it was, when it opens the file."""
    _, broker = await with_letters(short_path / "m.db", 30)
    task = await broker.start_move("dead", "orders", rate=1)
    await broker.close()
    database, broker = await opened(short_path / "m.db")
    async with arrival(database):
        pass
    (found,) = await broker.moves("dead")
    assert (found.id, found.status) == (task, "RUNNING")
    await broker.close()


async def test_a_process_that_was_open_already_takes_over(short_path: Path) -> None:
    """Within a second of whatever else it does."""
    _, starter = await with_letters(short_path / "m.db", 30)
    database, broker = await opened(short_path / "m.db")
    await broker.depth("dead")
    await starter.start_move("dead", "orders", rate=1)
    await starter.close()
    async with arrival(database):
        await broker.depth("dead")
    await broker.close()


async def test_a_fault_in_a_move_stops_neither_the_writer_nor_its_rest(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told, work goes on, and the move is not tried again and again without a pause."""
    tries: list[int] = []
    tried = threading.Event()

    def faulty(_: Engine, now_ms: int) -> int | None:
        tries.append(now_ms)
        tried.set()
        raise ZeroDivisionError

    monkeypatch.setattr(Engine, "move", faulty)
    database = FileDatabase(str(short_path / "m.db"), ManualClock())
    assert await asyncio.to_thread(tried.wait, DEADLINE)
    for _ in range(50):
        await database.run(lambda tables: tables.now_ms)
    database.close()
    assert len(tries) == 1
    assert "message moves" in caplog.text
    assert "do not go on" in caplog.text
