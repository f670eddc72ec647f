"""Endpoints: in virtual time, and on a socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sqs_api.answering import Endpoint, endpoint
from tests.sqs_api.conformance.driven import Driven


@pytest.fixture
def sqs() -> Iterator[Driven]:
    """Spoken to in JSON."""
    driven = Driven()
    yield driven
    driven.database.close()


@pytest.fixture
def sqs_query() -> Iterator[Driven]:
    """Spoken to by the Query protocol."""
    driven = Driven("query")
    yield driven
    driven.database.close()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """On a free port, with a database of its own; for all tests together, each with queues of its own."""
    with endpoint(tmp_path_factory.mktemp("sqs")) as found:
        yield found
