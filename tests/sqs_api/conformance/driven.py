"""The endpoint's service in virtual time: each call is one of SQS's operations, and time passes when a test says so.

Each test names its source:

    recorded: an answer that Amazon SQS gave, recorded by LocalStack in `tests/aws/services/sqs/test_sqs.snapshot.json`,
        or asserted by a test there that is marked as validated against Amazon; the name is that test's
    moves: the same of `test_sqs_move_task.snapshot.json`
    quoted: an answer of Amazon SQS that somebody quoted in an issue or a program
    api: the Amazon SQS API reference; the name is the operation's
    guide: the Amazon SQS developer guide; the name is the page's
    decided here: nothing was found that says it
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest

from redrive.clock import ManualClock
from redrive.sqlite.writer import InlineDatabase
from redrive.sqs_api.calls import Caller, Refused
from redrive.sqs_api.service import EndpointService

ACCOUNT, REGION, BASE = "111111111111", "eu-central-1", "http://127.0.0.1:9324"
HOUR, DAY = 3_600.0, 86_400.0


def arn(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"


def url(name: str) -> str:
    return f"{BASE}/{ACCOUNT}/{name}"


def text(value: str, kind: str = "String") -> dict[str, str]:
    """A message attribute."""
    return {"DataType": kind, "StringValue": value}


class Driven:
    """An endpoint. Queues are called by their names here, which is what the URL ends with."""

    def __init__(self, protocol: Literal["json", "query"] = "json") -> None:
        self.clock = ManualClock()
        self.database = InlineDatabase(self.clock)
        self.service = EndpointService(self.database)
        self.caller = Caller(account=ACCOUNT, region=REGION, base_url=BASE, protocol=protocol, access_key=None)

    def let_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def call(self, operation: str, queue: str | None = None, **request: Any) -> Mapping[str, Any]:
        if queue is not None:
            request["QueueUrl"] = url(queue)
        return await self.service.call(operation, request, self.caller)

    async def refused(self, operation: str, queue: str | None = None, **request: Any) -> tuple[str, str]:
        """Code and message of the error with which it is answered."""
        with pytest.raises(Refused) as refused:
            await self.call(operation, queue, **request)
        return refused.value.code, refused.value.message

    async def create(self, name: str, **attributes: str) -> str:
        """Its name."""
        if name.endswith(".fifo"):
            attributes.setdefault("FifoQueue", "true")
        await self.call("CreateQueue", QueueName=name, Attributes=attributes)
        return name

    async def pair(self, name: str, *, most: int, **attributes: str) -> tuple[str, str]:
        """A queue and its dead-letter queue."""
        end = ".fifo" if name.endswith(".fifo") else ""
        dead = await self.create(f"{name.removesuffix('.fifo')}-dead{end}")
        return await self.create(name, **attributes, RedrivePolicy=redrive_policy(dead, most)), dead

    async def send(self, queue: str, body: str = "hello", **request: Any) -> Mapping[str, Any]:
        return await self.call("SendMessage", queue, MessageBody=body, **request)

    async def send_batch(self, queue: str, *entries: Mapping[str, Any]) -> Mapping[str, Any]:
        numbered = [{"Id": str(number), **one} for number, one in enumerate(entries)]
        return await self.call("SendMessageBatch", queue, Entries=numbered)

    async def receive(self, queue: str, most: int = 10, **request: Any) -> list[Mapping[str, Any]]:
        answer = await self.call("ReceiveMessage", queue, MaxNumberOfMessages=most, **request)
        assert answer == {} or answer["Messages"], "an empty answer has no `Messages`"
        return list(answer.get("Messages", ()))

    async def receive_one(self, queue: str, **request: Any) -> Mapping[str, Any]:
        (one,) = await self.receive(queue, 1, **request)
        return one

    async def bodies(self, queue: str, most: int = 10, **request: Any) -> list[str]:
        return [one["Body"] for one in await self.receive(queue, most, **request)]

    async def delete(self, queue: str, message: Mapping[str, Any]) -> None:
        assert await self.call("DeleteMessage", queue, ReceiptHandle=message["ReceiptHandle"]) == {}

    async def change(self, queue: str, message: Mapping[str, Any], seconds: int) -> None:
        handle = message["ReceiptHandle"]
        answer = await self.call("ChangeMessageVisibility", queue, ReceiptHandle=handle, VisibilityTimeout=seconds)
        assert answer == {}

    async def attributes(self, queue: str, *names: str) -> Mapping[str, str]:
        answer = await self.call("GetQueueAttributes", queue, AttributeNames=list(names or ("All",)))
        found: Mapping[str, str] = answer.get("Attributes", {})
        return found

    async def counts(self, queue: str) -> tuple[int, int, int]:
        """Visible, not visible, delayed."""
        kinds = ("", "NotVisible", "Delayed")
        found = await self.attributes(queue, *(f"ApproximateNumberOfMessages{kind}" for kind in kinds))
        visible, hidden, delayed = (int(found[f"ApproximateNumberOfMessages{kind}"]) for kind in kinds)
        return visible, hidden, delayed

    async def give_up(self, queue: str, *bodies: str) -> None:
        """Send messages to the queue of a pair, and receive them until they are in its dead-letter queue."""
        for body in bodies:
            await self.send(queue, body)
        while await self.receive(queue, VisibilityTimeout=0):
            pass


def redrive_policy(dead: str, most: int | str) -> str:
    return f'{{"deadLetterTargetArn":"{arn(dead)}","maxReceiveCount":{most}}}'
