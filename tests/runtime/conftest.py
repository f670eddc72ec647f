"""What the tests of the runtime are given."""

from __future__ import annotations

from typing import Any

import pytest

import redrive.app
import redrive.harness
from redrive.connections import connect
from redrive.stores.sqlite import SqliteStore
from tests.runtime.fakes import FailingStore


@pytest.fixture
def failing_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Applications get a `FailingStore`, in `app.test()` and on files."""

    def connected(*arguments: Any) -> Any:
        broker, store = connect(*arguments)
        return broker, FailingStore(store)

    monkeypatch.setattr(redrive.app, "connect", connected)
    monkeypatch.setattr(redrive.harness, "SqliteStore", lambda database: FailingStore(SqliteStore(database)))
