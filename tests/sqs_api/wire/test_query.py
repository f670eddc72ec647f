"""The Query protocol, spoken by botocore's own serializer and parser, and by hand as old clients do."""

from __future__ import annotations

import copy
from typing import Any

import botocore.loaders
import pytest
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from redrive.sqs_api.calls import Refused
from tests.sqs_api.wire.endpoint import Endpoint

NAMESPACE = "{http://queue.amazonaws.com/doc/2012-11-05/}"
# What the model said while SQS spoke Query: the names of a map or of the elements of a list. Typed once more, so that
# the rule by which the endpoint finds them is compared with something. Source: botocore's model of SQS before JSON.
LISTS = {
    "ActionNameList": "ActionName",
    "AWSAccountIdList": "AWSAccountId",
    "AttributeNameList": "AttributeName",
    "BatchResultErrorEntryList": "BatchResultErrorEntry",
    "BinaryList": "BinaryListValue",
    "ChangeMessageVisibilityBatchRequestEntryList": "ChangeMessageVisibilityBatchRequestEntry",
    "ChangeMessageVisibilityBatchResultEntryList": "ChangeMessageVisibilityBatchResultEntry",
    "DeleteMessageBatchRequestEntryList": "DeleteMessageBatchRequestEntry",
    "DeleteMessageBatchResultEntryList": "DeleteMessageBatchResultEntry",
    "ListMessageMoveTasksResultEntryList": "ListMessageMoveTasksResultEntry",
    "MessageAttributeNameList": "MessageAttributeName",
    "MessageList": "Message",
    "MessageSystemAttributeList": "MessageSystemAttributeName",
    "QueueUrlList": "QueueUrl",
    "SendMessageBatchRequestEntryList": "SendMessageBatchRequestEntry",
    "SendMessageBatchResultEntryList": "SendMessageBatchResultEntry",
    "StringList": "StringListValue",
    "TagKeyList": "TagKey",
}
MAPS = {
    "MessageBodyAttributeMap": ("MessageAttribute", "Name"),
    "MessageBodySystemAttributeMap": ("MessageSystemAttribute", "Name"),
    "MessageSystemAttributeMap": ("Attribute", "Name"),
    "QueueAttributeMap": ("Attribute", "Name"),
    "TagMap": ("Tag", "Key"),
}


def query_model() -> ServiceModel:
    """Today's operations with the names that they had."""
    today: dict[str, Any] = copy.deepcopy(botocore.loaders.Loader().load_service_model("sqs", "service-2"))
    shapes = today["shapes"]
    for shape in shapes.values():
        for member in shape.get("members", {}).values():
            if member["shape"] in LISTS:
                member["locationName"] = LISTS[member["shape"]]
            elif member["shape"] in MAPS:
                member["locationName"] = MAPS[member["shape"]][0]
    for name, element in LISTS.items():
        shapes[name]["flattened"] = True
        shapes[name]["member"]["locationName"] = element
    for name, (_, key) in MAPS.items():
        shapes[name]["flattened"] = True
        shapes[name]["key"]["locationName"], shapes[name]["value"]["locationName"] = key, "Value"
    for name, operation in today["operations"].items():
        if "output" in operation:
            operation["output"]["resultWrapper"] = f"{name}Result"
    today["metadata"] |= {"protocol": "query", "protocols": ["query"], "xmlNamespace": NAMESPACE.strip("{}")}
    del today["metadata"]["awsQueryCompatible"]
    return ServiceModel(today, "sqs")


