"""What boto3 sees of the endpoint, over a real socket. `driven` says what the sources are."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.sqs_api.answering import ACCOUNT, REGION, Endpoint

FORMER = "AWS.SimpleQueueService."


def error_of(call: Any, **request: Any) -> Mapping[str, Any]:
    """The error with which a call is answered, and the response's status and headers."""
    with pytest.raises(ClientError) as refused:
        call(**request)
    response = refused.value.response
    return {**response["Error"], "Status": response["ResponseMetadata"]["HTTPStatusCode"]}


@pytest.mark.parametrize(
    ("operation", "request_", "former", "today", "status"),
    [
        ("GetQueueUrl", {"QueueName": "x"}, FORMER + "NonExistentQueue", "QueueDoesNotExist", 400),
        ("SendMessageBatch", {"Entries": []}, FORMER + "EmptyBatchRequest", "EmptyBatchRequest", 400),
        (
            "SendMessageBatch",
            {"Entries": [{"Id": "a:b", "MessageBody": "x"}]},
            FORMER + "InvalidBatchEntryId",
            "InvalidBatchEntryId",
            400,
        ),
        (
            "SendMessageBatch",
            {"Entries": [{"Id": "a", "MessageBody": "x"}] * 2},
            FORMER + "BatchEntryIdsNotDistinct",
            "BatchEntryIdsNotDistinct",
            400,
        ),
        (
            "SendMessageBatch",
            {"Entries": [{"Id": "a", "MessageBody": "x"}] * 11},
            FORMER + "TooManyEntriesInBatchRequest",
            "TooManyEntriesInBatchRequest",
            400,
        ),
        (
            "ReceiveMessage",
            {"MaxNumberOfMessages": 11},
            "InvalidParameterValue",
            "InvalidParameterValueException",
            400,
        ),
        ("SendMessage", {"MessageBody": ""}, "MissingParameter", "MissingRequiredParameterException", 400),
        ("SendMessage", {"MessageBody": "\x01"}, "InvalidMessageContents", "InvalidMessageContents", 400),
        ("DeleteMessage", {"ReceiptHandle": "x"}, "ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", 404),
        ("GetQueueAttributes", {"AttributeNames": ["x"]}, "InvalidAttributeName", "InvalidAttributeName", 400),
        (
            "SetQueueAttributes",
            {"Attributes": {"DelaySeconds": "x"}},
            "InvalidAttributeValue",
            "InvalidAttributeValue",
            400,
        ),
        (
            "CreateQueue",
            {"QueueName": "orders", "Attributes": {"DelaySeconds": "7"}},
            "QueueAlreadyExists",
            "QueueNameExists",
            400,
        ),
        (
            "ListMessageMoveTasks",
            {"SourceArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:nowhere"},
            "ResourceNotFoundException",
            "ResourceNotFoundException",
            404,
        ),
    ],
)
def test_an_error_has_two_names(  # noqa: PLR0917 - what is asked and what is answered
    running: Endpoint, operation: str, request_: dict[str, Any], former: str, today: str, status: int
) -> None:
    """The former one as its code, today's beside it, and the sender's fault.

    Source: recorded, the errors of all tests of the protocol `sqs`; api, for the statuses of ReceiptHandleIsInvalid.
    """
    client = running.client()
    queue = client.create_queue(QueueName="orders")["QueueUrl"]
    takes_url = operation not in {"GetQueueUrl", "CreateQueue", "ListMessageMoveTasks"}
    method = client.meta.method_to_api_mapping
    (call,) = [getattr(client, name) for name, known in method.items() if known == operation]
    error = error_of(call, **request_, **({"QueueUrl": queue} if takes_url else {}))
    assert error["Code"] == former
    assert error["QueryErrorCode"] == today
    assert error["Type"] == "Sender"
    assert error["Status"] == status


def test_exceptions_are_those_of_the_client(running: Endpoint) -> None:
    """Programs catch them by their classes.

    Source: recorded, test_non_existent_queue.
    """
    client = running.client()
    with pytest.raises(client.exceptions.QueueDoesNotExist, match="The specified queue does not exist"):
        client.get_queue_url(QueueName="nowhere")
    queue = client.create_queue(QueueName="caught")["QueueUrl"]
    with pytest.raises(client.exceptions.ReceiptHandleIsInvalid):
        client.delete_message(QueueUrl=queue, ReceiptHandle="garbage")
    client.purge_queue(QueueUrl=queue)
    with pytest.raises(client.exceptions.PurgeQueueInProgress) as refused:
        client.purge_queue(QueueUrl=queue)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    client.delete_queue(QueueUrl=queue)
    with pytest.raises(client.exceptions.QueueDeletedRecently):
        client.create_queue(QueueName="caught")


