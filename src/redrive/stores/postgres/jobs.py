"""What waits for the database, and what of it is asked in one statement. Pure.

Invariants:
    1. A statement writes each entry once at most: of two writes to one entry, the later waits for the next statement.
    2. Its writes are in the order of their keys, so that two processes that write the same entries do not wait for
       each other for ever.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from redrive.store import Entry, Namespace
from redrive.stores.postgres.address import PostgresAddress

MOST_BYTES = 8 * 1024 * 1024
"""Values in one statement, in bytes; one value is taken whatever its size."""


@dataclass(slots=True, kw_only=True)
class Job:
    """A call whose caller waits for `answer`."""

    MOST: ClassVar[int] = 1
    """How many are asked in one statement."""

    answer: asyncio.Future[Any]
    asked_at: float
    """By the loop's clock."""
    doubtful: bool = field(default=False, init=False)
    """Whether an earlier try may have happened."""

    @property
    def place(self) -> object:
        """What no two jobs of a statement may have in common."""
        return id(self)

    @property
    def size(self) -> int:
        """Bytes that are sent."""
        return 0

    def done(self, answer: object) -> None:
        """Answer the caller, unless it has gone."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def failed(self, error: Exception) -> None:
        """Tell the caller why not, unless it has gone."""
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(slots=True, kw_only=True)
class Write(Job):
    """A put, or a delete where there is no value; answered with the version, or a conflict."""

    MOST: ClassVar[int] = 500

    namespace: Namespace
    key: str
    value: bytes | None
    if_version: int
    version: int
    """The new one; of a delete, what it is known by."""
    due_at_ms: int | None = None
    expires_at_ms: int | None = None

    @property
    def place(self) -> tuple[str, str]:
        """Where the entry stands: invariant 1."""
        return self.namespace.name, self.key

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return len(self.value or b"")


@dataclass(slots=True, kw_only=True)
class Read(Job):
    """A get; answered with the entry or None."""

    MOST: ClassVar[int] = 100

    namespace: Namespace
    key: str

    @property
    def place(self) -> tuple[str, str]:
        """Where the entry stands."""
        return self.namespace.name, self.key


@dataclass(slots=True, kw_only=True)
class Listing(Job):
    """`due` or `scan`; answered with entries."""

    statement: str
    arguments: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Declaring(Job):
    """Looking at the table, or making it; answered with None."""

    address: PostgresAddress


@dataclass(slots=True, kw_only=True)
class Notice(Job):
    """A notification for a namespace; answered with None."""

    namespace: str


def taken(waiting: deque[Job]) -> list[Job]:
    """Take from what waits, which is not nothing, the first job and those that can be asked with it."""
    first = waiting[0]
    batch: list[Job] = []
    places: set[object] = set()
    size, left = 0, []
    while waiting:
        job = waiting.popleft()
        fits = len(batch) < first.MOST and (not batch or size + job.size <= MOST_BYTES)
        if type(job) is type(first) and fits and job.place not in places:
            batch.append(job)
            places.add(job.place)
            size += job.size
        else:
            left.append(job)
    waiting.extend(left)
    return batch


def written(jobs: Sequence[Write], *, told: Sequence[str], channel: str, now_ms: int) -> dict[str, Any]:
    """The arguments of the statement `write`; it notifies for those of the namespaces `told` that it writes to."""
    jobs = sorted(jobs, key=lambda job: job.place)
    return {
        "namespaces": [job.namespace.name for job in jobs],
        "keys": [kept(job.key) for job in jobs],
        "contents": [job.value for job in jobs],
        "if_versions": _numbers(job.if_version for job in jobs),
        "versions": _numbers(job.version for job in jobs),
        "dues": _numbers(job.due_at_ms for job in jobs),
        "expiries": _numbers(job.expires_at_ms for job in jobs),
        "told": list(told),
        "channel": channel,
        "now_ms": now_ms,
    }


def standing(jobs: Sequence[Write]) -> dict[str, Any]:
    """The arguments of the statement `standing`."""
    return {**places(jobs), "versions": _numbers(job.version for job in jobs)}


def places(jobs: Sequence[Write | Read]) -> dict[str, Any]:
    """Where the entries of jobs stand."""
    return {"namespaces": [job.namespace.name for job in jobs], "keys": [kept(job.key) for job in jobs]}


def entry_of(row: Sequence[Any]) -> Entry:
    """The entry that a row of key, value, version and due time is."""
    key, value, version, due_at_ms = row
    return Entry(key=given(key), value=bytes(value), version=version, due_at_ms=due_at_ms)


def kept(key: str) -> str:
    """The key as the table has it, in the same order: PostgreSQL's text holds no NUL.

    It and its neighbour are two characters each.
    """
    return key.replace("\1", "\1\2").replace("\0", "\1\1") if "\0" in key or "\1" in key else key


def given(key: str) -> str:
    """The key as it was given."""
    return key.replace("\1\1", "\0").replace("\1\2", "\1") if "\1" in key else key


def _numbers(values: Iterable[int | None]) -> str:
    """An array as PostgreSQL writes it: a list would have a type that depends on its largest number."""
    return "{" + ",".join("NULL" if value is None else str(value) for value in values) + "}"
