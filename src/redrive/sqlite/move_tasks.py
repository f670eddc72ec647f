"""Message move tasks: dead letters back to their queues, or to another one, at a rate.

A task moves at most as many messages as there were when it began, each in the transaction that also counts it: after a
crash it goes on where it was. Whoever calls `advance`, in whatever process, moves what is due by the database's state.

Source: Amazon SQS, StartMessageMoveTask, ListMessageMoveTasks, CancelMessageMoveTask.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import apsw

from redrive.broker import FASTEST_MOVE, MOST_MOVES_LISTED, Depth, MoveTask
from redrive.errors import LimitExceeded, QueueConflict, QueueNotFound
from redrive.sqlite.queues import Queue, Queues
from redrive.sqlite.rows import Row
from redrive.sqlite.statements import named

_AT_ONCE = 500
_LOOK_AGAIN_MS, _LOOK_AT_LEAST_MS = 100, 1_000
_BURST_MS = 1_000
"""What a rate may make up for, after nobody called for a while."""
_SQL = named("move_tasks.sql")


class Mover(Protocol):
    """The engine, as far as moves need it."""

    def take_to_move(self, source: Queue, limit: int, now_ms: int) -> list[Row]:
        """Lease up to `limit` messages, in order, whatever their receive count."""
        ...

    def move_row(self, source: Queue, row: Row, target: Queue, now_ms: int) -> None:
        """Move a leased row to another queue, for a new start there."""
        ...

    def leave_row(self, source: Queue, row: Row, now_ms: int) -> None:
        """Hand a leased row back as if it had not been received."""
        ...

    def next_visible_ms(self, queue: str) -> int | None:
        """When the next message of a queue may be received; None when it holds nothing."""
        ...

    def depth(self, queue: str, now_ms: int) -> Depth:
        """Count a queue's messages."""
        ...


class MoveTasks:
    """The tasks of one database."""

    def __init__(self, connection: apsw.Connection, mover: Mover, queues: Queues) -> None:
        self._execute = connection.execute
        self._mover, self._queues = mover, queues

    def start(self, source: str, destination: str | None, rate: int | None, now_ms: int) -> str:
        """Begin to move what is in a dead-letter queue; the task's id.

        Raises:
            QueueNotFound: If one of the queues does not exist.
            QueueConflict: If the source is no queue's dead-letter queue, is being moved already, or the destination is
                the source itself or of another kind.
            LimitExceeded: If the rate is outside 1 to 500.
        """
        found = self._queues.named(source)
        if rate is not None and not 1 <= rate <= FASTEST_MOVE:
            raise LimitExceeded("rate", rate, f"from 1 to {FASTEST_MOVE} messages a second, or None")
        if not self._queues.sources(source):
            raise QueueConflict(source, "is no queue's dead-letter queue", "move from one that is")
        if destination is not None:
            self._check(found, self._queues.named(destination))
        if running := self._execute(_SQL["running_for"], (source,)).get:
            raise QueueConflict(source, f"is being moved already, by task {running!r}", "wait for it, or cancel it")
        held = self._mover.depth(source, now_ms).total
        task: str = self._execute(_SQL["start"], (source, destination, rate, held, now_ms)).get
        self._execute(_SQL["forget"], (source, MOST_MOVES_LISTED - 1))
        return task

    def list(self, source: str, limit: int = MOST_MOVES_LISTED) -> list[MoveTask]:
        """The latest tasks of a source, the newest first; older ones than ten are forgotten."""
        self._queues.named(source)
        return [_task(row) for row in self._execute(_SQL["list"], (source, limit))]

    def cancel(self, task: str) -> int:
        """Stop a running task; how many messages it had moved, which stay moved.

        Raises:
            LimitExceeded: If no task of this id is running.
        """
        row = self._execute(_SQL["cancel"], (task,)).fetchone()
        if row is None:
            raise LimitExceeded("move task", task, "the id of a task that is running")
        moved: int = row[0]
        return moved

    def advance(self, now_ms: int) -> int | None:
        """Move what is due of all running tasks; when to call again. None: none is running."""
        rows: list[tuple[Any, ...]] = self._execute(_SQL["running"]).fetchall()
        running = [(_task(row), row[-1]) for row in rows]
        again = [self._step(task, next_at_ms, now_ms) for task, next_at_ms in running]
        return min((min(at, now_ms + _LOOK_AT_LEAST_MS) for at in again if at is not None), default=None)

    def _step(self, task: MoveTask, next_at_ms: float, now_ms: int) -> int | None:
        due, next_at_ms = _due(task.rate, next_at_ms, now_ms)
        if not due:
            return int(next_at_ms) + 1
        moved = 0
        try:
            source = self._queues.named(task.source)
            for row, target in self._leased(task, source, min(due, task.to_move - task.moved), now_ms):
                self._mover.move_row(source, row, target, now_ms)
                moved += 1
        except (QueueNotFound, QueueConflict) as error:
            self._execute(_SQL["fail"], (task.id, moved, str(error)))
            return None
        step = 0.0 if task.rate is None else moved * 1000 / task.rate
        self._execute(_SQL["count"], (task.id, moved, next_at_ms + step))
        return self._next(task, moved, int(next_at_ms + step), now_ms)

    def _leased(self, task: MoveTask, source: Queue, limit: int, now_ms: int) -> Iterator[tuple[Row, Queue]]:
        rows = self._mover.take_to_move(source, limit, now_ms) if limit > 0 else []
        for number, row in enumerate(rows):
            try:
                target = self._target(task, source, row)
            except (QueueNotFound, QueueConflict):
                for left in rows[number:]:
                    self._mover.leave_row(source, left, now_ms)
                raise
            yield row, target

    def _target(self, task: MoveTask, source: Queue, row: Row) -> Queue:
        name = task.destination or self._queues.name_of(row.origin)
        if name is None:
            problem = f"holds message {row.id!r}, which is no queue's dead letter"
            raise QueueConflict(source.name, problem, "name a destination")
        target = self._queues.named(name)
        self._check(source, target)
        return target

    def _next(self, task: MoveTask, moved: int, next_at_ms: int, now_ms: int) -> int | None:
        left = self._mover.next_visible_ms(task.source)
        if task.moved + moved >= task.to_move or left is None:
            self._execute(_SQL["complete"], (task.id,))
            return None
        return max(next_at_ms, left, now_ms if moved else now_ms + _LOOK_AGAIN_MS)

    def _check(self, source: Queue, target: Queue) -> None:
        if target.id == source.id:
            raise QueueConflict(source.name, "cannot be moved to itself", "name another destination")
        if target.fifo != source.fifo:
            raise QueueConflict(target.name, f"is not of the kind of {source.name!r}", "move FIFO to FIFO only")


def _due(rate: int | None, next_at_ms: float, now_ms: int) -> tuple[int, float]:
    """How many messages the rate allows now, and the time from which it counts on."""
    if rate is None:
        return _AT_ONCE, float(now_ms)
    if now_ms < next_at_ms:
        return 0, next_at_ms
    since = max(next_at_ms, now_ms - _BURST_MS)
    return min(_AT_ONCE, int((now_ms - since) * rate / 1000) + 1), since


def _task(row: tuple[Any, ...]) -> MoveTask:
    names = ("id", "source", "destination", "rate", "status", "to_move", "moved", "started_at_ms", "failure")
    return MoveTask(**dict(zip(names, row, strict=False)))
