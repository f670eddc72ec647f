"""AWS JSON 1.0, spoken by boto3 and by hand."""

from __future__ import annotations

import base64
import logging
from typing import Any

import pytest
from botocore.exceptions import ClientError

from redrive.sqs_api.bodies import LARGEST
from redrive.sqs_api.calls import Refused
from tests.sqs_api.wire.endpoint import CONTRACT, KEY, Endpoint

SEND = {"QueueUrl": "http://127.0.0.1/000000000000/orders", "MessageBody": "hello"}


def refused(endpoint: Endpoint, operation: str, body: Any) -> tuple[int, str, str, str]:
    """Status, type, message and former code of a refusal."""
    answer = endpoint.json(operation, body)
    document = answer.json()
    return answer.status, document["__type"], document["message"], answer.headers["x-amzn-query-error"]


def test_a_request_arrives_as_the_model_shapes_it(endpoint: Endpoint) -> None:
    """Text, numbers and bytes; and who asks, where, and how."""
    attributes = {
        "colour": {"DataType": "String", "StringValue": "gr\u00fcn \U0001f375"},
        "picture": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    endpoint.client().send_message(
        QueueUrl=endpoint.queue, MessageBody="\u65e5\u672c", DelaySeconds=3, MessageAttributes=attributes
    )
    ((operation, request, caller),) = endpoint.service.calls
    assert operation == "SendMessage"
    assert request == {
        "QueueUrl": endpoint.queue,
        "MessageBody": "\u65e5\u672c",
        "DelaySeconds": 3,
        "MessageAttributes": attributes,
    }
    assert (caller.base_url, caller.protocol, caller.access_key) == (endpoint.url, "json", KEY)
    assert (caller.account, caller.region) == ("000000000000", "us-east-1")


def test_an_answer_leaves_as_the_model_shapes_it(endpoint: Endpoint) -> None:
    """Lists, maps and bytes, as boto3 reads them."""
    message = {
        "MessageId": "m",
        "Body": "\x7f\u2028\U0001f375",
        "Attributes": {"SentTimestamp": "1"},
        "MessageAttributes": {"picture": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}},
    }
    endpoint.service.answers["ReceiveMessage"] = {"Messages": [message]}
    answer = endpoint.client().receive_message(QueueUrl=endpoint.queue)
    assert answer["Messages"] == [message]
    assert answer["ResponseMetadata"]["RequestId"]


def test_an_operation_without_an_output_has_an_empty_answer(endpoint: Endpoint) -> None:
    """As DeleteMessage."""
    answer = endpoint.json("DeleteMessage", {"QueueUrl": endpoint.queue, "ReceiptHandle": "r"})
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "application/x-amz-json-1.0"


def test_members_that_the_model_does_not_know_are_dropped(endpoint: Endpoint) -> None:
    """Those that are null too: a newer SDK may send what SQS does not know yet."""
    assert endpoint.json("SendMessage", {**SEND, "Priority": [1], "DelaySeconds": None}).status == 200
    assert endpoint.service.calls[0][1] == SEND


def test_a_refusal_has_both_names(endpoint: Endpoint) -> None:
    """Today's in the body and a header, the former one in another; boto3 raises the first and shows the second."""
    endpoint.service.answers["SendMessage"] = Refused("QueueDoesNotExist", "The specified queue does not exist.")
    answer = endpoint.json("SendMessage", SEND)
    assert answer.status == 400
    assert answer.json() == {
        "__type": "com.amazonaws.sqs#QueueDoesNotExist",
        "message": "The specified queue does not exist.",
    }
    assert answer.headers["x-amzn-query-error"] == "AWS.SimpleQueueService.NonExistentQueue;Sender"
    assert answer.headers["x-amzn-errortype"] == "QueueDoesNotExist"
    assert len(answer.headers["x-amzn-requestid"]) == 36
    client = endpoint.client()
    with pytest.raises(client.exceptions.QueueDoesNotExist) as caught:
        client.send_message(QueueUrl=endpoint.queue, MessageBody="hello")
    assert caught.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"


def test_a_common_error_has_both_names_too(endpoint: Endpoint) -> None:
    """Such as a parameter that is missing."""
    endpoint.service.answers["SendMessage"] = Refused("MissingParameter", "no")
    with pytest.raises(ClientError) as caught:
        endpoint.client().send_message(QueueUrl=endpoint.queue, MessageBody="hello")
    error = caught.value.response["Error"]
    assert (error["Code"], error["QueryErrorCode"]) == ("MissingParameter", "MissingRequiredParameterException")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("PurgeQueueInProgress", 403),
        ("ReceiptHandleIsInvalid", 404),
        ("ResourceNotFoundException", 404),
        ("ServiceUnavailable", 503),
        ("InvalidParameterValue", 400),
        ("SomethingNew", 400),
    ],
)
def test_a_refusal_has_its_status(endpoint: Endpoint, code: str, status: int) -> None:
    """As AWS answers it; what nobody knows is the sender's fault."""
    endpoint.service.answers["SendMessage"] = Refused(code, "no")
    assert endpoint.json("SendMessage", SEND).status == status


def test_an_error_of_the_model_is_in_the_namespace_of_sqs() -> None:
    """And any other in that of all of AWS."""
    assert CONTRACT.naming("OverLimit").type == "com.amazonaws.sqs#OverLimit"
    assert CONTRACT.naming("AccessDenied").type == "com.amazon.coral.service#AccessDeniedException"


