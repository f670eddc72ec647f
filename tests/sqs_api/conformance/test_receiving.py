"""ReceiveMessage: what may be asked for and what is told. `driven` says what the sources are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redrive.sqlite.engine import MOST_IN_FLIGHT
from redrive.sqs_api.calls import Refused
from tests.sqs_api.conformance.driven import DAY, Driven, text

ALL = {"SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"}
HELLO, GENERAL, HELP = text("There"), text("Kenobi"), text("Me")


async def attributes_told(sqs: Driven, *names: str) -> Any:
    message = await sqs.receive_one("orders", MessageAttributeNames=list(names), VisibilityTimeout=0)
    return message.get("MessageAttributes")


async def system_told(sqs: Driven, **request: Any) -> set[str]:
    return set((await sqs.receive_one("orders", VisibilityTimeout=0, **request)).get("Attributes", ()))


async def test_a_message_tells_five_things(sqs: Driven) -> None:
    """What is not asked for is not there, and an empty answer is empty.

    Source: recorded, test_receive_empty_queue, test_receive_message_message_attribute_names_filters.
    """
    await sqs.create("orders")
    assert await sqs.call("ReceiveMessage", "orders") == {}
    sent = await sqs.send("orders", "msg", MessageAttributes={"Hello": HELLO})
    received = await sqs.receive_one("orders", MessageAttributeNames=[], AttributeNames=[])
    assert received == {
        "MessageId": sent["MessageId"],
        "ReceiptHandle": received["ReceiptHandle"],
        "MD5OfBody": "6e2baaf3b97dbeef01c0043275f9a0e7",
        "Body": "msg",
    }


@pytest.mark.parametrize(
    ("parameter", "wrong", "reason"),
    [
        ("MaxNumberOfMessages", 0, "Must be between 1 and 10, if provided."),
        ("MaxNumberOfMessages", 11, "Must be between 1 and 10, if provided."),
        ("WaitTimeSeconds", -1, "Must be >= 0 and <= 20, if provided."),
        ("WaitTimeSeconds", 21, "Must be >= 0 and <= 20, if provided."),
        ("VisibilityTimeout", -1, "Must be between 0 and 43200, if provided."),
        ("VisibilityTimeout", 43_201, "Must be between 0 and 43200, if provided."),
    ],
)
async def test_a_number_has_its_range(sqs: Driven, parameter: str, wrong: int, reason: str) -> None:
    """And the message names it.

    Source: recorded, test_send_receive_max_number_of_messages, test_send_receive_wait_time_seconds; api, for the last.
    """
    await sqs.create("orders")
    problem = f"Value {wrong} for parameter {parameter} is invalid. Reason: {reason}"
    assert await sqs.refused("ReceiveMessage", "orders", **{parameter: wrong}) == ("InvalidParameterValue", problem)


async def test_one_message_is_the_default(sqs: Driven) -> None:
    """And ten the most.

    Source: api, ReceiveMessage.
    """
    await sqs.create("orders")
    await sqs.send_batch("orders", *({"MessageBody": str(n)} for n in range(10)))
    assert len((await sqs.call("ReceiveMessage", "orders"))["Messages"]) == 1
    assert len(await sqs.receive("orders", 10)) == 9


async def test_the_queue_s_timeout_hides_what_was_received(sqs: Driven) -> None:
    """Unless the receive says another one.

    Source: recorded, test_receive_after_visibility_timeout,
    test_receive_message_with_visibility_timeout_updates_timeout, test_approximate_number_of_messages_not_visible.
    """
    await sqs.create("orders", VisibilityTimeout="5")
    await sqs.send("orders", "test")
    first = await sqs.receive_one("orders")
    sqs.let_pass(4.9)
    assert await sqs.counts("orders") == (0, 1, 0)
    assert await sqs.receive("orders") == []
    sqs.let_pass(0.1)
    assert await sqs.counts("orders") == (1, 0, 0)
    second = await sqs.receive_one("orders", VisibilityTimeout=3)
    assert first["ReceiptHandle"] != second["ReceiptHandle"]
    sqs.let_pass(3)
    assert await sqs.bodies("orders", VisibilityTimeout=43_200) == ["test"]
    sqs.let_pass(43_199)
    assert await sqs.receive("orders") == []
    sqs.let_pass(1)
    assert await sqs.bodies("orders") == ["test"]


async def test_a_timeout_of_0_hides_nothing(sqs: Driven) -> None:
    """Nor is anything given twice in one answer.

    Source: recorded, test_receive_terminate_visibility_timeout.
    """
    await sqs.create("orders")
    for body in ("1", "2"):
        await sqs.send("orders", body)
    for _ in range(3):
        assert sorted(await sqs.bodies("orders", VisibilityTimeout=0)) == ["1", "2"]
    assert await sqs.counts("orders") == (2, 0, 0)
    assert len(await sqs.receive("orders")) == 2
    assert await sqs.receive("orders") == []


async def test_what_timed_out_comes_before_what_was_sent_later(sqs: Driven) -> None:
    """It is older.

    Source: recorded, test_inflight_message_requeue.
    """
    await sqs.create("orders")
    await sqs.send("orders", "test1")
    await sqs.receive_one("orders", VisibilityTimeout=3)
    sqs.let_pass(1.5)
    await sqs.send("orders", "test2")
    sqs.let_pass(3)
    assert (await sqs.receive_one("orders"))["Body"] == "test1"


async def test_a_long_poll_does_not_wait_for_more(sqs: Driven) -> None:
    """What is there is answered at once, however many are wanted.

    Source: recorded, test_receive_message_wait_time_seconds_and_max_number_of_messages_does_not_block.
    """
    await sqs.create("orders", ReceiveMessageWaitTimeSeconds="20")
    await sqs.send("orders")
    assert await sqs.bodies("orders", 3) == ["hello"]
    async with asyncio.timeout(0.5):
        assert await sqs.call("ReceiveMessage", "orders", WaitTimeSeconds=0) == {}


@pytest.mark.parametrize("ends", ["before", "meanwhile"])
async def test_a_long_poll_of_a_queue_that_is_gone_ends(sqs: Driven, ends: str) -> None:
    """At once, whether it was gone before or goes while the poll waits.

    Source: recorded, test_non_existent_queue; api, DeleteQueue.
    """
    await sqs.create("orders")
    poll = asyncio.create_task(sqs.call("ReceiveMessage", "orders", WaitTimeSeconds=20))
    if ends == "meanwhile":
        await asyncio.sleep(0)
    await sqs.call("DeleteQueue", "orders")
    with pytest.raises(Refused, match="QueueDoesNotExist"):
        await asyncio.wait_for(poll, timeout=5)


# Attributes


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["All"], {"Help.Me": HELP, "Hello": HELLO, "General": GENERAL}),
        (["*"], {"Help.Me": HELP, "Hello": HELLO, "General": GENERAL}),
        ([".*"], {"Help.Me": HELP, "Hello": HELLO, "General": GENERAL}),
        (["Foo", "Help"], None),
        (["Hello", "General"], {"Hello": HELLO, "General": GENERAL}),
        (["Foo", "Hello"], {"Hello": HELLO}),
        (["Hel.*"], {"Hello": HELLO, "Help.Me": HELP}),
        (["AWS."], None),
        (["..foo"], None),
        (["hello"], None),
    ],
)
async def test_attributes_are_chosen_by_name_and_beginning(sqs: Driven, asked: list[str], told: Any) -> None:
    """What is no name chooses nothing, which is no error.

    Source: recorded, test_receive_message_message_attribute_names_filters.
    """
    await sqs.create("orders")
    await sqs.send("orders", "msg", MessageAttributes={"Help.Me": HELP, "Hello": HELLO, "General": GENERAL})
    assert await attributes_told(sqs, *asked) == told


async def test_the_md5_is_of_the_chosen_attributes(sqs: Driven) -> None:
    """So that a receiver can check what it got.

    Source: recorded, test_receive_message_message_attribute_names_filters.
    """
    await sqs.create("orders")
    await sqs.send("orders", "msg", MessageAttributes={"Help.Me": HELP, "Hello": HELLO, "General": GENERAL})
    for asked, md5 in (
        ("All", "4c360f3fdafd970e05fae2f149d997f5"),
        ("Hello", "a311262e065454b75da111d535b8dacd"),
        ("Hel.*", "83fee93c1bcd8b9a5a923ffacdc636c7"),
        ("Foo", None),
    ):
        message = await sqs.receive_one("orders", MessageAttributeNames=[asked], VisibilityTimeout=0)
        assert message.get("MD5OfMessageAttributes") == md5


@pytest.mark.parametrize("member", ["AttributeNames", "MessageSystemAttributeNames"])
async def test_system_attributes_are_chosen_by_name(sqs: Driven, member: str) -> None:
    """What the message does not have is left out; what nobody knows is refused.

    Source: recorded, test_receive_message_attribute_names_filters,
    test_receive_message_message_system_attribute_names_filters.
    """
    await sqs.create("orders")
    await sqs.send("orders")
    assert await system_told(sqs, **{member: ["All"]}) == ALL
    assert await system_told(sqs, **{member: ["SenderId"]}) == {"SenderId"}
    assert await system_told(sqs, **{member: ["SenderId", "SequenceNumber"]}) == {"SenderId"}
    assert await system_told(sqs, **{member: ["All", "SenderId"]}) == ALL
    unknown = "InvalidAttributeName", "Unknown Attribute Foobar."
    assert await sqs.refused("ReceiveMessage", "orders", **{member: ["Foobar"]}) == unknown


async def test_json_adds_what_both_members_ask_for(sqs: Driven, sqs_query: Driven) -> None:
    """In the Query protocol the older one wins.

    Source: recorded, test_message_system_attribute_names_with_attribute_names.
    """
    both = {"MessageSystemAttributeNames": ["All"], "AttributeNames": ["SenderId"]}
    for protocol, told in ((sqs, ALL), (sqs_query, {"SenderId"})):
        await protocol.create("orders")
        await protocol.send("orders")
        assert await system_told(protocol, **both) == told


async def test_times_are_in_milliseconds(sqs: Driven) -> None:
    """Of the send and of the first receive; each receive is counted.

    Source: recorded, test_receive_message_attributes_timestamp_types; api, ReceiveMessage.
    """
    await sqs.create("orders")
    await sqs.send("orders")
    sqs.let_pass(2)
    for count in ("1", "2", "3"):
        attributes = (await sqs.receive_one("orders", AttributeNames=["All"], VisibilityTimeout=0))["Attributes"]
        assert attributes["SentTimestamp"] == "1700000000000"
        assert attributes["ApproximateFirstReceiveTimestamp"] == "1700000002000"
        assert attributes["ApproximateReceiveCount"] == count
        sqs.let_pass(1)


async def test_the_trace_header_is_a_system_attribute(sqs: Driven) -> None:
    """And none of the others.

    Source: recorded, test_dead_letter_queue_message_attributes; api, ReceiveMessage.
    """
    await sqs.create("orders")
    trace = text("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
    await sqs.send("orders", MessageAttributes={"a": HELP}, MessageSystemAttributes={"AWSTraceHeader": trace})
    assert await attributes_told(sqs, "All") == {"a": HELP}
    message = await sqs.receive_one("orders", AttributeNames=["AWSTraceHeader"])
    assert message["Attributes"] == {"AWSTraceHeader": trace["StringValue"]}


# Limits and retention


def fly(sqs: Driven, own: str) -> None:
    """As if very many were in flight: copies of the only message there is, each in a group of its own."""
    execute = sqs.database.tables.connection.execute
    names = [name for (_, name, *_) in execute("PRAGMA table_info(message)") if name != "seq"]
    values = ", ".join(f"iif({one} IS NULL, NULL, 'g' || n)" if one == "group_id" else one for one in names)
    execute(
        "WITH RECURSIVE more (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM more WHERE n < ?) "  # noqa: S608 - its own
        f"INSERT INTO message ({', '.join(names)}) SELECT {values} FROM message, more "
        "WHERE queue = (SELECT id FROM queue WHERE name = ?)",
        (MOST_IN_FLIGHT, own),
    )


async def test_at_120000_in_flight_a_standard_queue_says_so(sqs: Driven) -> None:
    """To a short poll; a long one gets nothing, and so does everybody from a FIFO queue.

    Source: api, ReceiveMessage, OverLimit; guide, Amazon SQS message quotas.
    """
    await sqs.create("orders", VisibilityTimeout="600")
    await sqs.create("bills.fifo", VisibilityTimeout="600", ContentBasedDeduplication="true")
    for queue, own, group in (("orders", "orders", {}), ("bills.fifo", "bills", {"MessageGroupId": "a"})):
        await sqs.send(queue, "in flight", **group)
        await sqs.receive_one(queue)
        fly(sqs, own)
        await sqs.send(queue, "waits", **dict.fromkeys(group, "b"))
        assert await sqs.counts(queue) == (1, MOST_IN_FLIGHT, 0)
    code, _ = await sqs.refused("ReceiveMessage", "orders")
    assert code == "OverLimit"
    assert await sqs.receive("orders", WaitTimeSeconds=1) == []
    assert await sqs.receive("bills.fifo") == []
    sqs.let_pass(600)
    assert len(await sqs.receive("orders")) == 10


@pytest.mark.parametrize("age", [59.9, 345_599.9])
async def test_a_message_stays_for_its_queue_s_retention(sqs: Driven, age: float) -> None:
    """Then it goes, in flight or not; to delete it is no error.

    Source: recorded, test_message_retention, test_message_retention_fifo, test_message_retention_with_inflight.
    """
    retention = {"MessageRetentionPeriod": "60"} if age < 60 else {}
    for queue, ids in (("orders", {}), ("orders.fifo", {"MessageGroupId": "a", "MessageDeduplicationId": "1"})):
        name = await sqs.create(queue.replace("orders", "bills") if ids else queue, **retention)
        await sqs.send(name, **ids)
        sqs.let_pass(age)
        held = await sqs.receive_one(name, VisibilityTimeout=0)
        sqs.let_pass(0.1)
        assert await sqs.receive(name) == []
        assert await sqs.counts(name) == (0, 0, 0)
        if not ids:
            await sqs.delete(name, held)


async def test_a_new_retention_counts_for_what_is_there(sqs: Driven) -> None:
    """From when it was sent.

    Source: api, SetQueueAttributes.
    """
    await sqs.create("orders", MessageRetentionPeriod="60")
    await sqs.send("orders")
    sqs.let_pass(50)
    await sqs.call("SetQueueAttributes", "orders", Attributes={"MessageRetentionPeriod": str(int(14 * DAY))})
    sqs.let_pass(14 * DAY - 51)
    assert await sqs.counts("orders") == (1, 0, 0)
    sqs.let_pass(1)
    assert await sqs.counts("orders") == (0, 0, 0)
