"""redrive on its embedded broker: a circuit with a canary every five seconds, and all else as it is by default."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from outages.calling import FOLDER, call_on_loop, timed

from redrive import App

CANARY = "BENCH_CANARY"

app = App("bench", broker=f"sqlite:{Path(os.environ.get(FOLDER, '.')) / 'bench.db'}")
orders = app.queue("orders", int)


async def ask() -> None:
    """The canary."""
    await call_on_loop("/canary")


unwell = app.dependency("unwell", canary=ask, canary_every=float(os.environ.get(CANARY, "5")), concurrency=10)


@orders.consumer(needs=[unwell], concurrency=10)
async def handle(number: int) -> None:
    """One call."""
    with timed():
        async with unwell:
            await call_on_loop(f"/orders/{number}")


def fill(count: int) -> None:
    """Send them all."""

    async def sending() -> None:
        async with app:
            await orders.send_many(range(count))

    asyncio.run(sending())


def left() -> Mapping[str, int]:
    """What is dead and what still waits, once the worker has ended."""

    async def counting() -> Mapping[str, int]:
        async with app:
            broker = app.runtime.broker
            waiting = [(await broker.depth(queue)).total for queue in ("orders", "orders-parked-unwell")]
            return {"dead": (await broker.depth("orders-dead")).total, "waiting": sum(waiting)}

    return asyncio.run(counting())


WORKER = ["-m", "redrive", "worker", "outages.redrive_outage:app", "--app-dir", str(Path(__file__).parents[1])]
