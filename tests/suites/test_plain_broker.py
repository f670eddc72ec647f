"""A broker that can do less keeps what it still promises; with notes in a store it can rewrite a message on retry."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from typing_extensions import override

from redrive.annotations import AnnotatingBroker
from redrive.broker import Broker
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import ManualClock
from redrive.sqlite.writer import InlineDatabase
from redrive.stores.sqlite import SqliteStore
from redrive.testing import PlainBroker
from tests.suites.embedded import InMemory


class TestPlain(InMemory):
    """PlainBroker in front of the embedded one."""

    @pytest.fixture
    @override
    async def broker(self) -> AsyncIterator[Broker]:
        broker = PlainBroker(self.open(), max_batch=1_000)
        yield broker
        await broker.close()


class TestAnnotating(InMemory):
    """The same, with its notes in the store."""

    @pytest.fixture
    @override
    async def broker(self) -> AsyncIterator[Broker]:
        self.clock = ManualClock()
        database = InlineDatabase(self.clock)
        broker = AnnotatingBroker(
            PlainBroker(SqliteBroker(database), max_batch=1_000), SqliteStore(database), self.clock
        )
        yield broker
        await broker.close()
