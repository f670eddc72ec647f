"""Receiving: one long poll while a queue is idle, many requests side by side while it is full.

A caller who is cancelled holds nothing: what arrives after that is handed back.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from redrive.broker import LONGEST_LEASE
from redrive.brokers.sqs.batches import MOST, MOST_REQUESTS
from redrive.brokers.sqs.client import LONGEST_POLL, Client
from redrive.brokers.sqs.leases import Leases
from redrive.brokers.sqs.messages import SYSTEM_ATTRIBUTES, read
from redrive.brokers.sqs.queues import Located, Queues
from redrive.errors import LimitExceeded, QueueNotFound
from redrive.message import Delivery

_NEARLY = 0.05
"""Seconds: so much over a whole second is no reason for another poll."""
_IDLE = 1.0
"""Seconds between two polls that came back empty at once, although they were to wait."""


class Inlet:
    """Receives from all queues of one client."""

    def __init__(
        self, client: Client, queues: Queues, leases: Leases, hand_back: Callable[[list[Delivery]], None]
    ) -> None:
        self._client, self._queues, self._leases = client, queues, leases
        self._hand_back = hand_back
        self._polls: dict[str, int] = {}

    async def receive(self, queue: str, *, limit: int, lease: float, wait: float) -> list[Delivery]:
        """Take up to `limit`; waits for the first one, at most 20 s in one request.

        Raises:
            QueueNotFound: If the queue does not exist.
            BrokerUnavailable: If it cannot be asked.
            LimitExceeded: If the limit or the lease cannot be.
        """
        _check(limit, lease)
        located = await self._queues.located(queue)
        loop = asyncio.get_running_loop()
        began, left = loop.time(), wait
        deadline = began + wait
        while True:
            polls = min(self._polls.get(queue, 1), -(-limit // MOST))
            # Several ask without waiting: the queue was full a moment ago.
            asked = min(LONGEST_POLL, int(left + _NEARLY)) if polls == 1 else 0
            taken = await self._polled(queue, located, polls=polls, limit=limit, lease=lease, wait=asked)
            self._adapt(queue, polls, len(taken), limit)
            took, began = loop.time() - began, loop.time()
            left = deadline - began
            if taken or left <= 0:
                return taken
            if polls == 1 and took < max(asked, _NEARLY) / 2:  # it did not wait, as it should have or could not
                await asyncio.sleep(min(left, _IDLE))

    def _adapt(self, queue: str, polls: int, taken: int, limit: int) -> None:
        """Twice as many when all came back full, half as many when they did not."""
        asked = min(limit, polls * MOST)
        if not taken:
            self._polls[queue] = 1
        elif taken >= asked * 0.9:
            self._polls[queue] = min(MOST_REQUESTS, polls * 2)
        elif taken < asked * 0.5:
            self._polls[queue] = max(1, polls // 2)

    async def _polled(
        self, queue: str, located: Located, *, polls: int, limit: int, lease: float, wait: int
    ) -> list[Delivery]:
        loop = asyncio.get_running_loop()
        counts = [min(MOST, limit - MOST * number) for number in range(polls)]
        tasks = [loop.create_task(self._poll(queue, located, count, lease, wait)) for count in counts]
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            for task in tasks:
                task.add_done_callback(self._put_back)
            raise
        taken = [one for task in tasks if task.exception() is None for one in task.result()]
        errors = [error for task in tasks if (error := task.exception()) is not None]
        if errors and not taken:
            raise errors[0]
        return taken

    async def _poll(self, queue: str, located: Located, count: int, lease: float, wait: int) -> list[Delivery]:
        request: dict[str, Any] = {
            "QueueUrl": located.url,
            "MaxNumberOfMessages": count,
            "VisibilityTimeout": -int(-lease // 1),
            "WaitTimeSeconds": wait,
            "MessageAttributeNames": ["All"],
            "MessageSystemAttributeNames": SYSTEM_ATTRIBUTES,
        }
        if located.fifo:  # a receive that is repeated because its answer was lost gets the same messages
            request["ReceiveRequestAttemptId"] = secrets.token_hex(16)
        try:
            answer = await self._client.read("ReceiveMessage", queue, **request)
        except QueueNotFound:
            self._queues.forget(queue)
            raise
        deliveries = []
        for raw in answer.get("Messages") or ():
            self._leases.begin(queue, raw["MessageId"], raw["ReceiptHandle"], lease)
            deliveries.append(read(raw, queue))
        return deliveries

    def _put_back(self, task: asyncio.Task[list[Delivery]]) -> None:
        if not task.cancelled() and task.exception() is None and task.result():
            self._hand_back(task.result())


def _check(limit: int, lease: float) -> None:
    if limit < 1:
        raise LimitExceeded("limit", limit, "1 or more")
    if not 0 < lease <= LONGEST_LEASE:
        raise LimitExceeded("lease", lease, "over 0 and at most 43200 seconds")
