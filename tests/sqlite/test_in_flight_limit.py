"""At the limit of messages in flight nothing more is given, and nobody spins."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from redrive.broker import Acknowledge, Outgoing, QueueSpec
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import SystemClock
from redrive.message import Message
from redrive.sqlite import engine
from redrive.sqlite.writer import FileDatabase


@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
async def test_what_is_settled_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fifo: bool) -> None:
    """A receive that waits at the limit gets a message as soon as another one is acknowledged."""
    monkeypatch.setattr(engine, "MOST_IN_FLIGHT", 3)
    database = FileDatabase(str(tmp_path / "limit.db"), SystemClock())
    looks = 0
    run = database.run

    def counted(work: object) -> asyncio.Future[object]:
        nonlocal looks
        looks += 1
        return run(work)  # type: ignore[arg-type]

    monkeypatch.setattr(database, "run", counted)
    broker = SqliteBroker(database)
    await broker.declare([QueueSpec(name="q", fifo=fifo)])
    messages = [Message(id=str(number), body=b"1", sent_at_ms=1, group=str(number)) for number in range(5)]
    await broker.send("q", [Outgoing(message=one, deduplication_id=one.id) for one in messages])
    taken = await broker.receive("q", limit=10, lease=30.0)
    assert len(taken) == 3
    assert await broker.receive("q", limit=10, lease=30.0) == []
    looks = 0
    assert await broker.receive("q", limit=10, lease=30.0, wait=0.35) == []
    assert looks <= 6
    waiting = asyncio.create_task(broker.receive("q", limit=10, lease=30.0, wait=5.0))
    await broker.settle([Acknowledge(delivery=taken[0])])
    assert [one.message.id for one in await waiting] == ["3"]
    await broker.close()


def test_the_limit_is_that_of_amazon_sqs() -> None:
    """120,000 messages of one queue in flight, standard or FIFO."""
    assert engine.MOST_IN_FLIGHT == 120_000
