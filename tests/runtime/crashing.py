"""An application whose handlers take their process down: what the supervisor's tests run."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from pathlib import Path

from pydantic import BaseModel

import redrive.isolation
from redrive import App, Backoff, Context

print("an application may print when it is imported")  # noqa: T201 - that is what is tested

LOG = Path(os.environ.get("CRASHING_LOG", os.devnull))
MAX_CRASHES = int(os.environ.get("CRASHING_MAX", "2"))
ONCE = "CRASHING_ONCE" in os.environ
LONG = "CRASHING_LONG" in os.environ
WAITS_FOR = os.environ.get("CRASHING_WAITS_FOR")
BROKEN = Path(os.environ.get("CRASHING_BROKEN", os.devnull))
redrive.isolation._AROUND = 0.5
redrive.isolation._START_AGAIN = 0.5


while WAITS_FOR and not Path(WAITS_FOR).exists():
    time.sleep(0.02)


class Order(BaseModel):
    """A payload."""

    id: str
    does: str = "work"


def note(what: str) -> None:
    """One line in the log, in one write."""
    with LOG.open("a") as log:
        log.write(what + "\n")


if "isolated" in sys.argv:
    note(f"isolated {os.getpid()}")
    if BROKEN.is_file():
        BROKEN.with_suffix(".seen").touch()
        raise RuntimeError("this process cannot start")

app = App("crashing")
orders = app.queue("orders", Order)
plain = app.queue("plain", Order)


@orders.consumer(
    once_by=(lambda order: order.id) if ONCE else None,
    max_crashes=MAX_CRASHES,
    lease=2.0 if ONCE else 1.0,
    timeout=60.0 if LONG else 1.0,
    backoff=Backoff(first=0.05, maximum=0.05),
    max_attempts=2,
)
async def handle(ctx: Context[None], order: Order) -> None:
    """Do what the order says."""
    note(f"begin {order.id} {ctx.message_id}")
    match order.does:
        case "exit":
            os._exit(1)
        case "segv":
            ctypes.string_at(0)
        case "loop":
            while True:
                pass
        case "block":
            time.sleep(60)  # noqa: ASYNC251 - that is the fault
        case "hang":
            await asyncio.Event().wait()
        case "wait":
            await asyncio.sleep(0.5)
        case _:
            pass
    note(f"end {order.id} {ctx.message_id}")


@plain.consumer(lease=1.0, timeout=0.5, backoff=Backoff(first=0.05, maximum=0.05), max_attempts=2)
def handle_plainly(ctx: Context[None], order: Order) -> None:
    """In a thread: what blocks here cannot be stopped."""
    note(f"begin {order.id} {ctx.message_id}")
    if order.does == "block":
        time.sleep(60)
    if order.does == "exit":
        os._exit(1)
    note(f"end {order.id} {ctx.message_id}")
