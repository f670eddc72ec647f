"""What is parked on SQS for a week is sent again there, and then is young."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from redrive.broker import Return
from redrive.brokers.sqs import SqsAddress, SqsBroker
from redrive.clock import ManualClock
from redrive.renewal import Renewal
from redrive.testing.broker_suite import message, new_queue, receive, send, settle
from tests.brokers.sqs.server_process import Server

WEEK = 7 * 24 * 3600.0


@pytest.fixture
async def broker(ours: Server) -> AsyncIterator[SqsBroker]:
    broker = SqsBroker(SqsAddress(endpoint_url=ours.url))
    yield broker
    await broker.close()


async def test_a_week_counts_from_the_arrival_in_the_queue(ours: Server, broker: SqsBroker) -> None:
    """Each message is sent again once a week: under its id, and the broker keeps it from then."""
    queue = await new_queue(broker)
    sent = [message(b"%d" % number) for number in range(15)]
    await send(broker, queue, *sent)
    (first,) = await receive(broker, queue, limit=1, lease=30)
    await settle(broker, Return(delivery=first))
    assert first.arrived_at_ms is not None
    clock = ManualClock(first.arrived_at_ms)
    renewal = Renewal(broker, clock)
    assert await renewal.step(queue) == 0  # the first look is later
    clock.advance(WEEK - 3600)
    assert await renewal.step(queue) == 0  # too young
    clock.advance(2 * 24 * 3600)
    ours.advance(WEEK + 2 * 24 * 3600)
    assert await renewal.step(queue) == 15
    clock.advance(2 * 24 * 3600)
    assert await renewal.step(queue) == 0  # young again
    found = []
    while taken := await receive(broker, queue, lease=30):
        found += taken
    assert sorted(one.message.id for one in found) == sorted(one.id for one in sent)
    assert {one.message.sent_at_ms for one in found} == {one.sent_at_ms for one in sent}
    assert min(one.arrived_at_ms or 0 for one in found) > first.arrived_at_ms + 1000 * WEEK
