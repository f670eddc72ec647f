"""How a message enters a queue: by a send, or because it was moved there. Always behind all that is there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import apsw

from redrive.broker import Outgoing, Sends, Sent
from redrive.errors import BrokerError, LimitExceeded
from redrive.sqlite.deduplication import Deduplication
from redrive.sqlite.limits import LONGEST_ID, refused, refused_id
from redrive.sqlite.lines import Lines
from redrive.sqlite.queues import Queue
from redrive.sqlite.rows import COLUMNS, DELAYED, IN_LINE, READY, WIDTH, checksum, content_of
from redrive.sqlite.tenants import Tenants

_ROWS_AT_ONCE = (128, 32, 8, 1)
"""How many messages one statement inserts. Each statement lets go of the interpreter's lock and has to get it back from
an event loop, which keeps it for up to 5 ms: what a send costs is statements, more than rows."""
_VALUES = f"({', '.join('?' * WIDTH)})"
_INSERT = {  # nothing in there comes from outside
    rows: f"INSERT INTO message ({COLUMNS}) VALUES {', '.join([_VALUES] * rows)}"  # noqa: S608
    for rows in _ROWS_AT_ONCE
}


class Arrivals:
    """Puts messages into the queues of one connection."""

    def __init__(self, connection: apsw.Connection, lines: Lines, tenants: Tenants, memory: Deduplication) -> None:
        self._execute = connection.execute
        self._last_seq = connection.last_insert_rowid
        self._lines, self._tenants, self._memory = lines, tenants, memory

    def send(self, target: Queue, messages: Sequence[Outgoing], now_ms: int) -> Sends:
        """Insert messages, each by itself; the answer to a duplicate names the first one."""
        if target.fifo:
            return [self._send_in_line(target, one, now_ms) for one in messages]
        results: Sends = [refused(one, target) for one in messages]
        expires_at_ms = _expires_at_ms(target, now_ms)
        values: list[Any] = []
        for one, error in zip(messages, results, strict=True):
            if error is None:
                values += self._row(target, one, now_ms, None, expires_at_ms)
        self._insert(values)
        return results

    def enter(
        self, target: Queue, one: Outgoing, now_ms: int, *, origin: int | None = None, expires_at_ms: int | None = None
    ) -> None:
        """Insert a message that was checked.

        Args:
            target: where to.
            one: the message.
            now_ms: engine time.
            origin: the queue whose dead letter it becomes.
            expires_at_ms: when it is deleted, where that is not the target's retention from now on.
        """
        if expires_at_ms is None:
            expires_at_ms = _expires_at_ms(target, now_ms)
        row = self._row(target, one, now_ms, origin, expires_at_ms)
        self._insert(row)
        if target.fifo:
            self._lines.join(target.id, one.message.group or "", row[3], self._last_seq())

    def _send_in_line(self, target: Queue, one: Outgoing, now_ms: int) -> BrokerError | Sent:
        if error := refused(one, target):
            return error
        deduplication_id = _deduplication_id(target, one)
        if isinstance(deduplication_id, LimitExceeded):
            return deduplication_id
        key = f"{one.message.group} {deduplication_id}" if target.deduplication_by_group else deduplication_id
        if before := self._memory.sent_before(target, key, now_ms):
            return before
        self.enter(target, replace(one, deduplication_id=deduplication_id), now_ms)
        sent = Sent(id=one.message.id, sequence=self._last_seq())
        self._memory.remember_sent(target, key, sent, now_ms)
        return sent

    def _row(
        self, target: Queue, one: Outgoing, now_ms: int, origin: int | None, expires_at_ms: int | None
    ) -> tuple[Any, ...]:
        content = content_of(one.message)
        delay_ms = target.delay_ms if one.delay is None else int(one.delay * 1000)
        phase = IN_LINE if target.fifo else DELAYED if delay_ms else READY
        number = target.round + 1 if content[2] is None or target.fifo else self._tenants.round(target, content[2])
        deduplication_id = one.deduplication_id if target.fifo else None
        place = target.id, phase, number, now_ms + delay_ms, expires_at_ms, origin, deduplication_id
        return *place, checksum(content), *content

    def _insert(self, values: Sequence[Any]) -> None:
        done, end = 0, len(values)
        for rows in _ROWS_AT_ONCE:
            size = rows * WIDTH
            while end - done >= size:
                self._execute(_INSERT[rows], values[done : done + size])
                done += size


def _expires_at_ms(target: Queue, now_ms: int) -> int | None:
    return None if target.retention_ms is None else now_ms + target.retention_ms


def _deduplication_id(queue: Queue, one: Outgoing) -> str | LimitExceeded:
    """What makes a message on a FIFO queue a duplicate of another; or why it cannot be sent there."""
    if one.deduplication_id is not None:
        return refused_id("deduplication id", one.deduplication_id) or one.deduplication_id
    if queue.content_deduplication:
        return hashlib.sha256(one.message.body).hexdigest()
    return LimitExceeded(
        "deduplication id", None, f"1 to {LONGEST_ID} characters, where the queue has no content_deduplication=True"
    )
