"""aws-lambda-powertools: batches of received messages, as Lambda's poller would hand them over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    SqsFifoPartialProcessor,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from tests.sqs_api.answering import ACCOUNT, REGION, Endpoint


class Poller:
    """What Lambda does: receives a batch, has it handled, deletes what did not fail and hands the rest back."""

    def __init__(self, client: Any, queue: str) -> None:
        self._client, self._queue = client, queue

    def invoke(self, processor: Any, handle: Any) -> list[str]:
        """The bodies of what failed."""
        messages = self._client.receive_message(
            QueueUrl=self._queue, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
        )["Messages"]
        event = {"Records": [self._record(one) for one in messages]}
        answer = process_partial_response(event=event, record_handler=handle, processor=processor, context=None)
        failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
        self._settle(messages, failed)
        return [one["Body"] for one in messages if one["MessageId"] in failed]

    def _settle(self, messages: Sequence[Mapping[str, Any]], failed: set[str]) -> None:
        for one in messages:
            handle = one["ReceiptHandle"]
            if one["MessageId"] in failed:
                self._client.change_message_visibility(QueueUrl=self._queue, ReceiptHandle=handle, VisibilityTimeout=0)
            else:
                self._client.delete_message(QueueUrl=self._queue, ReceiptHandle=handle)

    def _record(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Source: AWS Lambda developer guide, "Using Lambda with Amazon SQS": an event's record."""
        attributes = {
            name: {"dataType": value["DataType"], "stringValue": value["StringValue"]}
            for name, value in message.get("MessageAttributes", {}).items()
        }
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": attributes,
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{self._queue.rpartition('/')[2]}",
            "awsRegion": REGION,
        }


def fails_once(on: str) -> Any:
    """A handler that fails for one body, the first time."""
    tries: list[str] = []

    def handle(record: SQSRecord) -> str:
        tries.append(record.body)
        if record.body == on and tries.count(on) == 1:
            raise ValueError(on)
        assert int(record.attributes.approximate_receive_count) >= tries.count(record.body)
        return str(record.body)

    return handle


def test_a_batch_that_failed_in_part(running: Endpoint) -> None:
    """Only what failed comes again, and the records' classes find what they look for."""
    client = running.client()
    queue = client.create_queue(QueueName="powertools")["QueueUrl"]
    for number in range(5):
        attributes = {"number": {"DataType": "Number", "StringValue": str(number)}}
        client.send_message(QueueUrl=queue, MessageBody=f"m{number}", MessageAttributes=attributes)
    poller, processor = Poller(client, queue), BatchProcessor(event_type=EventType.SQS)
    handle = fails_once("m3")
    assert poller.invoke(processor, handle) == ["m3"]
    assert poller.invoke(processor, handle) == []
    assert "Messages" not in client.receive_message(QueueUrl=queue)


@pytest.mark.parametrize("skip", [False, True])
def test_a_fifo_batch_stops_where_it_failed(running: Endpoint, *, skip: bool) -> None:
    """At the first failure, or in that group alone; the rest comes again in order."""
    client = running.client()
    name = f"powertools-{skip}.fifo"
    queue = client.create_queue(QueueName=name, Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"})
    url = queue["QueueUrl"]
    for body, group in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")):
        client.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=group)
    poller, processor = Poller(client, url), SqsFifoPartialProcessor(skip_group_on_error=skip)
    handle = fails_once("a2")
    assert poller.invoke(processor, handle) == (["a2", "a3"] if skip else ["a2", "a3", "b1"])
    assert poller.invoke(processor, handle) == []
    assert "Messages" not in client.receive_message(QueueUrl=url)
