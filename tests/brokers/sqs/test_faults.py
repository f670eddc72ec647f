"""What goes wrong between us and Amazon SQS: nothing is lost, and nobody is told what did not happen."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from redrive.broker import Acknowledge, Broker, Forward, Outgoing, QueueSpec, Return
from redrive.brokers.sqs import SqsAddress, SqsBroker
from redrive.brokers.sqs.failures import PermissionMissing, Throttled
from redrive.errors import BrokerUnavailable, LimitExceeded, OutcomeUnknown, QueueNotFound, StaleReceipt
from redrive.testing.broker_suite import DEADLINE, message, new_queue, receive, send, send_once, settle
from tests.brokers.sqs.proxy import (
    Proxy,
    answering,
    cut_after,
    cut_before,
    failing_in_part,
    proxy_for,
    refusing,
)
from tests.brokers.sqs.server_process import Server

_SEND, _RECEIVE, _DELETE, _CHANGE = (
    "SendMessageBatch",
    "ReceiveMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibilityBatch",
)


@pytest.fixture
async def proxy(moto: Server) -> AsyncIterator[Proxy]:
    async with proxy_for(moto.port) as proxy:
        yield proxy


@pytest.fixture
async def broker(proxy: Proxy) -> AsyncIterator[Broker]:
    broker = SqsBroker(SqsAddress(endpoint_url=proxy.url))
    yield broker
    await broker.close()


def _bodies(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


async def _all(broker: Broker, queue: str) -> list[bytes]:
    """All that is there, twice what is there twice."""
    found: list[bytes] = []
    while taken := await receive(broker, queue, lease=30):
        found += [one.message.body for one in taken]
    return sorted(found)


async def test_throttling_is_waited_for(proxy: Proxy, broker: Broker) -> None:
    """Each kind of call is repeated until it goes through, and is done once."""
    queue = await new_queue(broker)
    for code in ("ThrottlingException", "RequestThrottled"):
        proxy.spoil(_SEND, refusing(code, text="slow down"))
    await send(broker, queue, message(b"once"))
    proxy.spoil(_RECEIVE, refusing("RequestThrottled", 403))
    (taken,) = await receive(broker, queue, lease=30)
    proxy.spoil(_DELETE, refusing("ServiceUnavailable", 503))
    await settle(broker, Acknowledge(delivery=taken))
    assert (await broker.depth(queue)).total == 0


async def test_throttling_without_end_is_unavailability(proxy: Proxy, broker: Broker) -> None:
    """After some tries the caller is told, who backs off; nothing was sent, nor acknowledged."""
    queue = await new_queue(broker)
    proxy.spoil(_SEND, refusing("ThrottlingException"), times=4)
    with pytest.raises(Throttled):
        await broker.send(queue, [Outgoing(message=message(b"never"))])
    await send(broker, queue, message(b"1"))
    (taken,) = await receive(broker, queue, lease=30)
    proxy.spoil(_DELETE, refusing("ThrottlingException"), times=4)
    with pytest.raises(BrokerUnavailable):
        await broker.settle([Acknowledge(delivery=taken)])
    assert await broker.settle([Acknowledge(delivery=taken)]) == [None]
    assert (await broker.depth(queue)).total == 0


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch"])
async def test_expired_credentials_are_transient(proxy: Proxy, broker: Broker, code: str) -> None:
    """The broker is unavailable until they are renewed; nothing is lost."""
    queue = await new_queue(broker)
    proxy.spoil(_SEND, refusing(code, 403, "The security token included in the request is expired"), times=4)
    with pytest.raises(BrokerUnavailable, match="credentials are not accepted"):
        await broker.send(queue, [Outgoing(message=message(b"1"))])
    await send(broker, queue, message(b"2"))
    assert await _all(broker, queue) == [b"2"]


@pytest.mark.parametrize("fault", [cut_before, cut_after, refusing("InternalError", 500)])
async def test_a_send_without_answer_is_unknown(proxy: Proxy, broker: Broker, fault: object) -> None:
    """It may have happened or not: the sender is told so, and no second one is sent in his back."""
    queue = await new_queue(broker)
    proxy.spoil(_SEND, fault)  # type: ignore[arg-type]  # a list of different faults
    with pytest.raises(OutcomeUnknown):
        await broker.send(queue, [Outgoing(message=message(b"1"))])
    assert proxy.asked[_SEND] == 1
    assert len(await _all(broker, queue)) == (1 if fault is cut_after else 0)


async def test_a_send_to_a_line_without_answer_is_repeated(proxy: Proxy, broker: Broker) -> None:
    """Under its deduplication id it arrives once, however often it is sent."""
    queue = await new_queue(broker, fifo=True)
    proxy.spoil(_SEND, cut_after, times=2)
    (sent,) = await send_once(broker, queue, (message(b"1", group="a"), "key"))
    assert not sent.duplicate
    assert proxy.asked[_SEND] == 3
    assert await _all(broker, queue) == [b"1"]


async def test_nothing_of_a_line_overtakes_what_was_not_sent(proxy: Proxy, broker: Broker) -> None:
    """When the first one fails, the rest of the same call is not sent before them; others' messages are."""
    queue = await new_queue(broker, fifo=True)
    proxy.spoil(_SEND, refusing("ThrottlingException"), times=4)
    line = [Outgoing(message=message(body, group="a"), deduplication_id=body.decode()) for body in _bodies(25)]
    sending = asyncio.create_task(broker.send(queue, line))
    await proxy.until_asked(_SEND)
    (other,) = await send_once(broker, queue, (message(b"other", group="b"), "other"))
    assert not other.duplicate
    with pytest.raises(BrokerUnavailable):
        await sending
    assert await _all(broker, queue) == [b"other"]


