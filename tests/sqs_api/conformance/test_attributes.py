"""The attributes of queues: defaults, ranges, what goes with what. `driven` says what the sources are."""

from __future__ import annotations

import pytest

from tests.sqs_api.conformance.driven import Driven, arn

STANDARD = {
    "QueueArn": arn("orders"),
    "ApproximateNumberOfMessages": "0",
    "ApproximateNumberOfMessagesNotVisible": "0",
    "ApproximateNumberOfMessagesDelayed": "0",
    "CreatedTimestamp": "1700000000",
    "LastModifiedTimestamp": "1700000000",
    "VisibilityTimeout": "30",
    "MaximumMessageSize": "1048576",
    "MessageRetentionPeriod": "345600",
    "DelaySeconds": "0",
    "ReceiveMessageWaitTimeSeconds": "0",
    "SqsManagedSseEnabled": "true",
}
FIFO = {
    **STANDARD,
    "QueueArn": arn("orders.fifo"),
    "FifoQueue": "true",
    "ContentBasedDeduplication": "false",
    "DeduplicationScope": "queue",
    "FifoThroughputLimit": "perQueue",
}


async def test_a_new_queue_has_the_defaults(sqs: Driven) -> None:
    """All of them, and no other.

    Source: recorded, test_set_queue_attributes_default_values.
    """
    await sqs.create("orders")
    assert await sqs.attributes("orders", "All") == STANDARD


async def test_a_new_fifo_queue_has_four_more(sqs: Driven) -> None:
    """What makes it one, and how it finds duplicates.

    Source: recorded, test_fifo_set_content_based_deduplication_strategy.
    """
    await sqs.create("orders.fifo")
    assert await sqs.attributes("orders.fifo", "All") == FIFO


async def test_what_was_set_is_told(sqs: Driven) -> None:
    """And the rest stays.

    Source: recorded, test_create_and_update_queue_attributes.
    """
    given = {"MessageRetentionPeriod": "604800", "ReceiveMessageWaitTimeSeconds": "10", "VisibilityTimeout": "20"}
    await sqs.create("orders", **given)
    changed = {"MaximumMessageSize": "2048", "VisibilityTimeout": "69", "DelaySeconds": "420"}
    assert await sqs.call("SetQueueAttributes", "orders", Attributes=changed) == {}
    assert await sqs.attributes("orders", "All") == {**STANDARD, **given, **changed}


@pytest.mark.parametrize("attribute", ["VisibilityTimeout", "DelaySeconds"])
async def test_a_change_is_the_last_modification(sqs: Driven, attribute: str) -> None:
    """Whether the engine knows the attribute or not; in seconds.

    Source: api, GetQueueAttributes.
    """
    await sqs.create("orders")
    sqs.let_pass(100)
    await sqs.call("SetQueueAttributes", "orders", Attributes={attribute: "7"})
    times = await sqs.attributes("orders", "CreatedTimestamp", "LastModifiedTimestamp")
    assert times == {"CreatedTimestamp": "1700000000", "LastModifiedTimestamp": "1700000100"}


async def test_only_what_is_asked_for_is_told(sqs: Driven) -> None:
    """What has no value is left out, nothing asked is nothing told.

    Source: recorded, test_create_queue_and_get_attributes; api, GetQueueAttributes.
    """
    await sqs.create("orders")
    asked = await sqs.attributes("orders", "QueueArn", "VisibilityTimeout", "Policy", "RedrivePolicy", "FifoQueue")
    assert asked == {"QueueArn": arn("orders"), "VisibilityTimeout": "30"}
    assert await sqs.call("GetQueueAttributes", "orders") == {}
    assert await sqs.call("GetQueueAttributes", "orders", AttributeNames=["Policy"]) == {}


