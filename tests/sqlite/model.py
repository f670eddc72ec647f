"""What the engine ought to do, said once more with a list and dictionaries: no SQL, no indexes, no rows locked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from redrive.broker import Depth, Outgoing, QueueSpec, Sent
from redrive.message import NOTHING, Message, Notes

READY, DELAYED, IN_FLIGHT, IN_LINE, LEASED = range(5)
FIVE_MINUTES = 300_000


@dataclass(eq=False)
class Row:
    """A message in the model."""

    seq: int
    message: Message
    queue: str
    phase: int
    visible_at_ms: int
    round: int = 0
    expires_at_ms: int | None = None
    origin: str | None = None
    receipt: str | None = None
    receive_count: int = 0
    first_received_at_ms: int | None = None
    deduplication_id: str | None = None

    def receive(self, phase: int, now_ms: int) -> None:
        self.phase = phase
        self.receive_count += 1
        self.visible_at_ms = now_ms + 1  # not to be taken twice; whoever asked says how long
        if self.first_received_at_ms is None:
            self.first_received_at_ms = now_ms


@dataclass
class Move:
    """A move task in the model."""

    id: str
    source: str
    destination: str | None
    rate: int | None
    to_move: int
    next_at_ms: float
    moved: int = 0
    status: str = "RUNNING"


@dataclass
class Model:
    """The queues and what is in them."""

    specs: dict[str, QueueSpec]
    rows: list[Row] = field(default_factory=list)
    last_seq: int = 0
    rounds: dict[str, int] = field(default_factory=dict)
    tenants: dict[tuple[str, str], int] = field(default_factory=dict)
    sent: dict[tuple[str, str], tuple[Sent, int]] = field(default_factory=dict)
    attempts: dict[tuple[str, str], tuple[list[str], int]] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)

    # Looking

    def of(self, queue: str, *phases: int) -> list[Row]:
        return [row for row in self.rows if row.queue == queue and (not phases or row.phase in phases)]

    def line(self, queue: str, group: str | None) -> list[Row]:
        return sorted((row for row in self.of(queue) if row.message.group == group), key=lambda row: row.seq)

    def free_at_ms(self, queue: str, group: str | None) -> int:
        line = self.line(queue, group)
        return max(line[0].visible_at_ms, *(row.visible_at_ms for row in line if row.phase == LEASED), 0)

    def groups(self, queue: str) -> set[str | None]:
        return {row.message.group for row in self.of(queue)}

    def depth(self, queue: str, now_ms: int) -> Depth:
        rows = self.of(queue)
        later = [row for row in rows if row.visible_at_ms > now_ms and row.phase != READY]
        in_flight = [row for row in later if row.phase in {IN_FLIGHT, LEASED}]
        return Depth(ready=len(rows) - len(later), in_flight=len(in_flight), delayed=len(later) - len(in_flight))

    def next_visible_ms(self, queue: str) -> int | None:
        if self.specs[queue].fifo:
            return min((self.free_at_ms(queue, group) for group in self.groups(queue)), default=None)
        return min((row.visible_at_ms for row in self.of(queue)), default=None)

    def in_order_of_browsing(self, queue: str) -> list[Row]:
        def place(row: Row) -> tuple[int, int, int, str, int]:
            if row.phase >= IN_LINE:
                return (IN_LINE, 0, 0, row.message.group or "", row.seq)
            return (row.phase, row.round if row.phase == READY else 0, row.visible_at_ms, "", row.seq)

        return sorted(self.of(queue), key=place)

    # Entering and leaving

    def enter(
        self,
        queue: str,
        outgoing: Outgoing,
        now_ms: int,
        *,
        origin: str | None = None,
        expires_at_ms: int | None = None,
    ) -> Row:
        spec = self.specs[queue]
        delay_ms = int((spec.delay if outgoing.delay is None else outgoing.delay) * 1000)
        if expires_at_ms is None and spec.retention is not None:
            expires_at_ms = now_ms + int(spec.retention * 1000)
        self.last_seq += 1
        row = Row(
            seq=self.last_seq,
            message=outgoing.message,
            queue=queue,
            phase=IN_LINE if spec.fifo else DELAYED if delay_ms else READY,
            visible_at_ms=now_ms + delay_ms,
            round=0 if spec.fifo else self.next_round(queue, outgoing.message.group),
            expires_at_ms=expires_at_ms,
            origin=origin,
            deduplication_id=outgoing.deduplication_id if spec.fifo else None,
        )
        self.rows.append(row)
        return row

    def next_round(self, queue: str, group: str | None) -> int:
        current = self.rounds.get(queue, 0)
        if group is None:
            return current + 1
        self.tenants[queue, group] = max(self.tenants.get((queue, group), 0), current) + 1
        return self.tenants[queue, group]

    def leave(self, row: Row) -> None:
        self.rows.remove(row)
        row.receipt = None

    def expire(self, now_ms: int) -> None:
        for row in [row for row in self.rows if row.expires_at_ms is not None and row.expires_at_ms <= now_ms]:
            self.leave(row)

    def purge(self, queue: str) -> int:
        gone = self.of(queue)
        for row in gone:
            self.leave(row)
        self.tenants = {key: value for key, value in self.tenants.items() if key[0] != queue}
        return len(gone)

    def send(self, queue: str, outgoing: Outgoing, now_ms: int) -> Sent | None:
        """Of a message that is within limits."""
        if not self.specs[queue].fifo:
            self.enter(queue, outgoing, now_ms)
            return None
        key = outgoing.deduplication_id or hashlib.sha256(outgoing.message.body).hexdigest()
        before = self.sent.get((queue, key))
        if before is not None and before[1] > now_ms:
            return replace(before[0], duplicate=True)
        row = self.enter(queue, replace(outgoing, deduplication_id=key), now_ms)
        sent = Sent(id=row.message.id, sequence=row.seq)
        self.sent[queue, key] = (sent, now_ms + FIVE_MINUTES)
        return sent

    # Receiving

    def take(self, queue: str, limit: int, now_ms: int, ids: list[str] | None = None) -> list[Row]:
        """What a receive gives, in its order within each line; those received too often are moved."""
        if ids is not None:
            return self.take_by_id(queue, ids, limit, now_ms)
        taken: list[Row] = []
        while len(taken) < limit:
            chosen = self.candidates(queue, limit - len(taken), now_ms)
            for row in chosen:
                row.receive(LEASED if self.specs[queue].fifo else IN_FLIGHT, now_ms)
            kept = self.unless_too_often(chosen, now_ms)
            taken += kept
            if len(kept) == len(chosen):
                break
        return taken

    def candidates(self, queue: str, limit: int, now_ms: int) -> list[Row]:
        if self.specs[queue].fifo:
            return self.fronts(queue, limit, now_ms)
        for phase in (DELAYED, IN_FLIGHT):
            due = [row for row in self.of(queue, phase) if row.visible_at_ms <= now_ms]
            for row in sorted(due, key=lambda row: (row.visible_at_ms, row.seq))[:limit]:
                row.phase = READY
                row.round = max(row.round, self.rounds.get(queue, 0))
        ready = sorted(self.of(queue, READY), key=lambda row: (row.round, row.visible_at_ms, row.seq))[:limit]
        self.rounds[queue] = max([self.rounds.get(queue, 0), *(row.round for row in ready)])
        return sorted(ready, key=lambda row: (row.round, row.seq))

    def fronts(self, queue: str, limit: int, now_ms: int) -> list[Row]:
        free = [(self.free_at_ms(queue, group), self.line(queue, group)[0].seq, group) for group in self.groups(queue)]
        groups = [group for at, _, group in sorted(free) if at <= now_ms][:limit]
        each = -(-limit // max(1, len(groups)))
        chosen: list[Row] = []
        for group in groups:
            before = len(chosen)
            for row in self.line(queue, group)[: min(each, limit - len(chosen))]:
                if row.visible_at_ms > now_ms:
                    break
                chosen.append(row)
            if len(chosen) > before:
                for row in self.line(queue, group):
                    if row.phase == LEASED:
                        row.phase, row.receipt = IN_LINE, None
        return chosen

    def take_by_id(self, queue: str, ids: Iterable[str], limit: int, now_ms: int) -> list[Row]:
        noted = [row for row in self.of(queue) if row.message.notes is not NOTHING and self.is_free(row, now_ms)]
        chosen = [row for one in ids for row in noted if row.message.id == one][:limit]
        for row in chosen:
            row.receive(LEASED if self.specs[queue].fifo else IN_FLIGHT, now_ms)
        return self.unless_too_often(sorted(chosen, key=lambda row: row.seq), now_ms)

    def is_free(self, row: Row, now_ms: int) -> bool:
        if self.specs[row.queue].fifo:
            line = self.line(row.queue, row.message.group)
            return not any(one.phase == LEASED and one.visible_at_ms > now_ms for one in line)
        return row.phase != IN_FLIGHT or row.visible_at_ms <= now_ms

    def unless_too_often(self, rows: list[Row], now_ms: int) -> list[Row]:
        kept: list[Row] = []
        for row in rows:
            spec = self.specs[row.queue]
            if spec.max_receives is None or row.receive_count <= spec.max_receives:
                kept.append(row)
                continue
            dead = self.specs[spec.dead_letter_queue or ""]
            expires = None
            if dead.retention and not dead.fifo and row.expires_at_ms is not None and spec.retention is not None:
                expires = row.expires_at_ms + int((dead.retention - spec.retention) * 1000)
            message = row.message
            if message.notes is NOTHING:
                message = replace(message, notes=Notes(forwards=1))
            self.leave(row)
            letter = Outgoing(message=message, deduplication_id=row.deduplication_id)
            self.enter(dead.name, letter, now_ms, origin=row.queue, expires_at_ms=expires)
        return kept

    # Settling

    def hand_back(self, row: Row, visible_at_ms: int, *, at_once: bool, uncounted: bool = False) -> None:
        row.receipt, row.visible_at_ms = None, visible_at_ms
        row.phase = IN_LINE if self.specs[row.queue].fifo else READY if at_once else DELAYED
        row.receive_count -= uncounted
        if not row.receive_count:
            row.first_received_at_ms = None
        row.round = max(row.round, self.rounds.get(row.queue, 0) + 1)

    def forward(self, row: Row, queue: str, outgoing: Outgoing, now_ms: int) -> None:
        source = row.queue
        self.leave(row)
        dead = self.specs[source].dead_letter_queue == queue
        self.enter(queue, outgoing, now_ms, origin=source if dead else None)

    # Moving

    def latest_moves(self, source: str) -> list[Move]:
        return [move for move in reversed(self.moves) if move.source == source][:10]

    def step(self, move: Move, now_ms: int) -> None:
        """One move task's share of `Engine.move`."""
        if move.rate is None:
            due, since = 500, float(now_ms)
        elif now_ms < move.next_at_ms:
            return
        else:
            since = max(move.next_at_ms, now_ms - 1000)
            due = int((now_ms - since) * move.rate / 1000) + 1
        limit = min(due, move.to_move - move.moved)
        moved = 0
        chosen = self.candidates(move.source, limit, now_ms) if limit > 0 else []
        for number, row in enumerate(chosen):
            target = move.destination or row.origin
            if target is None:
                move.status = "FAILED"
                for left in chosen[number:]:
                    self.hand_back(left, now_ms, at_once=True)
                break
            message = row.message
            if message.notes is not NOTHING:
                message = replace(message, notes=message.notes.fresh(now_ms))
            self.leave(row)
            self.enter(target, Outgoing(message=message, deduplication_id=row.deduplication_id), now_ms)
            moved += 1
        move.moved += moved
        if move.status == "FAILED":
            return
        move.next_at_ms = since if move.rate is None else since + moved * 1000 / move.rate
        if move.moved >= move.to_move or not self.of(move.source):
            move.status = "COMPLETED"
