"""What the store cannot keep until it is due is refused when it is sent."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator

import pytest

from redrive.clock import ManualClock
from redrive.errors import LimitExceeded
from redrive.message import Message
from redrive.store import TIMERS
from redrive.stores.dynamodb import DynamoStore
from redrive.timekeeper import set_timer, set_timers

DUE = 2_000_000_000_000


@pytest.fixture
async def store(endpoint: str) -> AsyncIterator[DynamoStore]:
    table = f"table-{secrets.token_hex(8)}"
    store = DynamoStore(ManualClock(), table=table, region="eu-west-1", endpoint_url=endpoint, declare="create")
    yield store
    await store.close()


def _message(identity: str, size: int) -> Message:
    return Message(id=identity, body=b"x" * size, sent_at_ms=1_700_000_000_000)


async def test_a_message_too_large_to_wait_in_the_store_is_refused_with_what_fits(store: DynamoStore) -> None:
    """The error names its size and the limit; a message of just that size is kept."""
    with pytest.raises(LimitExceeded, match=r"400000.*send it without") as refused:
        await set_timer(store, "orders", _message("1", 400_000), due_at_ms=DUE)
    (most,) = map(int, re.findall(r"at most (\d+)", str(refused.value)))
    assert 250_000 < most < 270_000
    await set_timer(store, "orders", _message("2", most), due_at_ms=DUE)
    with pytest.raises(LimitExceeded):
        await set_timer(store, "orders", _message("3", most + 4), due_at_ms=DUE)
    assert [one.key for one in await store.due(TIMERS, before_ms=DUE + 1, limit=10)] == ["send/2"]


async def test_of_several_messages_none_is_kept_if_one_is_too_large(store: DynamoStore) -> None:
    """All are looked at before the first is written."""
    with pytest.raises(LimitExceeded):
        await set_timers(store, "orders", [_message("1", 10), _message("2", 400_000)], due_at_ms=DUE)
    assert await store.due(TIMERS, before_ms=DUE + 1, limit=10) == []
