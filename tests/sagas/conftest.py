"""What the tests of sagas are given."""

from __future__ import annotations

from functools import partialmethod

import pytest

from redrive.app import App
from redrive.testing import PlainBroker


@pytest.fixture(params=["embedded", "plain"])
def any_broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Applications get the embedded broker, then one that can do less, in `app.test()`."""
    if request.param == "plain":
        monkeypatch.setattr(App, "test", partialmethod(App.test, broker=PlainBroker))
    return str(request.param)