async def test_doubt_does_not_go_away(proxy: Proxy, broker: Broker) -> None:
    """A send whose answer was lost stays unknown, although what followed surely did nothing."""
    queue = await new_queue(broker, fifo=True)
    proxy.spoil(_SEND, cut_after)
    proxy.spoil(_SEND, refusing("ThrottlingException"), times=3)
    with pytest.raises(OutcomeUnknown):
        await broker.send(queue, [Outgoing(message=message(b"1", group="a"), deduplication_id="key")])
    assert await _all(broker, queue) == [b"1"]


async def test_a_part_that_failed_is_sent_again_alone(proxy: Proxy, broker: Broker) -> None:
    """The others are not sent twice, and every caller has the answer for his own."""
    queue = await new_queue(broker)
    proxy.spoil(_SEND, failing_in_part(1, 4))
    proxy.spoil(_SEND, failing_in_part(1, code="RequestThrottled"))
    await send(broker, queue, *(message(body) for body in _bodies(10)))
    assert [len(one.body["Entries"]) for one in proxy.requests if one.action == _SEND] == [10, 2, 1]
    assert await _all(broker, queue) == _bodies(10)


async def test_a_part_that_goes_on_failing_fails_alone(proxy: Proxy, broker: Broker) -> None:
    """It is named, transient, and the others have been sent."""
    queue = await new_queue(broker)
    proxy.spoil(_SEND, failing_in_part(1))
    proxy.spoil(_SEND, failing_in_part(0), times=3)
    results = await broker.send(queue, [Outgoing(message=message(body)) for body in _bodies(3)])
    assert [type(one) for one in results] == [type(None), BrokerUnavailable, type(None)]
    assert await _all(broker, queue) == [b"0", b"2"]


async def test_an_entry_that_is_refused_fails_alone(proxy: Proxy, broker: Broker) -> None:
    """By its own fault it is not asked again, and the neighbours do not suffer; nor when all were refused at once."""
    queue = await new_queue(broker)
    proxy.spoil(_SEND, failing_in_part(1, code="InvalidMessageContents", sender_fault=True))
    results = await broker.send(queue, [Outgoing(message=message(body)) for body in _bodies(3)])
    assert [type(one) for one in results] == [type(None), LimitExceeded, type(None)]
    proxy.spoil(_SEND, refusing("InvalidMessageContents"), times=2)  # all together, and then the first one
    results = await broker.send(queue, [Outgoing(message=message(body)) for body in _bodies(3)])
    assert [type(one) for one in results] == [LimitExceeded, type(None), type(None)]
    assert await _all(broker, queue) == [b"0", b"1", b"2", b"2"]


