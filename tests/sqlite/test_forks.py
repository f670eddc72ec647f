"""A process that was forked while the file was open is told so, and loses nothing."""

from __future__ import annotations

import asyncio
import multiprocessing
from pathlib import Path

import pytest

from redrive.broker import Outgoing, QueueSpec
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import SystemClock
from redrive.errors import BrokerUnavailable, DatabaseUnusable
from redrive.message import Message
from redrive.sqlite.writer import FileDatabase

FORK = multiprocessing.get_context("fork")


def _send(path: str, name: str) -> None:
    async def send() -> None:
        broker = SqliteBroker(FileDatabase(path, SystemClock()))
        await broker.declare([QueueSpec(name="q")])
        assert await broker.send("q", [Outgoing(message=Message(id=name, body=b"1", sent_at_ms=1))]) == [None]
        await broker.close()

    asyncio.run(send())


def _is_refused(path: str) -> None:
    with pytest.raises(DatabaseUnusable, match="was open when this process was forked"):
        FileDatabase(path, SystemClock())


def _run(target: object, *arguments: object) -> int | None:
    process = FORK.Process(target=target, args=arguments)  # type: ignore[arg-type]
    process.start()
    process.join(30)
    return process.exitcode


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_may_not_open_what_its_parent_has_open(tmp_path: Path) -> None:
    """SQLite remembers locks that the child does not have: what it wrote would be lost when the parent closes."""
    path = str(tmp_path / "forked.db")
    database = FileDatabase(path, SystemClock())
    assert _run(_is_refused, path) == 0
    database.close()
    assert _run(_send, path, "after") == 0
    _send(path, "parent")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_may_not_use_what_its_parent_opened(tmp_path: Path) -> None:
    """Its writer's thread is not in the child: nobody would answer."""
    database = FileDatabase(str(tmp_path / "forked.db"), SystemClock())

    def use() -> None:
        async def run() -> None:
            with pytest.raises(BrokerUnavailable, match="before this process was forked"):
                await database.run(lambda tables: tables.now_ms)

        asyncio.run(run())

    assert _run(use) == 0
    database.close()


async def test_a_file_that_was_moved_away_takes_nothing_more(tmp_path: Path) -> None:
    """Rather than answering what nobody would find; put back, it goes on."""
    path = tmp_path / "moved.db"
    broker = SqliteBroker(FileDatabase(str(path), SystemClock()))
    await broker.declare([QueueSpec(name="q")])
    path.rename(tmp_path / "elsewhere.db")
    with pytest.raises(DatabaseUnusable, match="was moved, removed or replaced while it was open; put it back"):
        await broker.send("q", [Outgoing(message=Message(id="1", body=b"1", sent_at_ms=1))])
    (tmp_path / "elsewhere.db").rename(path)
    assert await broker.send("q", [Outgoing(message=Message(id="2", body=b"1", sent_at_ms=1))]) == [None]
    await broker.close()
