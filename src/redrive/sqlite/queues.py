"""The queues of a database: what each is, and what it may become."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

import apsw

from redrive.broker import (
    LARGEST_MESSAGE,
    LONGEST_DELAY,
    MOST_RECEIVES,
    MOST_SOURCES,
    RETENTION,
    QueueSpec,
)
from redrive.errors import BrokerError, LimitExceeded, QueueConflict, QueueNotFound
from redrive.sqlite.statements import named

_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_SQL = named("queues.sql")


class Queue(NamedTuple):
    """A queue, as the engine needs it on every call."""

    id: int
    name: str
    fifo: int
    content_deduplication: int
    delay_ms: int
    retention_ms: int | None
    dead_letter_queue: str | None
    max_receives: int | None
    largest_message: int
    round: int
    deduplication_by_group: int

    def end_of_dead_letter(self, source: Queue, expires_at_ms: int | None) -> int | None:
        """When a dead letter is deleted here that would have been at `expires_at_ms` in `source`; None: as a new one.

        Source: Amazon SQS, "Using dead-letter queues": on a standard queue its age counts on, on a FIFO queue it begins
        anew.
        """
        if self.retention_ms is None or self.fifo or expires_at_ms is None or source.retention_ms is None:
            return None
        return expires_at_ms - source.retention_ms + self.retention_ms


class Queues:
    """Queues on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute
        self._changes = connection.changes

    def named(self, name: str) -> Queue:
        """The queue of this name.

        Raises:
            QueueNotFound: If there is none.
        """
        row = self._execute(_SQL["queue"], (name,)).fetchone()
        if row is None:
            raise QueueNotFound(name)
        return Queue(*row)

    def names(self) -> list[str]:
        """All names, sorted."""
        return [name for (name,) in self._execute(_SQL["names"])]

    def name_of(self, number: int | None) -> str | None:
        """The name of a queue that a message remembers; None when it was deleted."""
        found: str | None = self._execute(_SQL["name_of"], (number,)).get
        return found

    def sources(self, name: str) -> list[str]:
        """The queues whose dead-letter queue it is, sorted."""
        return [source for (source,) in self._execute(_SQL["sources"], (name,))]

    def times_ms(self, name: str) -> tuple[int, int]:
        """When a queue was made and when its settings changed last; 0: before that was written down.

        Raises:
            QueueNotFound: If there is none.
        """
        found: tuple[int, int] | None = self._execute(_SQL["times"], (name,)).fetchone()
        if found is None:
            raise QueueNotFound(name)
        return found

    def note_changed(self, number: int, now_ms: int) -> None:
        """Something of a queue changed that is not said here."""
        self._execute(_SQL["note_changed"], (number, now_ms))

    def declare(self, specs: Sequence[QueueSpec], now_ms: int) -> None:
        """Make the queues exist as described, all of them or none; repeating it writes nothing.

        A new retention counts for what is in the queue, from when each message entered.

        Raises:
            LimitExceeded: If a name or a setting is outside what a queue may have.
            QueueNotFound: If a dead-letter queue neither exists nor is among them; one that was deleted may stay named.
            QueueConflict: If a queue would have to change its kind, or may not have that dead-letter queue.
        """
        planned = {name: self.described(name) for name in self.names()} | {spec.name: spec for spec in specs}
        for spec in specs:
            if error := _out_of_limits(spec) or self._misdirected(spec, planned) or self._other_kind(spec):
                raise error
        for spec in specs:
            self._write(spec, now_ms)

    def described(self, name: str) -> QueueSpec:
        """The queue as it is.

        Raises:
            QueueNotFound: If there is none.
        """
        row = self._execute(_SQL["spec"], (name,)).fetchone()
        if row is None:
            raise QueueNotFound(name)
        fifo, by_content, by_group, delay_ms, retention_ms, dead_letter_queue, max_receives, allowed, largest = row
        return QueueSpec(
            name=name,
            fifo=bool(fifo),
            content_deduplication=bool(by_content),
            deduplication_by_group=bool(by_group),
            delay=delay_ms / 1000,
            retention=None if retention_ms is None else retention_ms / 1000,
            dead_letter_queue=dead_letter_queue,
            max_receives=max_receives,
            allowed_sources=None if allowed is None else tuple(json.loads(allowed)),
            largest_message=largest,
        )

    def delete(self, name: str) -> int:
        """Delete a queue and all that is in it; how many messages that were.

        Raises:
            QueueNotFound: If there is none.
        """
        number = self.named(name).id
        gone = self.empty(number)
        self.forget(number)
        self._execute(_SQL["delete"], (number,))
        return gone

    def forget(self, number: int) -> None:
        """Forget what was sent to a queue: no message is a duplicate of what came before."""
        for statement in ("forget_deduplication", "forget_attempts"):
            self._execute(_SQL[statement], (number,))

    def empty(self, number: int) -> int:
        """Delete everything in a queue; how many messages that were."""
        self._execute(_SQL["delete_messages"], (number,))
        gone = self._changes()
        self._execute(_SQL["delete_lines"], (number,))
        self._execute(_SQL["delete_tenants"], (number,))
        return gone

    def _misdirected(self, spec: QueueSpec, planned: dict[str, QueueSpec]) -> BrokerError | None:
        """Why its dead letters cannot go where it says; not that a queue was deleted which it has named all along."""
        problem = _misdirected(spec, planned)
        if not isinstance(problem, QueueNotFound) or spec.name not in self.names():
            return problem
        return None if self.described(spec.name).dead_letter_queue == spec.dead_letter_queue else problem

    def _other_kind(self, spec: QueueSpec) -> QueueConflict | None:
        row = self._execute(_SQL["spec"], (spec.name,)).fetchone()
        if row is None or bool(row[0]) is spec.fifo:
            return None
        kinds = ("a FIFO queue", "a standard queue") if row[0] else ("a standard queue", "a FIFO queue")
        return QueueConflict(
            spec.name,
            f"is {kinds[0]} and cannot become {kinds[1]}",
            "give the new one another name",
        )

    def _write(self, spec: QueueSpec, now_ms: int) -> None:
        before = self._execute(_SQL["retention"], (spec.name,)).fetchone()
        retention = None if spec.retention is None else int(spec.retention * 1000)
        allowed = None if spec.allowed_sources is None else json.dumps(spec.allowed_sources)
        self._execute(
            _SQL["declare"],
            (
                spec.name,
                spec.fifo,
                spec.content_deduplication,
                int(spec.delay * 1000),
                retention,
                spec.dead_letter_queue,
                spec.max_receives,
                allowed,
                spec.largest_message,
                spec.deduplication_by_group,
                now_ms,
            ),
        )
        if before is not None and before[1] != retention:
            number, old = before
            self._execute(_SQL["retain"], (number, old, retention, now_ms))


