"""What the doctor asks of a database that SQLite can read: is it whole, and does it say what the engine would say?

Every check stands alone: one that runs into damage says so, and the next one goes on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import apsw

from redrive.broker import LONGEST_LEASE, RETENTION
from redrive.sqlite.damage.findings import MOST_SHOWN, Finding, Report
from redrive.sqlite.damage.fitting import CLOCK_STEP_MS
from redrive.sqlite.damage.layout import layout
from redrive.sqlite.damage.rows_by_hand import fits
from redrive.sqlite.deduplication import INTERVAL_MS
from redrive.sqlite.rows import DAMAGED
from redrive.sqlite.statements import named
from redrive.store import BODIES

_SQL = named("damage/checks.sql")
LONGEST_WAIT_MS = 600_000
"""Of a move task: a rate of one message a second, after five hundred were moved at once, and something."""
NEVER_JSON = {BODIES.name}
"""Namespaces whose values are whatever somebody sent; in all others they are JSON."""


class Rule(NamedTuple):
    """What a statement of `checks.sql` finds, in words: {0} and on are what it selects behind queue and id."""

    kind: str
    problem: str
    remedy: str | None = None
    """None: recover."""


_MESSAGE = "message {id!r} of queue {queue!r}"
_LINE = "the line of group {0!r} in queue {queue!r}"
RULES = {
    "other_kind": Rule("phase", f"{_MESSAGE} is in phase {{0}}, and that is {{1}} queue"),
    "without_receipt": Rule("lease", f"{_MESSAGE} is leased without a receipt"),
    "with_receipt": Rule("lease", f"{_MESSAGE} has a receipt and is not leased"),
    "never_received": Rule("receive-count", f"{_MESSAGE} is leased and was never received"),
    "received_too_often": Rule("receive-count", f"{_MESSAGE} was received {{0}} times, more than any limit allows"),
    "far_future": Rule("lease", f"{_MESSAGE} is {{0}} for {{1}} hours from now; 12 are the most"),
    "ready_later": Rule("lease", f"{_MESSAGE} is ready since a time that is {{0}} seconds from now"),
    "never_expires": Rule("retention", f"{_MESSAGE} never expires, although its queue has a retention"),
    "expires": Rule("retention", f"{_MESSAGE} expires, although its queue keeps everything"),
    "expires_late": Rule("retention", f"{_MESSAGE} expires {{0}} days from now; 14 are the most"),
    "unknown_origin": Rule(
        "origin", f"{_MESSAGE} is said to be the dead letter of queue number {{0}}, which never was"
    ),
    "without_group": Rule("line", f"{_MESSAGE} stands in a FIFO queue without a group"),
    "no_line": Rule("line", f"{_LINE} is missing: its {{1}} messages wait for ever"),
    "line_without_messages": Rule("line", f"{_LINE} is empty"),
    "wrong_line": Rule("line", f"{_LINE} is free {{1}} than its messages say, by {{2}} ms"),
    "wrong_front": Rule("line", f"{_LINE} begins with another message than it says"),
    "no_tenant": Rule("tenant", "{1} messages of group {0!r} of queue {queue!r} stand in rounds that nobody gave them"),
    "no_round": Rule("tenant", f"{_MESSAGE} stands in round {{0}}, which cannot be"),
    "dead_letter_queue": Rule(
        "dead-letter-queue",
        "queue {queue!r} has the dead-letter queue {0!r}, {1}: its limit means nothing",
        "declare that queue, or give this one another",
    ),
    "queue_settings": Rule("queue", "queue {queue!r} has settings that could not be declared"),
    "deduplication": Rule(
        "deduplication", "queue {queue!r} remembers the deduplication id {id!r} in a way that cannot be"
    ),
    "receive_attempt": Rule("deduplication", "queue {queue!r} remembers the receive {id!r} in a way that cannot be"),
    "sqs_queue": Rule("queue", "what was said of queue {queue!r} in the language of SQS is not JSON"),
    "move_task": Rule("move-task", "move task {id!r} of queue {queue!r} {0}", "cancel it and start another"),
}


class Checks:
    """All checks of one database, in one look."""

    def __init__(self, connection: apsw.Connection, report: Report, now_ms: int) -> None:
        self._execute = connection.execute
        self._connection = connection
        self._report = report
        self._now_ms = now_ms
        self._wall_ms = now_ms
        self._names: dict[int, str] = {}

    def structure(self) -> None:
        """What SQLite itself finds: pages, indexes, types, constraints, references."""
        with self._reading("the database"):
            lines = [line for (line,) in self._execute("PRAGMA integrity_check") if line != "ok"]
            for line in _single(lines):
                self._found("integrity", f"SQLite finds in {self._report.path!r}: {line}")
        with self._reading("the references between tables"):
            for table, row, parent, _ in self._execute("PRAGMA foreign_key_check"):
                self._found("reference", f"row {row} of {table!r} in {self._report.path!r} belongs to no {parent}")

    def definitions(self) -> None:
        """Whether tables and indexes are what redrive made them."""
        with self._reading("the definitions of the tables"):
            found = {
                (_text(kind), _text(name)): sql if sql is None else _text(sql)
                for kind, name, sql in self._execute(
                    "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(sql AS BLOB) FROM sqlite_schema"
                )
            }
            wanted = layout(self._report.schema or 0).definitions
            for (kind, name), sql in wanted.items():
                if (kind, name) not in found:
                    self._found("definition", f"{kind} {name!r} is missing from {self._report.path!r}")
                elif found[kind, name] != sql:
                    self._found("definition", f"{kind} {name!r} of {self._report.path!r} is not as redrive made it")
            foreign = sorted(name for _, name in found.keys() - wanted.keys() if not name.startswith("sqlite_stat"))
            if foreign:
                self._report.notes.append(f"there is something that is not redrive's: {', '.join(foreign)}")

    def texts(self) -> None:
        """Whether every text is one, but for those of messages that have a checksum: SQLite does not ask."""
        for table in layout(self._report.schema or 0).tables.values():
            columns = [column.name for column in table.columns if column.kind == "TEXT"]
            if table.name == "message":
                columns = [name for name in columns if name == "deduplication_id"]
            if not columns:
                continue
            chosen = ", ".join(f"CAST({name} AS BLOB)" for name in columns)
            with self._reading(f"table {table.name!r}"):
                for row in self._execute(f"SELECT {chosen} FROM {table.name}"):  # noqa: S608 - our own names
                    for name, value in zip(columns, row, strict=True):
                        if not _is_text(value):
                            self._found(
                                "text", f"{table.name}.{name} of {self._report.path!r} holds a text that is none"
                            )

    def rows(self) -> None:
        """Every message against its checksum, one after the other, and every entry."""
        with self._reading("the queues"):
            self._names = {number: _text(name) for number, name in self._execute(_SQL["queues"])}
            self._report.queues = len(self._names)
        with self._reading("the messages"):
            for row in self._execute(_SQL["messages"]):
                self._report.messages += 1
                self._message(*row)
        with self._reading("the entries of the store"):
            for namespace, key, value in self._execute(_SQL["entries"]):
                self._report.entries += 1
                if _text(namespace) not in NEVER_JSON and not is_json(value):
                    name = f"entry {_text(key)!r} of {_text(namespace)!r}"
                    self._found("entry", f"{name} is no JSON", id=_text(key))

    def clock(self) -> None:
        """The stored clock against the wall clock."""
        with self._reading("the clock"):
            rows = self._execute(_SQL["clock"]).fetchall()
            if len(rows) != 1 or rows[0][0] != 1 or not isinstance(rows[0][1], int):
                self._found("clock", f"{self._report.path!r} has lost the time at which it stood")
                return
            ahead = rows[0][1] - self._wall_ms
            self._now_ms = max(self._now_ms, rows[0][1])
            if ahead > CLOCK_STEP_MS:
                remedy = "set the wall clock right; if it is right, " + self._report.recover
                problem = f"the time at which {self._report.path!r} stood is {ahead // 1000} s ahead of the wall clock"
                self._found("clock", problem, remedy=remedy)

    def invariants(self) -> None:
        """What the engine would never write."""
        times = {
            "now": self._now_ms + CLOCK_STEP_MS,  # the stored clock is a little behind the engine's
            "longest": int(LONGEST_LEASE * 1000),
            "keeping": int(RETENTION[1] * 1000),
            "remembered": INTERVAL_MS,
            "longest_wait": LONGEST_WAIT_MS,
        }
        for name, rule in RULES.items():
            with self._reading(f"what the check {name!r} asks for"):
                for row in self._execute(_SQL[name], times):
                    queue, identity, *values = [_text(one) if isinstance(one, bytes) else one for one in row]
                    problem = rule.problem.format(*values, queue=queue, id=identity)
                    self._found(rule.kind, problem, queue=queue, id=identity, remedy=rule.remedy)
        self._sequences()

    def _sequences(self) -> None:
        with self._reading("the numbers given last"):
            rows = self._execute(_SQL["sequences"]).fetchall()
            given = {_text(name): seq for name, seq in rows}
            if len(given) < len(rows):
                self._found("sequence", f"a table of {self._report.path!r} has two numbers that were given last")
            for table, highest in self._execute(_SQL["highest"]):
                if highest is not None and highest > given.get(table, 0):
                    problem = f"table {table!r} of {self._report.path!r} has number {highest}, which was never given"
                    self._found("sequence", problem)

    def _message(self, seq: int, queue: int, phase: int, check: int | None, *content: Any) -> None:  # noqa: ANN401
        name, identity = self._names.get(queue, f"number {queue}"), _text(content[0])
        if phase == DAMAGED:
            self._report.set_aside += 1
            problem = (
                f"message {identity!r} of queue {name!r} was set aside: its checksum did not fit when it was received"
            )
            self._found("set-aside", problem, queue=name, id=identity)
            return
        self._report.unchecked += check is None
        if not fits(check, content):
            reason = "cannot be read, and has no checksum" if check is None else "does not fit its checksum"
            problem = f"message {identity!r} of queue {name!r}, number {seq}, {reason}"
            self._found("checksum", problem, queue=name, id=identity)

    @contextlib.contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except (apsw.Error, UnicodeDecodeError, TypeError, ValueError) as error:
            kind = "unreadable" if isinstance(error, apsw.CorruptError) else "unexpected"
            self._found(kind, f"{what} of {self._report.path!r} cannot be read to the end ({_reason(error)})")

    def _found(
        self,
        kind: str,
        problem: str,
        *,
        queue: str | None = None,
        id: str | None = None,  # noqa: A002 - the name that the finding has
        remedy: str | None = None,
    ) -> None:
        remedy = self._report.recover if remedy is None else remedy
        self._report.add(Finding(kind=kind, problem=problem, remedy=remedy, queue=queue, id=id))


def _is_text(value: object) -> bool:
    try:
        if isinstance(value, bytes):
            value.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_json(value: bytes) -> bool:
    """Whether it is JSON."""
    try:
        json.loads(value)
    except ValueError:
        return False
    return True


def _single(lines: list[str]) -> list[str]:
    """Lines of the integrity check; where it gives several in one, each by itself."""
    split = [part for line in lines for part in line.split("\n") if not part.startswith("***")]
    return split[: 5 * MOST_SHOWN]


def _reason(error: Exception) -> str:
    """Why, without anything that was read: a decoder's error holds what it could not decode."""
    return str(error) if isinstance(error, apsw.Error) else type(error).__name__


def _text(raw: object) -> str:
    """What was read, for people; where a text should be, damage may have left anything."""
    return raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else str(raw)
