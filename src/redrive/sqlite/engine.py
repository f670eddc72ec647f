"""The embedded broker's heart: queues in one SQLite database, with the semantics of Amazon SQS.

A synchronous class without threads and without a clock: the time is an argument of every call, so that a test, a model
checker or a rehearsal can drive it in virtual time. It opens no transaction: whoever calls it does, and what belongs
together is in one.

Invariants:
    1. Lease, never delete: a row leaves only by acknowledge, forward or purge.
    2. A settlement counts only with the receipt of the message's last receive; the row count is checked.
    3. Every receive makes a new, unguessable receipt, and with it the former one is stale.
    4. A message is received at most `max_receives` times from a queue that has the limit; the next receive moves it.
    5. A call that raises a RedriveError has changed nothing.
    6. Receiving costs the same at any depth: it reads a range of one index.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from redrive.broker import Acknowledge, Depth, Forward, Outgoing, Page, QueueSpec, Results, Return, Settlement
from redrive.errors import LimitExceeded, QueueNotFound, StaleReceipt
from redrive.message import MAX_BODY, NOTHING, Delivery, Message, Notes
from redrive.sqlite.statements import named

LONGEST_DELAY = 900.0
"""Seconds. Source: Amazon SQS, SendMessage `DelaySeconds`: 0 to 900."""
LONGEST_LEASE = 43_200.0
"""Seconds. Source: Amazon SQS, ReceiveMessage `VisibilityTimeout`: 0 to 43,200."""

MOST_RECEIVES = 1_000
"""Source: Amazon SQS, RedrivePolicy `maxReceiveCount`: 1 to 1,000."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_LARGEST_SEQ = 2**63 - 1
_BODY_LIMIT = f"at most {MAX_BODY} bytes; keep the content elsewhere and send its key"
_SQL = named("engine.sql")
_ROWS_AT_ONCE = (128, 32, 8, 1)
"""How many messages one statement inserts. Each statement lets go of the interpreter's lock and has to get it back from
an event loop, which keeps it for up to 5 ms: what a send costs is statements, more than rows."""
_SEND = {rows: _SQL["send"] + ", (?, ?, ?, ?, ?, ?, ?, ?)" * (rows - 1) for rows in _ROWS_AT_ONCE}


class _Queue(NamedTuple):
    id: int
    dead_letter_queue: str | None
    max_receives: int | None