MODEL = query_model()
ATTRIBUTES = {
    "colour": {"DataType": "String", "StringValue": "gr\u00fcn & rot"},
    "picture": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    "many": {"DataType": "String", "StringListValues": ["a", "b"], "BinaryListValues": [b"c"]},
}
URL = "http://127.0.0.1/000000000000/orders"
ENTRY = {"Id": "a", "MessageBody": "one", "DelaySeconds": 1, "MessageAttributes": ATTRIBUTES}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("AddPermission", {"QueueUrl": URL, "Label": "l", "AWSAccountIds": ["1", "2"], "Actions": ["SendMessage", "*"]}),
    ("ChangeMessageVisibility", {"QueueUrl": URL, "ReceiptHandle": "r", "VisibilityTimeout": 0}),
    (
        "ChangeMessageVisibilityBatch",
        {"QueueUrl": URL, "Entries": [{"Id": "a", "ReceiptHandle": "r", "VisibilityTimeout": 7}]},
    ),
    ("CreateQueue", {"QueueName": "orders", "Attributes": {"DelaySeconds": "1"}, "tags": {"team": "coffee", "b": ""}}),
    ("DeleteMessageBatch", {"QueueUrl": URL, "Entries": [{"Id": "a", "ReceiptHandle": "r"}]}),
    ("GetQueueAttributes", {"QueueUrl": URL, "AttributeNames": ["All", "QueueArn"]}),
    ("ListQueues", {"QueueNamePrefix": "o", "MaxResults": 5}),
    (
        "ReceiveMessage",
        {
            "QueueUrl": URL,
            "AttributeNames": ["All"],
            "MessageSystemAttributeNames": ["SentTimestamp"],
            "MessageAttributeNames": ["a.*", "b"],
            "MaxNumberOfMessages": 3,
        },
    ),
    (
        "SendMessage",
        {
            "QueueUrl": URL,
            "MessageBody": "a=b&c",
            "MessageAttributes": ATTRIBUTES,
            "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": "t"}},
        },
    ),
    ("SendMessageBatch", {"QueueUrl": URL, "Entries": [{**ENTRY, "Id": str(number)} for number in range(11)]}),
    ("SetQueueAttributes", {"QueueUrl": URL, "Attributes": {"Policy": '{"a":"b"}', "DelaySeconds": "1"}}),
    ("StartMessageMoveTask", {"SourceArn": "arn", "MaxNumberOfMessagesPerSecond": 9}),
    ("TagQueue", {"QueueUrl": URL, "Tags": {"team": "coffee"}}),
    ("UntagQueue", {"QueueUrl": URL, "TagKeys": ["team", "b"]}),
]
ANSWERS: list[tuple[str, dict[str, Any]]] = [
    ("CancelMessageMoveTask", {"ApproximateNumberOfMessagesMoved": 2**40}),
    ("CreateQueue", {"QueueUrl": URL}),
    ("GetQueueAttributes", {"Attributes": {"QueueArn": "arn", "Policy": '{"a":"<b>\r\n"}'}}),
    ("ListDeadLetterSourceQueues", {"queueUrls": [URL, URL], "NextToken": "n"}),
    ("ListMessageMoveTasks", {"Results": [{"TaskHandle": "t", "StartedTimestamp": 1_700_000_000_000}]}),
    ("ListQueueTags", {"Tags": {"team": "coffee"}}),
    ("ListQueues", {"QueueUrls": [URL]}),
    (
        "ReceiveMessage",
        {
            "Messages": [
                {"MessageId": "m", "Body": " a\tb ", "Attributes": {"SenderId": "s"}, "MessageAttributes": ATTRIBUTES}
            ]
        },
    ),
    (
        "SendMessageBatch",
        {
            "Successful": [{"Id": "a", "MessageId": "m", "MD5OfMessageBody": "5"}],
            "Failed": [{"Id": "b", "SenderFault": True, "Code": "c", "Message": "d"}],
        },
    ),
    ("DeleteMessage", {}),
]


