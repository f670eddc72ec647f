"""Draining: the whole worker, from the lease to the acknowledgement on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from embedded import CONCURRENCY, THREADS, application, fill, sent, until_empty, until_handled, working
from ledger import Ledger
from workload import Order, measured_by, orders, rate


async def drained(folder: Path, count: int, *, plain: bool = False, durability: str = "") -> Mapping[str, float]:
    """Messages a second, from the first handler's start until nothing is left in the queue."""
    ledger = Ledger.make(folder, count)
    async with application(folder, durability=durability) as sender:
        await fill(sender, orders(count))
        await sent(sender, folder, count)

    def handle(order: Order) -> None:
        ledger.handled(order)

    async def handle_async(order: Order) -> None:
        ledger.handled(order)

    app = (
        application(folder, handle, concurrency=THREADS, durability=durability)
        if plain
        else application(folder, handle_async, concurrency=CONCURRENCY, durability=durability)
    )
    async with working(app, folder):
        await until_handled(ledger, range(count))
        await until_empty(app)
        found = rate(count, ledger.began)
    ledger.verify(range(count))
    return found


if __name__ == "__main__":
    measured_by(
        {
            "async": lambda folder, count: asyncio.run(drained(folder, count)),
            "plain": lambda folder, count: asyncio.run(drained(folder, count, plain=True)),
            "relaxed": lambda folder, count: asyncio.run(drained(folder, count, durability="relaxed")),
        }
    )
