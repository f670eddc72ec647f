"""A real disk that fills up: a small file system in memory, which only root may make."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from redrive.broker import Acknowledge, Forward, Outgoing, QueueSpec, Return
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import SystemClock
from redrive.errors import BrokerError, BrokerUnavailable, DatabaseUnusable, DiskNearlyFull, OutcomeUnknown, StoreError
from redrive.message import Message
from redrive.sqlite.writer import FileDatabase, Tables
from redrive.store import ABSENT, Namespace
from redrive.stores.sqlite import SqliteStore

MIB = 1024 * 1024
SIZE = 24 * MIB
NUMBERS = Namespace(name="numbers", listable=True)
PLAIN = (BrokerUnavailable, OutcomeUnknown, StoreError)


@pytest.fixture
def disk() -> Iterator[Path]:
    """24 MiB, of which a tenth is kept free."""
    with tempfile.TemporaryDirectory(prefix="r-") as name:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", name]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("only root may make a small file system, and not everywhere")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


def outgoing(number: int, size: int = 20_000) -> Outgoing:
    return Outgoing(message=Message(id=f"m{number}", body=bytes(size), sent_at_ms=1))


def free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def take_all_room(disk: Path) -> Path:
    """Another program fills the disk, to the last byte."""
    path = disk / "another-program-s"
    with path.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return path


async def filled(disk: Path) -> tuple[FileDatabase, SqliteBroker, list[str]]:
    """A broker that was sent messages until it would take no more."""
    database = FileDatabase(str(disk / "f.db"), SystemClock())
    broker = SqliteBroker(database)
    await broker.declare([QueueSpec(name="orders"), QueueSpec(name="orders-dead")])
    sent: list[str] = []
    with contextlib.suppress(DiskNearlyFull):
        for number in range(100_000):
            await database.run(Tables.refuse_if_full)
            assert await broker.send("orders", [outgoing(number)]) == [None]
            sent.append(f"m{number}")
    return database, broker, sent


async def test_the_last_tenth_is_kept_for_what_makes_room(disk: Path) -> None:
    """When sends are refused, all that waits is received, tried again, parked, declared dead or acknowledged."""
    _, broker, sent = await filled(disk)
    assert len(sent) > 500
    assert free(disk) > SIZE // 20
    handled: list[str] = []
    for delivery in await broker.receive("orders", limit=100, lease=600):
        forward = Forward(delivery=delivery, queue="orders-dead", message=delivery.message)
        assert await broker.settle([forward]) == [None]
        handled.append(delivery.message.id)
    for delivery in await broker.receive("orders", limit=20, lease=600):
        assert await broker.settle([Return(delivery=delivery)]) == [None]
    while taken := await broker.receive("orders", limit=10, lease=600):
        assert await broker.settle([Acknowledge(delivery=one) for one in taken]) == [None] * len(taken)
        handled += [one.message.id for one in taken]
    assert sorted(handled) == sorted(sent)
    assert (await broker.depth("orders-dead")).total == 100
    await broker.close()


async def test_a_disk_without_any_room_loses_nothing(disk: Path) -> None:
    """Another program took the reserve too: what cannot be done is refused in plain words, and later it goes on."""
    database, broker, sent = await filled(disk)
    store = SqliteStore(database)
    fill = take_all_room(disk)
    waiting = set(sent)  # what is there for sure, until it is acknowledged
    asked: set[str] = set()
    for number in range(100):
        with contextlib.suppress(*PLAIN):
            for delivery in await broker.receive("orders", limit=3, lease=600):
                asked.add(delivery.message.id)
                if await broker.settle([Acknowledge(delivery=delivery)]) == [None]:
                    waiting.discard(delivery.message.id)
        with contextlib.suppress(*PLAIN):
            await store.put(NUMBERS, f"{number}", bytes(5_000), if_version=ABSENT)
        with pytest.raises(BrokerError) as refused:
            await database.run(Tables.refuse_if_full)
        assert isinstance(refused.value, BrokerUnavailable | DatabaseUnusable)
    await asyncio.to_thread(fill.unlink)
    async with asyncio.timeout(10):
        while await accepted(broker, 100_000) != [None]:
            pass
    there = await ids(database)
    assert waiting - asked <= there
    assert there <= waiting | asked | {"m100000"}
    assert await database.run(lambda tables: tables.connection.execute("PRAGMA integrity_check").get) == "ok"
    await broker.close()


async def test_a_database_on_a_disk_without_any_room_is_not_damaged(disk: Path) -> None:
    """It cannot even be opened, and that is what is said; with some room again, all of it is there."""
    _, broker, sent = await filled(disk)
    await broker.close()
    fill = take_all_room(disk)
    with pytest.raises(DatabaseUnusable, match="cannot be opened: its disk is full; make room"):
        FileDatabase(str(disk / "f.db"), SystemClock())
    await asyncio.to_thread(fill.unlink)
    database = FileDatabase(str(disk / "f.db"), SystemClock())
    assert await ids(database) == set(sent)
    database.close()


async def accepted(broker: SqliteBroker, number: int) -> object:
    with contextlib.suppress(BrokerError):
        return await broker.send("orders", [outgoing(number, 10)])
    return None


async def ids(database: FileDatabase) -> set[str]:
    return await database.run(lambda tables: {one for (one,) in tables.connection.execute("SELECT id FROM message")})
