"""What a client of the Query protocol sees, over a real socket. `driven` says what the sources are."""

from __future__ import annotations

import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

import pytest

from tests.sqs_api.answering import ACCOUNT, Endpoint

NAMESPACE = "{http://queue.amazonaws.com/doc/2012-11-05/}"
FORMER = "AWS.SimpleQueueService."
NOTHING: Mapping[str, str] = {}


class Answer(NamedTuple):
    status: int
    text: str

    @property
    def error(self) -> tuple[str, str, str]:
        """Type, code and message; there is a detail, and it is empty."""
        error = ET.fromstring(self.text).find(f"{NAMESPACE}Error")  # noqa: S314 - our own
        assert error is not None
        assert error.find(f"{NAMESPACE}Detail") is not None
        kind, code, message = (error.findtext(f"{NAMESPACE}{name}") or "" for name in ("Type", "Code", "Message"))
        return kind, code, message


def ask(url: str, action: str, parameters: Mapping[str, str] = NOTHING, *, post: bool = False) -> Answer:
    """A form in the body, or a query string."""
    form = urlencode({"Action": action, "Version": "2012-11-05", **parameters})
    request = (
        urllib.request.Request(url, form.encode())  # noqa: S310 - this machine
        if post
        else urllib.request.Request(f"{url}?{form}")  # noqa: S310 - likewise
    )
    return _answer(request)


def _answer(request: urllib.request.Request) -> Answer:
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - this machine
            return Answer(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode())


@pytest.fixture
def queue(running: Endpoint, request: pytest.FixtureRequest) -> str:
    """The URL of a queue of the test's own."""
    name = request.node.name.partition("[")[0][-80:]
    url: str = running.client().create_queue(QueueName=name)["QueueUrl"]
    return url


def test_all_attributes_of_a_queue(queue: str) -> None:
    """As elements with a name and a value.

    Source: recorded, test_get_queue_attributes_all.
    """
    answer = ask(queue, "GetQueueAttributes", {"AttributeName.1": "All"})
    assert answer.status == 200
    assert "<GetQueueAttributesResponse" in answer.text
    assert "<Attribute><Name>QueueArn</Name><Value>arn:aws:sqs:" in answer.text
    assert "<Attribute><Name>VisibilityTimeout</Name><Value>30" in answer.text


def test_chosen_attributes_of_a_queue(queue: str) -> None:
    """And an unknown one.

    Source: recorded, test_get_queue_attributes_with_query_args,
    test_get_queue_attributes_with_invalid_arg_returns_error.
    """
    answer = ask(queue, "GetQueueAttributes", {"AttributeName.1": "QueueArn"})
    assert "<Name>QueueArn</Name>" in answer.text
    assert "<Name>VisibilityTimeout</Name>" not in answer.text
    wrong = ask(queue, "GetQueueAttributes", {"AttributeName.1": "Foobar"})
    assert (wrong.status, wrong.error) == (400, ("Sender", "InvalidAttributeName", "Unknown Attribute Foobar."))


def test_a_queue_named_in_the_request_wins(running: Endpoint, queue: str) -> None:
    """Over the URL that is asked.

    Source: recorded, test_overwrite_queue_url_in_params.
    """
    other = running.client().create_queue(QueueName="other")["QueueUrl"]
    answer = ask(queue, "GetQueueAttributes", {"QueueUrl": other, "AttributeName.1": "QueueArn"})
    assert f":{ACCOUNT}:other<" in answer.text


def test_a_message_goes_round(queue: str) -> None:
    """An answer without messages has an empty result.

    Source: recorded, test_get_send_and_receive_messages.
    """
    result = ET.fromstring(ask(queue, "ReceiveMessage").text).find(f"{NAMESPACE}ReceiveMessageResult")  # noqa: S314
    assert result is not None
    assert (len(result), result.text) == (0, None)
    sent = ask(queue, "SendMessage", {"MessageBody": "foo\r<&> \u00e9"}, post=True)
    assert sent.status == 200
    assert "<MD5OfMessageBody>" in sent.text
    received = ask(queue, "ReceiveMessage")
    message = ET.fromstring(received.text).find(f".//{NAMESPACE}Message")  # noqa: S314 - our own
    assert message is not None
    assert message.findtext(f"{NAMESPACE}Body") == "foo\r<&> \u00e9"
    handle = message.findtext(f"{NAMESPACE}ReceiptHandle") or ""
    assert ask(queue, "DeleteMessage", {"ReceiptHandle": handle}).status == 200


