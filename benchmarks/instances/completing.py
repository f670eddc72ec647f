"""redrive: three-step sagas from message to completion, drained from a full queue or sent by clients that wait.

A saga is complete when the write of its journal that says so was answered: it is on disk.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from embedded import fill, sent, until_empty
from instances.databases import fresh
from instances.fulfilment import STORE_URL, Shop, fulfilling, ledger
from instances.journals import Journals
from ledger import Miscounted
from workload import measured_by, order, orders, quantiles, rate

from redrive import App
from redrive.board import Board
from redrive.sagas.definition import SagaConsumer
from redrive.sagas.journal import State

IN_FLIGHT = 64
_SHOWN = 20
"""Journals that are looked at in the end."""


async def drained(folder: Path, count: int, *, concurrency: int) -> Mapping[str, float]:
    """Sagas a second that wait in a queue, from the first write of a journal until nothing is left in the queue."""
    booked = ledger(folder, "booked", count)
    async with fulfilling(folder, concurrency=concurrency) as sender:
        await fill(sender, orders(count))
        await sent(sender, folder, count)
    app = fulfilling(folder, concurrency=concurrency)
    async with heard(app, folder, None) as journals:
        while not booked.holds(range(count)):  # noqa: ASYNC110 - the ledger is a file
            await asyncio.sleep(0.002)
        await until_empty(app)
        found = rate(count, journals.began)
        await verify(app, count)
    booked.verify(range(count))
    return {**found, "writes": journals.writes / count}


async def answered(folder: Path, count: int, *, clients: int) -> Mapping[str, float]:
    """Clients that each send an order, wait until its saga is complete, and send the next.

    One each before the clock starts: the worker is at work then, and connections are open.
    """
    booked = ledger(folder, "booked", clients + count)
    app = fulfilling(folder, concurrency=IN_FLIGHT)
    waiting: dict[str, asyncio.Future[None]] = {}
    took: list[int] = []

    async def client(numbers: Iterator[int]) -> None:
        for number in numbers:
            one = order(number, time.monotonic_ns())
            done = waiting[f"orders/{one.order_id}"] = asyncio.get_running_loop().create_future()
            await app.queues["orders"].send(one)
            await done
            took.append(time.monotonic_ns() - one.sent_ns)

    async def all_of(numbers: range) -> None:
        left = iter(numbers)
        await asyncio.gather(*(client(left) for _ in range(clients)))

    async with heard(app, folder, lambda key: waiting.pop(key).set_result(None)) as journals:
        await all_of(range(clients))
        took.clear()
        began = time.time()
        await all_of(range(clients, clients + count))
        found = rate(count, began)
        await until_empty(app)
        await verify(app, clients + count)
    booked.verify(range(clients + count))
    return {**found, **quantiles(took), "writes": journals.writes / (clients + count)}


@asynccontextmanager
async def heard(app: App[Shop], folder: Path, ended: Callable[[str], None] | None) -> AsyncIterator[Journals]:
    """The open application and its worker at work, with somebody who hears of its journals."""
    board, stop = folder / "board", asyncio.Event()
    board.touch()
    isolated_by = [sys.executable, "-c", "raise SystemExit('no suspects in a benchmark')"]
    async with app:
        app.runtime.store, journals = Journals.before(app.runtime.store, ended)
        work = asyncio.create_task(app.work(stop=stop, board=Board(board), isolated_by=isolated_by))
        try:
            yield journals
        finally:
            stop.set()
            await work


async def verify(app: App[Shop], count: int, *, queue: str = "orders", state: State = State.COMPLETED) -> None:
    """Look at some journals, spread over all of them; they should be in this state.

    Raises:
        Miscounted: If one is not.
    """
    saga = app.queues[queue].bound_consumer
    assert isinstance(saga, SagaConsumer)  # noqa: S101 - it was declared so
    for number in range(0, count, max(1, count // _SHOWN)):
        journal = await saga.journal(order(number).order_id)
        if journal is None or journal.state is not state:
            raise Miscounted(f"saga {number} is {None if journal is None else journal.state}")


if __name__ == "__main__":
    if (address := fresh()) is not None:
        os.environ[STORE_URL] = address
    measured_by(
        {
            "drain": lambda folder, count: asyncio.run(drained(folder, count, concurrency=IN_FLIGHT)),
            "answered": lambda folder, count: asyncio.run(answered(folder, count, clients=IN_FLIGHT)),
            "answered-one": lambda folder, count: asyncio.run(answered(folder, count, clients=1)),
        }
    )