def _out_of_limits(spec: QueueSpec) -> LimitExceeded | None:
    sources = () if spec.allowed_sources is None else spec.allowed_sources
    for what, value, good, limit in (
        ("name of a queue", spec.name, _NAME.fullmatch(spec.name), "1 to 80 of the characters A-Z, a-z, 0-9, _ and -"),
        ("content_deduplication", True, spec.fifo or not spec.content_deduplication, "for FIFO queues: add fifo=True"),
        (
            "deduplication_by_group",
            True,
            spec.fifo or not spec.deduplication_by_group,
            "for FIFO queues: add fifo=True",
        ),
        ("delay of a queue", spec.delay, 0 <= spec.delay <= LONGEST_DELAY, "from 0 to 900 seconds"),
        (
            "retention",
            spec.retention,
            spec.retention is None or RETENTION[0] <= spec.retention <= RETENTION[1],
            "from 60 to 1209600 seconds, or None to keep for ever",
        ),
        (
            "largest_message",
            spec.largest_message,
            LARGEST_MESSAGE[0] <= spec.largest_message <= LARGEST_MESSAGE[1],
            "from 1024 to 1048576 bytes",
        ),
        ("allowed_sources", sources, len(sources) <= MOST_SOURCES, "at most 10 names, or None for every queue"),
    ):
        if not good:
            return LimitExceeded(what, value, limit)
    return None


def _misdirected(spec: QueueSpec, planned: dict[str, QueueSpec]) -> BrokerError | None:
    """Why its dead letters cannot go where it says."""
    if spec.dead_letter_queue is None and spec.max_receives is None:
        return None
    if spec.dead_letter_queue is None or spec.max_receives is None or not 1 <= spec.max_receives <= MOST_RECEIVES:
        return LimitExceeded("max_receives", spec.max_receives, "from 1 to 1000, together with a dead_letter_queue")
    target = planned.get(spec.dead_letter_queue)
    if target is None:
        return QueueNotFound(spec.dead_letter_queue)
    if target.fifo is not spec.fifo:
        return QueueConflict(target.name, f"is not of the kind of {spec.name!r}", "use a FIFO queue for a FIFO queue")
    if target.allowed_sources is not None and spec.name not in target.allowed_sources:
        return QueueConflict(
            target.name, f"does not take the dead letters of {spec.name!r}", "add it to its allowed_sources"
        )
    return None
