"""SendMessage: what a message may be, and what its sender is told. `driven` says what the sources are."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.sqs_api.conformance.driven import Driven, text

LARGEST = 1_048_576
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


async def refused_attribute(sqs: Driven, name: str, value: dict[str, Any]) -> tuple[str, str]:
    return await sqs.refused("SendMessage", "orders", MessageBody="x", MessageAttributes={name: value})


async def test_a_sender_is_told_id_and_md5(sqs: Driven) -> None:
    """And nothing else, for a plain message.

    Source: recorded, test_send_receive_message; MD5 of "message".
    """
    await sqs.create("orders")
    sent = await sqs.send("orders", "message")
    assert sent == {"MessageId": sent["MessageId"], "MD5OfMessageBody": "78e731027d8fd50ed642340b7c9a63b3"}
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", sent["MessageId"])


@pytest.mark.parametrize("body", ['"&quot;&quot;\r', "{\r\n\t}", " ", "\U0001f600 \ud7ff\ue000\ufffd", "x" * 10_000])
async def test_a_body_arrives_as_it_was_sent(sqs: Driven, body: str) -> None:
    """With its carriage returns, entities and characters of any plane.

    Source: recorded, test_send_receive_message_encoded_content, test_message_with_carriage_return.
    """
    await sqs.create("orders")
    await sqs.send("orders", body)
    assert (await sqs.receive_one("orders"))["Body"] == body


@pytest.mark.parametrize("body", ["", None])
async def test_an_empty_body_is_a_missing_one(sqs: Driven, body: str | None) -> None:
    """There is no message without a body.

    Source: recorded, test_send_empty_message.
    """
    await sqs.create("orders")
    request = {} if body is None else {"MessageBody": body}
    problem = "The request must contain the parameter MessageBody."
    assert await sqs.refused("SendMessage", "orders", **request) == ("MissingParameter", problem)


@pytest.mark.parametrize("character", ["\0", "\x08", "\x0b", "\x1f", "\ufffe", "\uffff"])
async def test_a_body_holds_what_xml_can_hold(sqs: Driven, character: str) -> None:
    """The message names the first character that it cannot.

    Source: recorded, test_send_message_with_invalid_payload_characters; quoted, for the words.
    """
    await sqs.create("orders")
    code, message = await sqs.refused("SendMessage", "orders", MessageBody=f"a{character}\x01")
    assert code == "InvalidMessageContents"
    assert message == (
        f"Invalid binary character '#x{ord(character):X}' was found in the message body, the set of allowed "
        "characters is #x9 | #xA | #xD | [#x20-#xD7FF] | [#xE000-#xFFFD] | [#x10000-#x10FFFF]."
    )


# Sizes


async def test_a_message_is_as_large_as_its_queue_allows(sqs: Driven) -> None:
    """To the byte, and the bytes of UTF-8 count, not the characters.

    Source: recorded, test_send_oversized_message, test_send_message_with_updated_maximum_message_size.
    """
    await sqs.create("orders")
    await sqs.create("small", MaximumMessageSize="1024")
    for queue, most in (("orders", LARGEST), ("small", 1_024)):
        await sqs.send(queue, "a" * most)
        await sqs.send(queue, "é" * (most // 2))
        problem = f"One or more parameters are invalid. Reason: Message must be shorter than {most} bytes."
        for body in ("a" * (most + 1), "é" * (most // 2) + "a"):
            assert await sqs.refused("SendMessage", queue, MessageBody=body) == ("InvalidParameterValue", problem)


async def test_names_types_and_values_of_attributes_count(sqs: Driven) -> None:
    """Each by its bytes, those of type Binary as they are; the trace header does not.

    Source: recorded, test_send_oversized_message; api, SendMessage.
    """
    await sqs.create("orders", MaximumMessageSize="1024")
    system = {"AWSTraceHeader": text(TRACE)}
    binary: dict[str, Any] = {"DataType": "Binary.x", "BinaryValue": b"1" * 500}
    for value, size in ((text("é"), len("k" + "String") + 2), (binary, len("k" + "Binary.x") + 500)):
        request = {"MessageAttributes": {"k": value}, "MessageSystemAttributes": system}
        await sqs.send("orders", "a" * (1_024 - size), **request)
        code, message = await sqs.refused("SendMessage", "orders", MessageBody="a" * (1_025 - size), **request)
        assert code == "InvalidParameterValue"
        assert message.endswith("Message must be shorter than 1024 bytes.")


# Attributes


async def test_attributes_arrive_with_their_md5(sqs: Driven) -> None:
    """Of every type, with labels; sender and receiver get the same MD5.

    Source: recorded, test_send_message_with_binary_attributes, test_receive_message_message_attribute_names_filters.
    """
    await sqs.create("orders")
    binary = b"traceparent\x1e00-774062d6c37081a5a0b9b5b88e30627c-2d2482211f6489da-01"
    for attributes, md5 in (
        (
            {"Help.Me": text("Me"), "Hello": text("There"), "General": text("Kenobi")},
            "4c360f3fdafd970e05fae2f149d997f5",
        ),
        ({"attr1": {"DataType": "Binary", "BinaryValue": binary}}, "8cbe4db156db8a94db8b801b7addb984"),
        ({"timestamp": text("1493147359900", "Number")}, "235c5c510d26fb653d073faed50ae77c"),
    ):
        sent = await sqs.send("orders", "test", MessageAttributes=attributes)
        assert sent["MD5OfMessageAttributes"] == md5
        received = await sqs.receive_one("orders", MessageAttributeNames=["All"])
        assert received["MessageAttributes"] == attributes
        assert received["MD5OfMessageAttributes"] == md5


async def test_a_label_is_part_of_the_type(sqs: Driven) -> None:
    """After a dot.

    Source: guide, Message metadata.
    """
    await sqs.create("orders")
    attributes = {
        "a": text("42", "Number.int"),
        "b": text("x", "String.json"),
        "c": {"DataType": "Binary.gif", "BinaryValue": b"\0"},
    }
    await sqs.send("orders", MessageAttributes=attributes)
    assert (await sqs.receive_one("orders", MessageAttributeNames=["All"]))["MessageAttributes"] == attributes


async def test_a_message_has_at_most_ten_attributes(sqs: Driven) -> None:
    """The trace header is not among them.

    Source: quoted, an answer to SendMessage; guide, Message metadata.
    """
    await sqs.create("orders")
    ten = {f"n{number}": text("x") for number in range(10)}
    trace = {"AWSTraceHeader": text(TRACE)}
    await sqs.send("orders", MessageAttributes=ten, MessageSystemAttributes=trace)
    problem = "Number of message attributes [11] exceeds the allowed maximum [10]."
    request = {"MessageBody": "x", "MessageAttributes": {**ten, "n10": text("x")}}
    assert await sqs.refused("SendMessage", "orders", **request) == ("InvalidParameterValue", problem)


@pytest.mark.parametrize("kind", ["String", "Number", "Binary", "Binary.gif"])
async def test_a_value_is_not_empty(sqs: Driven, kind: str) -> None:
    """Nor missing, nor of the other member.

    Source: recorded, test_send_message_with_empty_string_attribute.
    """
    await sqs.create("orders")
    name = kind.partition(".")[0]
    problem = f"Message (user) attribute 'ErrorDetails' must contain a non-empty value of type '{name}'."
    other = {"StringValue": "x"} if name == "Binary" else {"BinaryValue": b"x"}
    for value in ({}, {"StringValue": "", "BinaryValue": b""}, other):
        found = await refused_attribute(sqs, "ErrorDetails", {"DataType": kind, **value})
        assert found == ("InvalidParameterValue", problem)


@pytest.mark.parametrize("kind", ["", "string", "Invalid", "Integer", "Strings", ".String"])
async def test_there_are_three_types(sqs: Driven, kind: str) -> None:
    """Written with a capital letter.

    Source: quoted, an answer to SendMessage.
    """
    await sqs.create("orders")
    problem = (
        "The type of message (user) attribute 'a' is invalid. "
        "You must use only the following supported type prefixes: Binary, Number, String."
    )
    assert await refused_attribute(sqs, "a", text("x", kind)) == ("InvalidParameterValue", problem)


async def test_lists_of_values_are_not_supported(sqs: Driven) -> None:
    """The members are there, and reserved.

    Source: api, MessageAttributeValue; quoted, for the words.
    """
    await sqs.create("orders")
    for more in ({"StringListValues": ["x"]}, {"BinaryListValues": [b"x"]}):
        found = await refused_attribute(sqs, "a", {**text("x"), **more})
        problem = "Message attribute list values in SendMessage operation are not supported."
        assert found == ("UnsupportedOperation", problem)


NAMES = ["aWs.x", "AMAZON.x", ".x", "x.", "a..b", "a!", 'a"', "a§", "a(", "a?", "a b", "L" * 257]


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_is_a_name(sqs: Driven, name: str) -> None:
    """Up to 256 characters, and none of Amazon's own.

    Source: recorded, test_send_message_with_invalid_string_attributes; guide, Message metadata.
    """
    await sqs.create("orders")
    code, _ = await refused_attribute(sqs, name, text("x"))
    assert code == "InvalidParameterValue"


async def test_a_name_is_not_empty(sqs: Driven) -> None:
    """Its error has words of its own.

    Source: quoted, an answer to SendMessage.
    """
    await sqs.create("orders")
    problem = "The request must contain non-empty message attribute name."
    assert await refused_attribute(sqs, "", text("x")) == ("InvalidParameterValue", problem)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("String", "a\x08"), ("Number", "x"), ("Number", "1 2"), ("Number", "1" * 39), ("Number.L" + "L" * 256, "1")],
)
async def test_a_value_is_of_its_type(sqs: Driven, kind: str, value: str) -> None:
    """Text as in a body, and numbers of at most 38 digits.

    Source: recorded, test_invalid_string_attributes_cause_invalid_parameter_value_error; guide, Message metadata.
    """
    await sqs.create("orders")
    code, _ = await refused_attribute(sqs, "a", text(value, kind))
    assert code == "InvalidParameterValue"


async def test_the_trace_header_has_an_md5_of_its_own(sqs: Driven) -> None:
    """And none in that of the attributes.

    Source: recorded, test_system_attributes_have_no_effect_on_attr_md5.
    """
    await sqs.create("orders")
    given = {"timestamp": text("1493147359900", "Number")}
    plain = await sqs.send("orders", "test", MessageAttributes=given)
    traced = await sqs.send(
        "orders", "test", MessageAttributes=given, MessageSystemAttributes={"AWSTraceHeader": text(TRACE)}
    )
    assert traced["MD5OfMessageAttributes"] == plain["MD5OfMessageAttributes"]
    assert traced["MD5OfMessageSystemAttributes"] == "5ae4d5d7636402d80f4eb6d213245a88"
    assert "MD5OfMessageSystemAttributes" not in plain


async def test_the_trace_header_is_the_only_system_attribute_to_send(sqs: Driven) -> None:
    """A non-empty string.

    Source: api, SendMessage.
    """
    await sqs.create("orders")
    for wrong in (
        {"SenderId": text("x")},
        {"AWSTraceHeader": text("")},
        {"AWSTraceHeader": text("1", "Number")},
        {"AWSTraceHeader": {"DataType": "Binary", "BinaryValue": b"x"}},
    ):
        code, _ = await sqs.refused("SendMessage", "orders", MessageBody="x", MessageSystemAttributes=wrong)
        assert code == "InvalidParameterValue"


# Delay


async def test_a_message_waits_for_its_delay(sqs: Driven) -> None:
    """Its own where it has one, 0 too, otherwise the queue's.

    Source: recorded, test_send_delay_and_wait_time; api, SendMessage.
    """
    await sqs.create("orders", DelaySeconds="10")
    await sqs.send("orders", "the queue's")
    await sqs.send("orders", "longer", DelaySeconds=900)
    await sqs.send("orders", "none", DelaySeconds=0)
    assert await sqs.counts("orders") == (1, 0, 2)
    assert await sqs.bodies("orders") == ["none"]
    sqs.let_pass(10)
    assert await sqs.bodies("orders") == ["the queue's"]
    sqs.let_pass(889.9)
    assert "longer" not in await sqs.bodies("orders")
    sqs.let_pass(0.1)
    assert "longer" in await sqs.bodies("orders")


async def test_the_queue_s_delay_is_of_when_it_was_sent(sqs: Driven) -> None:
    """A change does not touch what is in a standard queue.

    Source: guide, Amazon SQS delay queues.
    """
    await sqs.create("orders", DelaySeconds="10")
    await sqs.send("orders")
    await sqs.call("SetQueueAttributes", "orders", Attributes={"DelaySeconds": "0"})
    assert await sqs.receive("orders") == []
    sqs.let_pass(10)
    assert await sqs.bodies("orders") == ["hello"]


@pytest.mark.parametrize("delay", [-1, 901, 2**31 - 1])
async def test_a_delay_is_at_most_15_minutes(sqs: Driven, delay: int) -> None:
    """And at least none.

    Source: api, SendMessage.
    """
    await sqs.create("orders")
    problem = f"Value {delay} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900."
    refused = await sqs.refused("SendMessage", "orders", MessageBody="x", DelaySeconds=delay)
    assert refused == ("InvalidParameterValue", problem)
