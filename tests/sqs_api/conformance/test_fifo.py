"""FIFO queues, and groups of standard ones. `driven` says what the sources are."""

from __future__ import annotations

import pytest

from tests.sqs_api.conformance.driven import Driven

NO_ID = "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"
WRONG_KIND = "The request include parameter that is not valid for this queue type."


async def put(sqs: Driven, body: str, group: str = "a", key: str | None = None, queue: str = "orders.fifo") -> str:
    """The sequence number."""
    sent = await sqs.send(queue, body, MessageGroupId=group, MessageDeduplicationId=key or body)
    number: str = sent["SequenceNumber"]
    return number


# What it needs


async def test_a_group_and_a_deduplication_id_are_needed(sqs: Driven) -> None:
    """The one is missing, the other one's lack is a wrong value.

    Source: recorded, test_posting_to_fifo_requires_deduplicationid_group_id.
    """
    await sqs.create("orders.fifo")
    request = {"MessageBody": "x", "MessageGroupId": "a"}
    assert await sqs.refused("SendMessage", "orders.fifo", **request) == ("InvalidParameterValue", NO_ID)
    request = {"MessageBody": "x", "MessageDeduplicationId": "1"}
    problem = "The request must contain the parameter MessageGroupId."
    assert await sqs.refused("SendMessage", "orders.fifo", **request) == ("MissingParameter", problem)


@pytest.mark.parametrize("parameter", ["MessageGroupId", "MessageDeduplicationId"])
@pytest.mark.parametrize("value", ["", "a" * 129, "group 123", "é", "a\x08"])
async def test_an_id_has_1_to_128_letters_digits_and_marks(sqs: Driven, parameter: str, value: str) -> None:
    """Without spaces.

    Source: recorded, test_send_message_to_standard_queue_with_invalid_message_group_id,
    test_message_deduplication_id_invalid.
    """
    await sqs.create("orders.fifo")
    request = {"MessageBody": "x", "MessageGroupId": "a" * 128, "MessageDeduplicationId": "!~", parameter: value}
    assert await sqs.refused("SendMessage", "orders.fifo", **request) == (
        "InvalidParameterValue",
        (
            f"Value {value} for parameter {parameter} is invalid. Reason: {parameter} can only include alphanumeric "
            "and punctuation characters. 1 to 128 in length."
        ),
    )


async def test_a_message_has_no_delay_of_its_own(sqs: Driven) -> None:
    """0 is none, and then the queue's counts.

    Source: recorded, test_fifo_queue_send_message_with_delay_seconds_fails,
    test_fifo_queue_send_message_with_zero_delay_defaults_to_queue_delay.
    """
    await sqs.create("orders.fifo", ContentBasedDeduplication="true", DelaySeconds="2")
    request = {"MessageBody": "message-1", "MessageGroupId": "1"}
    problem = f"Value 2 for parameter DelaySeconds is invalid. Reason: {WRONG_KIND}"
    refused = await sqs.refused("SendMessage", "orders.fifo", **request, DelaySeconds=2)
    assert refused == ("InvalidParameterValue", problem)
    await sqs.call("SendMessage", "orders.fifo", **request, DelaySeconds=0)
    assert await sqs.receive("orders.fifo") == []
    sqs.let_pass(2)
    assert await sqs.bodies("orders.fifo") == ["message-1"]


async def test_a_standard_queue_takes_no_deduplication_id(sqs: Driven) -> None:
    """Nor an attempt's id; a group it takes.

    Source: recorded, test_fair_queue_with_message_group_id; api, SendMessage, ReceiveMessage.
    """
    await sqs.create("orders")
    request = {"MessageBody": "x", "MessageDeduplicationId": "1"}
    problem = f"Value 1 for parameter MessageDeduplicationId is invalid. Reason: {WRONG_KIND}"
    assert await sqs.refused("SendMessage", "orders", **request) == ("InvalidParameterValue", problem)
    code, message = await sqs.refused("ReceiveMessage", "orders", ReceiveRequestAttemptId="1")
    assert (code, message.endswith(WRONG_KIND)) == ("InvalidParameterValue", True)


# What it gives


async def test_sequence_numbers_grow(sqs: Driven) -> None:
    """Twenty digits, so that their texts grow too; a standard queue has none.

    Source: recorded, test_fifo_sequence_number_increases, test_sequence_number; api, SendMessage.
    """
    await sqs.create("orders.fifo")
    numbers = [await put(sqs, str(n), group=str(n % 2)) for n in range(12)]
    assert all(len(one) == 20 and one.isdecimal() for one in numbers)
    assert numbers == sorted(set(numbers))
    await sqs.create("bills")
    assert "SequenceNumber" not in await sqs.send("bills")


