"""`redrive recover`: copies what is whole from a damaged file into a new one, and writes down what is not.

The file is read by hand and not touched: what SQLite makes of it does not matter.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from redrive.errors import DatabaseUnusable, OperationRefused
from redrive.sqlite.damage.checks import LONGEST_WAIT_MS, NEVER_JSON, is_json
from redrive.sqlite.damage.damaged_rows import DamagedRows
from redrive.sqlite.damage.fitting import CLOCK_STEP_MS, Kind, fitted
from redrive.sqlite.damage.identity import identified
from redrive.sqlite.damage.layout import Layout
from redrive.sqlite.damage.logfile import LogFile
from redrive.sqlite.damage.new_database import NewDatabase, building
from redrive.sqlite.damage.outcome import Outcome, Saved
from redrive.sqlite.damage.pages import Pages
from redrive.sqlite.damage.salvage import Damaged, Salvage
from redrive.sqlite.damage.staging import ValuesByName
from redrive.sqlite.damage.surroundings import holder, state_of
from redrive.sqlite.deduplication import INTERVAL_MS
from redrive.sqlite.statements import named

_SQL = named("damage/recover.sql")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_FAR = 1 << 40
"""A number so far above all others was not given: it is damaged."""
_GAP = 1_000_000
"""Left between the highest number that is known and the next, where the last one given is not known."""
_DAY_MS = 86_400_000


def recover(path: str, new_path: str, now_ms: int, *, dry_run: bool = False) -> Outcome:
    """Save what is whole of a file.

    Takes about a minute for a million messages, and room for the new file; memory does not grow with it. With `dry_run`
    the room is needed too, where temporary files are.

    Args:
        path: the damaged file; only read. Its log is read too, also what SQLite would drop of it.
        new_path: the new file; refused if it exists.
        now_ms: the wall clock.
        dry_run: say what would be saved, and make nothing.

    Raises:
        OperationRefused: If the new file exists or the old one is in use.
        DatabaseUnusable: If the old file cannot be read or is not redrive's, or the new one cannot be made.
        DatabaseTooNew: If a later version of redrive wrote it.
    """
    _check(path, new_path)
    before = state_of(path)
    try:
        with Pages(path, saved=True) as pages:
            found, roots = identified(pages, path)
            outcome = Outcome(path=path, new_path=new_path, dry_run=dry_run, schema=found.version)
            salvage = Salvage(pages, found, roots, now_ms)
            if salvage.is_empty():
                raise DatabaseUnusable(path, "holds nothing of redrive", "name another file")
            with (
                DamagedRows(None if dry_run else outcome.damaged_path) as damaged,
                building(None if dry_run else new_path, found, path) as database,
            ):
                _Recovery(salvage, database, damaged, outcome).run(found, pages.log, now_ms)
                if state_of(path) != before:
                    raise OperationRefused(f"{path!r}", "changed while it was read", "stop the workers first")
    except OSError as error:
        place = error.filename2 or error.filename or path
        raise DatabaseUnusable(place, f"cannot be used ({error.strerror})", "check owner, mode and disk") from None
    except apsw.Error as error:
        raise DatabaseUnusable(
            new_path, f"cannot be written ({error})", "check the disk, and that of temporary files"
        ) from None
    return outcome


class _Recovery:
    """One recovery, from what was found to the new file."""

    def __init__(self, salvage: Salvage, database: NewDatabase, damaged: DamagedRows, outcome: Outcome) -> None:
        self._salvage, self._database, self._damaged, self._outcome = salvage, database, damaged, outcome
        self._now_ms = 0
        self._kinds: dict[int, Kind] = {}
        self._names: dict[int, str] = {}
        self._last: dict[str, int] = {}

    def run(self, found: Layout, log: LogFile, now_ms: int) -> None:
        """Fill the new database."""
        self._now_ms = self._clock(now_ms)
        self._queues(found)
        self._messages()
        self._entries()
        for table in ("deduplication", "receive_attempt", "move_task", "sqs_queue", "sqs_deleted_queue"):
            if table in found.tables:
                self._others(table)
        for one in self._salvage.damaged():
            self._give_up(one)
        self._write_unreadable()
        if "line" in found.tables:
            self._make_anew()
        self._database.execute(_SQL["no_sequences"])
        for table in ("queue", "message", "move_task"):
            if table in found.tables:
                self._database.execute(_SQL["sequence"], (table, self._last_number(table)))
        self._tell(log)

    # Table by table

    def _clock(self, wall_ms: int) -> int:
        """The time that the new file begins with: what the old one had, unless nothing bears it out."""
        marks: list[Any] = [one.values["clock_high_water_ms"] for one in self._salvage.saved("meta") if one.row == 1]
        mark = max(marks, default=0)
        if not marks:
            self._note("its clock could not be read: the new file takes the wall clock's time")
            mark = wall_ms
        elif mark > wall_ms + CLOCK_STEP_MS and mark > self._last_sent_ms() + _DAY_MS:
            self._note("its clock was far ahead of everything in it: the new file takes the wall clock's time")
            mark = wall_ms
        self._put("meta", {"only_row": 1, "clock_high_water_ms": mark})
        return max(mark, wall_ms)

    def _last_sent_ms(self) -> int:
        sent: Iterator[Any] = (one.values["sent_at_ms"] for one in self._salvage.saved("message"))
        return max(sent, default=0)

    def _queues(self, found: Layout) -> None:
        """All queues that are known by their rows, by the index of their names, or only by their messages."""
        known: dict[int, ValuesByName] = {one.row: one.values for one in self._salvage.saved("queue")}
        for lost in self._salvage.damaged():
            if lost.table == "queue":
                known.setdefault(lost.row, dict(lost.values or {}))
        kinds = self._salvage.kinds()
        defaults = {column.name: column.default for column in found.tables["queue"].columns}
        for number in sorted(known.keys() | kinds.keys()):
            self._queue(number, defaults, known.get(number, {}), fifo=kinds.get(number))

    def _queue(self, number: int, defaults: ValuesByName, known: ValuesByName, *, fifo: bool | None) -> None:
        name = known.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in self._names.values():
            name = f"recovered-{number}"
            self._note(f"the name of queue number {number} could not be read: it is {name!r} now")
        kind = {"fifo": int(fifo)} if fifo is not None and "fifo" in defaults else {}
        values: Any = defaults | known | {"id": number, "name": name} | kind
        if len(known) < len(defaults) or not self._put("queue", values):
            values = defaults | {"id": number, "name": name} | kind
            self._put("queue", values)
            self._note(f"the settings of queue {name!r} could not be read: its application declares them when it opens")
        self._kinds[number] = Kind(bool(values.get("fifo")), values.get("retention_ms"), values.get("round", 0))
        self._names[number] = name
        self._outcome.queues[name] = Saved()

    def _messages(self) -> None:
        last_queue, end = self._last_number("queue"), self._last_number("message")
        for row, values, _ in self._salvage.saved("message"):
            number: Any = values["queue"]
            has_phases = "phase" in values
            placed = fitted(values, self._kinds[number], self._now_ms, last_queue) if has_phases else values
            if not self._put("message", placed):  # its number is another one's too: it goes behind all others
                end += 1
                if not self._put("message", placed | {"seq": end}):
                    self._give_up(Damaged("message", row, number, "no queue can have it", values))
                    continue
            saved = self._outcome.queues[self._names[number]]
            saved.messages += 1
            saved.unchecked += values.get("checksum") is None
        for doubted, count in self._salvage.in_doubt().items():
            self._outcome.queues[self._names[doubted]].in_doubt = count
        self._last["message"] = end

    def _entries(self) -> None:
        for row, values, own_key in self._salvage.saved("entry"):
            value: Any = values["value"]
            if values["namespace"] not in NEVER_JSON and not is_json(value):
                self._give_up(Damaged("entry", row, None, "it is no JSON", values))
            elif not any(self._put("entry", values | other) for other in ({}, own_key, own_key | {"number": None})):
                self._give_up(Damaged("entry", row, None, "another one has its key", values))

    def _others(self, table: str) -> None:
        """What FIFO queues remember, move tasks, and what clients that speak SQS said of queues."""
        for row, values, _ in self._salvage.saved(table):
            if not self._makes_sense(table, values) or not self._put(table, values):
                self._give_up(Damaged(table, row, None, "it cannot be", values))

    def _makes_sense(self, table: str, values: ValuesByName) -> bool:
        facts: Any = values
        if table == "move_task":
            facts["next_at_ms"] = min(facts["next_at_ms"], float(self._now_ms + LONGEST_WAIT_MS))
            return bool(facts["moved"] <= facts["to_move"])
        if table == "sqs_deleted_queue":
            return True
        kind = self._kinds.get(facts["queue"])
        if table == "sqs_queue":
            objects = all(_is_object(facts[column]) for column in ("attributes", "tags"))
            return kind is not None and objects
        if kind is None or not kind.fifo or facts["expires_at_ms"] > self._now_ms + INTERVAL_MS + CLOCK_STEP_MS:
            return False
        if table == "receive_attempt":
            return is_json(facts["receipts"].encode()) and isinstance(json.loads(facts["receipts"]), list)
        return bool(1 <= facts["sequence"] <= self._last_number("message"))

    def _make_anew(self) -> None:
        """Lines and tenants, from the messages; and what hangs on queues that are not there."""
        for statement in ("lines", "tenants", "fail_moves"):
            self._database.execute(_SQL[statement])
        for (name,) in self._database.execute(_SQL["forget_dead_letter_queues"]):
            self._note(f"the dead-letter queue of {name!r} is not there: its application declares it when it opens")

    def _last_number(self, table: str) -> int:
        """The number that was given last; a gap does no harm, giving one again does."""
        if table not in self._last:
            highest, stored = self._salvage.highest(table), self._salvage.sequences.get(table)
            if stored is None:
                self._last[table] = highest + _GAP if highest else 0
            else:
                self._last[table] = stored if highest <= stored < highest + _FAR else highest + _GAP
        return self._last[table]

    # Counting

    def _put(self, table: str, values: ValuesByName) -> bool:
        is_taken = self._database.put(table, values)
        self._outcome.rows[table] += is_taken
        return is_taken

    def _give_up(self, one: Damaged) -> None:
        self._outcome.damaged[one.table] += 1
        queue = None if one.queue is None else self._names.get(one.queue, f"number {one.queue}")
        if one.table == "message":
            self._outcome.queues.setdefault(queue or "unknown", Saved()).damaged[one.reason] += 1
        self._damaged.write(one.table, one.reason, one.values, queue=queue, number=one.row)

    def _write_unreadable(self) -> None:
        for table, page, problem, data in self._salvage.unreadable():
            self._outcome.unreadable[table] += 1
            content = base64.b64encode(data).decode()
            self._damaged.write(table, f"page {page} {problem}", None, page=page, content=content)

    def _tell(self, log: LogFile) -> None:
        self._outcome.left = self._salvage.left()
        self._outcome.mended = self._salvage.mended.total()
        if older := self._salvage.searched("message"):
            self._note(
                f"{older} messages were found only in an unused part of a page: their notes and counts may be older"
            )
        if log.dropped_commits:
            self._note(f"{log.dropped_commits} transactions were read from its log that SQLite would have dropped")
        if log.torn:
            self._note(
                "the last transaction of its log is not whole and was left out: a crash in mid-commit, or damage"
            )

    def _note(self, sentence: str) -> None:
        self._outcome.notes.append(sentence)


def _is_object(text: str) -> bool:
    return is_json(text.encode()) and isinstance(json.loads(text), dict)


def _check(path: str, new_path: str) -> None:
    if not Path(path).is_file():
        raise DatabaseUnusable(path, "does not exist", "check the name")
    for place in (new_path, f"{new_path}.damaged.jsonl"):
        if os.path.lexists(place):
            raise OperationRefused(f"{place!r}", "exists, and is not overwritten", "name another file")
    if not Path(new_path).parent.is_dir():
        raise DatabaseUnusable(
            new_path, "is in a folder that does not exist", f"make {str(Path(new_path).parent)!r} first"
        )
    if (process := holder(path)) is not None:
        raise OperationRefused(f"{path!r}", f"is open in process {process}", "stop the workers first")
