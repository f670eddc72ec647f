"""The application of the loop: payments go down and come back, some orders are nonsense, and workers are killed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import BaseModel

import redrive.moves
from redrive import App, Backoff, Context, Reject
from redrive.testing import Recorder

LOGS = Path(os.environ.get("SHOP_LOGS", "."))
DOWN = LOGS / "payments-are-down"
redrive.moves._LEASE = 3.0  # what a killed healer had taken out of a parked queue is back within the test


class Coffee(BaseModel):
    """An order."""

    drink: str


@asynccontextmanager
async def handled() -> AsyncIterator[Recorder]:
    """The worker's log of what it handled."""
    with Recorder(LOGS, f"handlers-{os.getpid()}-{os.urandom(3).hex()}") as recorder:
        yield recorder


async def look() -> None:
    """Ask payments how they are."""
    if DOWN.exists():
        raise ConnectionError("payments are down")


app = App("shop", resources=handled)
coffees = app.queue("coffees", Coffee)
payments = app.dependency("payments", timeout=2.0, trip_after=2, canary=look, canary_every=0.5, max_rate=200.0)


@coffees.consumer(
    needs=[payments], lease=2.0, max_attempts=2, backoff=Backoff(first=0.1, maximum=0.2), concurrency=4, max_crashes=50
)
async def brew(ctx: Context[Recorder], coffee: Coffee) -> None:
    """Pay, then serve."""
    if coffee.drink == "gravel":
        raise Reject("gravel is no drink")
    async with payments:
        await look()
    if coffee.drink == "surprise":
        raise ZeroDivisionError(coffee.drink)
    ctx.resources.handled(ctx.message_id)