class Engine:
    """Queues on one connection. One thread at a time."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute
        self._changes = connection.changes
        self.became_ready: set[str] = set()
        """Queues that may have something to receive since this set was last cleared; for waking those who wait."""

    def declare(self, queues: Sequence[QueueSpec]) -> None:
        """Make the queues exist as described; repeating it writes nothing.

        Raises:
            LimitExceeded: If a name or a redrive policy is outside what a queue may have.
            QueueNotFound: If a dead-letter queue neither exists nor is among them.
        """
        known = {*self.queues(), *(spec.name for spec in queues)}
        for spec in queues:
            if error := _undeclarable(spec, known):
                raise error
        for spec in queues:
            self._execute(_SQL["declare"], (spec.name, spec.dead_letter_queue, spec.max_receives))

    def queues(self) -> list[str]:
        """The names of all queues, sorted."""
        return [name for (name,) in self._execute(_SQL["queues"])]

    def send(self, queue: str, messages: Sequence[Outgoing], now_ms: int) -> Results:
        """Insert messages; one that is out of limits is answered with its error and does not hold up the others.

        Raises:
            QueueNotFound: If the queue does not exist.
        """
        target = self._queue(queue)
        results: Results = [_refused(one) for one in messages]
        good = [one for one, error in zip(messages, results, strict=True) if error is None]
        done = 0
        for rows in _ROWS_AT_ONCE:
            while len(good) - done >= rows:
                values: list[Any] = []
                for one in good[done : done + rows]:
                    values += _row(target.id, one, now_ms)
                self._execute(_SEND[rows], values)
                done += rows
        self.became_ready.add(queue)
        return results

    def receive(
        self, queue: str, *, limit: int, lease: float, now_ms: int, ids: Sequence[str] | None = None
    ) -> list[Delivery]:
        """Lease up to `limit` ready messages, those that are ready longest first.

        With `ids`, only those, and delayed ones too (they have to carry notes: parked and dead messages do).

        Raises:
            QueueNotFound: If the queue does not exist.
            LimitExceeded: If the lease is outside 0 to 12 hours.
        """
        if not 0 < lease <= LONGEST_LEASE:
            raise LimitExceeded("lease", lease, "over 0 and at most 43200 seconds")
        source = self._queue(queue)
        until = now_ms + int(lease * 1000)
        if ids is not None:
            return self._receive_by_id(queue, source, ids, (until, source.id, now_ms, limit))
        taken: list[Delivery] = []
        while limit > len(taken):
            rows = self._execute(_SQL["receive"], (until, source.id, now_ms, limit - len(taken))).fetchall()
            kept = self._within_limit(source, rows, now_ms)
            taken += [_delivery(queue, row) for row in kept]
            if len(kept) == len(rows):
                break
        return taken

    def settle(self, settlements: Sequence[Settlement], now_ms: int) -> Results:
        """Acknowledge, hand back or forward; each by itself (invariant 2)."""
        if len(settlements) > 1 and self._acknowledged(settlements):
            return [None] * len(settlements)
        return [self._settle(one, now_ms) for one in settlements]

    def extend(self, deliveries: Sequence[Delivery], *, lease: float, now_ms: int) -> Results:
        """Let leases end `lease` seconds from now.

        Raises:
            LimitExceeded: If the lease is outside 0 to 12 hours.
        """
        if not 0 < lease <= LONGEST_LEASE:
            raise LimitExceeded("lease", lease, "over 0 and at most 43200 seconds")
        until = now_ms + int(lease * 1000)
        return [self._held(one, "extend", (until, *_key(one))) for one in deliveries]

    def browse(self, queue: str, *, cursor: str | None, limit: int) -> Page:
        """Look at messages in the order they would be received; nothing is counted."""
        source = self._queue(queue)
        visible, seq = (int(part) for part in cursor.split(".")) if cursor else (-(2**62), 0)
        rows = self._execute(_SQL["browse"], (source.id, visible, seq, limit)).fetchall()
        messages = [_message(row[2:]) for row in rows]
        return Page(messages=messages, cursor=f"{rows[-1][1]}.{rows[-1][0]}" if len(rows) == limit else None)

    def depth(self, queue: str, now_ms: int) -> Depth:
        """Count a queue's messages; costs time by its depth."""
        source = self._queue(queue)
        ready = self._execute(_SQL["count_ready"], (source.id, now_ms)).get
        in_flight, waiting = self._execute(_SQL["count_waiting"], (source.id, now_ms)).get
        return Depth(ready=ready, in_flight=in_flight, delayed=waiting - in_flight)

    def next_visible_ms(self, queue: str) -> int | None:
        """When the next message of a queue becomes ready (past: it is); None when the queue is empty."""
        found: int | None = self._execute(_SQL["next_visible"], (self._queue(queue).id,)).get
        return found

    def purge(self, queue: str) -> int:
        """Delete everything in a queue, in flight too; how many there were."""
        self._execute(_SQL["purge"], (self._queue(queue).id,))
        return self._changes()

    def _settle(self, settlement: Settlement, now_ms: int) -> StaleReceipt | QueueNotFound | LimitExceeded | None:
        delivery = settlement.delivery
        match settlement:
            case Acknowledge():
                return self._held(delivery, "acknowledge", _key(delivery))
            case Return(delay=delay, notes=notes):
                visible = now_ms + int(min(max(0.0, delay), LONGEST_LEASE) * 1000)
                self.became_ready.add(delivery.queue)
                if notes is None:
                    return self._held(delivery, "hand_back", (visible, *_key(delivery)))
                return self._held(delivery, "hand_back_noted", (visible, *_key(delivery), notes.to_json()))
            case Forward():
                return self._forward(settlement, now_ms)

    def _acknowledged(self, settlements: Sequence[Settlement]) -> bool:
        """Acknowledge them all in one statement, if all are acknowledgements that count; otherwise nothing is done."""
        receipts = [one.delivery.receipt for one in settlements if isinstance(one, Acknowledge)]
        if len(set(receipts)) < len(settlements):
            return False
        held = json.dumps(receipts)
        if self._execute(_SQL["count_held"], (held,)).get != len(receipts):
            return False
        self._execute(_SQL["acknowledge_all"], (held,))
        return True

    def _forward(self, forward: Forward, now_ms: int) -> StaleReceipt | QueueNotFound | LimitExceeded | None:
        try:
            target = self._queue(forward.queue)
        except QueueNotFound as error:
            return error
        if refused := _refused(Outgoing(message=forward.message, delay=forward.delay)):
            return refused
        notes, body = forward.message.notes.to_json(), forward.message.body
        visible = now_ms + int(forward.delay * 1000)
        self.became_ready.add(forward.queue)
        return self._held(forward.delivery, "forward", (visible, *_key(forward.delivery), target.id, notes, body))

    def _held(self, delivery: Delivery, statement: str, arguments: tuple[Any, ...]) -> StaleReceipt | None:
        """Do it, if the delivery's receipt is still the last one."""
        self._execute(_SQL[statement], arguments)
        return None if self._changes() == 1 else StaleReceipt(delivery.queue, delivery.message.id)

    def _receive_by_id(
        self, queue: str, source: _Queue, ids: Sequence[str], arguments: tuple[int, int, int, int]
    ) -> list[Delivery]:
        until, number, now_ms, limit = arguments
        taken: list[Delivery] = []
        for one in ids:
            room = limit - len(taken)
            rows = self._execute(_SQL["receive_by_id"], (until, number, now_ms, one, room)).fetchall()
            taken += [_delivery(queue, row) for row in self._within_limit(source, rows, now_ms)]
        return taken

    def _within_limit(self, source: _Queue, rows: list[tuple[Any, ...]], now_ms: int) -> list[tuple[Any, ...]]:
        """Move what was received too often to the dead-letter queue (invariant 4); the others."""
        limit = source.max_receives
        if limit is None or not (over := [row for row in rows if row[2] > limit]):
            return rows
        dead = self._queue(source.dead_letter_queue or "")
        for row in over:
            self._execute(_SQL["give_up"], (dead.id, now_ms, row[0]))
        self.became_ready.add(source.dead_letter_queue or "")
        return [row for row in rows if row[2] <= limit]

    def _queue(self, name: str) -> _Queue:
        row = self._execute(_SQL["queue"], (name,)).fetchone()
        if row is None:
            raise QueueNotFound(name)
        return _Queue(*row)


