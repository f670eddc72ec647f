"""The work that every subject does: 200-byte JSON bodies, and a handler that parses, validates and counts.

Also how a measurement is asked for: each is a script's function, run in a fresh process on a fresh folder, that prints
its numbers as one line of JSON.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel

BODY = 200
"""Bytes of one body."""

Measure = Callable[[Path, int], Mapping[str, float]]
"""Takes an empty folder and how many messages to move; the numbers it found, by name."""


class Order(BaseModel):
    """What a body holds."""

    order_id: str
    customer: str
    drink: str
    size: int
    price: float
    sent_ns: int
    """On the monotonic clock, which all processes of a machine share."""
    note: str

    @property
    def number(self) -> int:
        """Which one it is, counted from 0."""
        return int(self.order_id[6:])


def orders(count: int, *, first: int = 0) -> list[Order]:
    """Orders whose JSON is 200 bytes each."""
    return [order(number) for number in range(first, first + count)]


def order(number: int, sent_ns: int = 0) -> Order:
    """The order of that number."""
    bare = Order(
        order_id=f"order-{number:08d}",
        customer="Ada Lovelace",
        drink="flat white",
        size=number % 3,
        price=3.5,
        sent_ns=sent_ns,
        note="",
    )
    bare.note = "x" * (BODY - len(bare.model_dump_json()))
    return bare


def end_on_sigterm() -> None:
    """Let SIGTERM unwind this process as Ctrl-C does, so that nothing that it started outlives it."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def measured_by(measures: Mapping[str, Measure]) -> None:
    """Run the measure that the command line names: `MEASURE FOLDER COUNT`."""
    end_on_sigterm()
    name, folder, count = sys.argv[1:]
    print(json.dumps(dict(measures[name](Path(folder).resolve(), int(count)))), flush=True)


def rate(count: int, began: float) -> dict[str, float]:
    """Messages a second since `began`, on the wall clock; and from when to when, for whoever traces the process."""
    now = time.time()
    return {"rate": count / (now - began), "from": began, "to": now}


def quantiles(nanoseconds: list[int]) -> dict[str, float]:
    """p50 and p99, in milliseconds."""
    ordered = sorted(nanoseconds)
    return {
        "p50": ordered[len(ordered) // 2] / 1e6,
        "p99": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] / 1e6,
    }


def status_kib(process: int | str, field: str) -> int:
    """A field of /proc/PID/status that is given in KiB."""
    for line in Path(f"/proc/{process}/status").read_text("utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise LookupError(field)


def shown(number: float | None) -> str:
    """A number as people read it, three digits or more; empty where there is none."""
    if number is None:
        return ""
    if isinstance(number, int) or number >= 100:  # noqa: PLR2004 - three digits are enough
        return f"{number:,.0f}"
    return f"{number:.2f}" if number < 10 else f"{number:.1f}"  # noqa: PLR2004 - likewise
