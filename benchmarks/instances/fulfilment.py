"""The saga that is measured: an order's three steps, each with an undo; and a nap, which only waits.

One application for all measures of redrive, whether its store is the embedded one or PostgreSQL.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from ledger import Ledger
from workload import Order

from redrive import App, Context, Saga, step

STORE_URL = "BENCH_STORE_URL"
"""The environment variable with the address of a store of its own; without it the broker's file is the store."""


@dataclass(frozen=True, slots=True)
class Shop:
    """What the steps have at hand."""

    booked: Ledger | None
    """Where each order's last step is written down; None: nowhere."""
    reserved: Ledger | None
    """Where it is written down that an order's second step began; None: nowhere."""
    held: bool
    """Whether the second step, once begun, never ends."""


async def refund(ctx: Context[Shop], paid: str | None, order: Order) -> None:
    """Undo a charge."""
    del ctx, paid, order


async def release(ctx: Context[Shop], beans: str | None, order: Order) -> None:
    """Undo a reservation."""
    del ctx, beans, order


async def call_off(ctx: Context[Shop], courier: str | None, order: Order) -> None:
    """Undo a booking."""
    del ctx, courier, order


@step(undo=refund)
async def charge(ctx: Context[Shop], order: Order) -> str:
    """The first step."""
    del ctx
    return f"payment-{order.number}"


@step(undo=release)
async def reserve(ctx: Context[Shop], order: Order) -> str:
    """The second; where it is held it ends with its worker."""
    if ctx.resources.reserved is not None:
        ctx.resources.reserved.handled(order)
    if ctx.resources.held:
        await asyncio.Event().wait()
    return f"beans-{order.number}"


@step(undo=call_off)
async def book(ctx: Context[Shop], order: Order) -> str:
    """The third."""
    if ctx.resources.booked is not None:
        ctx.resources.booked.handled(order)
    return f"courier-{order.number}"


async def fulfil(saga: Saga[Shop], order: Order) -> str:
    """Three steps, one after the other."""
    paid = await saga.run(charge, order)
    beans = await saga.run(reserve, order)
    courier = await saga.run(book, order)
    return f"{paid} {beans} {courier}"


async def nap(saga: Saga[Shop], order: Order) -> str:
    """Wait for longer than any measure takes."""
    await saga.sleep(timedelta(days=30))
    return order.order_id


def fulfilling(folder: Path, *, concurrency: int, lease: float = 30.0, held: bool = False) -> App[Shop]:
    """The application on a folder's file.

    Args:
        folder: where the file and the ledgers are: `booked`, and `held` or else `again` for the second steps; each is a
            folder in it, and may be missing.
        concurrency: instances at once in one worker.
        lease: seconds.
        held: whether every second step waits for ever.
    """

    @asynccontextmanager
    async def opened() -> AsyncIterator[Shop]:
        yield Shop(_there(folder / "booked"), _there(folder / ("held" if held else "again")), held)

    store = os.environ.get(STORE_URL)
    asked = "" if store is None else f"?store_url={quote(store, safe=':/@')}"
    app: App[Shop] = App("bench", broker=f"sqlite:{folder / 'bench.db'}{asked}", resources=opened)
    settings = {"version": 1, "id": lambda order: order.order_id, "concurrency": concurrency, "lease": lease}
    app.queue("orders", Order).saga(**settings)(fulfil)  # type: ignore[arg-type]
    app.queue("naps", Order).saga(**settings)(nap)  # type: ignore[arg-type]
    return app


def _there(folder: Path) -> Ledger | None:
    return Ledger(folder) if folder.is_dir() else None


def ledger(folder: Path, name: str, room: int) -> Ledger:
    """An empty one, in a folder of its own."""
    (folder / name).mkdir()
    return Ledger.make(folder / name, room)
