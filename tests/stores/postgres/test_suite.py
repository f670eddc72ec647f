"""The store on PostgreSQL keeps the promises of every store."""

from __future__ import annotations

import pytest
from typing_extensions import override

from redrive.clock import ManualClock
from redrive.store import Store
from redrive.stores.postgres import PostgresStore
from redrive.testing.store_suite import StoreSuite
from tests.stores.postgres.conftest import Open


class TestOnPostgres(StoreSuite):
    """PostgresStore, in virtual time."""

    @pytest.fixture
    def store(self, opened: Open, clock: ManualClock) -> Store:
        self.clock = clock
        return opened()

    @override
    async def let_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @override
    def now_ms(self) -> int:
        return self.clock.now_ms()


class TestOneConnection(TestOnPostgres):
    """Likewise where all calls share one connection."""

    @pytest.fixture(autouse=True)
    def _one_lane(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("redrive.stores.postgres.lanes.LANES", 1)


def test_a_store_on_postgres_is_one(store: PostgresStore) -> None:
    """The port's, by its type."""
    port: Store = store
    assert port.max_value == 2 * 1024 * 1024
