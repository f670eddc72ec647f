"""redrive on its embedded broker: an application, and the whole worker on it, as `redrive worker` runs it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ledger import Ledger, Miscounted
from workload import Order

from redrive import App
from redrive.board import Board

BATCH = 1_000
"""Messages in one call of `send_many`; more than one such call waits at a time, so that commit and encoding overlap."""
CONCURRENCY = 100
"""Handlers at once in one worker, for an async handler."""
THREADS = 10
"""The same for a plain `def` handler: the default."""

Handler = Callable[..., Any]


def application(
    folder: Path, handler: Handler | None = None, *, concurrency: int = CONCURRENCY, durability: str = ""
) -> App[None]:
    """An application with one queue, and a consumer if there is a handler; `durability` unless it is the default."""
    asked = f"?durability={durability}" if durability else ""
    app = App("bench", broker=f"sqlite:{folder / 'bench.db'}{asked}")
    queue = app.queue("orders", Order)
    if handler is not None:
        queue.consumer(concurrency=concurrency)(handler)
    return app


@asynccontextmanager
async def working(app: App[None], folder: Path) -> AsyncIterator[None]:
    """The open application, and its worker at work: with a board and a process for suspects, as under a supervisor."""
    path = folder / f"board-{os.getpid()}"
    path.touch()
    stop = asyncio.Event()
    isolated_by = [sys.executable, "-c", "raise SystemExit('no suspects in a benchmark')"]
    async with app:
        work = asyncio.create_task(app.work(stop=stop, board=Board(path), isolated_by=isolated_by))
        try:
            yield
        finally:
            stop.set()
            await work


async def fill(app: App[Any], orders: list[Order]) -> None:
    """Send them all, in batches, four at a time."""
    batches = iter([orders[start : start + BATCH] for start in range(0, len(orders), BATCH)])

    async def sender() -> None:
        for batch in batches:
            await app.queues["orders"].send_many(batch)

    await asyncio.gather(*(sender() for _ in range(4)))


async def sent(app: App[Any], folder: Path, count: int) -> None:
    """Check that the queue holds that many messages, in the file that was meant.

    Raises:
        Miscounted: If it does not.
    """
    if not (folder / "bench.db").is_file():
        raise Miscounted(f"{app.address()} was taken for another file: a name, not a setting")
    found = (await app.runtime.broker.depth("orders")).total
    if found != count:
        raise Miscounted(f"{count} messages were sent and {found} are in the queue")


async def until_handled(ledger: Ledger, numbers: range) -> None:
    """Until each of these orders was handled; whoever measures gives up for us."""
    while not ledger.holds(numbers):  # noqa: ASYNC110 - the ledger is a file
        await asyncio.sleep(0.002)


async def until_empty(app: App[Any]) -> None:
    """Until the last message is acknowledged."""
    while (await app.runtime.broker.depth("orders")).total:  # noqa: ASYNC110 - only the broker knows
        await asyncio.sleep(0.001)
