"""Kills anywhere between the application's transaction and the send: nothing is lost, nothing is sent that was undone.

The judge is the application's own table: an order stands in it if and only if its transaction was committed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest

from redrive.broker import Acknowledge
from redrive.clock import SystemClock
from redrive.connections import connect
from tests.outbox.databases import Database
from tests.outbox.process import LAST, RELAY_POINTS, WRITER_POINTS
from tests.runtime.fakes import until

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


def start(role: str, database: Database, argument: object, point: str = "-") -> subprocess.Popen[bytes]:
    """A process of its own."""
    command = [sys.executable, "-m", "tests.outbox.process", role, database.address, str(argument), point]
    return subprocess.Popen(command, cwd=ROOT)


def run(role: str, database: Database, argument: object, point: str = "-", *, patience: float = 30.0) -> int:
    """Run one to its end."""
    process = start(role, database, argument, point)
    try:
        return process.wait(patience)
    finally:
        process.kill()
        process.wait()


async def received(broker_address: str) -> dict[str, list[tuple[str, int]]]:
    """What stands in the broker's queues: ids and numbers, in order."""
    broker, store = connect(broker_address, SystemClock())
    found: dict[str, list[tuple[str, int]]] = {"orders": [], "lines": []}
    for queue, messages in found.items():
        while deliveries := await broker.receive(queue, limit=100, lease=600):
            messages += [(one.message.id, int(one.message.body)) for one in deliveries]
            await broker.settle([Acknowledge(delivery=one) for one in deliveries])
    await broker.close()
    await store.close()
    return found


async def judge(database: Database, broker_address: str) -> None:
    """Hold what was sent against what was committed."""
    placed, found = database.placed(), await received(broker_address)
    assert {number for _, number in found["orders"]} == placed
    assert len({identity for identity, _ in found["orders"]}) == len(placed)  # sent again, it is the same message
    lines = [number for _, number in found["lines"]]
    assert sorted(lines) == sorted(placed)  # once, where the broker deduplicates
    for group in (0, 1):
        numbers = [number for number in lines if number % 2 == group]
        assert numbers == sorted(numbers)
    assert database.count() == 0


@pytest.mark.parametrize("point", WRITER_POINTS)
async def test_a_writer_that_is_killed_leaves_both_or_neither(database: Database, tmp_path: Path, point: str) -> None:
    """The order and its messages, or none of them, at whichever point of its transaction."""
    assert run("writer", database, 1, point) == -signal.SIGKILL
    begun = max(database.placed(), default=0)
    assert 1 <= begun < LAST
    run("writer", database, begun + 3)
    assert run("relay", database, f"sqlite:{tmp_path / 'broker.db'}") == 0
    await judge(database, f"sqlite:{tmp_path / 'broker.db'}")


@pytest.mark.parametrize("point", RELAY_POINTS)
async def test_a_relay_that_is_killed_loses_nothing(database: Database, tmp_path: Path, point: str) -> None:
    """Whoever follows it sends what it did not, and what it had sent is the same message."""
    broker = f"sqlite:{tmp_path / 'broker.db'}"
    assert run("writer", database, 1) == 0
    assert database.count() == 2 * len(database.placed()) == 16
    assert run("relay", database, broker, point) == -signal.SIGKILL
    assert run("relay", database, broker) == 0
    await judge(database, broker)


def _has_placed(database: Database, count: int) -> bool:
    return len(database.placed()) >= count


@pytest.mark.long
@pytest.mark.timeout(800)
async def test_both_are_killed_at_random(database: Database, tmp_path: Path) -> None:
    """Sixty times, in the middle of whatever they do; twice as often the one that does the sending."""
    random, broker = Random(7), f"sqlite:{tmp_path / 'broker.db'}"  # noqa: S311 - repeatable
    start_: dict[str, Callable[[], object]] = {
        "endless-writer": lambda: max(database.placed(), default=0) + 3,
        "endless-relay": lambda: broker,
    }
    alive = {role: start(role, database, argument()) for role, argument in start_.items()}
    try:
        for _ in range(60):
            role = random.choice(["endless-writer", "endless-relay", "endless-relay"])
            before, count = len(database.placed()), random.randrange(5, 40)
            await until(partial(_has_placed, database, before + count), 20)
            os.kill(alive[role].pid, signal.SIGKILL)
            assert alive[role].wait(10) == -signal.SIGKILL
            alive[role] = start(role, database, start_[role]())
    finally:
        for process in alive.values():
            process.kill()
            process.wait()
    # Thousands are left where the writer was never waited for, and each group goes one by one.
    assert await asyncio.to_thread(run, "relay", database, broker, patience=400) == 0
    assert len(database.placed()) > 300
    await judge(database, broker)