async def test_an_unknown_attribute_is_refused(sqs: Driven) -> None:
    """Asked for or set.

    Source: recorded, test_get_queue_attributes_with_invalid_arg_returns_error.
    """
    await sqs.create("orders")
    unknown = "InvalidAttributeName", "Unknown Attribute Foobar."
    assert await sqs.refused("GetQueueAttributes", "orders", AttributeNames=["All", "Foobar"]) == unknown
    assert await sqs.refused("SetQueueAttributes", "orders", Attributes={"Foobar": "1"}) == unknown
    assert await sqs.refused("CreateQueue", QueueName="bills", Attributes={"Foobar": "1"}) == unknown
    counted = "InvalidAttributeName", "Unknown Attribute ApproximateNumberOfMessages."
    given = {"ApproximateNumberOfMessages": "1"}
    assert await sqs.refused("SetQueueAttributes", "orders", Attributes=given) == counted


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("DelaySeconds", 0, 900),
        ("MaximumMessageSize", 1_024, 1_048_576),
        ("MessageRetentionPeriod", 60, 1_209_600),
        ("ReceiveMessageWaitTimeSeconds", 0, 20),
        ("VisibilityTimeout", 0, 43_200),
        ("KmsDataKeyReusePeriodSeconds", 60, 86_400),
    ],
)
async def test_a_number_has_its_range(sqs: Driven, name: str, least: int, most: int) -> None:
    """Nothing is changed by one that is outside.

    Source: api, SetQueueAttributes; quoted, for the words.
    """
    await sqs.create("orders", KmsMasterKeyId="alias/a")
    for value in (least, most):
        await sqs.call("SetQueueAttributes", "orders", Attributes={name: str(value)})
        assert await sqs.attributes("orders", name) == {name: str(value)}
    problem = "InvalidAttributeValue", f"Invalid value for the parameter {name}."
    for wrong in (str(least - 1), str(most + 1), "", "x", "1.5", " 60", "٦٠", "9" * 5_000):
        given = {"VisibilityTimeout": "5", name: wrong}
        assert await sqs.refused("SetQueueAttributes", "orders", Attributes=given) == problem, wrong
    assert await sqs.attributes("orders", name) == {name: str(most)}


async def test_nothing_to_set_is_a_missing_parameter(sqs: Driven) -> None:
    """There has to be something to set.

    Source: decided here; the wire cannot tell no attributes from none given.
    """
    await sqs.create("orders")
    code, _ = await sqs.refused("SetQueueAttributes", "orders", Attributes={})
    assert code == "MissingParameter"


# FIFO


async def test_a_standard_queue_does_not_know_what_is_for_fifo(sqs: Driven) -> None:
    """Two kinds of sentences say so.

    Source: recorded, test_create_standard_queue_with_fifo_attribute_raises_error,
    test_set_unsupported_attribute_standard.
    """
    await sqs.create("orders")
    only = "You can specify the {} only when FifoQueue is set to true."
    for given, problem in (
        ({"FifoQueue": "false"}, "Unknown Attribute FifoQueue."),
        ({"ContentBasedDeduplication": "false"}, "Unknown Attribute ContentBasedDeduplication."),
        ({"DeduplicationScope": "queue"}, only.format("DeduplicationScope")),
        ({"FifoThroughputLimit": "perQueue"}, only.format("FifoThroughputLimit")),
    ):
        expected = "InvalidAttributeName", problem
        assert await sqs.refused("CreateQueue", QueueName="bills", Attributes=given) == expected
        assert await sqs.refused("SetQueueAttributes", "orders", Attributes=given) == expected
    expected = "InvalidAttributeName", "Unknown Attribute FifoQueue."
    assert await sqs.refused("SetQueueAttributes", "orders", Attributes={"FifoQueue": "true"}) == expected


async def test_a_fifo_queue_stays_one(sqs: Driven) -> None:
    """To say that it is one changes nothing.

    Source: recorded, test_set_unsupported_attribute_fifo.
    """
    await sqs.create("orders.fifo")
    await sqs.call("SetQueueAttributes", "orders.fifo", Attributes={"FifoQueue": "true"})
    assert await sqs.refused("SetQueueAttributes", "orders.fifo", Attributes={"FifoQueue": "false"}) == (
        "InvalidAttributeValue",
        "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.",
    )


async def test_true_and_false_are_taken_in_any_case(sqs: Driven) -> None:
    """And told in small letters.

    Source: recorded, test_fifo_change_to_high_throughput_after_creation.
    """
    await sqs.create("orders.fifo", FifoQueue="True", ContentBasedDeduplication="False")
    found = await sqs.attributes("orders.fifo", "FifoQueue", "ContentBasedDeduplication")
    assert found == {"FifoQueue": "true", "ContentBasedDeduplication": "false"}
    again = {"FifoQueue": "true", "ContentBasedDeduplication": "False"}
    await sqs.call("CreateQueue", QueueName="orders.fifo", Attributes=again)


