"""What FIFO queues remember for five minutes: what was sent, and what receives with an attempt id were given."""

from __future__ import annotations

import hashlib
import json

import apsw

from redrive.broker import Outgoing, Sent
from redrive.errors import LimitExceeded
from redrive.sqlite.queues import Queue
from redrive.sqlite.statements import named

INTERVAL_MS = 300_000
"""Source: Amazon SQS, "Exactly-once processing": the deduplication interval is 5 minutes."""
_LONGEST_ID = 128
"""Characters. Source: Amazon SQS, SendMessage `MessageDeduplicationId` and ReceiveMessage `ReceiveRequestAttemptId`."""
_SQL = named("deduplication.sql")


class Deduplication:
    """The memory of all FIFO queues on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute

    def sent_before(self, queue: Queue, key: str, now_ms: int) -> Sent | None:
        """What was sent with this id within five minutes, be it handled meanwhile or not."""
        row = self._execute(_SQL["sent_before"], (queue.id, key, now_ms)).fetchone()
        return None if row is None else Sent(id=row[0], sequence=row[1], duplicate=True)

    def remember_sent(self, queue: Queue, key: str, sent: Sent, now_ms: int) -> None:
        """From now on, for five minutes, the id is a duplicate."""
        self._execute(_SQL["remember_sent"], (queue.id, key, now_ms + INTERVAL_MS, sent.id, sent.sequence))

    def received_before(self, queue: Queue, attempt: str, now_ms: int) -> list[str]:
        """The receipts that a receive with this attempt id was given within five minutes."""
        row = self._execute(_SQL["received_before"], (queue.id, attempt, now_ms)).fetchone()
        return [] if row is None else json.loads(row[0])

    def remember_received(self, queue: Queue, attempt: str, receipts: list[str], now_ms: int) -> None:
        """From now on, for five minutes, the attempt is answered with these receipts."""
        self._execute(_SQL["remember_received"], (queue.id, attempt, now_ms + INTERVAL_MS, json.dumps(receipts)))

    def sweep(self, now_ms: int) -> None:
        """Forget what is older than five minutes."""
        self._execute(_SQL["forget_sent"], (now_ms,))
        self._execute(_SQL["forget_received"], (now_ms,))


def deduplication_key(queue: Queue, one: Outgoing) -> str | LimitExceeded:
    """What makes a message on a FIFO queue a duplicate of another; or why it cannot be sent there."""
    if one.deduplication_id is not None:
        return refused_id("deduplication id", one.deduplication_id) or one.deduplication_id
    if queue.content_deduplication:
        return hashlib.sha256(one.message.body).hexdigest()
    return LimitExceeded(
        "deduplication id", None, f"1 to {_LONGEST_ID} characters, or declare the queue with content_deduplication=True"
    )


def refused_id(what: str, value: str) -> LimitExceeded | None:
    """Why this is no id."""
    good = 1 <= len(value) <= _LONGEST_ID and value.isascii() and value.isprintable() and " " not in value
    return None if good else LimitExceeded(what, value, f"1 to {_LONGEST_ID} letters, digits and punctuation marks")
