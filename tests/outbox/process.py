"""The processes that the kill tests kill: `python -m tests.outbox.process ROLE ADDRESS BROKER POINT`.

A writer makes orders, each with a message, in transactions of which every third is rolled back; a relay sends. Each
kills itself by SIGKILL when it comes to its point for the third time, as the system does when memory runs out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from typing_extensions import override

from redrive import App
from redrive.broker import Broker, Outgoing, Sends
from redrive.clock import SystemClock
from redrive.connections import connect
from redrive.errors import StoreUnavailable
from redrive.leadership import Leadership
from redrive.outbox.addresses import source
from redrive.outbox.relaying import OutboxRelay
from redrive.outbox.source import Row, Source
from redrive.relay import Relay

APP = App("shop")
ORDERS = APP.queue("orders", int)
LINES = APP.queue("lines", int, fifo=True)
LAST = 12
"""Transactions of a writer that nobody kills."""
WRITER_POINTS = ("begun", "changed", "written", "committed", "rolled back")
RELAY_POINTS = ("read", "sending", "sent", "forgetting", "forgotten")
_passed: Counter[str] = Counter()
_point = ""


def at(point: str) -> None:
    """Die here, the third time."""
    _passed[point] += 1
    if point == _point and _passed[point] == 3:
        os.kill(os.getpid(), signal.SIGKILL)


def write(address: str, first: int, *, endless: bool = False) -> None:
    """Make orders, from a number on; every third is rolled back."""
    opened: Any = (
        sqlite3.connect(address.removeprefix("sqlite:"), timeout=30)
        if address.startswith("sqlite:")
        else psycopg.connect(address)
    )
    with contextlib.closing(opened) as connection:
        number = first
        while endless or number < first + LAST:
            at("begun")
            connection.execute(f"INSERT INTO shop_order (id) VALUES ({number:d})")  # noqa: S608 - a number
            at("changed")
            APP.outbox(connection).send(ORDERS, number)
            APP.outbox(connection).send(LINES, number, group=str(number % 2))
            at("written")
            if number % 3:
                connection.commit()
                at("committed")
            else:
                connection.rollback()
                at("rolled back")
            number += 1


class Watched(Relay):
    """The broker, with the points around a send."""

    @override
    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        at("sending")
        sent = await super().send(queue, messages)
        at("sent")
        return sent


class WatchedSource:
    """The source, with the points around what it does; reads little, so that it comes to each of them often."""

    def __init__(self, real: Source) -> None:
        self._real = real
        self.address = real.address

    async def next(self, app: str, *, without: tuple[Collection[str], Collection[str]], limit: int) -> list[Row]:
        rows = await self._real.next(app, without=without, limit=min(limit, 4))
        at("read")
        return rows

    async def delete(self, ids: Collection[int]) -> None:
        at("forgetting")
        await self._real.delete(ids)
        at("forgotten")

    async def changed(self, wait: float) -> None:
        await self._real.changed(wait)

    async def close(self) -> None:
        await self._real.close()


class _Leads(Leadership):
    """The one before was killed: nobody waits for its leadership to end here."""

    @override
    async def held(self) -> bool:
        return True


async def relay(address: str, broker_address: str, *, endless: bool = False) -> None:
    """Send what is there, and with `endless` what comes."""
    broker: Broker
    clock = SystemClock()
    broker, store = connect(broker_address, clock)
    runtime = await APP.open_on(Watched(broker), store, clock=clock, random=Random())  # noqa: S311 - ids, no secrets
    leads = _Leads(store, clock, task="test", holder="test")
    relaying = OutboxRelay(runtime, WatchedSource(source(address, Path())), name="0", leadership=leads)
    while endless:
        with contextlib.suppress(StoreUnavailable):  # SQLite's own wait for writers starves; a worker tries again too
            await relaying.step()
    while await relaying.relay():
        pass
    await relaying.resign()
    await APP.close()


if __name__ == "__main__":
    role, database, broker_at, _point = sys.argv[1:5]
    endless_ = role.startswith("endless-")
    if role.endswith("writer"):
        write(database, int(broker_at), endless=endless_)
    else:
        asyncio.run(relay(database, broker_at, endless=endless_))