async def test_an_entry_without_an_answer_is_unknown(proxy: Proxy, broker: Broker) -> None:
    """An answer that leaves one out says nothing of it."""
    queue = await new_queue(broker)
    proxy.spoil(_SEND, answering(lambda body: {**body, "Successful": body["Successful"][1:]}))
    results = await broker.send(queue, [Outgoing(message=message(body)) for body in _bodies(2)])
    assert [type(one) for one in results] == [OutcomeUnknown, type(None)]


@pytest.mark.parametrize("name", ["MD5OfMessageBody", "MD5OfMessageAttributes"])
async def test_what_did_not_arrive_whole_is_told(proxy: Proxy, broker: Broker, name: str) -> None:
    """The MD5 in the answer is another: the sender is told, and it is not taken for sent."""
    queue = await new_queue(broker)
    proxy.spoil(_SEND, answering(lambda body: {"Successful": [{**one, name: "0" * 32} for one in body["Successful"]]}))
    with pytest.raises(OutcomeUnknown, match="MD5"):
        await broker.send(queue, [Outgoing(message=message(b"1"))])


async def test_deletes_and_returns_are_repeated(proxy: Proxy, broker: Broker) -> None:
    """Doing them twice is doing them once: a lost answer, a failed part and a fault of the server are made good."""
    queue = await new_queue(broker)
    await send(broker, queue, *(message(body) for body in _bodies(6)))
    taken = await receive(broker, queue, lease=30)
    proxy.spoil(_DELETE, cut_after)
    proxy.spoil(_DELETE, failing_in_part(0, 2))
    proxy.spoil(_CHANGE, refusing("InternalError", 500))
    proxy.spoil(_CHANGE, failing_in_part(1))
    settlements = [Acknowledge(delivery=one) for one in taken[:3]], [Return(delivery=one) for one in taken[3:]]
    assert await broker.settle([*settlements[0], *settlements[1]]) == [None] * 6
    assert await _all(broker, queue) == sorted(one.message.body for one in taken[3:])


@pytest.mark.parametrize(
    ("action", "fault"),
    [(_SEND, cut_before), (_SEND, refusing("AccessDenied", 403)), (_DELETE, refusing("AccessDenied", 403))],
)
async def test_a_forward_that_breaks_off_loses_nothing(
    moto: Server, proxy: Proxy, broker: Broker, action: str, fault: object
) -> None:
    """Before the target answered, the message is not deleted; afterwards it is in both, under one id."""
    queue, other = await new_queue(broker), await new_queue(broker)
    sent = message(b"precious")
    await send(broker, queue, sent)
    (taken,) = await receive(broker, queue, lease=30)
    proxy.spoil(action, fault)  # type: ignore[arg-type]  # a list of different faults
    with pytest.raises((OutcomeUnknown, PermissionMissing)):
        await broker.settle([Forward(delivery=taken, queue=other, message=taken.message)])
    copies = [one.message for one in await receive(broker, other, lease=30)]
    assert copies == ([sent] if action == _DELETE else [])
    moto.advance(31)
    (again,) = await receive(broker, queue, lease=30)
    assert again.message == sent


async def test_a_late_forward_of_what_somebody_else_holds_copies_nothing(proxy: Proxy, broker: Broker) -> None:
    """A receipt of another process is asked about before there are two messages."""
    queue, other = await new_queue(broker), await new_queue(broker)
    await send(broker, queue, message(b"1"))
    (taken,) = await receive(broker, queue, lease=30)
    successor = SqsBroker(SqsAddress(endpoint_url=proxy.url))
    proxy.spoil(_CHANGE, failing_in_part(0, code="MessageNotInflight", sender_fault=True))
    results = await successor.settle([Forward(delivery=taken, queue=other, message=taken.message)])
    assert [type(one) for one in results] == [StaleReceipt]
    assert (await broker.depth(other)).total == 0
    await successor.close()


async def test_a_permission_that_is_missing_is_named(proxy: Proxy, broker: Broker) -> None:
    """The action and the queue, and it is not asked again and again."""
    queue = await new_queue(broker)
    text = "User: arn:aws:iam::1:user/x is not authorized to perform: sqs:sendmessage on resource: y"
    proxy.spoil(_SEND, refusing("AccessDenied", 403, text))
    with pytest.raises(PermissionMissing, match=f"sqs:sendmessage on queue '{queue}'"):
        await broker.send(queue, [Outgoing(message=message(b"1"))])
    proxy.spoil(_RECEIVE, refusing("AccessDeniedException", 403))
    with pytest.raises(PermissionMissing, match=f"sqs:ReceiveMessage on queue '{queue}'"):
        await receive(broker, queue, lease=30)
    assert (proxy.asked[_SEND], proxy.asked[_RECEIVE]) == (1, 1)