@pytest.mark.parametrize(
    ("action", "parameters", "status", "code", "message"),
    [
        ("FooBar", {}, 400, "InvalidAction", "The action FooBar is not valid for this endpoint."),
        ("SendMessage", {}, 400, "MissingParameter", "The request must contain the parameter MessageBody."),
        (
            "SendMessage",
            {"MessageBody": ""},
            400,
            "MissingParameter",
            "The request must contain the parameter MessageBody.",
        ),
        (
            "ReceiveMessage",
            {"MaxNumberOfMessages": "11"},
            400,
            "InvalidParameterValue",
            "Value 11 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.",
        ),
        (
            "SendMessageBatch",
            {"SendMessageBatchRequestEntry.1.Id": "a:b", "SendMessageBatchRequestEntry.1.MessageBody": "x"},
            400,
            FORMER + "InvalidBatchEntryId",
            (
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
                "It can be at most 80 letters long."
            ),
        ),
        (
            "SetQueueAttributes",
            {"Attribute.1.Name": "FifoQueue", "Attribute.1.Value": "true"},
            400,
            "InvalidAttributeName",
            "Unknown Attribute FifoQueue.",
        ),
        (
            "DeleteMessage",
            {"ReceiptHandle": "garbage"},
            404,
            "ReceiptHandleIsInvalid",
            'The input receipt handle "garbage" is not a valid receipt handle.',
        ),
        (
            "CreateQueue",
            {"QueueName": "x"},
            400,
            "InvalidAction",
            "The action CreateQueue is not valid for this endpoint.",
        ),
        ("ListQueues", {}, 400, "InvalidAction", "The action ListQueues is not valid for this endpoint."),
    ],
)
def test_errors_at_a_queue_s_url(  # noqa: PLR0917 - what is asked and what is answered
    queue: str, action: str, parameters: Mapping[str, str], status: int, code: str, message: str
) -> None:
    """Whose fault it is, its code and its words; what is not about a queue is no action there.

    Source: recorded, test_invalid_action_raises_exception, test_valid_action_with_missing_parameter_raises_exception,
    test_get_create_queue_fails, test_get_list_queues_fails, and the errors of all tests of the protocol `sqs_query`.
    """
    answer = ask(queue, action, parameters)
    assert (answer.status, answer.error) == (status, ("Sender", code, message))


def test_a_queue_that_is_gone(queue: str) -> None:
    """The protocol has words of its own.

    Source: recorded, test_get_delete_queue, test_get_on_deleted_queue_fails.
    """
    deleted = ask(queue, "DeleteQueue")
    assert deleted.status == 200
    assert "<DeleteQueueResponse " in deleted.text
    answer = ask(queue, "GetQueueAttributes", {"AttributeName.1": "QueueArn"})
    problem = "The specified queue does not exist for this wsdl version."
    assert (answer.status, answer.error) == (400, ("Sender", FORMER + "NonExistentQueue", problem))


def test_another_queue_is_found_from_a_queue_s_url(running: Endpoint, queue: str) -> None:
    """Amazon allows it.

    Source: recorded, test_get_queue_url_work_for_different_queue.
    """
    other = running.client().create_queue(QueueName="found")["QueueUrl"]
    answer = ask(queue, "GetQueueUrl", {"QueueName": "found", "QueueOwnerAWSAccountId": ACCOUNT})
    assert f"<QueueUrl>{other}</QueueUrl>" in answer.text


def test_no_action_is_an_unknown_operation(queue: str) -> None:
    """Whatever the client accepts.

    Source: recorded, test_get_without_query_returns_unknown_operation,
    test_get_without_query_json_format_returns_returns_xml.
    """
    for headers in ({}, {"Accept": "application/json"}):
        answer = _answer(urllib.request.Request(queue, headers=headers))  # noqa: S310 - this machine
        assert answer.status == 404
        assert "<UnknownOperationException" in answer.text


def test_queues_are_listed_at_the_root(running: Endpoint, queue: str) -> None:
    """As elements, one for each.

    Source: recorded, test_get_list_queues_with_query_auth.
    """
    answer = ask(running.url, "ListQueues", {"QueueNamePrefix": "test_queues_are_listed"})
    assert "<ListQueuesResponse" in answer.text
    assert f"<QueueUrl>{queue}</QueueUrl>" in answer.text


def test_the_answer_to_a_batch(queue: str) -> None:
    """Each with the former names of its errors.

    Source: recorded, test_batch_send_with_invalid_char_should_succeed.
    """
    entries = {}
    for number, body in enumerate(("good", "\x01"), start=1):
        entries[f"SendMessageBatchRequestEntry.{number}.Id"] = str(number)
        entries[f"SendMessageBatchRequestEntry.{number}.MessageBody"] = body
    answer = ask(queue, "SendMessageBatch", entries, post=True)
    assert answer.status == 200
    result = ET.fromstring(answer.text).find(f"{NAMESPACE}SendMessageBatchResult")  # noqa: S314 - our own
    assert result is not None
    assert result.findtext(f"{NAMESPACE}SendMessageBatchResultEntry/{NAMESPACE}Id") == "1"
    failure = result.find(f"{NAMESPACE}BatchResultErrorEntry")
    assert failure is not None
    told = {part.tag.removeprefix(NAMESPACE): part.text for part in failure}
    assert told.pop("Message", "").startswith("Invalid binary character '#x1' was found")  # type: ignore[union-attr]
    assert told == {"Id": "2", "SenderFault": "true", "Code": "InvalidMessageContents"}
