"""A client that makes, changes, fills, purges and deletes queues of its own, and looks whether they are as answered.

After a call without an answer two states are possible, and a look says which of them it is.
"""

from __future__ import annotations

import threading
from collections import Counter
from random import Random
from typing import Any, NamedTuple

from tests.sqs_api.killed.crew import PAUSE, messages_in
from tests.sqs_api.killed.serving import Client, Lost, Refused, url

LOOK_EVERY = 8
"""Calls; and after each one without an answer."""
_GONE = "QueueDoesNotExist"


class State(NamedTuple):
    """A queue, as far as it is looked at."""

    delay: str
    """Seconds."""
    tags: frozenset[tuple[str, str]]
    messages: int


class Change(NamedTuple):
    """One call, and what it makes of the queue; None: there is no queue."""

    operation: str
    request: dict[str, Any]
    after: State | None


class Clerk:
    """One queue after the other: a deleted one never comes back."""

    def __init__(self, client: Client, name: str, seed: int) -> None:
        self._client, self._name = client, name
        self._random = Random(seed)  # noqa: S311 - repeatable on purpose
        self._number = 0
        self._possible: list[State | None] = [None]
        self._purged = False
        self.deleted: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.complaints: list[str] = []

    @property
    def queue(self) -> str:
        return f"{self._name}-{self._number}"

    @property
    def exists(self) -> bool:
        """Whether its present queue is there, by the last look or answer."""
        return self._possible[0] is not None

    def work(self, stop: threading.Event) -> None:
        calls = 0
        while not stop.wait(self._random.uniform(0, 2 * PAUSE)):
            calls += 1
            change = self._change(self._possible[0])
            self._do(change)
            if len(self._possible) > 1 or calls % LOOK_EVERY == 0:
                self.look()
            if change.after is None and not self.exists:
                self.deleted.add(self.queue)
                self._number, self._purged = self._number + 1, False

    def look(self) -> None:
        """Whether the queue is in a state that is possible; from then on that is the one."""
        while True:
            try:
                found = self._found()
            except Lost:
                continue
            break
        if found not in self._possible:
            self.complaints.append(f"{self.queue} is {found}, and should be one of {self._possible}")
        self.counts["looks"] += 1
        self._possible = [found]

    def _do(self, change: Change) -> None:
        before = self._possible[0]
        name: dict[str, Any] = (
            {"QueueName": self.queue} if change.operation == "CreateQueue" else {"QueueUrl": url(self.queue)}
        )
        try:
            self._client.call(change.operation, **(name | change.request))
        except Lost:
            self.counts["unknown"] += 1
            self._possible = [before, change.after]
            return
        self.counts["answered"] += 1
        self._possible = [change.after]

    def _change(self, now: State | None) -> Change:
        text = str(self._random.randrange(900))
        if now is None:
            request = {"Attributes": {"DelaySeconds": text}, "tags": {"made": text}}
            return Change("CreateQueue", request, State(text, frozenset({("made", text)}), 0))
        key = self._random.choice("abc")
        tagged = frozenset({**dict(now.tags), key: text}.items())
        left = frozenset(one for one in now.tags if one[0] != key)
        changes = [
            Change("SetQueueAttributes", {"Attributes": {"DelaySeconds": text}}, now._replace(delay=text)),
            Change("TagQueue", {"Tags": {key: text}}, now._replace(tags=tagged)),
            Change("UntagQueue", {"TagKeys": [key]}, now._replace(tags=left)),
            Change("DeleteQueue", {}, None),
            *[Change("SendMessage", {"MessageBody": text}, now._replace(messages=now.messages + 1))] * 3,
        ]
        if not self._purged:  # once a minute
            changes.append(Change("PurgeQueue", {}, now._replace(messages=0)))
        change = self._random.choice(changes)
        self._purged = self._purged or change.operation == "PurgeQueue"
        return change

    def _found(self) -> State | None:
        try:
            named = self._client.call("GetQueueAttributes", QueueUrl=url(self.queue), AttributeNames=["DelaySeconds"])
            tags = self._client.call("ListQueueTags", QueueUrl=url(self.queue)).get("Tags", {})
            count = messages_in(self._client, self.queue)
        except Refused as refused:
            if not refused.code.endswith(_GONE):
                raise
            return None
        return State(named["Attributes"]["DelaySeconds"], frozenset(tags.items()), count)
