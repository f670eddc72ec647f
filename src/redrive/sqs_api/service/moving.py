"""Message move tasks: start, list, cancel. The engine moves; see `redrive.sqlite.move_tasks`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redrive.broker import FASTEST_MOVE, MOST_MOVES_LISTED, MoveTask
from redrive.errors import LimitExceeded, QueueConflict
from redrive.sqlite.queues import Queue
from redrive.sqlite.tables import Tables
from redrive.sqs_api.calls import Caller, Refused
from redrive.sqs_api.service.addresses import arn_of, name_in_arn, queue_called, wire_name
from redrive.sqs_api.service.handles import task_handle, task_of
from redrive.sqs_api.service.queues import Operation, Request
from redrive.sqs_api.service.wording import checked_range

_RUNNING = "RUNNING"
_MISSING, _NO_SOURCE = "AWS.SimpleQueueService.NonExistentQueue", "CouldNotDetermineMessageSource"
"""Why a task failed. Source: Amazon SQS developer guide, "Troubleshoot dead-letter queue redrive"; recorded answers."""
_NO_QUEUE = "does not exist"
"""In the engine's words; its other reasons are all that a message has no queue to go back to."""


def start(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """StartMessageMoveTask: the task's handle."""
    source = _queue(tables, request["SourceArn"], "SourceArn", caller)
    named = request.get("DestinationArn")
    target = None if named is None else _queue(tables, named, "DestinationArn", caller)
    rate = request.get("MaxNumberOfMessagesPerSecond")
    if rate is not None:
        reason = f"You must enter a value between 1 and {FASTEST_MOVE}."
        checked_range("MaxNumberOfMessagesPerSecond", rate, 1, FASTEST_MOVE, reason)
    if target is not None and target.id == source.id:
        raise _refused("Source queue arn and destination queue arn cannot be the same.")
    if not tables.engine.queue_table.sources(source.name):
        raise _refused("Source queue must be configured as a Dead Letter Queue.")
    if any(task.status == _RUNNING for task in tables.engine.moves.list(source.name)):
        problem = (
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time."
        )
        raise _refused(problem)
    try:
        task = tables.engine.moves.start(source.name, None if target is None else target.name, rate, tables.now_ms)
    except QueueConflict as conflict:
        raise _refused(str(conflict)) from None
    tables.move_at_ms = 0
    return {"TaskHandle": task_handle(task, request["SourceArn"])}


def listed(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """ListMessageMoveTasks: the latest first; one, unless more are asked for."""
    source = _queue(tables, request["SourceArn"], "SourceArn", caller)
    most = request.get("MaxResults")
    if most is not None:
        checked_range(
            "MaxResults", most, 1, MOST_MOVES_LISTED, "Value for parameter MaxResults must be between 1 and 10."
        )
    tasks = tables.engine.moves.list(source.name, most or 1)
    fifo = bool(source.fifo)
    return {"Results": [_told(task, request["SourceArn"], caller, fifo=fifo) for task in tasks]} if tasks else {}


def cancel(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """CancelMessageMoveTask: how many messages it had moved, which stay moved."""
    task, source_arn = task_of(request["TaskHandle"])
    source = _queue(tables, source_arn, "SourceArn", caller)
    found = next((one for one in tables.engine.moves.list(source.name) if one.id == task), None)
    if found is None:
        raise Refused("ResourceNotFoundException", "Task does not exist.")
    if found.status != _RUNNING:
        raise _refused("Only active tasks can be cancelled.")
    try:
        return {"ApproximateNumberOfMessagesMoved": tables.engine.moves.cancel(task)}
    except LimitExceeded:
        raise _refused("Only active tasks can be cancelled.") from None


OPERATIONS: Mapping[str, Operation] = {
    "CancelMessageMoveTask": cancel,
    "ListMessageMoveTasks": listed,
    "StartMessageMoveTask": start,
}


def _queue(tables: Tables, arn: str, parameter: str, caller: Caller) -> Queue:
    name = name_in_arn(arn, caller)
    try:
        if name is not None:
            return queue_called(tables, name)
    except Refused:
        pass
    problem = f"The resource that you specified for the {parameter} parameter doesn't exist."
    raise Refused("ResourceNotFoundException", problem)


def _told(task: MoveTask, source_arn: str, caller: Caller, *, fifo: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Status": task.status,
        "SourceArn": source_arn,
        "ApproximateNumberOfMessagesMoved": task.moved,
        "ApproximateNumberOfMessagesToMove": task.to_move,
        "StartedTimestamp": task.started_at_ms,
    }
    if task.status == _RUNNING:
        found["TaskHandle"] = task_handle(task.id, source_arn)
    if task.destination is not None:
        found["DestinationArn"] = arn_of(wire_name(task.destination, fifo=fifo), caller)
    if task.rate is not None:
        found["MaxNumberOfMessagesPerSecond"] = task.rate
    if task.failure is not None:
        found["FailureReason"] = _MISSING if _NO_QUEUE in task.failure else _NO_SOURCE
    return found


def _refused(problem: str) -> Refused:
    return Refused("InvalidParameterValue", problem)