def test_a_message_goes_round(running: Endpoint) -> None:
    """The SDK checks every MD5, and finds no list where there is nothing.

    Source: recorded, test_send_receive_message, test_send_message_with_binary_attributes, test_receive_empty_queue.
    """
    client = running.client()
    queue = client.create_queue(QueueName="round", tags={"team": "a"})["QueueUrl"]
    assert queue == f"{running.url}/{ACCOUNT}/round"
    attributes = {
        "a": {"DataType": "String", "StringValue": "é <&> \r\n"},
        "b": {"DataType": "Binary", "BinaryValue": bytes(range(256))},
        "c": {"DataType": "Number.int", "StringValue": "-7"},
    }
    body = '{"foo": "ba\rr", "foo2": "ba&quot;r&quot; \U0001f600"}'
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}}
    sent = client.send_message(
        QueueUrl=queue, MessageBody=body, MessageAttributes=attributes, MessageSystemAttributes=trace
    )
    (message,) = client.receive_message(
        QueueUrl=queue, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
    )["Messages"]
    assert message["Body"] == body
    assert message["MessageAttributes"] == attributes
    assert message["MessageId"] == sent["MessageId"]
    assert message["Attributes"]["AWSTraceHeader"] == trace["AWSTraceHeader"]["StringValue"]
    assert "Messages" not in client.receive_message(QueueUrl=queue)
    client.change_message_visibility(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    (again,) = client.receive_message(QueueUrl=queue)["Messages"]
    client.delete_message(QueueUrl=queue, ReceiptHandle=again["ReceiptHandle"])
    counts = client.get_queue_attributes(QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessagesNotVisible"])
    assert counts["Attributes"] == {"ApproximateNumberOfMessagesNotVisible": "0"}
    assert client.list_queue_tags(QueueUrl=queue)["Tags"] == {"team": "a"}


def test_a_trace_header_travels_with_a_send(running: Endpoint) -> None:
    """Unless the message has one of its own.

    Source: recorded, test_aws_trace_header_propagation.
    """
    client = running.new_client()
    queue = client.create_queue(QueueName="traced")["QueueUrl"]
    trace = "Root=1-3152b799-8954dae64eda91bc9a23a7e8;Parent=7fa8c0f79203be72;Sampled=1"
    client.meta.events.register(
        "before-send.sqs.SendMessage", lambda request, **_: request.headers.update({"X-Amzn-Trace-Id": trace})
    )
    own = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-00000000-000000000000000000000001"}}
    for given, told in (({}, trace), (own, own["AWSTraceHeader"]["StringValue"])):
        client.send_message(QueueUrl=queue, MessageBody="test", MessageSystemAttributes=given)
        (message,) = client.receive_message(QueueUrl=queue, AttributeNames=["AWSTraceHeader"])["Messages"]
        assert message["Attributes"] == {"AWSTraceHeader": told}


def test_a_paginator_finds_every_queue(running: Endpoint) -> None:
    """Page by page.

    Source: recorded, test_list_queues_pagination.
    """
    client = running.client()
    urls = {client.create_queue(QueueName=f"page-{number}")["QueueUrl"] for number in range(5)}
    pages = list(
        client.get_paginator("list_queues").paginate(QueueNamePrefix="page-", PaginationConfig={"PageSize": 2})
    )
    assert [len(page["QueueUrls"]) for page in pages] == [2, 2, 1]
    assert {url for page in pages for url in page["QueueUrls"]} == urls


def test_a_move_is_seen_by_the_sdk(running: Endpoint) -> None:
    """From a dead-letter queue and back.

    Source: moves, test_move_task_workflow_with_default_destination.
    """
    client = running.client()
    dead = client.create_queue(QueueName="moved-dead")["QueueUrl"]
    source = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": source, "maxReceiveCount": 1})
    queue = client.create_queue(QueueName="moved", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    client.send_message(QueueUrl=queue, MessageBody="x")
    for _ in range(2):
        client.receive_message(QueueUrl=queue, VisibilityTimeout=0)
    handle = client.start_message_move_task(SourceArn=source)["TaskHandle"]
    (message,) = client.receive_message(QueueUrl=queue, WaitTimeSeconds=10)["Messages"]
    assert message["Body"] == "x"
    (task,) = client.list_message_move_tasks(SourceArn=source)["Results"]
    assert (task["Status"], task["ApproximateNumberOfMessagesMoved"]) == ("COMPLETED", 1)
    error = error_of(client.cancel_message_move_task, TaskHandle=handle)
    assert error["Code"] == "InvalidParameterValue"


def test_a_long_poll_is_woken_by_a_send(running: Endpoint) -> None:
    """By the queue's attribute too, and long before the poll ends.

    Source: recorded, test_wait_time_seconds_queue_attribute_waits_correctly.
    """
    client, other = running.new_client(), running.client()
    queue = client.create_queue(QueueName="woken", Attributes={"ReceiveMessageWaitTimeSeconds": "20"})["QueueUrl"]
    sender = threading.Timer(0.05, lambda: other.send_message(QueueUrl=queue, MessageBody="foobared"))
    client.meta.events.register("before-send.sqs.ReceiveMessage", lambda **_: sender.start())
    (message,) = client.receive_message(QueueUrl=queue)["Messages"]
    assert message["Body"] == "foobared"
    sender.join()


def test_json_may_be_sent_to_a_queue_s_url(running: Endpoint) -> None:
    """As PHP's SDK does.

    Source: recorded, test_send_message_via_queue_url_with_json_protocol.
    """
    queue = running.client().create_queue(QueueName="at-its-url")["QueueUrl"]
    headers = {"X-Amz-Target": "AmazonSQS.ReceiveMessage", "Content-Type": "application/x-amz-json-1.0"}
    content = json.dumps({"QueueUrl": queue}).encode()
    request = urllib.request.Request(queue, content, headers)  # noqa: S310 - this machine
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - likewise
        assert answer.headers["content-type"] == "application/x-amz-json-1.0"
        assert json.load(answer) == {}