@pytest.mark.parametrize(("operation", "request_"), REQUESTS, ids=[name for name, _ in REQUESTS])
def test_a_request_of_botocore_arrives(endpoint: Endpoint, operation: str, request_: dict[str, Any]) -> None:
    """As the same value that the JSON protocol would bring, lists in their order beyond nine."""
    body = create_serializer("query").serialize_to_request(request_, MODEL.operation_model(operation))["body"]
    assert endpoint.query(body).status == 200
    ((found, arrived, caller),) = endpoint.service.calls
    assert (found, arrived, caller.protocol) == (operation, request_, "query")


@pytest.mark.parametrize(("operation", "answer"), ANSWERS, ids=[name for name, _ in ANSWERS])
def test_an_answer_is_read_by_botocore(endpoint: Endpoint, operation: str, answer: dict[str, Any]) -> None:
    """As what the service said."""
    endpoint.service.answers[operation] = answer
    given = {"QueueUrl": URL, "ReceiptHandle": "r", "TaskHandle": "t", "SourceArn": "a", "QueueName": "q"}
    came = endpoint.query({"Action": operation, **given})
    shape = MODEL.operation_model(operation).output_shape
    read = create_parser("query").parse({"headers": came.headers, "body": came.body, "status_code": came.status}, shape)
    assert came.headers["content-type"] == "text/xml"
    assert read.pop("ResponseMetadata")["RequestId"] == came.headers["x-amzn-requestid"]
    assert read == answer


def test_a_refusal_is_a_document(endpoint: Endpoint) -> None:
    """With type, code, message and an empty detail, in this order."""
    endpoint.service.answers["SendMessage"] = Refused("QueueDoesNotExist", "no <such> queue \x00")
    answer = endpoint.query({"Action": "SendMessage", "QueueUrl": "u", "MessageBody": "b"})
    root = answer.xml()
    error = root.find(f"{NAMESPACE}Error")
    assert error is not None
    assert answer.status == 400
    assert [(one.tag.removeprefix(NAMESPACE), one.text) for one in error] == [
        ("Type", "Sender"),
        ("Code", "AWS.SimpleQueueService.NonExistentQueue"),
        ("Message", "no <such> queue \ufffd"),
        ("Detail", None),
    ]
    assert root.findtext(f"{NAMESPACE}RequestId") == answer.headers["x-amzn-requestid"]


def test_what_xml_cannot_say_does_not_break_an_answer(endpoint: Endpoint) -> None:
    """The other messages of the same answer can be read."""
    bodies = ["fine", "\x00\x1b\ufffe", "\ud800", "a\r\nb"]
    endpoint.service.answers["ReceiveMessage"] = {"Messages": [{"Body": one} for one in bodies]}
    answer = endpoint.query({"Action": "ReceiveMessage", "QueueUrl": "u"})
    read = [one.text for one in answer.xml().iter(f"{NAMESPACE}Body")]
    assert read == ["fine", "\ufffd\ufffd\ufffd", "\ufffd", "a\r\nb"]


@pytest.mark.parametrize(
    "given",
    [
        {"AttributeName.1": "All", "AttributeName.2": "QueueArn"},
        {"AttributeName.2": "QueueArn", "AttributeName.1": "All"},
        {"AttributeNames.1": "All", "AttributeNames.2": "QueueArn"},
        {"AttributeNames.member.1": "All", "AttributeNames.member.2": "QueueArn"},
    ],
)
def test_lists_come_in_several_forms(endpoint: Endpoint, given: dict[str, str]) -> None:
    """Flattened, by the member's own name, and as old clients write them."""
    assert endpoint.query({"Action": "GetQueueAttributes", **given}, "/000000000000/orders").status == 200
    assert endpoint.service.calls[0][1]["AttributeNames"] == ["All", "QueueArn"]


