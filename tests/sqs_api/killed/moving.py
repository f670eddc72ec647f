"""A client that watches one message move task from its start to its end."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from tests.sqs_api.killed.serving import Client, Lost, arn, url

SOURCE, TARGET, OWNER = "moved-dead", "moved-back", "moved"
RUNNING = "RUNNING"
EVERY = 0.1
"""Seconds between two looks."""
BURST = 1.0
"""Seconds that the task may make up for, each time when nobody went on with it. Source: `redrive.sqlite.move_tasks`."""


class Watch:
    """A task that moves so many messages at such a rate."""

    def __init__(self, client: Client, *, messages: int, rate: int) -> None:
        self._client, self._messages, self._rate = client, messages, rate
        self._began = 0.0
        self.looks: list[tuple[float, int]] = []
        """Seconds since the start, and how many were moved."""
        self.complaints: list[str] = []
        self.status = ""

    def begin(self) -> None:
        """Fill the dead-letter queue, and start the task."""
        for name in (SOURCE, TARGET):
            self._client.call("CreateQueue", QueueName=name)
        policy = f'{{"deadLetterTargetArn":"{arn(SOURCE)}","maxReceiveCount":3}}'
        self._client.call("CreateQueue", QueueName=OWNER, Attributes={"RedrivePolicy": policy})
        for first in range(0, self._messages, 10):
            numbers = range(first, min(first + 10, self._messages))
            entries = [{"Id": str(number), "MessageBody": str(number)} for number in numbers]
            self._client.call("SendMessageBatch", QueueUrl=url(SOURCE), Entries=entries)
        self._began = time.monotonic()
        self._client.call(
            "StartMessageMoveTask",
            SourceArn=arn(SOURCE),
            DestinationArn=arn(TARGET),
            MaxNumberOfMessagesPerSecond=self._rate,
        )

    def work(self, stop: threading.Event) -> None:
        while not stop.wait(EVERY):
            with suppress(Lost):
                self.look()

    def look(self) -> bool:
        """Whether it is over; never more than the rate allows, and never less than before."""
        (task,) = self._client.call("ListMessageMoveTasks", SourceArn=arn(SOURCE))["Results"]
        self.status, moved = task["Status"], int(task["ApproximateNumberOfMessagesMoved"])
        since = time.monotonic() - self._began
        if moved > self._rate * (since + BURST) + 1:
            self.complaints.append(f"{moved} were moved within {since:.2f} s, at {self._rate} a second")
        if self.looks and moved < self.looks[-1][1]:
            self.complaints.append(f"{moved} were moved, and before it were {self.looks[-1][1]}")
        self.looks.append((since, moved))
        return self.status != RUNNING

    def finish(self, patience: float) -> None:
        """Wait for its end; then each message is there once."""
        ends, pause = time.monotonic() + patience, threading.Event()
        while not self.look() and time.monotonic() < ends:
            pause.wait(EVERY)
        found: list[str] = []
        while messages := self._received():
            found += [one["Body"] for one in messages]
        if self.status != "COMPLETED" or sorted(map(int, found)) != list(range(self._messages)):
            self.complaints.append(f"the move is {self.status}, and {len(found)} of {self._messages} have arrived")

    def _received(self) -> list[dict[str, str]]:
        answer = self._client.call("ReceiveMessage", QueueUrl=url(TARGET), MaxNumberOfMessages=10)
        return list(answer.get("Messages", []))
