"""Several processes on one file: they take turns, wake one another, and lose nothing when they are killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from redrive.broker import Outgoing, QueueSpec
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import SystemClock
from redrive.message import Message
from redrive.sqlite.database import connect
from redrive.sqlite.writer import FileDatabase

DEADLINE = 30.0
QUEUE = "orders"


@contextlib.asynccontextmanager
async def running(role: str, path: str) -> AsyncIterator[Process]:
    script = str(Path(__file__).with_name("process.py"))
    process = await asyncio.create_subprocess_exec(sys.executable, script, role, path, stdin=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def heard(process: Process) -> dict[str, Any]:
    """The next line that a process says."""
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE):
        line = await process.stdout.readline()
    assert line, f"the process ended with {await process.wait()}"
    said: dict[str, Any] = json.loads(line)
    return said


async def opened(path: str) -> SqliteBroker:
    broker = SqliteBroker(FileDatabase(path, SystemClock()))
    await broker.declare([QueueSpec(name=QUEUE)])
    return broker


def outgoing(number: int) -> Outgoing:
    return Outgoing(message=Message(id=f"m{number}", body=b"%d" % number, sent_at_ms=1))


async def test_two_processes_drain_one_file(short_path: Path) -> None:
    """While both send too: nobody sees a locked database, each message is handled once, and neither starves."""
    path = str(short_path / "p.db")
    broker = await opened(path)
    await broker.send(QUEUE, [outgoing(number) for number in range(3_000)])
    async with running("drain", path) as one, running("drain", path) as two:
        for process in (one, two):
            assert await heard(process) == {"ready": True}
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            await process.stdin.drain()
        received = [Counter((await heard(process))["received"]) for process in (one, two)]
        assert [await process.wait() for process in (one, two)] == [0, 0]
    assert (await broker.depth(QUEUE)).total == 0
    await broker.close()
    together = received[0] + received[1]
    assert set(together.values()) == {1}
    assert len(together) == 3_000 + 2 * 200
    assert {f"m{number}" for number in range(3_000)} <= set(together)
    assert min(counts.total() for counts in received) > 0.05 * len(together)


async def test_a_send_wakes_who_waits_in_another_process(short_path: Path) -> None:
    """By a datagram, not by looking again: far sooner than the second after which a waiter looks for itself."""
    path = str(short_path / "p.db")
    broker = await opened(path)
    loop = asyncio.get_running_loop()
    took: list[float] = []
    async with running("echo", path) as process:
        assert await heard(process) == {"ready": True}
        for number in range(15):
            for _ in range(10):  # a few commits of ours: by then the other one waits
                await broker.depth(QUEUE)
            began = loop.time()
            await broker.send(QUEUE, [outgoing(number)])
            assert await heard(process) == {"body": str(number)}
            took.append(loop.time() - began)
    await broker.close()
    assert statistics.median(took) < 0.25, took


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("roles", [["send"], ["send_and_tidy", "send_and_tidy"]], ids=["one", "two that checkpoint"])
async def test_what_was_answered_survives_a_kill(short_path: Path, seed: int, roles: list[str]) -> None:
    """`kill -9` in the middle of sending, again and again: every id that a sender was answered is in the file.

    Also where two of them write, and copy the log into the database, at the same time.
    """
    path = str(short_path / "p.db")
    random = Random(seed)  # noqa: S311 - repeatable on purpose
    answered: set[str] = set()
    for _ in range(5):
        async with contextlib.AsyncExitStack() as stack:
            senders = [await stack.enter_async_context(running(role, path)) for role in roles]
            for _ in range(random.randint(1, 60)):
                for sender in senders:
                    answered.update((await heard(sender))["ids"])
            for sender in senders:
                sender.kill()
            for sender in senders:
                assert sender.stdout is not None
                rest = await sender.stdout.read()
                answered.update(one for line in rest.splitlines() for one in json.loads(line)["ids"])
        connection = connect(path)
        stored = {one for (one,) in connection.execute("SELECT id FROM message")}
        assert connection.execute("PRAGMA integrity_check").get == "ok"
        assert connection.execute("SELECT count(*) % 3 FROM message").get == 0  # a call is there as a whole
        connection.close()
        assert answered <= stored
    assert answered
