"""A service that keeps nothing: it answers each call with what the model says an answer has, made of the request."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redrive.sqs_api.calls import Caller, QueueCounts, Refused

Calls = list[tuple[str, Mapping[str, Any], Caller]]


class Echo:
    """Remembers its calls; `answers` are what it says to each operation, or what it raises."""

    def __init__(self) -> None:
        self.forget()

    def forget(self, *, patient: bool = True) -> None:
        self.patient = patient
        """Whether a ReceiveMessage with WaitTimeSeconds waits, for ever."""
        self.calls: Calls = []
        self.answers: dict[str, Any] = {}
        self.counts: Sequence[QueueCounts] = ()
        self.waits = threading.Semaphore(0)
        """Released for each ReceiveMessage with WaitTimeSeconds that begins to wait."""
        self.cancelled = threading.Semaphore(0)
        """Released for each of them that was cancelled."""

    async def call(self, operation: str, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        self.calls.append((operation, request, caller))
        if operation in self.answers:
            return self._said(operation)
        made = _MADE.get(operation)
        if made is not None:
            return made(request)
        return await self._received(request) if operation == "ReceiveMessage" else {}

    async def metrics(self) -> Sequence[QueueCounts]:
        return self.counts

    def _said(self, operation: str) -> Mapping[str, Any]:
        answer = self.answers[operation]
        if isinstance(answer, Exception):
            raise answer
        found: Mapping[str, Any] = answer
        return found

    async def _received(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        if request.get("WaitTimeSeconds") and self.patient:
            self.waits.release()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.release()
                raise
        message = {"MessageId": "m-1", "ReceiptHandle": "r-1", "Body": "hello", "MD5OfBody": md5("hello")}
        return {"Messages": [message] * request.get("MaxNumberOfMessages", 1)}


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _sent(request: Mapping[str, Any]) -> Mapping[str, Any]:
    if request["MessageBody"] == "":
        raise Refused("MissingParameter", "The request must contain the parameter MessageBody.")
    return {"MessageId": "m-1", "MD5OfMessageBody": md5(request["MessageBody"])}


def _sent_batch(request: Mapping[str, Any]) -> Mapping[str, Any]:
    if not request["Entries"]:
        message = "There should be at least one SendMessageBatchRequestEntry in the request."
        raise Refused("EmptyBatchRequest", message)
    successful = [
        {"Id": one["Id"], "MessageId": "m-1", "MD5OfMessageBody": md5(one["MessageBody"])} for one in request["Entries"]
    ]
    return {"Successful": successful, "Failed": []}


def _batch(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"Successful": [{"Id": one["Id"]} for one in request["Entries"]], "Failed": []}


_MADE: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    "SendMessage": _sent,
    "SendMessageBatch": _sent_batch,
    "DeleteMessageBatch": _batch,
    "ChangeMessageVisibilityBatch": _batch,
    "CreateQueue": lambda request: {"QueueUrl": f"http://127.0.0.1/000000000000/{request['QueueName']}"},
    "GetQueueUrl": lambda request: {"QueueUrl": f"http://127.0.0.1/000000000000/{request['QueueName']}"},
    "ListQueues": lambda _: {"QueueUrls": ["http://127.0.0.1/000000000000/orders"]},
    "ListQueueTags": lambda _: {"Tags": {"team": "coffee", "a&b": "<c>"}},
    "GetQueueAttributes": lambda request: {"Attributes": dict.fromkeys(request.get("AttributeNames", ()), "1")},
}
