"""redrive on its embedded broker: an application, and the whole worker on it, as `redrive worker` runs it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

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


def application(folder: Path, handler: Handler | None = None, *, concurrency: int = CONCURRENCY) -> App[None]:
    """An application with one queue, and a consumer if there is a handler."""
    app = App("bench", broker=f"sqlite:{folder / 'bench.db'}")
    queue = app.queue("orders", Order)
    if handler is not None:
        queue.consumer(concurrency=concurrency)(handler)
    return app


@asynccontextmanager
async def working(app: App[None], folder: Path) -> AsyncIterator[None]:
    """The open application, and its worker at work: with a board and a process for suspects, as under a supervisor."""
    path = folder / "board.db"
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


async def fill(app: App[None], orders: list[Order]) -> None:
    """Send them all, in batches, four at a time."""
    batches = iter([orders[start : start + BATCH] for start in range(0, len(orders), BATCH)])

    async def sender() -> None:
        for batch in batches:
            await app.queues["orders"].send_many(batch)

    await asyncio.gather(*(sender() for _ in range(4)))


async def until_empty(app: App[None]) -> None:
    """Until the last message is acknowledged."""
    while (await app.runtime.broker.depth("orders")).total:  # noqa: ASYNC110 - only the broker knows
        await asyncio.sleep(0.001)
