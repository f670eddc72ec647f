"""One of several processes that hammer one file: `python hammer.py DATABASE WAY SECONDS`; says what it saw.

The way `open` opens as many new files instead. Also how fairness is measured by hand: `python hammer.py NAME measure
SECONDS WAY WAY…` starts one process for each way, on one new file, and prints what each of them saw.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from redrive.broker import Acknowledge, Outgoing, QueueSpec
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import SystemClock
from redrive.message import Message, message_id
from redrive.sqlite.turn import Turn
from redrive.sqlite.writer import FileDatabase

QUEUE = "orders"
BODY = b"x" * 200


def outgoing() -> Outgoing:
    return Outgoing(message=Message(id=message_id(1_700_000_000_000, secrets.token_bytes(10)), body=BODY, sent_at_ms=1))


class Hammer:
    """Calls without a pause until the time is over; how long each took, and how long the turn was waited for."""

    def __init__(self, path: str, until: float) -> None:
        self.database = FileDatabase(path, SystemClock())
        self.broker = SqliteBroker(self.database)
        self._until = until
        self.calls: list[float] = []
        self.turns: list[float] = []
        self.longest_log = 0
        self._log = Path(f"{path}-wal")
        self._watch_turns()

    async def small(self) -> None:
        """Sixteen tasks that send one message after the other."""
        await self._at_once(16, lambda: self.broker.send(QUEUE, [outgoing()]))

    async def large(self) -> None:
        """Four tasks that send batches of a thousand."""
        batch = [outgoing() for _ in range(1_000)]
        await self._at_once(4, lambda: self.broker.send(QUEUE, batch))

    async def one(self) -> None:
        """One task that sends one message after the other."""
        await self._at_once(1, lambda: self.broker.send(QUEUE, [outgoing()]))

    async def round_trip(self) -> None:
        """Eight tasks, each of which sends ten, receives ten and acknowledges them."""

        async def there_and_back() -> None:
            await self.broker.send(QUEUE, [outgoing() for _ in range(10)])
            taken = await self.broker.receive(QUEUE, limit=10, lease=60)
            await self.broker.settle([Acknowledge(delivery=one) for one in taken])

        await self._at_once(8, there_and_back)

    async def _at_once(self, tasks: int, call: Callable[[], Awaitable[Any]]) -> None:
        async def again_and_again() -> None:
            while (began := time.monotonic()) < self._until:
                await call()
                self.calls.append(time.monotonic() - began)
                self.longest_log = max(self.longest_log, self._log.stat().st_size)

        await asyncio.gather(*(again_and_again() for _ in range(tasks)))

    def _watch_turns(self) -> None:
        turn = self.database._session._turn

        class Watched(Turn):
            def take(watched) -> None:  # noqa: N805 - self is the hammer
                began = time.monotonic()
                super().take()
                self.turns.append(time.monotonic() - began)

        turn.__class__ = Watched


def quantiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds) or [0.0]
    at = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    found = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in at.items()}
    return {name: round(value * 1000, 2) for name, value in {**found, "max": ordered[-1]}.items()}


def open_many(path: str, count: int) -> None:
    """Open and close that many new files, one after the other; say what failed."""
    failed = []
    for number in range(count):
        try:
            FileDatabase(f"{path}-{number}", SystemClock()).close()
        except Exception as error:  # noqa: BLE001 - it is told
            failed.append(str(error))
    sys.stdout.write(json.dumps({"failed": failed}) + "\n")


async def hammer(path: str, way: str, seconds: float) -> None:
    one = Hammer(path, time.monotonic() + seconds)
    await one.broker.declare([QueueSpec(name=QUEUE)])
    await getattr(one, way)()
    await one.broker.close()
    facts = {"calls": len(one.calls), "call_ms": quantiles(one.calls), "turn_ms": quantiles(one.turns)}
    sys.stdout.write(json.dumps({"way": way, **facts, "longest_log": one.longest_log}) + "\n")


def together(path: str, seconds: float, ways: list[str]) -> list[dict[str, Any]]:
    """One process for each way, at the same time; what each of them saw."""
    command = [sys.executable, __file__, path]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, way, str(seconds)], **pipes) for way in ways]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate(timeout=seconds + 60)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    database, what, length, *others = sys.argv[1:]
    if what == "measure":
        with tempfile.TemporaryDirectory(prefix="r-") as folder:
            for line in together(f"{folder}/{database}", float(length), others):
                print(json.dumps(line))  # noqa: T201
    else:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        if what == "open":
            open_many(database, int(float(length)))
        else:
            asyncio.run(hammer(database, what, float(length)))
