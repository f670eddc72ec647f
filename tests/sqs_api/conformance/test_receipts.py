"""Receipt handles: DeleteMessage and ChangeMessageVisibility. `driven` says what the sources are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.sqs_api.conformance.driven import HOUR, Driven

EXPIRED = "The receipt handle has expired."
GONE = "Message does not exist or is not available for visibility timeout change."
OPERATIONS = ("DeleteMessage", "ChangeMessageVisibility")


def is_invalid(handle: str, reason: str) -> tuple[str, str]:
    return "InvalidParameterValue", f"Value {handle} for parameter ReceiptHandle is invalid. Reason: {reason}"


async def received(sqs: Driven, queue: str = "orders", **request: Any) -> Mapping[str, Any]:
    """A message that was just sent."""
    ids = {"MessageGroupId": "a", "MessageDeduplicationId": "1"} if queue.endswith(".fifo") else {}
    await sqs.send(queue, "test", **ids)
    return await sqs.receive_one(queue, **request)


async def refused_change(sqs: Driven, queue: str, message: Mapping[str, Any], seconds: int) -> tuple[str, str]:
    request = {"ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": seconds}
    return await sqs.refused("ChangeMessageVisibility", queue, **request)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("handle", ["garbage", "", "AAAA", "MSAyIDM=", "é", "x" * 3_000])
async def test_what_is_no_handle_is_refused(sqs: Driven, operation: str, handle: str) -> None:
    """And quoted.

    Source: recorded, test_delete_message_with_illegal_receipt_handle,
    test_invalid_receipt_handle_should_return_error_message.
    """
    await sqs.create("orders")
    problem = f'The input receipt handle "{handle}" is not a valid receipt handle.'
    found = await sqs.refused(operation, "orders", ReceiptHandle=handle, VisibilityTimeout=1)
    assert found == ("ReceiptHandleIsInvalid", problem)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_handle_is_of_one_queue(sqs: Driven, operation: str) -> None:
    """Another one does not take it, and nothing happens.

    Source: quoted, aws/aws-sdk-java-v2#3101.
    """
    await sqs.create("orders")
    await sqs.create("bills")
    handle = (await received(sqs))["ReceiptHandle"]
    problem = f'The receipt handle "{handle}" is not valid for this queue.'
    found = await sqs.refused(operation, "bills", ReceiptHandle=handle, VisibilityTimeout=0)
    assert found == ("ReceiptHandleIsInvalid", problem)
    assert await sqs.counts("orders") == (0, 1, 0)


# DeleteMessage


async def test_a_message_is_deleted_once_and_as_often_as_you_like(sqs: Driven) -> None:
    """To delete what is gone is no error.

    Source: recorded, test_delete_message_with_deleted_receipt_handle, test_publish_get_delete_message.
    """
    await sqs.create("orders")
    message = await received(sqs)
    for _ in range(3):
        await sqs.delete("orders", message)
    assert await sqs.counts("orders") == (0, 0, 0)


async def test_what_timed_out_can_be_deleted(sqs: Driven) -> None:
    """From a standard queue, as long as nobody has received it again.

    Source: recorded, test_delete_after_visibility_timeout, test_remove_message_with_old_receipt_handle.
    """
    await sqs.create("orders", VisibilityTimeout="1")
    message = await received(sqs)
    sqs.let_pass(1)
    assert await sqs.counts("orders") == (1, 0, 0)
    await sqs.delete("orders", message)
    assert await sqs.receive("orders") == []


async def test_what_somebody_else_has_is_not_deleted(sqs: Driven) -> None:
    """The answer is the same; whoever has the last handle can.

    Source: api, DeleteMessage: "the request succeeds, but the message might not be deleted".
    """
    await sqs.create("orders", VisibilityTimeout="1")
    first = await received(sqs)
    sqs.let_pass(1)
    second = await sqs.receive_one("orders")
    await sqs.delete("orders", first)
    assert await sqs.counts("orders") == (0, 1, 0)
    await sqs.delete("orders", second)
    assert await sqs.counts("orders") == (0, 0, 0)


async def test_on_a_fifo_queue_a_handle_expires(sqs: Driven) -> None:
    """With the timeout, also where nobody has received the message again; it stays.

    Source: recorded, test_fifo_delete_after_visibility_timeout, test_fifo_delete_message_with_expired_receipt_handle.
    """
    await sqs.create("orders.fifo", VisibilityTimeout="1")
    message = await received(sqs, "orders.fifo")
    handle = message["ReceiptHandle"]
    sqs.let_pass(1)
    expired = is_invalid(handle, EXPIRED)
    assert await sqs.refused("DeleteMessage", "orders.fifo", ReceiptHandle=handle) == expired
    second = await sqs.receive_one("orders.fifo")
    assert await sqs.refused("DeleteMessage", "orders.fifo", ReceiptHandle=handle) == expired
    await sqs.delete("orders.fifo", second)
    await sqs.delete("orders.fifo", second)


async def test_a_batch_tells_it_in_other_words(sqs: Driven) -> None:
    """With a code of its own.

    Source: quoted, smaskalik/sqsmover#54.
    """
    await sqs.create("orders.fifo", VisibilityTimeout="1")
    message = await received(sqs, "orders.fifo")
    sqs.let_pass(1)
    entries = [{"Id": "1", "ReceiptHandle": message["ReceiptHandle"]}]
    answer = await sqs.call("DeleteMessageBatch", "orders.fifo", Entries=entries)
    failure = {"Id": "1", "SenderFault": True, "Code": "ReceiptHandleIsInvalid"}
    assert answer == {"Failed": [{**failure, "Message": "The receipt handle has expired"}]}


async def test_an_extended_handle_expires_later(sqs: Driven) -> None:
    """By when the message becomes visible.

    Source: recorded, test_fifo_delete_after_visibility_timeout_extended.
    """
    await sqs.create("orders.fifo", VisibilityTimeout="1")
    message = await received(sqs, "orders.fifo")
    await sqs.change("orders.fifo", message, 5)
    sqs.let_pass(1.5)
    await sqs.delete("orders.fifo", message)
    assert await sqs.receive("orders.fifo") == []


# ChangeMessageVisibility


async def test_a_timeout_is_extended_from_now(sqs: Driven) -> None:
    """As often as it is asked for.

    Source: recorded, test_extend_message_visibility_timeout_set_in_queue; api, ChangeMessageVisibility.
    """
    await sqs.create("orders", VisibilityTimeout="2")
    message = await received(sqs)
    for _ in range(4):
        sqs.let_pass(1)
        await sqs.change("orders", message, 2)
    sqs.let_pass(1.9)
    assert await sqs.receive("orders") == []
    sqs.let_pass(0.1)
    assert await sqs.bodies("orders") == ["test"]


async def test_a_timeout_of_0_ends_it_at_once(sqs: Driven) -> None:
    """For this receive alone: the next one has the queue's again.

    Source: recorded, test_change_message_visibility_not_permanent,
    test_delete_message_deletes_with_change_visibility_timeout.
    """
    await sqs.create("orders")
    message = await received(sqs)
    await sqs.change("orders", message, 0)
    assert await sqs.counts("orders") == (1, 0, 0)
    again = await sqs.receive_one("orders")
    assert again["MessageId"] == message["MessageId"]
    assert await sqs.receive("orders") == []


async def test_what_timed_out_is_not_changed(sqs: Driven) -> None:
    """Which is no error on a standard queue; the message stays visible.

    Source: recorded, test_change_message_visibility_after_visibility_timeout_expiration; quoted,
    localstack/localstack#9632.
    """
    await sqs.create("orders", VisibilityTimeout="1")
    message = await received(sqs)
    sqs.let_pass(2)
    await sqs.change("orders", message, 2)
    assert await sqs.counts("orders") == (1, 0, 0)
    await sqs.change("orders", message, 0)
    assert await sqs.bodies("orders") == ["test"]


async def test_what_is_gone_cannot_be_changed(sqs: Driven) -> None:
    """Deleted, or received by somebody else.

    Source: recorded, test_change_visibility_on_deleted_message_raises_invalid_parameter_value.
    """
    await sqs.create("orders", VisibilityTimeout="1")
    first = await received(sqs)
    await sqs.change("orders", first, 1)
    sqs.let_pass(1)
    second = await sqs.receive_one("orders")
    gone = is_invalid(first["ReceiptHandle"], GONE)
    assert await refused_change(sqs, "orders", first, 0) == gone
    assert await sqs.counts("orders") == (0, 1, 0)
    await sqs.delete("orders", second)
    assert await refused_change(sqs, "orders", second, 42) == is_invalid(second["ReceiptHandle"], GONE)


async def test_an_expired_handle_changes_nothing_in_a_fifo_queue(sqs: Driven) -> None:
    """It is refused as a delete would be.

    Source: decided here, after DeleteMessage.
    """
    await sqs.create("orders.fifo", VisibilityTimeout="1")
    message = await received(sqs, "orders.fifo")
    sqs.let_pass(1)
    expired = is_invalid(message["ReceiptHandle"], EXPIRED)
    assert await refused_change(sqs, "orders.fifo", message, 5) == expired


@pytest.mark.parametrize("seconds", [-1, 43_201])
async def test_a_timeout_is_at_most_12_hours(sqs: Driven, seconds: int) -> None:
    """And at least none.

    Source: api, ChangeMessageVisibility.
    """
    await sqs.create("orders")
    message = await received(sqs)
    code, message_ = await refused_change(sqs, "orders", message, seconds)
    assert code == "InvalidParameterValue"
    assert message_.startswith(f"Value {seconds} for parameter VisibilityTimeout is invalid.")


async def test_a_receive_lasts_at_most_12_hours_in_all(sqs: Driven) -> None:
    """Counted from when it was received, by whoever extends it; the next receive has twelve of its own.

    Source: quoted, localstack/localstack#3956, for the words; guide, Visibility timeout.
    """
    await sqs.create("orders")
    message = await received(sqs, VisibilityTimeout=43_200)
    sqs.let_pass(6 * HOUR)
    reason = "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]"
    problem = f"Value 21601 for parameter VisibilityTimeout is invalid. Reason: {reason}"
    assert await refused_change(sqs, "orders", message, 21_601) == ("InvalidParameterValue", problem)
    await sqs.change("orders", message, 21_600)
    sqs.let_pass(6 * HOUR)
    again = await sqs.receive_one("orders")
    await sqs.change("orders", again, 43_200)
    sqs.let_pass(1)
    code, _ = await refused_change(sqs, "orders", again, 43_200)
    assert code == "InvalidParameterValue"


async def test_a_missing_timeout_is_said(sqs: Driven) -> None:
    """By a batch's entry, where the model does not require it.

    Source: api, ChangeMessageVisibility.
    """
    await sqs.create("orders")
    message = await received(sqs)
    problem = "The request must contain the parameter VisibilityTimeout."
    request = {"ReceiptHandle": message["ReceiptHandle"]}
    assert await sqs.refused("ChangeMessageVisibility", "orders", **request) == ("MissingParameter", problem)
