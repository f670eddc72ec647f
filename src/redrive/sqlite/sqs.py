"""What clients that speak SQS said of queues, and the engine has no use for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import apsw

from redrive.sqlite.statements import named

FORGOTTEN_AFTER_MS = 60_000
"""Source: Amazon SQS, CreateQueue: 60 seconds until the name of a deleted queue can be used again."""
_SQL = named("sqs.sql")


class SqsQueue(NamedTuple):
    """What was said of one queue."""

    attributes: Mapping[str, str]
    """Those that were set, as they were set."""
    tags: Mapping[str, str]
    purged_at_ms: int | None
    """When PurgeQueue was last called; None: never."""


NOTHING_SAID = SqsQueue({}, {}, None)


class SqsQueues:
    """All of it, on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute

    def of(self, queue: int) -> SqsQueue:
        """What was said of the queue of this number."""
        row = self._execute(_SQL["said"], (queue,)).fetchone()
        return NOTHING_SAID if row is None else SqsQueue(json.loads(row[0]), json.loads(row[1]), row[2])

    def say(self, queue: int, said: SqsQueue) -> None:
        """From now on this is said of it."""
        attributes, tags = json.dumps(dict(said.attributes)), json.dumps(dict(said.tags))
        self._execute(_SQL["say"], (queue, attributes, tags, said.purged_at_ms))

    def note_deleted(self, name: str, now_ms: int) -> None:
        """A queue of this name was deleted."""
        self._execute(_SQL["forget_deleted"], (now_ms - FORGOTTEN_AFTER_MS,))
        self._execute(_SQL["note_deleted"], (name, now_ms))

    def was_deleted_lately(self, name: str, now_ms: int) -> bool:
        """Whether that was within the last minute."""
        found: int | None = self._execute(_SQL["deleted_at_ms"], (name,)).get
        return found is not None and now_ms - found < FORGOTTEN_AFTER_MS
