"""What FIFO queues remember for five minutes: what was sent, and what receives with an attempt id were given."""

from __future__ import annotations

import json

import apsw

from redrive.broker import Sent
from redrive.sqlite.queues import Queue
from redrive.sqlite.statements import named

INTERVAL_MS = 300_000
"""Source: Amazon SQS, "Exactly-once processing": the deduplication interval is 5 minutes."""
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