def _undeclarable(spec: QueueSpec, known: set[str]) -> LimitExceeded | QueueNotFound | None:
    if not _NAME.fullmatch(spec.name):
        return LimitExceeded("name of a queue", spec.name, "1 to 80 of the characters A-Z, a-z, 0-9, _ and -")
    if spec.dead_letter_queue is None and spec.max_receives is None:
        return None
    if spec.dead_letter_queue is None or spec.max_receives is None or not 1 <= spec.max_receives <= MOST_RECEIVES:
        return LimitExceeded("max_receives", spec.max_receives, "from 1 to 1000, together with a dead_letter_queue")
    return None if spec.dead_letter_queue in known else QueueNotFound(spec.dead_letter_queue)


def _row(queue: int, one: Outgoing, now_ms: int) -> tuple[Any, ...]:
    message = one.message
    return (
        queue,
        now_ms + int(one.delay * 1000),
        message.sent_at_ms,
        message.id,
        message.group,
        json.dumps(dict(message.attributes)) if message.attributes else None,
        None if message.notes is NOTHING else message.notes.to_json(),
        message.body,
    )


def _refused(one: Outgoing) -> LimitExceeded | None:
    if not 0 <= one.delay <= LONGEST_DELAY:
        return LimitExceeded("delay", one.delay, "from 0 to 900 seconds")
    if len(one.message.body) > MAX_BODY:
        return LimitExceeded(
            "size of the body",
            len(one.message.body),
            _BODY_LIMIT,
        )
    if one.message.group is not None and not _is_text(one.message.group):
        return LimitExceeded("group", one.message.group, "text without half of a surrogate pair")
    return None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _key(delivery: Delivery) -> tuple[int, bytes]:
    """Row and receipt of a delivery; what is no receipt of ours fits no row."""
    number, _, secret = delivery.receipt.partition(".")
    try:
        return int(number) & _LARGEST_SEQ, bytes.fromhex(secret)
    except ValueError:
        return 0, b""


def _delivery(queue: str, row: tuple[Any, ...]) -> Delivery:
    return Delivery(message=_message(row[3:]), queue=queue, receipt=f"{row[0]}.{row[1].hex()}", receive_count=row[2])


def _message(row: tuple[Any, ...]) -> Message:
    identity, sent_at_ms, group, attributes, notes, body = row
    return Message(
        id=identity,
        sent_at_ms=sent_at_ms,
        group=group,
        attributes={} if attributes is None else json.loads(attributes),
        notes=NOTHING if notes is None else Notes.from_json(notes),
        body=body,
    )
