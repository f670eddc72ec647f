"""Batches: their rules in order, and answers for each entry. `driven` says what the sources are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sqs_api.conformance.driven import Driven, text

BATCHES = ("SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch")
ID = (
    "InvalidBatchEntryId",
    (
        "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
        "It can be at most 80 letters long."
    ),
)
LARGEST = 1_048_576


def entry(identity: str) -> dict[str, Any]:
    return {"Id": identity, "MessageBody": "x", "ReceiptHandle": "x", "VisibilityTimeout": 1}


@pytest.mark.parametrize("operation", BATCHES)
async def test_an_empty_batch_is_refused(sqs: Driven, operation: str) -> None:
    """The message names what an entry is called.

    Source: recorded, test_send_message_batch_with_empty_list.
    """
    await sqs.create("orders")
    problem = f"There should be at least one {operation}RequestEntry in the request."
    assert await sqs.refused(operation, "orders", Entries=[]) == ("EmptyBatchRequest", problem)


@pytest.mark.parametrize("operation", BATCHES)
async def test_a_batch_has_at_most_ten_entries(sqs: Driven, operation: str) -> None:
    """Whatever is wrong with them.

    Source: recorded, test_too_many_entries_in_batch_request, test_delete_message_batch_with_too_large_batch,
    test_change_message_visibility_batch_with_too_large_batch.
    """
    await sqs.create("orders")
    problem = "Maximum number of entries per request are 10. You have sent 20."
    for entries in ([entry(str(n)) for n in range(20)], [entry("a:b")] * 20):
        found = await sqs.refused(operation, "orders", Entries=entries)
        assert found == ("TooManyEntriesInBatchRequest", problem)


@pytest.mark.parametrize("operation", BATCHES)
@pytest.mark.parametrize("identity", ["", "testLongId" * 10, "invalid:id", "a b", "é"])
async def test_an_entry_has_an_id(sqs: Driven, operation: str, identity: str) -> None:
    """Of up to 80 letters, digits, hyphens and underscores.

    Source: recorded, test_delete_message_batch_invalid_msg_id, test_invalid_batch_id.
    """
    await sqs.create("orders")
    assert await sqs.refused(operation, "orders", Entries=[entry("ok"), entry(identity)]) == ID


@pytest.mark.parametrize("operation", BATCHES)
async def test_ids_are_distinct(sqs: Driven, operation: str) -> None:
    """In which case counts.

    Source: api, SendMessageBatch; quoted, for the words.
    """
    await sqs.create("orders")
    entries = [entry("a"), entry("b"), entry("A"), entry("b")]
    found = await sqs.refused(operation, "orders", Entries=entries)
    assert found == ("BatchEntryIdsNotDistinct", "Id b repeated.")


@pytest.mark.parametrize("operation", BATCHES)
async def test_the_rules_come_before_the_queue(sqs: Driven, operation: str) -> None:
    """A batch that is none is refused whether its queue exists or not.

    Source: decided here.
    """
    assert await sqs.refused(operation, "nowhere", Entries=[entry("a:b")]) == ID
    code, _ = await sqs.refused(operation, "nowhere", Entries=[entry("a")])
    assert code == "QueueDoesNotExist"


# SendMessageBatch


async def test_each_message_of_a_batch_is_answered(sqs: Driven) -> None:
    """By its id; without failures there is no `Failed`.

    Source: recorded, test_send_message_batch_with_oversized_contents_with_updated_maximum_message_size.
    """
    await sqs.create("orders", MaximumMessageSize="2048")
    body = "a" * (2_048 - len("k" + "String" + "x"))
    answer = await sqs.send_batch(
        "orders", {"MessageBody": body, "MessageAttributes": {"k": text("x")}}, {"MessageBody": "a"}
    )
    ids = [one["MessageId"] for one in answer["Successful"]]
    assert answer == {
        "Successful": [
            {
                "Id": "0",
                "MessageId": ids[0],
                "MD5OfMessageBody": "f44facf5a7ee0af446ecf3e0f854441e",
                "MD5OfMessageAttributes": "a45daa70926828a2f0a1db3418e6feb4",
            },
            {"Id": "1", "MessageId": ids[1], "MD5OfMessageBody": "0cc175b9c0f1b6a831c399e269772661"},
        ]
    }
    assert {one["MessageId"] for one in await sqs.receive("orders")} == set(ids)


async def test_what_is_too_large_for_the_queue_fails_alone(sqs: Driven) -> None:
    """In words of its own; the other one is sent.

    Source: recorded, test_send_batch_message_size.
    """
    await sqs.create("orders", MaximumMessageSize="1024")
    answer = await sqs.send_batch("orders", {"MessageBody": "a" * 1_024}, {"MessageBody": "a" * 1_025})
    assert [one["MD5OfMessageBody"] for one in answer["Successful"]] == ["c9a34cfc85d982698c6ac89f76071abd"]
    assert answer["Failed"] == [
        {
            "Id": "1",
            "SenderFault": True,
            "Code": "InvalidParameterValue",
            "Message": "One or more parameters cannot be validated. Reason: Message must be shorter than 1024 bytes.",
        }
    ]
    assert await sqs.counts("orders") == (1, 0, 0)


async def test_what_cannot_be_sent_fails_alone(sqs: Driven) -> None:
    """Where all fail there is no `Successful`.

    Source: recorded, test_batch_send_with_invalid_char_should_succeed.
    """
    await sqs.create("orders")
    good = [{"MessageBody": str(number)} for number in range(9)]
    answer = await sqs.send_batch("orders", *good, {"MessageBody": "\x01"})
    assert [one["Id"] for one in answer["Successful"]] == [str(number) for number in range(9)]
    assert [(one["Id"], one["Code"]) for one in answer["Failed"]] == [("9", "InvalidMessageContents")]
    alone = await sqs.send_batch("orders", {"MessageBody": ""}, {"MessageBody": "x", "DelaySeconds": 901})
    assert [one["Code"] for one in alone["Failed"]] == ["MissingParameter", "InvalidParameterValue"]
    assert "Successful" not in alone


async def test_a_batch_is_as_large_as_one_message(sqs: Driven) -> None:
    """All bodies and attributes together; nothing of it is sent.

    Source: recorded, test_send_message_batch_with_oversized_contents.
    """
    await sqs.create("orders")
    attributes = {"k": text("x")}
    body = "a" * (LARGEST - len("k" + "String" + "x"))
    first = {"MessageBody": body, "MessageAttributes": attributes}
    await sqs.send_batch("orders", {**first, "MessageBody": body[1:]}, {"MessageBody": "a"})
    entries = [{"Id": "1", **first}, {"Id": "2", "MessageBody": "a"}]
    problem = f"Batch requests cannot be longer than {LARGEST} bytes. You have sent {LARGEST + 1} bytes."
    assert await sqs.refused("SendMessageBatch", "orders", Entries=entries) == ("BatchRequestTooLong", problem)
    assert await sqs.counts("orders") == (2, 0, 0)


@pytest.mark.parametrize("name", ["k", "AWS.k"])
@pytest.mark.parametrize("body", ["a", "\x01", ""])
async def test_what_cannot_be_sent_counts_for_the_length(sqs: Driven, body: str, name: str) -> None:
    """A batch is measured before its messages are looked at one by one.

    Source: api, SendMessageBatch: "the total size of all messages that you send".
    """
    await sqs.create("orders")
    value = {"DataType": "Binary", "BinaryValue": b"x" * 1_000}
    rest = LARGEST - len(body) - len(name) - len("Binary") - 1_000
    unfit = {"Id": "1", "MessageBody": body, "MessageAttributes": {name: value}}
    for more, refused in ((0, False), (1, True)):
        entries = [unfit, {"Id": "2", "MessageBody": "a" * (rest + more)}]
        if refused:
            code, _ = await sqs.refused("SendMessageBatch", "orders", Entries=entries)
            assert code == "BatchRequestTooLong"
        else:
            await sqs.call("SendMessageBatch", "orders", Entries=entries)


@pytest.mark.parametrize(
    ("lacking", "problem"),
    [
        ({"MessageGroupId": "a"}, "The queue should either have ContentBasedDeduplication enabled or "),
        ({"MessageDeduplicationId": "2"}, "The request must contain the parameter MessageGroupId."),
    ],
)
async def test_what_lacks_something_for_a_fifo_queue_refuses_all(
    sqs: Driven, lacking: dict[str, str], problem: str
) -> None:
    """Nothing of that batch is sent.

    Source: recorded, test_send_batch_missing_message_group_id_for_fifo_queue,
    test_send_batch_missing_deduplication_id_for_fifo_queue.
    """
    await sqs.create("orders.fifo")
    good = {"Id": "1", "MessageBody": "x", "MessageGroupId": "a", "MessageDeduplicationId": "1"}
    entries = [good, {"Id": "2", "MessageBody": "x", **lacking}]
    code, message = await sqs.refused("SendMessageBatch", "orders.fifo", Entries=entries)
    assert code == "InvalidParameterValue"
    assert message.startswith(problem)
    assert await sqs.counts("orders.fifo") == (0, 0, 0)


# The others


async def test_a_batch_of_deletes_answers_each(sqs: Driven) -> None:
    """What is no handle fails alone.

    Source: quoted, an answer to DeleteMessageBatch in getmoto/moto#4765.
    """
    await sqs.create("orders")
    await sqs.send("orders")
    good = (await sqs.receive_one("orders"))["ReceiptHandle"]
    entries = [{"Id": "good", "ReceiptHandle": good}, {"Id": "bad", "ReceiptHandle": "invalid"}]
    assert await sqs.call("DeleteMessageBatch", "orders", Entries=entries) == {
        "Successful": [{"Id": "good"}],
        "Failed": [
            {
                "Id": "bad",
                "SenderFault": True,
                "Code": "ReceiptHandleIsInvalid",
                "Message": 'The input receipt handle "invalid" is not a valid receipt handle.',
            }
        ],
    }
    assert await sqs.counts("orders") == (0, 0, 0)
    again = await sqs.call("DeleteMessageBatch", "orders", Entries=entries[:1])
    assert again == {"Successful": [{"Id": "good"}]}


async def test_a_batch_of_changes_answers_each(sqs: Driven) -> None:
    """What is gone, no handle, out of range, or says no time fails alone.

    Source: api, ChangeMessageVisibilityBatch; recorded, for the words.
    """
    await sqs.create("orders")
    for body in ("a", "b"):
        await sqs.send("orders", body)
    first, second = await sqs.receive("orders", 2)
    await sqs.delete("orders", second)
    handles = (first, second, {"ReceiptHandle": "x"}, first, first)
    times: tuple[dict[str, int], ...] = (
        {"VisibilityTimeout": 0},
        {"VisibilityTimeout": 1},
        {"VisibilityTimeout": 1},
        {"VisibilityTimeout": 43_201},
        {},
    )
    entries = [
        {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"], **time}
        for number, (one, time) in enumerate(zip(handles, times, strict=True))
    ]
    answer = await sqs.call("ChangeMessageVisibilityBatch", "orders", Entries=entries)
    assert answer["Successful"] == [{"Id": "0"}]
    assert [(one["Id"], one["Code"]) for one in answer["Failed"]] == [
        ("1", "InvalidParameterValue"),
        ("2", "ReceiptHandleIsInvalid"),
        ("3", "InvalidParameterValue"),
        ("4", "MissingParameter"),
    ]
    assert await sqs.bodies("orders") == ["a"]
