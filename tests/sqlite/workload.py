"""A small day at the broker: `python workload.py DATABASE ROUNDS`; says what it was answered, and what it was refused.

Lines of JSON: what is asked (`ask`) before it is asked, and what became of it after. Whoever reads them knows what must
be in the file afterwards, what must not, and what may.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable
from typing import Any

from redrive.broker import Acknowledge, Outgoing, QueueSpec
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import SystemClock
from redrive.errors import RedriveError
from redrive.message import Message
from redrive.sqlite import database as opening
from redrive.sqlite import log
from redrive.sqlite.writer import FileDatabase
from redrive.store import ABSENT, Namespace
from redrive.stores.sqlite import SqliteStore

QUEUE = "orders"
NUMBERS = Namespace(name="numbers", listable=True)
LONGEST_LEASE = 43_200.0


def say(**facts: object) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


def body_of(name: str) -> bytes:
    """What a message of that name holds: some pages, and nothing else."""
    return name.encode() * 300


class Day:
    """The same calls in the same order each time."""

    def __init__(self, database: FileDatabase) -> None:
        self._broker, self._store = SqliteBroker(database), SqliteStore(database)
        self._sent = 0

    async def round(self, number: int) -> None:
        """Send one, send five, take three, acknowledge them, write an entry."""
        for size in (1, 5):
            names = [f"m{self._sent + one}" for one in range(size)]
            self._sent += size
            messages = [Outgoing(message=Message(id=one, body=body_of(one), sent_at_ms=1)) for one in names]
            await self._tried("send", names, self._broker.send(QUEUE, messages))
        taken = await self._tried("receive", [], self._broker.receive(QUEUE, limit=3, lease=LONGEST_LEASE)) or []
        for one in taken:
            if one.message.body != body_of(one.message.id):
                say(wrong=one.message.id)
        names = [one.message.id for one in taken]
        await self._tried("acknowledge", names, self._broker.settle([Acknowledge(delivery=one) for one in taken]))
        value = f"v{number}".encode()
        await self._tried("put", [f"v{number}"], self._store.put(NUMBERS, f"{number}", value, if_version=ABSENT))

    async def begin(self) -> None:
        await self._tried("declare", [], self._broker.declare([QueueSpec(name=QUEUE)]))

    async def _tried(self, what: str, names: list[str], call: Awaitable[Any]) -> Any:
        say(ask=what, names=names)
        try:
            answer = await call
        except RedriveError as error:
            say(refused=what, names=names, error=type(error).__name__, text=str(error))
            return None
        refused = [str(one) for one in answer if one is not None] if what in {"send", "acknowledge"} else []
        if refused:
            say(refused=what, names=names, error="partly", text=str(refused))
        else:
            say(answered=what, names=names)
        return answer


async def main(path: str, rounds: int) -> None:
    log.LONG = 20  # a checkpoint every few commits
    opening.BUSY_MS = 500  # a lock that the system did not undo is noticed soon
    try:
        database = FileDatabase(path, SystemClock())
    except RedriveError as error:
        say(refused="open", names=[], error=type(error).__name__, text=str(error))
        return
    day = Day(database)
    await day.begin()
    for number in range(rounds):
        await day.round(number)
    await asyncio.to_thread(database.close)
    say(closed=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
