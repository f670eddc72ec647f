"""From a send to its handler, while the worker is idle: in one process, and from one process to another."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from embedded import application, working
from workload import Order, measured_by, order, quantiles

from redrive import App

_BREATH = 0.005
"""Seconds between the handling of one and the send of the next, so that the worker is idle again."""
_WARM_UP = 20


class Arrivals:
    """How long each order took, and a step for whoever waits for it."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        self.took: list[int] = []
        self._arrived = arrived

    async def handle(self, order: Order) -> None:
        """The handler."""
        self.took.append(time.monotonic_ns() - order.sent_ns)
        self._arrived()


async def paced(app: App[None], count: int, arrived: Callable[[], object]) -> None:
    """Send one, wait until it arrived, breathe, send the next."""
    for number in range(count + _WARM_UP):
        await app.queues["orders"].send(order(number, time.monotonic_ns()))
        result = arrived()
        if asyncio.iscoroutine(result):
            await result
        await asyncio.sleep(_BREATH)


async def in_process(folder: Path, count: int) -> Mapping[str, float]:
    """Sender and worker on one loop."""
    event = asyncio.Event()
    arrivals = Arrivals(event.set)

    async def arrived() -> None:
        await event.wait()
        event.clear()

    app = application(folder, arrivals.handle)
    async with working(app, folder):
        await paced(app, count, arrived)
    return quantiles(arrivals.took[_WARM_UP:])


async def worker(folder: Path, count: int) -> Mapping[str, float]:
    """The worker of `across`: a line for each message handled, and the numbers at the end."""
    finished = asyncio.Event()

    def arrived() -> None:
        if len(arrivals.took) == count + _WARM_UP:
            finished.set()
        print("handled", flush=True)

    arrivals = Arrivals(arrived)
    async with working(application(folder, arrivals.handle), folder):
        print("ready", flush=True)
        await finished.wait()
    return quantiles(arrivals.took[_WARM_UP:])


async def across(folder: Path, count: int) -> Mapping[str, float]:
    """The worker in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "worker", str(folder), str(count), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None  # noqa: S101 - it was asked for
    out = process.stdout

    async def arrived() -> None:
        await out.readline()

    try:
        await arrived()
        async with application(folder) as app:
            await asyncio.sleep(1.0)
            await paced(app, count, arrived)
        numbers: dict[str, float] = json.loads(await out.readline())
    except BaseException:
        process.kill()
        raise
    finally:
        await process.wait()
    return numbers


if __name__ == "__main__":
    measured_by(
        {
            "in-process": lambda folder, count: asyncio.run(in_process(folder, count)),
            "across": lambda folder, count: asyncio.run(across(folder, count)),
            "worker": lambda folder, count: asyncio.run(worker(folder, count)),
        }
    )
