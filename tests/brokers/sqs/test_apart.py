"""What fails in part at Amazon SQS keeps its order and its answers: each entry is told what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from redrive.broker import Acknowledge, Broker, Outgoing
from redrive.brokers.sqs import SqsAddress, SqsBroker
from redrive.brokers.sqs.failures import Refused, Throttled
from redrive.errors import BrokerError, BrokerUnavailable
from redrive.testing.broker_suite import message, new_queue, receive, settle
from tests.brokers.sqs.proxy import Answer, Ask, Proxy, Request, proxy_for, refusing
from tests.brokers.sqs.server_process import Server

_SEND = "SendMessageBatch"


@pytest.fixture
async def proxy(moto: Server) -> AsyncIterator[Proxy]:
    async with proxy_for(moto.port) as proxy:
        yield proxy


@pytest.fixture
async def broker(proxy: Proxy) -> AsyncIterator[Broker]:
    broker = SqsBroker(SqsAddress(endpoint_url=proxy.url))
    yield broker
    await broker.close()


class Failing:
    """Lets the entry with one body fail, by no fault of its sender, for so many times."""

    def __init__(self, body: bytes, *, times: int) -> None:
        self._body, self._left = body.decode(), times

    async def __call__(self, request: Request, ask: Ask) -> Answer:
        entries = request.body["Entries"]
        bad = [one for one in entries if one["MessageBody"] == self._body and self._left]
        self._left -= len(bad)
        good = [one for one in entries if one not in bad]
        answer = await ask(request._replace(body={**request.body, "Entries": good})) if good else Answer(200, {})
        failed = [{"Id": one["Id"], "Code": "InternalFailure", "SenderFault": False} for one in bad]
        return answer._replace(body={**answer.body, "Failed": [*answer.body.get("Failed", []), *failed]})


def _line(group: str, count: int) -> list[Outgoing]:
    bodies = [f"{group}{number:02}" for number in range(count)]
    return [Outgoing(message=message(one.encode(), group=group), deduplication_id=one) for one in bodies]


def _in_turn(*lines: list[Outgoing]) -> list[Outgoing]:
    return [one for each in zip(*lines, strict=True) for one in each]


async def _arrived(broker: Broker, queue: str) -> dict[str, list[bytes]]:
    """The bodies of each line, as they are handed out."""
    found: dict[str, list[bytes]] = {}
    while taken := await receive(broker, queue, lease=30):
        for one in taken:
            found.setdefault(one.message.group or "", []).append(one.message.body)
        await settle(broker, *(Acknowledge(delivery=one) for one in taken))
    return found


async def test_a_part_that_failed_once_keeps_its_place(proxy: Proxy, broker: Broker) -> None:
    """What was sent behind it in its line arrives behind it; what the sender is told is true."""
    queue = await new_queue(broker, fifo=True)
    proxy.spoil(_SEND, Failing(b"a05", times=1), times=100)
    line = _line("a", 25)
    sent = await broker.send(queue, line)
    assert not [one for one in sent if isinstance(one, BrokerError)]
    assert await _arrived(broker, queue) == {"a": [one.message.body for one in line]}


async def test_a_part_that_fails_for_good_stops_its_line_and_no_other(proxy: Proxy, broker: Broker) -> None:
    """Nothing that the same call has behind it in its line is sent, and the sender is told; other lines go on."""
    queue = await new_queue(broker, fifo=True)
    proxy.spoil(_SEND, Failing(b"a05", times=100), times=100)
    results = await broker.send(queue, _in_turn(_line("a", 12), _line("b", 12)))
    failed = [place for place, one in enumerate(results) if isinstance(one, BrokerUnavailable)]
    assert failed == list(range(10, 24, 2))
    assert await _arrived(broker, queue) == {
        "a": [one.message.body for one in _line("a", 5)],
        "b": [one.message.body for one in _line("b", 12)],
    }


async def test_many_lines_share_requests(proxy: Proxy, broker: Broker) -> None:
    """A request takes one of each line, wherever in the call they stand, and ten where there are ten lines."""
    queue = await new_queue(broker, fifo=True)
    lines = [_line(group, 4) for group in "abcdefghij"]
    await broker.send(queue, [one for line in lines for one in line])
    assert [len(one.body["Entries"]) for one in proxy.requests if one.action == _SEND] == [10] * 4
    assert await _arrived(broker, queue) == {
        group: [one.message.body for one in line] for group, line in zip("abcdefghij", lines, strict=True)
    }


async def test_one_that_is_throttled_alone_says_nothing_of_the_others(proxy: Proxy, broker: Broker) -> None:
    """A batch that was refused as a whole is taken apart: what was sent is told as sent, the throttled one as not."""
    queue = await new_queue(broker)
    for fault in [refusing("InvalidMessageContents"), *[refusing("ThrottlingException")] * 4]:
        proxy.spoil(_SEND, fault)  # all together, and then the first one until it is given up
    results = await broker.send(queue, [Outgoing(message=message(b"%d" % number)) for number in range(3)])
    assert [type(one) for one in results] == [Throttled, type(None), type(None)]
    assert (await broker.depth(queue)).total == 2


async def test_what_is_refused_for_something_else_is_not_laid_to_the_message(proxy: Proxy, broker: Broker) -> None:
    """A refusal that is not about what is in it stays as Amazon SQS gave it."""
    queue = await new_queue(broker)
    proxy.spoil(_SEND, refusing("InvalidAction", text="not here"), times=1)
    (refused,) = await broker.send(queue, [Outgoing(message=message(b"1"))])
    assert isinstance(refused, Refused)
    assert "not here" in str(refused)


async def test_calls_of_one_moment_keep_their_order_in_a_line(broker: Broker) -> None:
    """First come, first sent, whoever it is."""
    queue = await new_queue(broker, fifo=True)
    line = _line("a", 9)
    await asyncio.gather(*(broker.send(queue, line[start : start + 3]) for start in (0, 3, 6)))
    assert await _arrived(broker, queue) == {"a": [one.message.body for one in line]}