async def test_a_message_tells_group_ids_and_sequence(sqs: Driven) -> None:
    """The same at each receive.

    Source: recorded, test_fifo_message_attributes.
    """
    await sqs.create("orders.fifo", VisibilityTimeout="0")
    number = await put(sqs, "message-body-1", "group-1", "dedup-1")
    for count in ("1", "2"):
        attributes = (await sqs.receive_one("orders.fifo", AttributeNames=["All"]))["Attributes"]
        assert attributes == {
            "ApproximateFirstReceiveTimestamp": "1700000000000",
            "ApproximateReceiveCount": count,
            "MessageDeduplicationId": "dedup-1",
            "MessageGroupId": "group-1",
            "SenderId": attributes["SenderId"],
            "SentTimestamp": "1700000000000",
            "SequenceNumber": number,
        }


async def test_the_id_made_of_the_content_is_told(sqs: Driven) -> None:
    """SHA-256 of the body.

    Source: api, SendMessage; guide, Exactly-once processing.
    """
    await sqs.create("orders.fifo", ContentBasedDeduplication="true")
    await sqs.send("orders.fifo", "foobar", MessageGroupId="a")
    attributes = (await sqs.receive_one("orders.fifo", AttributeNames=["MessageDeduplicationId"]))["Attributes"]
    expected = "c3ab8ff13720e8ad9047dd39466b3c8974e592c2fa383d4a3960714caef0c4f2"
    assert attributes == {"MessageDeduplicationId": expected}


# Order


async def test_a_receive_takes_a_group_first(sqs: Driven) -> None:
    """Then the next group.

    Source: recorded, test_fifo_receive_message_group_id_ordering,
    test_fifo_receive_message_visibility_timeout_shared_in_group; api, ReceiveMessage.
    """
    await sqs.create("orders.fifo")
    for body, group in (("g1-m1", "1"), ("g2-m1", "2"), ("g1-m2", "1"), ("g1-m3", "1"), ("g2-m2", "2"), ("g3", "3")):
        await put(sqs, body, group)
    assert await sqs.bodies("orders.fifo", 2) == ["g1-m1", "g1-m2"]
    assert await sqs.bodies("orders.fifo", 1) == ["g2-m1"]
    assert await sqs.bodies("orders.fifo") == ["g3"]
    assert await sqs.receive("orders.fifo") == []


async def test_a_group_waits_for_what_is_in_flight(sqs: Driven) -> None:
    """All of it has to be deleted.

    Source: recorded, test_fifo_message_group_visibility_after_delete,
    test_fifo_message_group_visibility_after_partial_delete, test_fifo_empty_message_groups_added_back_to_queue.
    """
    await sqs.create("orders.fifo")
    for number in range(1, 5):
        await put(sqs, f"g1-m{number}", "1")
    first, second = await sqs.receive("orders.fifo", 2)
    await sqs.delete("orders.fifo", first)
    assert await sqs.receive("orders.fifo") == []
    await sqs.delete("orders.fifo", second)
    third, fourth = await sqs.receive("orders.fifo")
    assert [third["Body"], fourth["Body"]] == ["g1-m3", "g1-m4"]
    for one in (third, fourth):
        await sqs.delete("orders.fifo", one)
    assert await sqs.receive("orders.fifo") == []
    await put(sqs, "g1-m5", "1")
    assert await sqs.bodies("orders.fifo") == ["g1-m5"]


async def test_what_timed_out_comes_again_in_order(sqs: Driven) -> None:
    """And with a timeout of 0 at once.

    Source: recorded, test_fifo_messages_in_order_after_timeout,
    test_fifo_receive_message_with_zero_visibility_timeout.
    """
    await sqs.create("orders.fifo", VisibilityTimeout="1")
    bodies = ["message-0", "message-1", "message-2"]
    for body in bodies:
        await put(sqs, body)
    assert await sqs.bodies("orders.fifo") == bodies
    sqs.let_pass(1)
    assert await sqs.bodies("orders.fifo", VisibilityTimeout=0) == bodies
    assert await sqs.bodies("orders.fifo", VisibilityTimeout=0) == bodies


