"""Move tasks: Amazon SQS's own redrive of a whole dead-letter queue, in the background."""

from __future__ import annotations

from typing import Any, Literal

from redrive.broker import FASTEST_MOVE, MOST_MOVES_LISTED, MoveTask
from redrive.brokers.sqs.client import Client
from redrive.brokers.sqs.failures import Refused
from redrive.brokers.sqs.queues import Queues
from redrive.errors import LimitExceeded, QueueConflict

Status = Literal["RUNNING", "COMPLETED", "CANCELLED", "FAILED"]
_STATUSES: dict[str, Status] = {
    "RUNNING": "RUNNING",
    "CANCELLING": "RUNNING",
    "COMPLETED": "COMPLETED",
    "CANCELLED": "CANCELLED",
}


class Mover:
    """Starts, lists and cancels move tasks."""

    def __init__(self, client: Client, queues: Queues) -> None:
        self._client, self._queues = client, queues

    async def start(self, source: str, destination: str | None, rate: int | None) -> str:
        """Begin to move what is in a dead-letter queue; the task's handle."""
        if rate is not None and not 1 <= rate <= FASTEST_MOVE:
            raise LimitExceeded("rate", rate, f"from 1 to {FASTEST_MOVE} messages a second, or None")
        request: dict[str, Any] = {"SourceArn": await self._arn(source)}
        if destination is not None:
            request["DestinationArn"] = await self._arn(destination)
        if rate is not None:
            request["MaxNumberOfMessagesPerSecond"] = rate
        try:
            answer = await self._client.write("StartMessageMoveTask", source, repeatable=False, **request)
        except Refused as error:
            remedy = "move from a dead-letter queue to one of its kind, one task at a time"
            raise QueueConflict(source, f"cannot be moved: {error.text or error.code}", remedy) from error
        handle: str = answer["TaskHandle"]
        return handle

    async def list(self, source: str) -> list[MoveTask]:
        """The latest tasks of a source, the newest first; only a running one has an id."""
        answer = await self._client.read(
            "ListMessageMoveTasks", source, SourceArn=await self._arn(source), MaxResults=MOST_MOVES_LISTED
        )
        return [self._task(source, one) for one in answer.get("Results") or ()]

    async def cancel(self, task: str) -> int:
        """Stop a running task; how many messages it had moved."""
        try:
            answer = await self._client.write("CancelMessageMoveTask", "*", TaskHandle=task)
        except Refused as error:
            raise LimitExceeded("move task", task, "the id of a task that is running") from error
        return int(answer.get("ApproximateNumberOfMessagesMoved") or 0)

    async def _arn(self, name: str) -> str:
        located = await self._queues.located(name)
        answer = await self._client.read("GetQueueAttributes", name, QueueUrl=located.url, AttributeNames=["QueueArn"])
        arn: str = answer["Attributes"]["QueueArn"]
        return arn

    def _task(self, source: str, raw: dict[str, Any]) -> MoveTask:
        destination = raw.get("DestinationArn")
        started = raw.get("StartedTimestamp") or 0
        return MoveTask(
            id=raw.get("TaskHandle") or "",
            source=source,
            destination=None if destination is None else self._queues.name_of_arn(destination),
            rate=raw.get("MaxNumberOfMessagesPerSecond"),
            status=_STATUSES.get(raw.get("Status", ""), "FAILED"),
            to_move=int(raw.get("ApproximateNumberOfMessagesToMove") or 0),
            moved=int(raw.get("ApproximateNumberOfMessagesMoved") or 0),
            started_at_ms=int(started),
            failure=raw.get("FailureReason"),
        )
