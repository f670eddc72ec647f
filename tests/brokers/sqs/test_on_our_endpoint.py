"""The broker on Amazon SQS keeps the promises of every broker at our own endpoint; so do its move tasks."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest
from typing_extensions import override

from redrive.broker import Broker, QueueSpec, Return
from redrive.brokers.sqs import SqsAddress, SqsBroker
from redrive.errors import LimitExceeded, QueueConflict, QueueNotFound
from redrive.testing.broker_suite import DEADLINE, message, receive, send
from tests.brokers.sqs.server_process import Server
from tests.brokers.sqs.sqs_suite import SqsSuite


class TestOnOurEndpoint(SqsSuite):
    """SqsBroker at `redrive serve`, in virtual time."""

    @pytest.fixture
    async def broker(self, ours: Server) -> AsyncIterator[Broker]:
        self.ours = ours
        self.brokers = [SqsBroker(SqsAddress(endpoint_url=ours.url))]
        yield self.brokers[0]
        for broker in self.brokers:
            await broker.close()

    @override
    async def let_pass(self, seconds: float) -> None:
        self.ours.advance(seconds)

    @override
    async def reopened(self, broker: Broker) -> Broker:
        """Another broker at the same endpoint."""
        self.brokers.append(SqsBroker(SqsAddress(endpoint_url=self.ours.url)))
        return self.brokers[-1]


@pytest.fixture
async def broker(ours: Server) -> AsyncIterator[SqsBroker]:
    broker = SqsBroker(SqsAddress(endpoint_url=ours.url))
    yield broker
    await broker.close()


@pytest.fixture
async def orders(broker: SqsBroker) -> str:
    """A queue with what belongs to it."""
    name = f"orders-{secrets.token_hex(4)}"
    await broker.declare(
        [
            QueueSpec(name=name, dead_letter_queue=f"{name}-dead", max_receives=30),
            QueueSpec(name=f"{name}-dead"),
            QueueSpec(name=f"{name}-parked-payments"),
        ]
    )
    return name


@pytest.mark.parametrize("kind", ["dead", "parked-payments"])
async def test_what_waits_is_moved_by_sqs_itself(ours: Server, broker: SqsBroker, orders: str, kind: str) -> None:
    """From a parked queue too, by its anchor; each message arrives as it was."""
    waiting = f"{orders}-{kind}"
    sent = [message(b"%d" % number, attributes={"a": "b"}) for number in range(5)]
    await send(broker, waiting, *sent)
    task = await broker.start_move(waiting, orders, rate=500)
    arrived: list[object] = []
    async with asyncio.timeout(DEADLINE):
        while len(arrived) < len(sent):
            ours.advance(1)
            arrived += [one.message for one in await broker.receive(orders, limit=10, lease=3_000, wait=1)]
        while (move := (await broker.moves(waiting))[0]).status == "RUNNING":
            ours.advance(1)
    assert sorted(arrived, key=str) == sorted(sent, key=str)
    assert (move.source, move.destination, move.moved, move.status) == (waiting, orders, 5, "COMPLETED")
    with pytest.raises(LimitExceeded, match="running"):
        await broker.cancel_move(task)


async def test_a_return_beyond_twelve_hours_is_cut(ours: Server, broker: SqsBroker, orders: str) -> None:
    """SQS lets nobody hold a message for longer in all: it comes back sooner than asked, and is not lost."""
    await send(broker, orders, message(b"1"), message(b"2"))
    taken = await receive(broker, orders, lease=43_000)
    ours.advance(40_000)
    assert await broker.settle([Return(delivery=taken[0], delay=30_000)]) == [None]
    (refused,) = await broker.extend([taken[1]], lease=43_200)
    assert isinstance(refused, LimitExceeded)
    assert await broker.extend([taken[1]], lease=3_000) == [None]
    ours.advance(3_201)
    back = [*await receive(broker, orders, lease=30), *await receive(broker, orders, lease=30)]
    assert sorted(one.message.body for one in back) == [b"1", b"2"]


async def test_a_move_can_be_stopped(broker: SqsBroker, orders: str) -> None:
    """What was moved stays moved, the rest stays where it is."""
    waiting = f"{orders}-dead"
    await send(broker, waiting, *(message() for _ in range(10)))
    task = await broker.start_move(waiting, orders, rate=1)
    moved = await broker.cancel_move(task)
    (move,) = await broker.moves(waiting)
    assert move.status == "CANCELLED"
    assert (await broker.depth(orders)).total == moved
    assert len(await receive(broker, waiting, lease=30)) == 10 - moved


async def test_a_move_that_cannot_be_is_refused(broker: SqsBroker, orders: str) -> None:
    """From a queue that is nobody's dead-letter queue, too fast, or to nowhere."""
    with pytest.raises(QueueConflict, match=orders):
        await broker.start_move(orders, f"{orders}-dead")
    with pytest.raises(LimitExceeded, match="rate"):
        await broker.start_move(f"{orders}-dead", orders, rate=501)
    with pytest.raises(QueueNotFound, match="nowhere"):
        await broker.start_move(f"{orders}-dead", "nowhere")