async def test_high_throughput_needs_both_attributes(sqs: Driven) -> None:
    """The scope alone is fine.

    Source: recorded, test_sqs_fifo_message_group_scope_no_throughput_setting; api, CreateQueue.
    """
    code, message = await sqs.refused(
        "CreateQueue",
        QueueName="orders.fifo",
        Attributes={"FifoQueue": "true", "FifoThroughputLimit": "perMessageGroupId"},
    )
    assert code == "InvalidAttributeValue"
    assert "only when the value for DeduplicationScope is messageGroup" in message
    await sqs.create("bills.fifo", DeduplicationScope="messageGroup")
    high = {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
    await sqs.create("orders.fifo")
    await sqs.call("SetQueueAttributes", "orders.fifo", Attributes=high)
    assert await sqs.attributes("orders.fifo", *high) == high
    code, _ = await sqs.refused("SetQueueAttributes", "orders.fifo", Attributes={"DeduplicationScope": "queue"})
    assert code == "InvalidAttributeValue"
    for name, wrong in (("DeduplicationScope", "group"), ("FifoThroughputLimit", "perqueue"), ("FifoQueue", "yes")):
        expected = "InvalidAttributeValue", f"Invalid value for the parameter {name}."
        assert await sqs.refused("SetQueueAttributes", "orders.fifo", Attributes={name: wrong}) == expected


# Encryption: kept and told, never done


ENCRYPTION = ("KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "SqsManagedSseEnabled")


async def test_a_kms_key_ends_the_encryption_by_sqs(sqs: Driven) -> None:
    """And taken back it does not begin again.

    Source: recorded, test_set_queue_attributes_default_values.
    """
    await sqs.create("orders")
    given = {"KmsMasterKeyId": "testKeyId", "KmsDataKeyReusePeriodSeconds": "6000"}
    await sqs.call("SetQueueAttributes", "orders", Attributes=given)
    assert await sqs.attributes("orders", *ENCRYPTION) == {**given, "SqsManagedSseEnabled": "false"}
    back = {"KmsMasterKeyId": "", "KmsDataKeyReusePeriodSeconds": "300"}
    await sqs.call("SetQueueAttributes", "orders", Attributes=back)
    assert await sqs.attributes("orders", "All") == {**STANDARD, "SqsManagedSseEnabled": "false"}


async def test_a_kms_key_may_come_with_false(sqs: Driven) -> None:
    """Which is what it means anyway; SQS's own encryption may be asked for by itself.

    Source: recorded, test_sse_queue_attributes.
    """
    await sqs.create("orders")
    given = {"KmsMasterKeyId": "k", "KmsDataKeyReusePeriodSeconds": "6000", "SqsManagedSseEnabled": "false"}
    await sqs.call("SetQueueAttributes", "orders", Attributes=given)
    assert await sqs.attributes("orders", *ENCRYPTION) == given
    await sqs.create("bills")
    await sqs.call("SetQueueAttributes", "bills", Attributes={"KmsMasterKeyId": ""})
    assert await sqs.attributes("bills", *ENCRYPTION) == {"SqsManagedSseEnabled": "true"}
    await sqs.call("SetQueueAttributes", "bills", Attributes={"SqsManagedSseEnabled": "true"})
    assert await sqs.attributes("bills", *ENCRYPTION) == {"SqsManagedSseEnabled": "true"}


async def test_only_one_kind_of_encryption_at_a_time(sqs: Driven) -> None:
    """Who asks for both gets neither.

    Source: recorded, test_sse_kms_and_sqs_are_mutually_exclusive.
    """
    await sqs.create("orders")
    both = {"KmsMasterKeyId": "testKeyId", "SqsManagedSseEnabled": "true"}
    assert await sqs.refused("SetQueueAttributes", "orders", Attributes=both) == (
        "InvalidAttributeName",
        "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or SQS SSE.",
    )


async def test_the_key_s_period_has_a_default(sqs: Driven) -> None:
    """300 seconds, where there is a key.

    Source: api, CreateQueue.
    """
    await sqs.create("orders", KmsMasterKeyId="alias/aws/sqs")
    assert (await sqs.attributes("orders"))["KmsDataKeyReusePeriodSeconds"] == "300"
