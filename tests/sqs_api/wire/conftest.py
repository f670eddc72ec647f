"""An endpoint that answers by the model and keeps nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sqs_api.wire.endpoint import KEY, SECRET, Endpoint, serving


@pytest.fixture(scope="session")
def one_for_all() -> Iterator[Endpoint]:
    """To start and stop one takes a third of a second."""
    with serving() as found:
        yield found


@pytest.fixture
def endpoint(one_for_all: Endpoint) -> Endpoint:
    """On loopback, without keys; with nothing asked of it yet."""
    one_for_all.service.forget()
    return one_for_all


@pytest.fixture(scope="session")
def one_with_a_key() -> Iterator[Endpoint]:
    """Likewise."""
    with serving(keys={KEY: SECRET}) as found:
        yield found


@pytest.fixture
def locked(one_with_a_key: Endpoint) -> Endpoint:
    """With a key; with nothing asked of it yet."""
    one_with_a_key.service.forget()
    return one_with_a_key
