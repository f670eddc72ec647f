"""Draining: the whole worker, from the lease to the acknowledgement on disk."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from embedded import CONCURRENCY, THREADS, application, fill, until_empty, working
from workload import Order, measured_by, orders, rate


class Count:
    """Counts up, from any thread; the times of the first and the last."""

    def __init__(self, last: int, reached: Callable[[], object]) -> None:
        self._numbers, self._last, self._reached = itertools.count(1), last, reached
        self.began = 0.0

    def one(self) -> None:
        """One more."""
        number = next(self._numbers)
        if number == 1:
            self.began = time.time()
        if number == self._last:
            self._reached()


async def drained(folder: Path, count: int, *, plain: bool) -> Mapping[str, float]:
    """Messages a second, from the first handler's start until nothing is left in the queue."""
    sender = application(folder)
    async with sender:
        await fill(sender, orders(count))
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    counter = Count(count, lambda: loop.call_soon_threadsafe(done.set))

    def handle(order: Order) -> None:
        assert order.price  # noqa: S101 - the least that a handler does with its order
        counter.one()

    async def handle_async(order: Order) -> None:
        handle(order)

    app = (
        application(folder, handle, concurrency=THREADS)
        if plain
        else application(folder, handle_async, concurrency=CONCURRENCY)
    )
    async with working(app, folder):
        await done.wait()
        await until_empty(app)
        return rate(count, counter.began)


if __name__ == "__main__":
    measured_by(
        {
            "async": lambda folder, count: asyncio.run(drained(folder, count, plain=False)),
            "plain": lambda folder, count: asyncio.run(drained(folder, count, plain=True)),
        }
    )