async def test_messages_count_as_visible_whatever_their_group_waits_for(sqs: Driven) -> None:
    """Only what was received is not visible.

    Source: recorded, test_fifo_approximate_number_of_messages_not_visible, test_fifo_approx_number_of_messages.
    """
    await sqs.create("orders.fifo", VisibilityTimeout="60")
    for number in range(6):
        await put(sqs, f"message-{number}", str(number // 2))
    for group in ("0", "1"):
        one = await sqs.receive_one("orders.fifo", MessageSystemAttributeNames=["MessageGroupId"])
        assert one["Attributes"] == {"MessageGroupId": group}
    assert await sqs.counts("orders.fifo") == (4, 2, 0)
    sqs.let_pass(60)
    assert await sqs.counts("orders.fifo") == (6, 0, 0)


# Deduplication


@pytest.mark.parametrize("by_content", [True, False])
async def test_a_duplicate_within_five_minutes_is_not_delivered(sqs: Driven, *, by_content: bool) -> None:
    """Deleted meanwhile or not; it is answered as the first one was.

    Source: recorded, test_fifo_deduplication_arrives_once_after_delete, test_deduplication_interval.
    """
    await sqs.create("orders.fifo", ContentBasedDeduplication=str(by_content))
    ids = {"MessageGroupId": "a", **({} if by_content else {"MessageDeduplicationId": "1"})}
    first = await sqs.send("orders.fifo", '{"foo": "bar"}', **ids)
    await sqs.delete("orders.fifo", await sqs.receive_one("orders.fifo"))
    sqs.let_pass(299.9)
    again = await sqs.send("orders.fifo", '{"foo": "bar"}', **ids)
    assert (again["MessageId"], again["SequenceNumber"]) == (first["MessageId"], first["SequenceNumber"])
    assert await sqs.receive("orders.fifo") == []
    sqs.let_pass(0.1)
    later = await sqs.send("orders.fifo", '{"foo": "bar"}', **ids)
    assert later["MessageId"] != first["MessageId"]
    assert await sqs.bodies("orders.fifo") == ['{"foo": "bar"}']


async def test_a_duplicate_may_differ_in_content(sqs: Driven) -> None:
    """Its id decides, and wins over the content's; the MD5s are of what was sent.

    Source: guide, Exactly-once processing; recorded, test_deduplication_interval.
    """
    await sqs.create("orders.fifo", ContentBasedDeduplication="true")
    await put(sqs, "first", key="1")
    sent = await sqs.send("orders.fifo", "second", MessageGroupId="a", MessageDeduplicationId="1")
    assert sent["MD5OfMessageBody"] == "a9f0e61a137d86aa9db53465e0801612"
    await put(sqs, "first", key="2")
    assert await sqs.bodies("orders.fifo") == ["first", "first"]


async def test_the_scope_says_whether_groups_have_ids_of_their_own(sqs: Driven) -> None:
    """By default they do not.

    Source: recorded, test_sqs_fifo_same_dedup_id_different_message_groups, test_fifo_high_throughput_ordering,
    test_sqs_fifo_message_group_scope_no_throughput_setting.
    """
    await sqs.create("queue.fifo")
    await sqs.create("group.fifo", DeduplicationScope="messageGroup")
    for queue, bodies in (("queue.fifo", ["1"]), ("group.fifo", ["1", "2"])):
        for group in ("1", "2"):
            await put(sqs, group, group, "same", queue)
            await put(sqs, "again", group, "same", queue)
        assert await sqs.bodies(queue) == bodies


async def test_a_batch_is_deduplicated_in_itself(sqs: Driven) -> None:
    """Both entries succeed, with one id.

    Source: guide, Exactly-once processing.
    """
    await sqs.create("orders.fifo")
    one = {"MessageBody": "x", "MessageGroupId": "a", "MessageDeduplicationId": "1"}
    first, second = (await sqs.send_batch("orders.fifo", one, one))["Successful"]
    assert first["MessageId"] == second["MessageId"]
    assert await sqs.bodies("orders.fifo") == ["x"]


# Attempts


async def test_a_receive_that_is_tried_again_gets_the_same(sqs: Driven) -> None:
    """Within five minutes, while nothing happened to the messages; their timeouts begin anew.

    Source: api, ReceiveMessage, ReceiveRequestAttemptId.
    """
    await sqs.create("orders.fifo")
    for body in ("1", "2", "3"):
        await put(sqs, body, group=body)
    first = await sqs.receive("orders.fifo", 2, ReceiveRequestAttemptId="a", VisibilityTimeout=30)
    sqs.let_pass(20)
    again = await sqs.receive("orders.fifo", 2, ReceiveRequestAttemptId="a", VisibilityTimeout=30)
    assert [one["MessageId"] for one in again] == [one["MessageId"] for one in first]
    assert await sqs.bodies("orders.fifo", ReceiveRequestAttemptId="b") == ["3"]
    sqs.let_pass(20)
    for one in again:
        await sqs.delete("orders.fifo", one)
    assert await sqs.receive("orders.fifo", 2, ReceiveRequestAttemptId="a") == []


# Groups of a standard queue


async def test_a_standard_queue_keeps_the_group(sqs: Driven) -> None:
    """It means fairness there, and neither order nor a number.

    Source: recorded, test_fair_queue_with_message_group_id.
    """
    await sqs.create("orders")
    sent = await sqs.send("orders", "message", MessageGroupId="test")
    assert set(sent) == {"MD5OfMessageBody", "MessageId"}
    attributes = (await sqs.receive_one("orders", AttributeNames=["All"]))["Attributes"]
    assert attributes["MessageGroupId"] == "test"
    assert set(attributes) == {
        "ApproximateFirstReceiveTimestamp",
        "ApproximateReceiveCount",
        "MessageGroupId",
        "SenderId",
        "SentTimestamp",
    }


async def test_a_noisy_group_does_not_make_the_others_wait(sqs: Driven) -> None:
    """The quiet one's message is received early although it was sent last.

    Source: guide, Amazon SQS fair queues.
    """
    await sqs.create("orders")
    for number in range(50):
        await sqs.send("orders", f"noisy {number}", MessageGroupId="noisy")
    await sqs.send("orders", "quiet", MessageGroupId="quiet")
    assert "quiet" in await sqs.bodies("orders", 10)
