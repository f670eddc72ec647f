"""An endpoint for clients that other people wrote."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sqs_api.answering import Endpoint, endpoint


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """On a free port, with a database of its own."""
    with endpoint(tmp_path_factory.mktemp("sqs")) as found:
        yield found