@pytest.mark.parametrize(
    ("operation", "body", "expected"),
    [
        ("SendMessage", {"QueueUrl": "u"}, "MissingParameter;Sender"),
        ("SendMessage", {"MessageBody": "b"}, "AWS.SimpleQueueService.NonExistentQueue;Sender"),
        ("GetQueueUrl", {}, "InvalidParameterValue;Sender"),
        ("SendMessageBatch", {"QueueUrl": "u"}, "AWS.SimpleQueueService.EmptyBatchRequest;Sender"),
        ("SendMessageBatch", {"QueueUrl": "u", "Entries": [{"Id": "a"}]}, "MissingParameter;Sender"),
    ],
)
def test_what_is_missing_is_refused(endpoint: Endpoint, operation: str, body: Any, expected: str) -> None:
    """By the model; an absent batch is an empty one."""
    status, _, _, former = refused(endpoint, operation, body)
    assert (status, former) == (400, expected)


def test_what_is_missing_is_named(endpoint: Endpoint) -> None:
    """In AWS's words, with the number of the entry."""
    entries = [{"Id": "a", "MessageBody": "b"}, {"Id": "c"}]
    message = refused(endpoint, "SendMessageBatch", {"QueueUrl": "u", "Entries": entries})[2]
    assert message == "The request must contain the parameter SendMessageBatchRequestEntry.2.MessageBody."


@pytest.mark.parametrize(
    "change",
    [
        {"MessageBody": 1},
        {"MessageBody": ["hello"]},
        {"DelaySeconds": "3"},
        {"DelaySeconds": 1.5},
        {"DelaySeconds": True},
        {"DelaySeconds": 2**31},
        {"DelaySeconds": -(2**31) - 1},
        {"MessageAttributes": []},
        {"MessageAttributes": {"a": None}},
        {"MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": "no base64!"}}},
        {"MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": "\u00e9"}}},
    ],
)
def test_a_value_of_the_wrong_type_is_refused(endpoint: Endpoint, change: dict[str, Any]) -> None:
    """Nothing is converted, and no number overflows."""
    status, kind, message, former = refused(endpoint, "SendMessage", {**SEND, **change})
    assert (status, former) == (400, "MalformedInput;Sender")
    assert kind == "com.amazon.coral.service#SerializationException"
    assert next(iter(change)).removesuffix("s") in message
    assert endpoint.service.calls == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"nul",
        b"\xff\xfe",
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 10_000,
        b'{"DelaySeconds": 1e999, "QueueUrl": "u", "MessageBody": "b"}',
        b'{"DelaySeconds": NaN, "QueueUrl": "u", "MessageBody": "b"}',
        b'{"QueueUrl": "u", "MessageBody": "\\ud800"}',
        b'{"QueueUrl": "u", "MessageBody": "\\uDFFF"}',
        '{"QueueUrl": "u", "MessageBody": "b"}'.encode("utf-16"),
    ],
)
def test_what_is_no_json_object_of_text_is_refused(endpoint: Endpoint, body: bytes) -> None:
    """However deep, long or broken it is."""
    status, _, _, former = refused(endpoint, "SendMessage", body)
    assert (status, former) == (400, "MalformedInput;Sender")
    assert endpoint.service.calls == []


def test_an_unknown_operation_is_refused(endpoint: Endpoint) -> None:
    """Whatever it is called."""
    for target in ("AmazonSQS.SendMassage", "SendMessage", "AmazonSNS.Publish", "\xff\xe9"):
        answer = endpoint.json("", {}, x_amz_target=target)
        assert answer.status == 400
        assert answer.json()["__type"] == "com.amazon.coral.service#UnknownOperationException"
        assert answer.headers["x-amzn-query-error"] == "InvalidAction;Sender"


def test_a_message_of_the_largest_size_fits(endpoint: Endpoint) -> None:
    """Even one that an SDK writes with three times its bytes."""
    body = "\u00e9" * (512 * 1024)
    endpoint.client().send_message(QueueUrl=endpoint.queue, MessageBody=body)
    assert endpoint.service.calls[0][1]["MessageBody"] == body


def test_a_request_that_is_too_large_is_refused(endpoint: Endpoint) -> None:
    """And its client comes to read the answer, after it has written all."""
    answer = endpoint.json("SendMessage", b'{"a":"' + b"x" * (LARGEST + 1_000_000))
    assert answer.status == 413
    assert answer.json()["__type"].endswith("#RequestEntityTooLarge")
    assert endpoint.is_well()


def test_a_fault_of_ours_is_answered_and_logged(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    """With the id that the client was told, and nothing of what went wrong."""
    endpoint.service.answers["SendMessage"] = ZeroDivisionError("secret")
    with caplog.at_level(logging.ERROR, "redrive.sqs_api"):
        answer = endpoint.json("SendMessage", SEND)
    assert answer.status == 500
    assert answer.json()["__type"] == "com.amazon.coral.service#InternalFailure"
    assert answer.headers["x-amzn-query-error"] == "InternalFailure;Receiver"
    assert b"secret" not in answer.body
    assert answer.headers["x-amzn-requestid"] in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_text_of_a_refusal_cannot_break_out_of_a_header(endpoint: Endpoint) -> None:
    """A code with an end of line in it becomes harmless."""
    endpoint.service.answers["SendMessage"] = Refused("Bad\r\nset-cookie: a", "no")
    answer = endpoint.json("SendMessage", SEND)
    assert answer.headers["x-amzn-errortype"] == "Bad??set-cookie: a"


def test_bytes_are_base64(endpoint: Endpoint) -> None:
    """In both directions."""
    text = base64.b64encode(b"\x00\x01").decode()
    value = {"DataType": "Binary", "BinaryValue": text}
    endpoint.json("SendMessage", {**SEND, "MessageAttributes": {"a": value}})
    assert endpoint.service.calls[0][1]["MessageAttributes"]["a"]["BinaryValue"] == b"\x00\x01"
