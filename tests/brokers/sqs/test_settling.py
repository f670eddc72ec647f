"""What becomes of a message at Amazon SQS is what was settled last, however large it is and whatever is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from redrive.broker import Acknowledge, Broker, Forward, QueueSpec, Return
from redrive.brokers.sqs import SqsAddress, SqsBroker
from redrive.brokers.sqs.client import Client
from redrive.errors import BrokerUnavailable, LimitExceeded
from redrive.message import MAX_BODY, Delivery
from redrive.testing.broker_suite import DEADLINE, NOTED, message, new_queue, receive, send, settle
from tests.brokers.sqs.proxy import Answer, Ask, Proxy, Request, proxy_for
from tests.brokers.sqs.server_process import Server

_CHANGE = "ChangeMessageVisibilityBatch"
_LARGEST = 1_048_576


@pytest.fixture
async def broker(ours: Server) -> AsyncIterator[Broker]:
    broker = SqsBroker(SqsAddress(endpoint_url=ours.url))
    yield broker
    await broker.close()


@pytest.fixture
async def proxy(ours: Server) -> AsyncIterator[Proxy]:
    async with proxy_for(ours.port) as proxy:
        yield proxy


@pytest.fixture
async def slow(proxy: Proxy) -> AsyncIterator[Broker]:
    """A broker whose requests may be held up."""
    broker = SqsBroker(SqsAddress(endpoint_url=proxy.url))
    yield broker
    await broker.close()


@pytest.fixture
async def stranger(ours: Server) -> AsyncIterator[Client]:
    """Somebody who knows Amazon SQS and not redrive."""
    client = Client(SqsAddress(endpoint_url=ours.url))
    yield client
    await client.close()


async def _url(stranger: Client, queue: str) -> str:
    url: str = (await stranger.read("GetQueueUrl", queue, QueueName=queue))["QueueUrl"]
    return url


class Late:
    """Passes a request on when it is told to."""

    def __init__(self) -> None:
        self.may_arrive, self.arrived = asyncio.Event(), asyncio.Event()

    async def __call__(self, request: Request, ask: Ask) -> Answer:
        await self.may_arrive.wait()
        answer = await ask(request)
        self.arrived.set()
        return answer


@pytest.mark.parametrize("given_up", [False, True])
async def test_a_return_is_not_undone_by_an_extension_on_its_way(
    ours: Server, proxy: Proxy, slow: Broker, *, given_up: bool
) -> None:
    """It waits for it, also where nobody else does any more, and the message comes back when the return says."""
    queue, late = await new_queue(slow), Late()
    await send(slow, queue, message(b"1"))
    (taken,) = await receive(slow, queue, lease=30)
    proxy.spoil(_CHANGE, late)
    async with asyncio.timeout(DEADLINE):
        extending = asyncio.create_task(slow.extend([taken], lease=2))
        await proxy.until_asked(_CHANGE)
        if given_up:
            extending.cancel()
        returning = asyncio.create_task(slow.settle([Return(delivery=taken, delay=20)]))
        for _ in range(3):  # what does not wait is done after that
            await slow.depth(queue)
        late.may_arrive.set()
        await late.arrived.wait()
        assert await returning == [None]
        await asyncio.wait([extending])
    ours.advance(3)
    assert await receive(slow, queue, lease=30) == []
    ours.advance(18)
    assert len(await receive(slow, queue, lease=30)) == 1


class Together:
    """Passes requests on once so many have come."""

    def __init__(self, count: int) -> None:
        self._gate = asyncio.Barrier(count)

    async def __call__(self, request: Request, ask: Ask) -> Answer:
        await self._gate.wait()
        return await ask(request)


async def test_what_is_settled_in_one_call_is_settled_side_by_side(proxy: Proxy, slow: Broker) -> None:
    """Of the most that a call may hold, no request waits until another is answered."""
    queue, most = await new_queue(slow), slow.capabilities.max_batch
    await send(slow, queue, *(message(b"%d" % number) for number in range(most)))
    taken: list[Delivery] = []
    while len(taken) < most:
        taken += await receive(slow, queue, lease=30)
    proxy.spoil("DeleteMessageBatch", Together(most // 10), times=most // 10)
    async with asyncio.timeout(DEADLINE):
        assert await slow.settle([Acknowledge(delivery=one) for one in taken]) == [None] * most
    assert (await slow.depth(queue)).total == 0
    assert proxy.asked["DeleteMessageBatch"] == most // 10


@pytest.mark.filterwarnings("ignore:Sending a large body")  # aiohttp's, over 1 MiB
@pytest.mark.parametrize("size", [MAX_BODY + 1, _LARGEST - 400, _LARGEST - 120, _LARGEST])
async def test_a_foreign_message_of_any_size_can_be_forwarded(broker: Broker, stranger: Client, size: int) -> None:
    """Whatever SQS took from somebody else can be dead or parked, and come back; its notes are shed where need be."""
    queue, dead = await new_queue(broker), await new_queue(broker)
    body = '{"x":"' + "y" * (size - 8) + '"}'
    await stranger.write("SendMessage", queue, QueueUrl=await _url(stranger, queue), MessageBody=body)
    (taken,) = await receive(broker, queue, lease=30)
    await settle(broker, Forward(delivery=taken, queue=dead, message=replace(taken.message, notes=NOTED)))
    (buried,) = await receive(broker, dead, lease=30)
    assert (buried.message.id, buried.message.body) == (taken.message.id, body.encode())
    assert buried.message.notes.attempts == NOTED.attempts
    await settle(broker, Forward(delivery=buried, queue=queue, message=buried.message))
    (back,) = await receive(broker, queue, lease=30)
    assert back.message == buried.message


async def test_a_message_that_grew_keeps_to_the_usual_limit(broker: Broker) -> None:
    """Only what came that large may go on that large."""
    queue, other = await new_queue(broker), await new_queue(broker)
    await send(broker, queue, message(b"1"))
    (taken,) = await receive(broker, queue, lease=30)
    larger = replace(taken.message, body=b"x" * (MAX_BODY + 1))
    (refused,) = await broker.settle([Forward(delivery=taken, queue=other, message=larger)])
    assert isinstance(refused, LimitExceeded)


async def test_a_queue_that_was_just_deleted_is_worth_a_minute(ours: Server, broker: Broker, stranger: Client) -> None:
    """Its name is taken for 60 s: the broker says so, and that it passes; then the queue is made."""
    queue = await new_queue(broker)
    await stranger.write("DeleteQueue", queue, QueueUrl=await _url(stranger, queue))
    with pytest.raises(BrokerUnavailable, match=f"'{queue}' was deleted just now; wait a minute"):
        await broker.declare([QueueSpec(name=queue)])
    ours.advance(61)
    await broker.declare([QueueSpec(name=queue)])


async def test_a_second_purge_says_when_to_try_again(ours: Server, broker: Broker) -> None:
    """There is one a minute."""
    queue = await new_queue(broker)
    await broker.purge(queue)
    with pytest.raises(BrokerUnavailable, match=f"'{queue}' was purged just now, .* try again in 60 s"):
        await broker.purge(queue)
    ours.advance(61)
    await broker.purge(queue)
