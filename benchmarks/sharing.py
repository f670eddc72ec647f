"""Several worker processes on one file: what they drain together, and how evenly."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path

from embedded import application, fill, sent, until_empty, until_handled, working
from ledger import Ledger
from workload import Order, measured_by, orders, rate


async def work(folder: Path) -> Mapping[str, float]:
    """One worker: says when it could begin, begins when told to, ends with its input; how many it handled."""
    ledger, mine = Ledger(folder), 0

    async def handle(order: Order) -> None:
        nonlocal mine
        ledger.handled(order)
        mine += 1

    app = application(folder, handle)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    async with working(app, folder):
        await asyncio.to_thread(sys.stdin.read)
    return {"handled": mine}


async def drained(folder: Path, count: int, workers: int) -> Mapping[str, float]:
    """Messages a second, all workers together; and the smallest one's part, in percent of an even share."""
    ledger = Ledger.make(folder, count)
    async with application(folder) as app:
        await fill(app, orders(count))
        await sent(app, folder, count)
        processes = [await _started(folder) for _ in range(workers)]
        for process in processes:
            _input(process).write(b"begin\n")
        await until_handled(ledger, range(count))
        await until_empty(app)
        found = rate(count, ledger.began)
        handled = [await _handled(process) for process in processes]
    ledger.verify(range(count))
    return {**found, "share": 100 * min(handled) * workers / count}


async def compared(folder: Path, count: int) -> Mapping[str, float]:
    """One worker, then two, on files of their own; and how many times faster the two are."""
    found = {}
    for name, workers in (("one", 1), ("two", 2)):
        (folder / name).mkdir()
        found[name] = await drained(folder / name, count, workers)
    one, two = found["one"]["rate"], found["two"]["rate"]
    return {"one": one, "two": two, "ratio": two / one, "share": found["two"]["share"]}


async def _started(folder: Path) -> Process:
    command = [sys.executable, __file__, "worker", str(folder), "0"]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None  # noqa: S101 - it was asked for
    await process.stdout.readline()
    return process


def _input(process: Process) -> asyncio.StreamWriter:
    assert process.stdin is not None  # noqa: S101 - it was asked for
    return process.stdin


async def _handled(process: Process) -> int:
    """End a worker; how many it handled."""
    said = await process.communicate(b"")
    return int(json.loads(said[0])["handled"])


if __name__ == "__main__":
    measured_by(
        {
            "both": lambda folder, count: asyncio.run(compared(folder, count)),
            "worker": lambda folder, _: asyncio.run(work(folder)),
        }
    )
