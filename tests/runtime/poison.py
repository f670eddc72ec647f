"""An application whose messages are poison, each in its own way: what the tests of poison pills run."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel

import redrive.app
import redrive.isolation
from redrive import App, Backoff
from redrive.testing import PlainBroker

LOG = os.open(os.environ.get("POISON_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
"""One record for each begin and end of a handler, each in one write: a process may die at any time."""
RECORD = struct.Struct("<cqd")
PAUSE = float(os.environ.get("POISON_PAUSE", "0.01"))
"""Seconds that a good message takes."""
SETTINGS: dict[str, Any] = {
    "max_attempts": 2,
    "max_crashes": 2,
    "backoff": Backoff(first=0.05, maximum=0.05),
    "timeout": float(os.environ.get("POISON_TIMEOUT", "1")),
    "lease": float(os.environ.get("POISON_LEASE", "1")),
}
redrive.isolation._AROUND = 0.5
if "POISON_PLAIN" in os.environ:
    _connect: Callable[..., Any] = vars(redrive.app)["connect"]

    def _connected(*arguments: Any) -> tuple[PlainBroker, Any]:
        broker, store = _connect(*arguments)
        return PlainBroker(broker), store

    vars(redrive.app)["connect"] = _connected
if memory := int(os.environ.get("POISON_MEMORY", "0")):
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


class Order(BaseModel):
    """A payload."""

    number: int
    does: str = "work"


class Unpicklable(Exception):
    """It cannot be pickled, copied or rebuilt from its arguments."""

    def __init__(self, one: object, *, other: object) -> None:
        super().__init__(one, lambda: other)

    def __reduce__(self) -> NoReturn:
        raise TypeError("this cannot be pickled")


class Unprintable(Exception):
    """It has no text."""

    def __str__(self) -> str:
        raise RuntimeError("this cannot be printed")

    __repr__ = __str__


class Beyond(BaseException):
    """No `except Exception` holds it up."""


def note(what: bytes, number: int) -> None:
    """Write one record."""
    os.write(LOG, RECORD.pack(what, number, time.time()))


def read(log: Path) -> list[tuple[str, int, float]]:
    """The records: `b` or `e`, the number of the order, when."""
    return [(what.decode(), number, at) for what, number, at in RECORD.iter_unpack(log.read_bytes())]


def _raises(error: Callable[[], BaseException]) -> Callable[[], NoReturn]:
    def pill() -> NoReturn:
        raise error()

    return pill


def _hog() -> NoReturn:
    """Take memory until there is none: untouched pages of zeros, since it is the address space that is limited."""
    kept: list[bytes] = []
    while True:
        kept.append(bytes(1 << 26))


def _recurse() -> NoReturn:
    _recurse()


def _loop() -> NoReturn:
    while True:
        pass


PILLS: dict[str, Callable[[], object]] = {
    "raise": _raises(lambda: ValueError("bad")),
    "beyond": _raises(Beyond),
    "interrupt": _raises(KeyboardInterrupt),
    "close": _raises(GeneratorExit),
    "cancel": _raises(asyncio.CancelledError),
    "unpicklable": _raises(lambda: Unpicklable(1, other=2)),
    "unprintable": _raises(Unprintable),
    "recursion": _recurse,
    "sys.exit": lambda: sys.exit(3),
    "memory": _hog,
    "os._exit": lambda: os._exit(1),
    "os._exit as if it were done": lambda: os._exit(0),
    "os._exit as if misconfigured": lambda: os._exit(78),
    "os._exit as if to be replaced": lambda: os._exit(75),
    "segv": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "oom kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "loop": _loop,
}

app = App("poison")
orders = app.queue("orders", Order)
plain = app.queue("plain", Order)


@orders.consumer(**SETTINGS)
async def handle(order: Order) -> None:
    """Do what the order says, on the event loop."""
    note(b"b", order.number)
    if order.does == "deaf":
        await _deaf()
    if order.does == "mourn":
        await asyncio.sleep(0.2)
        raise ValueError(order.number)
    if order.does in PILLS:
        PILLS[order.does]()
    await asyncio.sleep(0.2 if order.does == "wait" else PAUSE)
    note(b"e", order.number)


@plain.consumer(**SETTINGS)
def handle_plainly(order: Order) -> None:
    """Do what the order says, in a thread."""
    note(b"b", order.number)
    if order.does in PILLS:
        PILLS[order.does]()
    time.sleep(0.3 if order.does == "wait" else PAUSE)
    note(b"e", order.number)


async def _deaf() -> NoReturn:
    """Wait for ever, whoever cancels it."""
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.Event().wait()
