"""What the tests of the runtime are given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partialmethod
from typing import Any

import pytest

import redrive.app
import redrive.harness
from redrive.app import App
from redrive.stores.sqlite import SqliteStore
from redrive.testing import PlainBroker
from tests.runtime.fakes import FailingStore


@pytest.fixture
def failing_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Applications get a `FailingStore`, in `app.test()` and on files."""
    open_it: Callable[..., Any] = vars(redrive.app)["connect"]

    def connected(*arguments: Any) -> Any:
        broker, store = open_it(*arguments)
        return broker, FailingStore(store)

    monkeypatch.setattr(redrive.app, "connect", connected)
    monkeypatch.setattr(redrive.harness, "SqliteStore", lambda database: FailingStore(SqliteStore(database)))


@pytest.fixture(params=["embedded", "plain"])
def any_broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Applications get the embedded broker, then one that can do less, in `app.test()` and on files."""
    if request.param == "plain":
        open_it: Callable[..., Any] = vars(redrive.app)["connect"]

        def connected(*arguments: Any) -> Any:
            broker, store = open_it(*arguments)
            return PlainBroker(broker), store

        monkeypatch.setattr(redrive.app, "connect", connected)
        monkeypatch.setattr(App, "test", partialmethod(App.test, broker=PlainBroker))
    return str(request.param)
