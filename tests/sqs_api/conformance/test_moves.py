"""Message move tasks. `driven` says what the sources are."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.sqs_api.conformance.driven import Driven, arn

NOWHERE = "The resource that you specified for the {} parameter doesn't exist."
NO_TASK = "InvalidParameterValue", "Value for parameter TaskHandle is invalid."


async def start(sqs: Driven, source: str, destination: str | None = None, rate: int | None = None) -> str:
    """Its handle."""
    request: dict[str, Any] = {"SourceArn": arn(source)}
    if destination is not None:
        request["DestinationArn"] = arn(destination)
    if rate is not None:
        request["MaxNumberOfMessagesPerSecond"] = rate
    handle: str = (await sqs.call("StartMessageMoveTask", **request))["TaskHandle"]
    return handle


async def tasks(sqs: Driven, source: str, **request: Any) -> list[Mapping[str, Any]]:
    found = await sqs.call("ListMessageMoveTasks", SourceArn=arn(source), **request)
    return list(found.get("Results", ()))


async def dead_letters(sqs: Driven, count: int) -> tuple[str, str]:
    """A pair whose dead-letter queue has some."""
    queue, dead = await sqs.pair("orders", most=1)
    await sqs.give_up(queue, *(f"message-{number}" for number in range(count)))
    assert await sqs.counts(dead) == (count, 0, 0)
    return queue, dead


def handle_of(task: str, source: str) -> str:
    return base64.b64encode(json.dumps({"taskId": task, "sourceArn": source}).encode()).decode()


async def test_a_move_to_a_named_queue(sqs: Driven) -> None:
    """It is listed with what it moved, and without a handle once it is over.

    Source: moves, test_basic_move_task_workflow.
    """
    _, dead = await dead_letters(sqs, 2)
    await sqs.create("target")
    handle = await start(sqs, dead, "target")
    assert json.loads(base64.b64decode(handle))["sourceArn"] == arn(dead)
    assert sorted(await sqs.bodies("target")) == ["message-0", "message-1"]
    assert await tasks(sqs, dead) == [
        {
            "ApproximateNumberOfMessagesMoved": 2,
            "ApproximateNumberOfMessagesToMove": 2,
            "DestinationArn": arn("target"),
            "SourceArn": arn(dead),
            "StartedTimestamp": 1_700_000_000_000,
            "Status": "COMPLETED",
        }
    ]
    assert await sqs.receive(dead) == []


async def test_a_move_back_to_each_message_s_own_queue(sqs: Driven) -> None:
    """The task names no destination, and the messages start anew.

    Source: moves, test_move_task_workflow_with_default_destination,
    test_move_task_workflow_with_multiple_sources_as_default_destination.
    """
    _, dead = await dead_letters(sqs, 2)
    policy = (await sqs.attributes("orders"))["RedrivePolicy"]
    await sqs.create("bills", RedrivePolicy=policy)
    await sqs.give_up("bills", "bill-0", "bill-1")
    await start(sqs, dead)
    for queue, bodies in (("orders", ["message-0", "message-1"]), ("bills", ["bill-0", "bill-1"])):
        messages = await sqs.receive(queue, AttributeNames=["All"])
        assert sorted(one["Body"] for one in messages) == bodies
        for one in messages:
            assert one["Attributes"]["ApproximateReceiveCount"] == "1"
            assert "DeadLetterQueueSourceArn" not in one["Attributes"]
    (task,) = await tasks(sqs, dead)
    assert "DestinationArn" not in task
    assert (task["Status"], task["ApproximateNumberOfMessagesMoved"]) == ("COMPLETED", 4)


async def test_a_move_keeps_to_its_rate(sqs: Driven) -> None:
    """The first message at once, each of the others after its part of a second.

    Source: moves, test_move_task_with_throughput_limit; api, StartMessageMoveTask.
    """
    _, dead = await dead_letters(sqs, 4)
    await start(sqs, dead, "orders", rate=1)
    for moved in range(1, 5):
        (task,) = await tasks(sqs, dead)
        assert task["ApproximateNumberOfMessagesMoved"] == moved
        assert task["Status"] == ("RUNNING" if moved < 4 else "COMPLETED")
        assert task["MaxNumberOfMessagesPerSecond"] == 1
        sqs.let_pass(1)


async def test_a_running_move_can_be_cancelled(sqs: Driven) -> None:
    """What it moved stays moved, and it has its handle until then.

    Source: moves, test_move_task_cancel.
    """
    _, dead = await dead_letters(sqs, 10)
    await sqs.create("target")
    handle = await start(sqs, dead, "target", rate=1)
    await tasks(sqs, dead)
    sqs.let_pass(1)
    (running,) = await tasks(sqs, dead)
    assert running == {
        "ApproximateNumberOfMessagesMoved": 2,
        "ApproximateNumberOfMessagesToMove": 10,
        "DestinationArn": arn("target"),
        "MaxNumberOfMessagesPerSecond": 1,
        "SourceArn": arn(dead),
        "StartedTimestamp": 1_700_000_000_000,
        "Status": "RUNNING",
        "TaskHandle": handle,
    }
    assert await sqs.call("CancelMessageMoveTask", TaskHandle=handle) == {"ApproximateNumberOfMessagesMoved": 2}
    sqs.let_pass(100)
    (cancelled,) = await tasks(sqs, dead)
    assert "TaskHandle" not in cancelled
    assert (cancelled["Status"], cancelled["ApproximateNumberOfMessagesMoved"]) == ("CANCELLED", 2)
    assert await sqs.counts(dead) == (8, 0, 0)
    problem = "Only active tasks can be cancelled."
    assert await sqs.refused("CancelMessageMoveTask", TaskHandle=handle) == ("InvalidParameterValue", problem)


async def test_a_move_fails_without_its_destination(sqs: Driven) -> None:
    """What was not moved stays.

    Source: moves, test_move_task_delete_destination_queue_while_running.
    """
    _, dead = await dead_letters(sqs, 10)
    await sqs.create("target")
    await start(sqs, dead, "target", rate=1)
    await tasks(sqs, dead)
    await sqs.call("DeleteQueue", "target")
    sqs.let_pass(1)
    (task,) = await tasks(sqs, dead)
    assert (task["Status"], task["FailureReason"]) == ("FAILED", "AWS.SimpleQueueService.NonExistentQueue")
    assert await sqs.counts(dead) == (9, 0, 0)


async def test_a_message_that_was_sent_to_the_dead_letter_queue_has_no_way_back(sqs: Driven) -> None:
    """A named destination helps.

    Source: guide, Troubleshoot dead-letter queue redrive.
    """
    queue, dead = await sqs.pair("orders", most=1)
    await sqs.send(dead, "by hand")
    await start(sqs, dead)
    (task,) = await tasks(sqs, dead)
    assert (task["Status"], task["FailureReason"]) == ("FAILED", "CouldNotDetermineMessageSource")
    assert await sqs.counts(dead) == (1, 0, 0)
    await start(sqs, dead, queue)
    assert await sqs.bodies(queue) == ["by hand"]


async def test_one_move_of_a_source_at_a_time(sqs: Driven) -> None:
    """Another one may begin when it is over.

    Source: moves, test_start_multiple_move_tasks.
    """
    queue, dead = await dead_letters(sqs, 10)
    handle = await start(sqs, dead, queue, rate=1)
    problem = "There is already a task running. Only one active task is allowed for a source queue arn at a given time."
    refused = await sqs.refused("StartMessageMoveTask", SourceArn=arn(dead), DestinationArn=arn(queue))
    assert refused == ("InvalidParameterValue", problem)
    await sqs.call("CancelMessageMoveTask", TaskHandle=handle)
    await start(sqs, dead, queue)


async def test_the_source_is_a_dead_letter_queue(sqs: Driven) -> None:
    """Of whatever queue.

    Source: moves, test_source_needs_redrive_policy.
    """
    queue, _ = await sqs.pair("orders", most=1)
    await sqs.create("target")
    problem = "Source queue must be configured as a Dead Letter Queue."
    refused = await sqs.refused("StartMessageMoveTask", SourceArn=arn(queue), DestinationArn=arn("target"))
    assert refused == ("InvalidParameterValue", problem)


async def test_both_queues_have_to_be_there(sqs: Driven) -> None:
    """And the message says which is not.

    Source: moves, test_destination_needs_to_exist; api, StartMessageMoveTask, ListMessageMoveTasks.
    """
    _, dead = await sqs.pair("orders", most=1)
    for source, destination, which in (
        (arn(dead), arn("nowhere"), "DestinationArn"),
        (arn("nowhere"), arn("orders"), "SourceArn"),
        ("nonsense", arn("orders"), "SourceArn"),
    ):
        refused = await sqs.refused("StartMessageMoveTask", SourceArn=source, DestinationArn=destination)
        assert refused == ("ResourceNotFoundException", NOWHERE.format(which))
    refused = await sqs.refused("ListMessageMoveTasks", SourceArn=arn("nowhere"))
    assert refused == ("ResourceNotFoundException", NOWHERE.format("SourceArn"))


async def test_a_queue_is_not_moved_to_itself_or_to_another_kind(sqs: Driven) -> None:
    """It would never end, or have no order.

    Source: api, StartMessageMoveTask.
    """
    _, dead = await sqs.pair("orders", most=1)
    await sqs.create("bills.fifo")
    for destination in (dead, "bills.fifo"):
        code, _ = await sqs.refused("StartMessageMoveTask", SourceArn=arn(dead), DestinationArn=arn(destination))
        assert code == "InvalidParameterValue"


@pytest.mark.parametrize("rate", [0, 501, -1])
async def test_a_rate_is_1_to_500(sqs: Driven, rate: int) -> None:
    """Messages a second.

    Source: api, StartMessageMoveTask.
    """
    _, dead = await sqs.pair("orders", most=1)
    code, _ = await sqs.refused("StartMessageMoveTask", SourceArn=arn(dead), MaxNumberOfMessagesPerSecond=rate)
    assert code == "InvalidParameterValue"


@pytest.mark.parametrize("handle", ["foobared", "", "e30=", "W10=", "bnVsbA=="])
async def test_what_is_no_handle_of_a_task_is_refused(sqs: Driven, handle: str) -> None:
    """Without a reason.

    Source: moves, test_cancel_with_invalid_task_handle.
    """
    assert await sqs.refused("CancelMessageMoveTask", TaskHandle=handle) == NO_TASK


async def test_a_handle_names_a_task_and_its_source(sqs: Driven) -> None:
    """Of which each may be missing.

    Source: moves, test_cancel_with_invalid_source_arn_in_task_handle, test_cancel_with_invalid_task_id_in_task_handle.
    """
    await sqs.create("orders")
    task = "10f57157-fc38-4da9-a113-4de7e12d05dd"
    nowhere = "ResourceNotFoundException", NOWHERE.format("SourceArn")
    assert await sqs.refused("CancelMessageMoveTask", TaskHandle=handle_of(task, arn("nowhere"))) == nowhere
    missing = "ResourceNotFoundException", "Task does not exist."
    assert await sqs.refused("CancelMessageMoveTask", TaskHandle=handle_of(task, arn("orders"))) == missing


async def test_the_latest_move_is_listed(sqs: Driven) -> None:
    """And up to ten of them, the newest first, where they are asked for.

    Source: api, ListMessageMoveTasks.
    """
    queue, dead = await sqs.pair("orders", most=1)
    assert await sqs.call("ListMessageMoveTasks", SourceArn=arn(dead)) == {}
    for _ in range(12):
        await start(sqs, dead, queue)
        await tasks(sqs, dead)
        sqs.let_pass(1)
    times = [one["StartedTimestamp"] for one in await tasks(sqs, dead, MaxResults=10)]
    assert times == [1_700_000_000_000 + 1_000 * number for number in range(11, 1, -1)]
    assert [one["StartedTimestamp"] for one in await tasks(sqs, dead)] == times[:1]
    for most in (1, 3):
        assert len(await tasks(sqs, dead, MaxResults=most)) == most
    for wrong in (0, 11):
        code, _ = await sqs.refused("ListMessageMoveTasks", SourceArn=arn(dead), MaxResults=wrong)
        assert code == "InvalidParameterValue"
