"""The embedded store keeps the promises of every store: in memory and on a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typing_extensions import override

from redrive.clock import ManualClock
from redrive.sqlite.writer import FileDatabase, InlineDatabase
from redrive.store import Store
from redrive.stores.sqlite import SqliteStore
from redrive.testing.store_suite import StoreSuite


class TestInMemory(StoreSuite):
    """SqliteStore on InlineDatabase."""

    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        self.clock = ManualClock()
        store = SqliteStore(InlineDatabase(self.clock))
        yield store
        await store.close()

    @override
    async def let_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @override
    def now_ms(self) -> int:
        return self.clock.now_ms()


class TestOnFile(StoreSuite):
    """SqliteStore on FileDatabase, in virtual time."""

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        self.clock = ManualClock()
        store = SqliteStore(FileDatabase(str(tmp_path / "store.db"), self.clock))
        yield store
        await store.close()

    @override
    async def let_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @override
    def now_ms(self) -> int:
        return self.clock.now_ms()
