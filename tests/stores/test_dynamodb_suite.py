"""The store on DynamoDB keeps the promises of every store, with one shard for a namespace and with eight."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from typing_extensions import override

from redrive.clock import ManualClock
from redrive.store import Store
from redrive.stores.dynamodb import DynamoStore
from redrive.stores.dynamodb.layout import Layout
from redrive.testing.store_suite import StoreSuite


class _OnMoto(StoreSuite):
    """DynamoStore against a stand-in: the store's clock is the test's."""

    layout = Layout()

    @pytest.fixture
    async def store(self, endpoint: str) -> AsyncIterator[Store]:
        self.clock = ManualClock()
        store = DynamoStore(self.clock, region="eu-west-1", endpoint_url=endpoint, declare="create", layout=self.layout)
        yield store
        await store.close()

    @override
    async def let_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @override
    def now_ms(self) -> int:
        return self.clock.now_ms()


class TestInOneShard(_OnMoto):
    """As most namespaces are."""


@pytest.mark.long
class TestInEightShards(_OnMoto):
    """As those are that messages write to: lists are merged."""

    layout = Layout(others=8)
