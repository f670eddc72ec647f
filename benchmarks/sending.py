"""Sending: in batches, one by one from many tasks, one after the other. Every call that returned is on disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from embedded import application, fill, sent
from workload import Measure, Order, measured_by, orders, rate

from redrive import App

TASKS = 128
_WARM_UP = 200


async def concurrently(app: App[None], those: list[Order]) -> None:
    """Single sends from 128 tasks."""
    waiting = iter(those)

    async def sender() -> None:
        for one in waiting:
            await app.queues["orders"].send(one)

    await asyncio.gather(*(sender() for _ in range(TASKS)))


async def in_turn(app: App[None], those: list[Order]) -> None:
    """Each send waits for the one before."""
    for one in those:
        await app.queues["orders"].send(one)


def measure(way: Callable[[App[None], list[Order]], Awaitable[None]], *, durability: str = "") -> Measure:
    """Messages a second, that way."""

    async def run(folder: Path, count: int) -> Mapping[str, float]:
        app, those = application(folder, durability=durability), orders(count)
        async with app:
            await way(app, orders(_WARM_UP))
            began = time.time()
            await way(app, those)
            found = rate(count, began)
            await sent(app, folder, _WARM_UP + count)
        return found

    return lambda folder, count: asyncio.run(run(folder, count))


if __name__ == "__main__":
    measured_by(
        {
            "batches": measure(fill),
            "concurrent": measure(concurrently),
            "concurrent-relaxed": measure(concurrently, durability="relaxed"),
            "in-turn": measure(in_turn),
            "in-turn-relaxed": measure(in_turn, durability="relaxed"),
        }
    )
