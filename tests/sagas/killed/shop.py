"""The application of the kill trials, its services' ledger, and the switch that kills a worker at a point.

The ledger is a file of its own: one row for each call that took effect, in a transaction of its own. The services know
a key that they have seen, as good services do.
"""

from __future__ import annotations

import mmap
import os
import signal
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redrive import App, Backoff, Context, Reject, Saga, Step, step
from redrive.broker import Results
from redrive.relay import Relay
from redrive.sagas.definition import SagaConsumer
from redrive.store import SAGAS, Namespace, Store
from tests.sagas.counting import StoreInFront

LEASE = 1.0
QUEUE = "fulfilments"
_SOON = Backoff(first=0.01, maximum=0.05)


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a worker is killed, or stopped: at the n-th of a kind, counted since the last time."""

    kind: str
    """`write` of a journal, `settle` of messages, `body` of a step or an undo."""
    number: int
    after: bool
    stops: bool = False
    """Whether it is stopped (SIGSTOP) rather than killed."""


class Switch:
    """The points of one trial, one after the other; what is counted is shared by all that are forked."""

    KINDS = ("write", "settle", "body")

    def __init__(self, points: list[Point]) -> None:
        self.points = points
        self._shared = mmap.mmap(-1, 64)

    @property
    def fired(self) -> int:
        """How many points were come to."""
        return self._read(0)

    def counts(self) -> dict[str, int]:
        """How many there were of each kind since the last point."""
        return {kind: self._read(1 + place) for place, kind in enumerate(self.KINDS)}

    @contextmanager
    def passing(self, kind: str) -> Iterator[None]:
        """Around one of a kind."""
        place = 1 + self.KINDS.index(kind)
        self._write(place, number := self._read(place) + 1)
        point = self.points[self.fired] if self.fired < len(self.points) else None
        if point is None or (point.kind, point.number) != (kind, number):
            yield
            return
        if point.after:
            yield
        for one in range(1, 4):
            self._write(one, 0)
        self._write(0, self.fired + 1)
        os.kill(os.getpid(), signal.SIGSTOP if point.stops else signal.SIGKILL)
        if not point.after:
            yield  # a worker that was stopped wakes up here

    def _read(self, place: int) -> int:
        return int(struct.unpack_from("=q", self._shared, 8 * place)[0])

    def _write(self, place: int, value: int) -> None:
        struct.pack_into("=q", self._shared, 8 * place, value)


class KillingStore(StoreInFront):
    """Passes the switch at each write of a journal."""

    def __init__(self, store: Store, switch: Switch) -> None:
        super().__init__(store)
        self._switch = switch

    async def put(self, namespace: Namespace, key: str, value: bytes, *, if_version: int, **times: Any) -> int:
        if namespace != SAGAS:
            return await super().put(namespace, key, value, if_version=if_version, **times)
        with self._switch.passing("write"):
            return await super().put(namespace, key, value, if_version=if_version, **times)


class KillingBroker(Relay):
    """Passes the switch at each settlement."""

    switch: Switch

    async def settle(self, settlements: Any) -> Results:
        with self.switch.passing("settle"):
            return await super().settle(settlements)


class Ledger:
    """What the services did, whoever asked them."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file, timeout=30, isolation_level=None)
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS call (number INTEGER PRIMARY KEY, what TEXT, key TEXT, process INTEGER)"
        )
        self._connection.execute("CREATE TABLE IF NOT EXISTS done (key TEXT PRIMARY KEY)")

    def begins(self, key: str) -> None:
        """A body begins."""
        self._note("begin", key)

    def takes_effect(self, key: str) -> None:
        """Once for each key."""
        if self._connection.execute("INSERT OR IGNORE INTO done VALUES (?)", (key,)).rowcount:
            self._note("effect", key)

    def calls(self) -> list[tuple[str, str, int]]:
        """What happened, in order: what, key, process."""
        return list(self._connection.execute("SELECT what, key, process FROM call ORDER BY number"))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _note(self, what: str, key: str) -> None:
        self._connection.execute("INSERT INTO call (what, key, process) VALUES (?, ?, ?)", (what, key, os.getpid()))


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the steps act on."""

    ledger: Ledger
    switch: Switch

    def act(self, key: str) -> str:
        """One body; it can be killed before its effect and after."""
        self.ledger.begins(key)
        with self.switch.passing("body"):
            self.ledger.takes_effect(key)
        return f"receipt of {key}"


def _step(name: str) -> Step[Any, Any, Any]:
    async def undo(ctx: Context[Services], _result: str | None, order: str) -> None:
        if (name, order) == ("reserve", "stuck"):
            raise Reject("the shelf is gone")
        ctx.resources.act(ctx.key)

    async def do(ctx: Context[Services], order: str) -> str:
        if name == "confirm" and order != "completed":
            raise Reject("out of oat milk")
        receipt: str = ctx.resources.act(ctx.key)
        return receipt

    return step(undo=undo, name=name, backoff=_SOON, undo_backoff=_SOON)(do)


charge, reserve, book, confirm = _step("charge"), _step("reserve"), _step("book"), _step("confirm")


async def fulfil(saga: Saga[Services], order: str) -> str:
    """An order is named after how it ends: `completed`, `undone` or `stuck`."""
    paid: str = await saga.run(charge, order)
    saga.uuid()
    await saga.gather(reserve(order), book(order))
    await saga.run(confirm, order)
    return paid


def application(**settings: Any) -> tuple[App[Any], SagaConsumer[str]]:
    """One of each process."""
    app: App[Any] = App("killed", **settings)
    queue = app.queue(QUEUE, str)
    saga = queue.saga(id=lambda order: order, lease=LEASE, steps=[charge, reserve, book, confirm], max_crashes=20)(
        fulfil
    )
    return app, saga
