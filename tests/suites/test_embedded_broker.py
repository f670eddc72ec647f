"""The embedded broker keeps the promises of every broker: in memory, on a file, and in real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from redrive.broker import Acknowledge, Broker
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import SystemClock
from redrive.sqlite.writer import FileDatabase
from redrive.testing.broker_suite import DEADLINE, message, new_queue, send
from tests.suites.embedded import InMemory, OnFile


class TestInMemory(InMemory):
    """SqliteBroker on InlineDatabase, in virtual time."""

    @pytest.fixture
    async def broker(self) -> AsyncIterator[Broker]:
        broker = self.open()
        yield broker
        await broker.close()


class TestOnFile(OnFile):
    """SqliteBroker on FileDatabase, in virtual time."""

    @pytest.fixture
    async def broker(self, tmp_path: Path) -> AsyncIterator[Broker]:
        yield self.open(tmp_path)
        await self.close()


@pytest.fixture
async def real_time(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = SqliteBroker(FileDatabase(str(tmp_path / "broker.db"), SystemClock()))
    yield broker
    await broker.close()


async def test_whoever_waits_has_a_message_whose_lease_ended(real_time: Broker) -> None:
    """Nobody has to send anything: a receive that waits finds a message the moment its lease is over."""
    queue = await new_queue(real_time)
    await send(real_time, queue, message())
    (first,) = await real_time.receive(queue, limit=1, lease=0.08)
    loop = asyncio.get_running_loop()
    began = loop.time()
    (second,) = await real_time.receive(queue, limit=1, lease=30, wait=DEADLINE)
    assert second.message == first.message
    assert second.receive_count == 2
    assert loop.time() - began < 0.9  # the backstop would take a second
    assert await real_time.settle([Acknowledge(delivery=second)]) == [None]


async def test_whoever_waits_has_a_message_whose_delay_ended(real_time: Broker) -> None:
    """The same holds for a delay, which is kept to the millisecond: never early."""
    queue = await new_queue(real_time)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await send(real_time, queue, message(), delay=0.1)
    assert len(await real_time.receive(queue, limit=1, lease=30, wait=DEADLINE)) == 1
    assert 0.095 <= loop.time() - began < 1.0
