"""The pytest plugin: a fixture that opens applications for tests, and assertions of the suites that say what failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from redrive.app import App
    from redrive.harness import Harness

pytest.register_assert_rewrite(
    "redrive.testing.behaviour", "redrive.testing.broker_suite", "redrive.testing.store_suite"
)


@pytest.fixture
def redrive_app() -> Callable[..., Harness[Any]]:
    """What opens applications in memory and in virtual time, as in the example of docs/testing.md."""

    def open_for_test(app: App[Any], **settings: Any) -> Harness[Any]:  # noqa: ANN401 - passed on
        return app.test(**settings)

    return open_for_test