@pytest.mark.parametrize(
    "given",
    [
        {"Attribute.1.Name": "DelaySeconds", "Attribute.1.Value": "1"},
        {"Attributes.entry.1.Name": "DelaySeconds", "Attributes.entry.1.Value": "1"},
        {"Attribute.Name": "DelaySeconds", "Attribute.Value": "1"},
    ],
)
def test_maps_come_in_several_forms(endpoint: Endpoint, given: dict[str, str]) -> None:
    """Flattened, not flattened, and, of one entry, without a number."""
    assert endpoint.query({"Action": "SetQueueAttributes", **given}, "/000000000000/orders").status == 200
    assert endpoint.service.calls[0][1] == {"QueueUrl": endpoint.queue, "Attributes": {"DelaySeconds": "1"}}


def test_a_list_of_one_needs_no_number(endpoint: Endpoint) -> None:
    """And one that is empty is empty."""
    endpoint.query({"Action": "GetQueueAttributes", "AttributeName": "All"}, "/000000000000/orders")
    endpoint.query({"Action": "GetQueueAttributes", "AttributeName": ""}, "/000000000000/orders")
    assert [request["AttributeNames"] for _, request, _ in endpoint.service.calls] == [["All"], []]


def test_a_url_will_do(endpoint: Endpoint) -> None:
    """Parameters in the query string, the queue by its path."""
    answer = endpoint.ask("GET", "/000000000000/orders?Action=SendMessage&MessageBody=a+b%2Bc&Version=2012-11-05")
    assert answer.status == 200
    assert endpoint.service.calls[0][1] == {"QueueUrl": endpoint.queue, "MessageBody": "a b+c"}


def test_an_empty_batch_is_one(endpoint: Endpoint) -> None:
    """Query cannot say that a list is there and empty."""
    answer = endpoint.query({"Action": "SendMessageBatch", "QueueUrl": "u"})
    assert b"<Code>AWS.SimpleQueueService.EmptyBatchRequest</Code>" in answer.body


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"Action": "SendMassage"}, "InvalidAction"),
        ({"Action": "SendMessage", "QueueUrl": "u"}, "MissingParameter"),
        ({"Action": "ReceiveMessage", "QueueUrl": "u", "WaitTimeSeconds": "soon"}, "MalformedInput"),
        ({"Action": "ReceiveMessage", "QueueUrl": "u", "WaitTimeSeconds": "9" * 19}, "MalformedInput"),
        ({"Action": "ReceiveMessage", "QueueUrl": "u", "WaitTimeSeconds.1": "1"}, "MalformedInput"),
        ({"Action": "SetQueueAttributes", "QueueUrl": "u", "Attribute.1.Name": "a"}, "MalformedInput"),
        ({"Action": "SetQueueAttributes", "QueueUrl": "u", "Attribute.1.Name.x": "a"}, "MalformedInput"),
        ({"Action": "SetQueueAttributes", "QueueUrl": "u", "Attribute.1.Value": "a"}, "MalformedInput"),
        ({"Action": "SendMessageBatch", "QueueUrl": "u", "Entries.1": "a"}, "MalformedInput"),
    ],
)
def test_a_bad_request_is_refused(endpoint: Endpoint, given: dict[str, str], code: str) -> None:
    """With the code that says why."""
    answer = endpoint.query(given)
    assert answer.status == 400
    assert f"<Code>{code}</Code>".encode() in answer.body


@pytest.mark.parametrize("body", [b"Action=SendMessage&MessageBody=%ff", b"Action=\xff", b"&".join([b"a=b"] * 20_000)])
def test_a_form_that_cannot_be_read_is_refused(endpoint: Endpoint, body: bytes) -> None:
    """Bytes that are no text, and parameters without end."""
    answer = endpoint.ask("POST", "/", body)
    assert answer.status == 400
    assert b"<Code>MalformedQueryString</Code>" in answer.body


@pytest.mark.parametrize("path", ["/", "/000000000000/orders", "/favicon.ico"])
def test_where_nothing_is_asked_there_is_no_operation(endpoint: Endpoint, path: str) -> None:
    """As SQS says it to a browser."""
    answer = endpoint.ask("GET", path)
    assert (answer.status, answer.body.strip()) == (404, b"<UnknownOperationException/>")
