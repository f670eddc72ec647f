"""Dead-letter queues: when a message goes there, and how it arrives. `driven` says what the sources are."""

from __future__ import annotations

import pytest

from tests.sqs_api.conformance.driven import DAY, Driven, arn, text

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
EVERYTHING = {"AttributeNames": ["All"], "MessageAttributeNames": ["All"]}


@pytest.mark.parametrize("most", [1, 3, 1_000])
async def test_a_message_is_received_as_often_as_the_policy_says(sqs: Driven, most: int) -> None:
    """Not once more: the receive after that moves it, and finds nothing.

    Source: recorded, test_dead_letter_queue_max_receive_count; guide, Using dead-letter queues.
    """
    _, dead = await sqs.pair("orders", most=most)
    await sqs.send("orders")
    for count in range(1, most + 1):
        message = await sqs.receive_one("orders", AttributeNames=["ApproximateReceiveCount"], VisibilityTimeout=0)
        assert message["Attributes"] == {"ApproximateReceiveCount": str(count)}
    assert await sqs.counts("orders") == (1, 0, 0)
    assert await sqs.receive("orders", VisibilityTimeout=0) == []
    assert await sqs.counts("orders") == (0, 0, 0)
    assert await sqs.counts(dead) == (1, 0, 0)


async def test_a_dead_letter_is_the_same_message(sqs: Driven) -> None:
    """Id, body, attributes, trace header and time of sending; and where it comes from.

    Source: recorded, test_dead_letter_queue_message_attributes.
    """
    _, dead = await sqs.pair("orders", most=1)
    request = {
        "MessageAttributes": {"MyAttribute": text("foobar")},
        "MessageSystemAttributes": {"AWSTraceHeader": text(TRACE)},
    }
    sent = await sqs.send("orders", "message-1", **request)
    sqs.let_pass(5)
    alive = await sqs.receive_one("orders", **EVERYTHING, VisibilityTimeout=0)
    assert await sqs.receive("orders") == []
    sqs.let_pass(5)
    letter = await sqs.receive_one(dead, **EVERYTHING)
    same = ("MessageId", "Body", "MD5OfBody", "MessageAttributes", "MD5OfMessageAttributes")
    assert {name: letter[name] for name in same} == {name: alive[name] for name in same}
    assert letter["MessageId"] == sent["MessageId"]
    assert letter["MD5OfMessageAttributes"] == "adb59cd4678ea5a855436b949cd07ab6"
    told, before = letter["Attributes"], alive["Attributes"]
    for name in ("SenderId", "SentTimestamp", "AWSTraceHeader"):
        assert told[name] == before[name]
    assert told["DeadLetterQueueSourceArn"] == arn("orders")
    assert "DeadLetterQueueSourceArn" not in before


async def test_a_fifo_dead_letter_keeps_its_group(sqs: Driven) -> None:
    """The queue that it left goes on, and the line behind it.

    Source: recorded, test_dead_letter_queue_with_fifo_and_content_based_deduplication.
    """
    _, dead = await sqs.pair("orders.fifo", most=2, ContentBasedDeduplication="true", VisibilityTimeout="60")
    first = await sqs.send("orders.fifo", "foobar", MessageGroupId="1")
    for _ in range(2):
        await sqs.receive_one("orders.fifo", VisibilityTimeout=0)
    second = await sqs.send("orders.fifo", "foobar2", MessageGroupId="1")
    assert (await sqs.receive_one("orders.fifo"))["MessageId"] == second["MessageId"]
    letter = await sqs.receive_one(dead, AttributeNames=["MessageGroupId", "DeadLetterQueueSourceArn"])
    assert letter["MessageId"] == first["MessageId"]
    assert letter["Attributes"] == {"MessageGroupId": "1", "DeadLetterQueueSourceArn": arn("orders.fifo")}


async def test_a_lower_limit_counts_for_what_was_received_already(sqs: Driven) -> None:
    """With the next receive.

    Source: guide, Using dead-letter queues.
    """
    _, dead = await sqs.pair("orders", most=10)
    await sqs.send("orders")
    for _ in range(3):
        await sqs.receive_one("orders", VisibilityTimeout=0)
    policy = (await sqs.attributes("orders"))["RedrivePolicy"].replace("10", "2")
    await sqs.call("SetQueueAttributes", "orders", Attributes={"RedrivePolicy": policy})
    assert await sqs.receive("orders") == []
    assert await sqs.counts(dead) == (1, 0, 0)


async def test_what_timed_out_counts_as_received(sqs: Driven) -> None:
    """A consumer that dies gives a message up as one that hands it back does.

    Source: guide, Using dead-letter queues.
    """
    _, dead = await sqs.pair("orders", most=2, VisibilityTimeout="30")
    await sqs.send("orders")
    for _ in range(2):
        await sqs.receive_one("orders")
        sqs.let_pass(30)
    assert await sqs.receive("orders") == []
    assert await sqs.counts(dead) == (1, 0, 0)


async def test_a_dead_letter_s_age_counts_on(sqs: Driven) -> None:
    """From when it was sent, in a standard queue; in a FIFO queue it begins anew.

    Source: guide, Using dead-letter queues, "Understanding message retention periods".
    """
    for name, left in (("orders", False), ("bills.fifo", True)):
        end = {"ContentBasedDeduplication": "true"} if left else {}
        queue, dead = await sqs.pair(name, most=1, **end)
        await sqs.send(queue, **({"MessageGroupId": "1"} if left else {}))
        sqs.let_pass(1 * DAY)
        await sqs.receive_one(queue, VisibilityTimeout=0)
        assert await sqs.receive(queue) == []
        sqs.let_pass(3 * DAY)
        assert await sqs.counts(dead) == (int(left), 0, 0)


async def test_without_its_dead_letter_queue_a_message_goes_on(sqs: Driven) -> None:
    """Nothing is lost.

    Source: decided here; Amazon SQS says nothing of a deleted dead-letter queue.
    """
    _, dead = await sqs.pair("orders", most=1)
    await sqs.send("orders")
    await sqs.call("DeleteQueue", dead)
    for _ in range(3):
        assert await sqs.bodies("orders", VisibilityTimeout=0) == ["hello"]