async def test_a_deleted_queue_is_not_found(proxy: Proxy, broker: Broker) -> None:
    """Where it was is remembered only until it is not there any more; made again, it is found again."""
    queue = await new_queue(broker)
    await send(broker, queue, message(b"1"))
    proxy.spoil(_SEND, refusing("QueueDoesNotExist"))
    with pytest.raises(QueueNotFound, match=queue):
        await broker.send(queue, [Outgoing(message=message(b"2"))])
    urls = proxy.asked["GetQueueUrl"]
    await send(broker, queue, message(b"3"))
    assert proxy.asked["GetQueueUrl"] == urls + 1


async def test_nobody_there_is_unavailability() -> None:
    """Refused connections: nothing happened, for any call."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        broker = SqsBroker(SqsAddress(endpoint_url=f"http://127.0.0.1:{taken.getsockname()[1]}"))
        with pytest.raises(BrokerUnavailable):
            await broker.queues()
        with pytest.raises(BrokerUnavailable):
            await broker.declare([QueueSpec(name="orders")])
        await broker.close()


async def test_what_arrives_after_a_cancel_is_handed_back(proxy: Proxy, broker: Broker) -> None:
    """A long poll cannot be called back: what it still brings is ready again at once."""
    queue = await new_queue(broker)
    await broker.depth(queue)
    waiting = asyncio.create_task(broker.receive(queue, limit=1, lease=300, wait=20))
    async with asyncio.timeout(DEADLINE):
        await proxy.until_asked(_RECEIVE)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await send(broker, queue, message(b"1"))
        await proxy.until_asked(_CHANGE)
        taken = await broker.receive(queue, limit=1, lease=30, wait=DEADLINE)
    assert taken[0].message.body == b"1"


async def test_sends_of_one_moment_share_requests(proxy: Proxy, broker: Broker) -> None:
    """Ten to a request, and no more than 1 MiB in one."""
    queue = await new_queue(broker)
    await asyncio.gather(*(send(broker, queue, message(body)) for body in _bodies(25)))
    assert sorted(len(one.body["Entries"]) for one in proxy.requests if one.action == _SEND) == [5, 10, 10]
    assert await _all(broker, queue) == sorted(_bodies(25))
    proxy.requests.clear()
    await send(broker, queue, *(message(b"x" * 400_000) for _ in range(5)))
    assert sorted(len(one.body["Entries"]) for one in proxy.requests if one.action == _SEND) == [1, 2, 2]


async def test_settlements_share_requests(proxy: Proxy, broker: Broker) -> None:
    """Deletes and visibility changes too, for each queue."""
    queue = await new_queue(broker)
    await send(broker, queue, *(message(body) for body in _bodies(20)))
    taken = [*await receive(broker, queue, lease=30), *await receive(broker, queue, lease=30)]
    assert await broker.extend(taken, lease=60) == [None] * 20
    await settle(broker, *(Acknowledge(delivery=one) for one in taken))
    assert (proxy.asked[_CHANGE], proxy.asked[_DELETE]) == (2, 2)


async def test_a_full_queue_is_polled_side_by_side_and_an_idle_one_once(proxy: Proxy, broker: Broker) -> None:
    """More requests while they come back full; one long poll when there is nothing."""
    queue = await new_queue(broker)
    await send(broker, queue, *(message(body) for body in _bodies(100)))
    sizes = [len(await broker.receive(queue, limit=160, lease=300)) for _ in range(4)]
    assert sizes == [10, 20, 40, 30]
    assert [one.body["WaitTimeSeconds"] for one in proxy.requests if one.action == _RECEIVE] == [0] * 15
    proxy.requests.clear()
    assert await broker.receive(queue, limit=160, lease=300, wait=1.2) == []
    assert len([one for one in proxy.requests if one.action == _RECEIVE]) <= 12
    assert await broker.receive(queue, limit=160, lease=300, wait=1.0) == []
    assert proxy.requests[-1].body["WaitTimeSeconds"] == 1
