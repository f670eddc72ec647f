"""What the other processes of these tests do: `python process.py ROLE DATABASE`; one line for each thing done."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections import Counter

from redrive.broker import Acknowledge, Outgoing, QueueSpec
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import SystemClock
from redrive.message import Message, message_id
from redrive.sqlite import log
from redrive.sqlite.writer import FileDatabase

QUEUE = "orders"


def say(**facts: object) -> None:
    """One line, written in one piece at once."""
    os.write(1, json.dumps(facts).encode() + b"\n")


def outgoing(body: bytes) -> Outgoing:
    return Outgoing(message=Message(id=message_id(1_700_000_000_000, secrets.token_bytes(10)), body=body, sent_at_ms=1))


async def send(broker: SqliteBroker) -> None:
    """Send without end from eight tasks; say each id once it was answered."""

    async def one_after_the_other() -> None:
        while True:
            batch = [outgoing(b"%d" % number) for number in range(3)]
            assert await broker.send(QUEUE, batch) == [None] * 3
            say(ids=[one.message.id for one in batch])

    await asyncio.gather(*(one_after_the_other() for _ in range(8)))


async def drain(broker: SqliteBroker) -> None:
    """Send and drain at the same time until told, and everything is gone; say what was received how often."""
    say(ready=True)
    await asyncio.to_thread(sys.stdin.readline)
    received: Counter[str] = Counter()

    async def feed() -> None:
        for _ in range(10):
            await asyncio.gather(*(broker.send(QUEUE, [outgoing(b"fed")]) for _ in range(20)))

    async def consume() -> None:
        while deliveries := await broker.receive(QUEUE, limit=10, lease=600, wait=1.0):
            received.update(one.message.id for one in deliveries)
            results = await broker.settle([Acknowledge(delivery=one) for one in deliveries])
            assert results == [None] * len(deliveries), results

    await asyncio.gather(feed(), *(consume() for _ in range(4)))
    say(received=received)


async def echo(broker: SqliteBroker) -> None:
    """Wait for messages, one by one, and say each body."""
    say(ready=True)
    while deliveries := await broker.receive(QUEUE, limit=1, lease=600, wait=20.0):
        await broker.settle([Acknowledge(delivery=one) for one in deliveries])
        say(body=deliveries[0].message.body.decode())


async def main(role: str, path: str) -> None:
    if role == "send_and_tidy":  # the same, with a checkpoint after nearly every commit
        log.LONG = 3
    broker = SqliteBroker(FileDatabase(path, SystemClock()))
    await broker.declare([QueueSpec(name=QUEUE)])
    await {"send": send, "send_and_tidy": send, "drain": drain, "echo": echo}[role](broker)
    await broker.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
