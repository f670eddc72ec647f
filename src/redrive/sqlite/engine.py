"""The embedded broker's heart: queues in one SQLite database, with the semantics of Amazon SQS.

A synchronous class without threads and without a clock: the time is an argument of every call, so that a test, a model
checker or a rehearsal can drive it in virtual time. It opens no transaction: whoever calls it does, and what belongs
together is in one.

Invariants:
    1. Lease, never delete: a message leaves only by acknowledge, forward, purge or the end of its queue's retention.
    2. A settlement counts only with the receipt of the message's last receive; the row count is checked.
    3. Every receive makes a new, unguessable receipt, and with it the former one is stale.
    4. A message is received at most `max_receives` times from a queue that has the limit; the next receive moves it.
    5. A call that raises a RedriveError has changed nothing.
    6. Receiving costs the same at any depth: it reads the begin of one index.
    7. Of one group of a FIFO queue, nothing is received while something is leased, and never one before another that
       entered earlier (see lines).
    8. What a receive hands out is what was sent: a row whose checksum does not fit is set aside.
    9. Whatever enters a queue gets a number higher than all before it; numbers are never used again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import apsw

from redrive.broker import (
    LONGEST_LEASE,
    Acknowledge,
    Depth,
    Forward,
    Outgoing,
    Page,
    QueueSpec,
    Results,
    Return,
    Sends,
    Settlement,
)
from redrive.errors import BrokerError, LimitExceeded, QueueNotFound, StaleReceipt
from redrive.message import NOTHING, Delivery, Message, Notes
from redrive.sqlite.arrivals import Arrivals
from redrive.sqlite.deduplication import Deduplication
from redrive.sqlite.limits import refused, refused_receive
from redrive.sqlite.lines import Lease, Lines
from redrive.sqlite.move_tasks import MoveTasks
from redrive.sqlite.queues import Queue, Queues
from redrive.sqlite.rows import DELAYED, IN_LINE, LEASED, RAW, READY, RECEIVED, Row, is_whole, key_of, message_of
from redrive.sqlite.statements import named
from redrive.sqlite.tenants import Tenants

MOST_IN_FLIGHT = 120_000
"""Messages in flight in one queue. Source: Amazon SQS quotas, "In-flight messages per queue", standard and FIFO."""

_SQL = {name: sql.replace("{RECEIVED}", RECEIVED).replace("{RAW}", RAW) for name, sql in named("engine.sql").items()}
_EXPIRED_AT_ONCE, _EXPIRED_CALLS = 500, 20
_BROWSED = ("browse_ready", "browse_delayed", "browse_in_flight", "browse_in_line")
_FIRST = (0, -(2**62), -(2**62), "", 0)


class Engine:
    """Queues on one connection. One thread at a time."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute
        self._changes = connection.changes
        self._queues = Queues(connection)
        self._lines = Lines(connection)
        self._tenants = Tenants(connection)
        self._memory = Deduplication(connection)
        self._arrivals = Arrivals(connection, self._lines, self._tenants, self._memory)
        self.moves = MoveTasks(connection, self, self._queues)
        """The message move tasks."""
        self.became_ready: set[str] = set()
        """Queues that may have something to receive since this set was last cleared; for waking those who wait."""
        self.damaged: list[tuple[str, str]] = []
        """Queue and id of what was set aside since this list was last cleared (invariant 8)."""
        self._aside: set[int] = set()

    # Queues

    @property
    def queue_table(self) -> Queues:
        """What is known of each queue."""
        return self._queues

    def declare(self, queues: Sequence[QueueSpec], now_ms: int) -> None:
        """Make the queues exist as described, all of them or none; repeating it writes nothing.

        Raises:
            LimitExceeded: If a name or a setting is outside what a queue may have.
            QueueNotFound: If a dead-letter queue neither exists nor is among them.
            QueueConflict: If a queue would have to change its kind, or may not have that dead-letter queue.
        """
        self._queues.declare(queues, now_ms)

    def queues(self) -> list[str]:
        """The names of all queues, sorted."""
        return self._queues.names()

    def delete(self, queue: str) -> int:
        """Delete a queue and all that is in it; how many messages that were."""
        return self._queues.delete(queue)

    def purge(self, queue: str) -> int:
        """Delete everything in a queue, in flight too; how many there were. What was sent stays remembered."""
        return self._queues.empty(self._queues.named(queue).id)

    # Messages

    def send(self, queue: str, messages: Sequence[Outgoing], now_ms: int) -> Sends:
        """Insert messages; one that is out of limits is answered with its error and does not hold up the others.

        Raises:
            QueueNotFound: If the queue does not exist.
        """
        target = self._queues.named(queue)
        self.became_ready.add(queue)
        return self._arrivals.send(target, messages, now_ms)

    def receive(
        self,
        queue: str,
        *,
        limit: int,
        lease: float,
        now_ms: int,
        ids: Sequence[str] | None = None,
        attempt: str | None = None,
        by_group: bool = False,
    ) -> list[Delivery]:
        """Lease up to `limit` messages: the lowest rounds first, and of a round those that are ready longest.

        The answer has them by round, and those of one round in the order in which they entered.

        From a FIFO queue it takes from as many groups as there are, each in order; the first of each group is the first
        in the answer. At `MOST_IN_FLIGHT` nothing more is given until something is settled.

        Args:
            queue: where from.
            limit: 1 or more.
            lease: seconds, 0 to 43,200; 0 is one millisecond, or a message could be given twice in one answer.
            now_ms: engine time.
            ids: only these, delayed ones too (they have to carry notes: parked and dead messages do).
            attempt: on a FIFO queue, a receive with the id of an earlier one, within five minutes, gets the same
                messages with the same receipts, their leases begun anew, as long as all of them are still leased.
            by_group: on a FIFO queue, take all that a group has before the next one is looked at, as Amazon SQS does.

        Raises:
            QueueNotFound: If the queue does not exist.
            LimitExceeded: If the limit, the lease or the attempt id is out of range.
        """
        if error := refused_receive(limit, lease, attempt):
            raise error
        source = self._queues.named(queue)
        self._aside.clear()
        self._expire_all(now_ms)
        wanted = Lease(source.id, now_ms, now_ms + max(1, int(lease * 1000)), by_group)
        if attempt is not None and source.fifo:
            return self._receive_once(source, wanted, limit, attempt)
        return self._deliveries(source, self._take(source, wanted, limit, ids))

    def settle(self, settlements: Sequence[Settlement], now_ms: int) -> Results:
        """Acknowledge, hand back or forward; each by itself (invariant 2)."""
        if len(settlements) > 1 and self._acknowledged(settlements):
            results: Results = [None] * len(settlements)
        else:
            results = [self._settle(one, now_ms) for one in settlements]
        self._renew_lines((one.delivery for one in settlements), now_ms)
        return results

    def extend(self, deliveries: Sequence[Delivery], *, lease: float, now_ms: int) -> Results:
        """Let leases end `lease` seconds from now.

        Raises:
            LimitExceeded: If the lease is outside 0 to 12 hours.
        """
        if not 0 < lease <= LONGEST_LEASE:
            raise LimitExceeded("lease", lease, "over 0 and at most 43200 seconds")
        until = now_ms + int(lease * 1000)
        results: Results = [self._held(one, "extend", until) for one in deliveries]
        self._renew_lines(deliveries, now_ms)
        return results

    def change_visibility(self, delivery: Delivery, seconds: float, now_ms: int) -> BrokerError | None:
        """Let a lease end `seconds` from now; 0 ends it at once, and the receipt stays good until the next receive.

        Unlike `extend` it does nothing to a lease that has ended.

        Raises:
            LimitExceeded: If the seconds are outside 0 to 12 hours.
        """
        if not 0 <= seconds <= LONGEST_LEASE:
            raise LimitExceeded("lease", seconds, "from 0 to 43200 seconds")
        until = self.lease_ends_ms(delivery)
        if until is None or until <= now_ms:
            return StaleReceipt(delivery.queue, delivery.message.id)
        if not seconds:
            self.became_ready.add(delivery.queue)
        refused = self._held(delivery, "extend", now_ms + int(seconds * 1000))
        self._renew_lines([delivery], now_ms)
        return refused

    def lease_ends_ms(self, delivery: Delivery) -> int | None:
        """When the lease of a delivery ends, or ended; None: its receipt is stale."""
        found: int | None = self._execute(_SQL["leased_until"], key_of(delivery)).get
        return found

    def is_there(self, delivery: Delivery) -> bool:
        """Whether the message is still in that queue, whoever has it now."""
        seq, _, queue = key_of(delivery)
        return self._execute(_SQL["is_there"], (seq, queue)).get is not None

    def is_full(self, queue: str, now_ms: int) -> bool:
        """Whether so much is in flight that nothing more is given."""
        return self._room(self._queues.named(queue), now_ms) <= 0

    def browse(self, queue: str, *, cursor: str | None, limit: int) -> Page:
        """Look at messages: ready, delayed, in flight, each in the order of their time; or line by line.

        Raises:
            LimitExceeded: If the cursor is not one of this call's, or the limit is under 1.
        """
        source = self._queues.named(queue)
        if limit < 1:
            raise LimitExceeded("limit", limit, "1 or more")
        part, *after = _cursor(cursor)
        found: list[tuple[Any, ...]] = []
        for number in range(part, len(_BROWSED)):
            rows: list[Any] = self._execute(_SQL[_BROWSED[number]], (source.id, *after, limit - len(found))).fetchall()
            found += rows
            if len(found) == limit:
                seq, rank, visible, group = rows[-1][:4]
                place = [number, rank, visible, group.decode("utf-8", "replace"), seq]
                return Page(messages=_messages(found), cursor=json.dumps(place))
            after = list(_FIRST[1:])
        return Page(messages=_messages(found), cursor=None)

    def depth(self, queue: str, now_ms: int) -> Depth:
        """Count a queue's messages; costs time by its depth."""
        source = self._queues.named(queue)
        self._expire_all(now_ms)
        if source.fifo:
            ((ready, in_flight, delayed),) = self._execute(_SQL["depth_in_line"], (source.id, now_ms))
            return Depth(ready=ready, in_flight=in_flight, delayed=delayed)
        ((ready, due, delayed, lapsed, in_flight),) = self._execute(_SQL["depth"], (source.id, now_ms))
        return Depth(ready=ready + due + lapsed, in_flight=in_flight, delayed=delayed)

    def next_visible_ms(self, queue: str) -> int | None:
        """When the next message of a queue may be received (past: one may); None when it holds nothing."""
        source = self._queues.named(queue)
        if source.fifo:
            return self._lines.next_free_ms(source.id)
        found: int | None = self._execute(_SQL["next_visible"], (source.id,)).get
        return found

    # Time

    def expire(self, now_ms: int) -> int:
        """Delete messages whose retention has ended, some hundreds at once; how many."""
        gone: list[tuple[Any, ...]] = self._execute(_SQL["expired"], (now_ms, _EXPIRED_AT_ONCE)).fetchall()
        for queue in {queue for queue, _, phase in gone if phase in {IN_LINE, LEASED}}:
            groups = {group.decode("utf-8", "replace") for its, group, _ in gone if its == queue and group is not None}
            self._lines.renew(queue, groups, now_ms)
        return len(gone)

    def _expire_all(self, now_ms: int) -> None:
        """So that nobody is given what has expired; of very many, the rest with the next call."""
        for _ in range(_EXPIRED_CALLS):
            if self.expire(now_ms) < _EXPIRED_AT_ONCE:
                return

    def postpone_expiry(self, by_ms: int) -> None:
        """Keep everything longer: time in which nobody ran the broker does not count for retention."""
        self._execute(_SQL["postpone_expiry"], (by_ms,))

    def move(self, now_ms: int) -> int | None:
        """Move what is due of all running move tasks; when to call again, in engine time. None: no task is running."""
        return self.moves.advance(now_ms)

    def sweep(self, now_ms: int) -> None:
        """Forget what is over: expired messages, deduplication, idle tenants. Now and then; costs little."""
        self.expire(now_ms)
        self._memory.sweep(now_ms)
        self._tenants.sweep()

    # Receiving

    def _take(self, source: Queue, lease: Lease, limit: int, ids: Sequence[str] | None) -> list[Row]:
        """Lease rows, move those received too often, set damaged ones aside; again while that leaves room."""
        if ids is not None:
            return self._take_by_id(source, lease, limit, ids)
        taken: list[Row] = []
        room = min(limit, self._room(source, lease.now_ms))
        while room > len(taken):
            rows = self._take_first(source, lease, room - len(taken))
            kept = self._within_limit(source, self._whole(source, rows), lease.now_ms)
            taken += kept
            if len(kept) == len(rows):
                break
        return taken

    def _take_first(self, source: Queue, lease: Lease, limit: int) -> list[Row]:
        if source.fifo:
            return self._lines.take(lease, limit)
        self._execute(_SQL["wake"], (source.id, lease.now_ms, limit, source.round))
        rows = self._rows("receive", (lease.until_ms, source.id, limit, lease.now_ms))
        self._tenants.received(source, [row.round for row in rows])
        return sorted(rows, key=lambda row: (row.round, row.seq))

    def _take_by_id(self, source: Queue, lease: Lease, limit: int, ids: Sequence[str]) -> list[Row]:
        """All that were asked for at once: of one line too, if nothing of it was leased before."""
        seqs = [seq for one in dict.fromkeys(ids) for seq in self._find(source, lease, one)][:limit]
        rows = self._lines.lease(lease, seqs) if source.fifo else self._taken(lease, seqs)
        self._renew_rows(source, rows, lease.now_ms)
        rows.sort(key=lambda row: row.seq)
        return self._within_limit(source, self._whole(source, rows), lease.now_ms)

    def _taken(self, lease: Lease, seqs: list[int]) -> list[Row]:
        return self._rows("take", (lease.until_ms, json.dumps(seqs), lease.now_ms))

    def _find(self, source: Queue, lease: Lease, identity: str) -> list[int]:
        if source.fifo:
            return self._lines.find(lease, identity)
        return [seq for (seq,) in self._execute(_SQL["find"], (source.id, lease.now_ms, identity))]

    def _receive_once(self, source: Queue, lease: Lease, limit: int, attempt: str) -> list[Delivery]:
        """Answer an attempt as it was answered before, unless something happened to what it was given."""
        given = self._memory.received_before(source, attempt, lease.now_ms)
        receipts = json.dumps(given)
        if given and self._execute(_SQL["count_leased"], (receipts, lease.now_ms)).get == len(given):
            rows = self._rows("receive_again", (lease.until_ms, receipts))
            rows.sort(key=lambda row: given.index(f"{row.seq}.{row.receipt.hex()}"))
            self._renew_rows(source, rows, lease.now_ms)
        else:
            rows = self._take(source, lease, limit, None)
        deliveries = self._deliveries(source, rows)
        self._memory.remember_received(source, attempt, [one.receipt for one in deliveries], lease.now_ms)
        return deliveries

    def _rows(self, statement: str, values: tuple[int | str, ...]) -> list[Row]:
        return [Row(one) for one in self._execute(_SQL[statement], values).fetchall()]

    def _room(self, source: Queue, now_ms: int) -> int:
        """How many more may be in flight."""
        statement = _SQL["leased" if source.fifo else "in_flight"]
        in_flight: int = self._execute(statement, (source.id, now_ms, MOST_IN_FLIGHT)).get
        return MOST_IN_FLIGHT - in_flight

    def _whole(self, source: Queue, rows: list[Row]) -> list[Row]:
        """Those whose checksum fits; the others are set aside (invariant 8).

        Raises:
            apsw.CorruptError: If a row that was set aside comes again: its index is damaged too.
        """
        whole = [row for row in rows if row.is_whole()]
        if len(whole) < len(rows):
            for row in rows:
                if not row.is_whole():
                    self._set_aside(source.name, row)
            self._renew_rows(source, rows, 0)
        return whole

    def _set_aside(self, queue: str, row: Row) -> None:
        if row.seq in self._aside:
            raise apsw.CorruptError(f"message {row.seq} was set aside and is still in an index")
        self._aside.add(row.seq)
        self.damaged.append((queue, row.id))
        self._execute(_SQL["set_aside"], (row.seq,))

    def _within_limit(self, source: Queue, rows: list[Row], now_ms: int) -> list[Row]:
        """Move what was received too often to the dead-letter queue (invariant 4); the others.

        Where the dead-letter queue was deleted, the limit means nothing until there is one again.
        """
        limit = source.max_receives
        if limit is None or not (over := [row for row in rows if row.receive_count > limit]):
            return rows
        try:
            dead = self._queues.named(source.dead_letter_queue or "")
        except QueueNotFound:
            return rows
        if dead.fifo != source.fifo:  # it was deleted, and made anew as the other kind
            return rows
        for row in over:
            given_up = row.message()
            if given_up.notes is NOTHING:  # some, so that it is found by its id
                given_up = replace(given_up, notes=Notes(forwards=1))
            expires = dead.end_of_dead_letter(source, self._execute(_SQL["expires"], (row.seq,)).get)
            self._execute(_SQL["acknowledge"], (row.seq, row.receipt, source.name))
            dead_letter = Outgoing(message=given_up, deduplication_id=row.deduplication_id)
            self._enter(dead, dead_letter, now_ms, origin=source.id, expires_at_ms=expires)
        self._renew_rows(source, over, now_ms)
        return [row for row in rows if row.receive_count <= limit]

    def _deliveries(self, source: Queue, rows: Iterable[Row]) -> list[Delivery]:
        return [
            row.delivery(
                source.name,
                fifo=bool(source.fifo),
                origin=None if row.origin is None else self._queues.name_of(row.origin),
            )
            for row in rows
        ]

    # Moving, for move tasks

    def take_to_move(self, source: Queue, limit: int, now_ms: int) -> list[Row]:
        """Lease up to `limit` messages, in order, whatever their receive count."""
        lease = Lease(source.id, now_ms, now_ms + 1)
        return self._whole(source, self._take_first(source, lease, limit))

    def move_row(self, source: Queue, row: Row, target: Queue, now_ms: int) -> None:
        """Move a leased row to another queue, for a new start there: its counters are zero, its history is kept."""
        moved = row.message()
        if moved.notes is not NOTHING:
            moved = replace(moved, notes=moved.notes.fresh(now_ms))
        self._execute(_SQL["acknowledge"], (row.seq, row.receipt, source.name))
        self._enter(target, Outgoing(message=moved, deduplication_id=row.deduplication_id), now_ms)
        self._renew_rows(source, [row], now_ms)

    def leave_row(self, source: Queue, row: Row, now_ms: int) -> None:
        """Hand a leased row back as if it had not been received."""
        self._execute(_SQL["hand_back"], (row.seq, row.receipt, source.name, now_ms, READY, 1))
        self._renew_rows(source, [row], now_ms)

    def _enter(
        self, target: Queue, one: Outgoing, now_ms: int, *, origin: int | None = None, expires_at_ms: int | None = None
    ) -> None:
        self._arrivals.enter(target, one, now_ms, origin=origin, expires_at_ms=expires_at_ms)
        self.became_ready.add(target.name)

    # Settling

    def _settle(self, settlement: Settlement, now_ms: int) -> BrokerError | None:
        delivery = settlement.delivery
        match settlement:
            case Acknowledge():
                return self._held(delivery, "acknowledge")
            case Return():
                return self._hand_back(settlement, now_ms)
            case Forward():
                return self._forward(settlement, now_ms)

    def _acknowledged(self, settlements: Sequence[Settlement]) -> bool:
        """Acknowledge them all in one statement, if all are acknowledgements that count; otherwise nothing is done."""
        receipts = [one.delivery.receipt for one in settlements if isinstance(one, Acknowledge)]
        if len(set(receipts)) < len(settlements):
            return False
        queue = settlements[0].delivery.queue
        if any(one.delivery.queue != queue for one in settlements):
            return False
        held = json.dumps(receipts)
        if self._execute(_SQL["count_held"], (held, queue)).get != len(receipts):
            return False
        self._execute(_SQL["acknowledge_all"], (held,))
        return True

    def _hand_back(self, given: Return, now_ms: int) -> StaleReceipt | None:
        delivery, notes = given.delivery, given.notes
        delay_ms = int(min(max(0.0, given.delay), LONGEST_LEASE) * 1000)
        found = self._execute(_SQL["look"], key_of(delivery)).fetchone() if notes is not None else None
        if found is not None:
            row = Row(found)
            if not row.is_whole():  # a new checksum would make it look whole
                self._set_aside(delivery.queue, row)
                return None
            noted = None if notes is None else notes.to_json()
            self._execute(_SQL["note"], (row.seq, noted, row.checksum_with(noted)))
        self.became_ready.add(delivery.queue)
        phase = DELAYED if delay_ms else READY
        return self._held(delivery, "hand_back", now_ms + delay_ms, phase, int(given.uncounted))

    def _forward(self, forward: Forward, now_ms: int) -> BrokerError | None:
        delivery = forward.delivery
        outgoing = Outgoing(
            message=forward.message, delay=forward.delay or None, deduplication_id=forward.deduplication_id
        )
        try:
            target, source = self._queues.named(forward.queue), self._queues.named(delivery.queue)
        except QueueNotFound as error:
            return error
        if too_much := refused(outgoing, target):
            return too_much
        if stale := self._held(delivery, "acknowledge"):
            return stale
        self._enter(target, outgoing, now_ms, origin=source.id if source.dead_letter_queue == target.name else None)
        return None

    def _held(self, delivery: Delivery, statement: str, *values: int) -> StaleReceipt | None:
        """Do it, if the delivery's receipt is still the last one."""
        self._execute(_SQL[statement], (*key_of(delivery), *values))
        return None if self._changes() == 1 else StaleReceipt(delivery.queue, delivery.message.id)

    def _renew_lines(self, deliveries: Iterable[Delivery], now_ms: int) -> None:
        """After something of theirs was settled or extended."""
        groups: dict[str, set[str]] = {}
        for one in deliveries:
            groups.setdefault(one.queue, set()).add(one.message.group or "")
        for name, those in groups.items():
            try:
                queue = self._queues.named(name)
            except QueueNotFound:
                continue
            if queue.fifo and self._lines.renew(queue.id, those, now_ms):
                self.became_ready.add(name)

    def _renew_rows(self, source: Queue, rows: Iterable[Row], now_ms: int) -> None:
        if source.fifo:
            self._lines.renew(source.id, {row.group or "" for row in rows}, now_ms)


def _cursor(cursor: str | None) -> tuple[Any, ...]:
    """Where a page begins: number of the statement, round, visible_at_ms, group, seq."""
    if cursor is None:
        return _FIRST
    try:
        part, rank, visible, group, seq = json.loads(cursor)
        return int(part), int(rank), int(visible), str(group), int(seq)
    except (ValueError, TypeError):
        raise LimitExceeded("cursor", cursor, "what the page before gave") from None


def _messages(rows: Iterable[tuple[Any, ...]]) -> list[Message]:
    """Those that are whole; a damaged one shows when it is received."""
    return [message_of(row[-6:]) for row in rows if is_whole(row[-7], row[-6:])]
