"""What can be read of a damaged file: rows, taken from where they stand in the pages, and what is true of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from redrive.sqlite.damage.cells import Broken, Cell, Page, record
from redrive.sqlite.damage.judging import Judge, Suspects, sortable
from redrive.sqlite.damage.layout import Index, Layout, Table
from redrive.sqlite.damage.pages import Missing, Pages
from redrive.sqlite.damage.staging import KEYS, PHASES, Staging, ValuesByName
from redrive.sqlite.damage.trees import Fault, Forest, in_order, with_order

MADE_ANEW = {"line", "tenant"}
"""Tables that follow from the messages."""
_BELIEVED = ("queue", "phase", "round", "visible_at_ms", "expires_at_ms")
_SEQUENCE = "sqlite_sequence"


class Saved(NamedTuple):
    """A row that is saved, with what is believed of it."""

    row: int
    values: ValuesByName
    own_key: ValuesByName
    """What it is searched by, as it says itself, where an index said something else."""


class Damaged(NamedTuple):
    """A row that is not saved."""

    table: str
    row: int
    queue: int | None
    reason: str
    values: ValuesByName | None
    """What can be read of it; None: nothing."""


class Salvage:
    """One file, read once from its first page to its last."""

    def __init__(self, pages: Pages, wanted: Layout, roots: dict[str, int], now_ms: int) -> None:
        """Read it.

        Args:
            pages: the file, with all that its log has.
            wanted: how its tables ought to be.
            roots: the first page of each tree; of some the usual one, where the schema cannot be read.
            now_ms: the wall clock.
        """
        self._pages, self._wanted = pages, wanted
        self._staging = Staging()
        self._forest = Forest(pages)
        self._faults: dict[str, list[Fault]] = {}
        self._page: Page | None = None
        self.sequences: dict[str, int] = {}
        """The numbers given last, by table."""
        self._read_trees(roots)
        strays = self._read_strays()
        self._staging.complete()
        judge = Judge(self._staging, pages, wanted, now_ms)
        suspects = {name: {fault.page for fault in self._faults[name]} for name in wanted.tables}
        judge.judge(Suspects(suspects, strays), filter(self._indexes_are_whole, ("message", *KEYS)))
        self.mended: Counter[str] = judge.mended
        """Rows that an index knew better, by table."""

    # What was found

    def is_empty(self) -> bool:
        """Whether there is nothing in it that redrive could have written."""
        return not self._staging.ask("anything")

    def saved(self, table: str) -> Iterator[Saved]:
        """The rows of a table that are saved, by their numbers."""
        form = self._wanted.tables[table]
        for row, page, offset, kind, key, *believed in self._staging.stream("saved", table):
            values = self._values(form, page, offset, kind)
            if values is None:
                continue
            if form.rowid is not None:
                values[form.columns[form.rowid].name] = row
            if table == "message":
                told = zip(_BELIEVED, believed, strict=True)
                values.update((name, value) for name, value in told if name in values)
            own_key = {name: values[name] for name in KEYS.get(table, ())}
            if key is not None:
                values.update(zip(KEYS[table], json.loads(key), strict=True))
            yield Saved(row, values, own_key)

    def damaged(self) -> Iterator[Damaged]:
        """The rows that are not saved, and those of which nothing was found but their number in an index."""
        for table, row, page, offset, kind, queue in self._staging.stream("damaged"):
            values = self._values(self._wanted.tables[table], page, offset, kind)
            yield Damaged(table, row, queue, "it does not fit its checksum", values)
        for table in ("message", *KEYS):
            for row, queue, key in self._staging.stream("lost_rows", table):
                known = None if key is None else dict(zip(KEYS[table], json.loads(key), strict=True))
                yield Damaged(table, row, queue, "an index knows it, and nothing of it can be read", known)

    def unreadable(self) -> Iterator[tuple[str, int, str, bytes]]:
        """Places in tables that cannot be read, of which nobody knows what stood there: table, page, why, the page."""
        for table in sorted(self._wanted.tables.keys() - MADE_ANEW):
            for page, problem in {fault.page: fault.problem for fault in self._faults[table]}.items():
                try:
                    yield table, page, problem, self._pages.read(page)
                except Missing:
                    yield table, page, problem, b""

    def left(self) -> dict[str, int]:
        """How many old copies of rows that were deleted or changed were left out, by table."""
        return dict(self._staging.ask("left"))

    def searched(self, table: str) -> int:
        """How many saved rows were found only where nothing points to any more: they may be older than the last."""
        ((found,),) = self._staging.ask("searched", table)
        return int(found)

    def in_doubt(self) -> dict[int, int]:
        """How many messages may have been handled already, by queue."""
        return {} if self._indexes_are_whole("message") else dict(self._staging.ask("in_doubt", "message"))

    def kinds(self) -> dict[int, bool | None]:
        """Whether a queue is FIFO, by its messages; None where they do not agree."""
        rows = self._staging.ask("kinds")
        return {queue: bool(fifo) if fifo != standard else None for queue, fifo, standard in rows}

    def highest(self, table: str) -> int:
        """The highest number that is known of a table."""
        ((found,),) = self._staging.ask("highest", table)
        return found or 0

    # Reading

    def _read_trees(self, roots: dict[str, int]) -> None:
        for numbers in self._forest.walk(roots.get(_SEQUENCE, 0), _sequence, is_index=False, faults=[]):
            self.sequences.update(said for _, said in numbers.cells)
        for name, table in self._wanted.tables.items():
            faults = self._faults.setdefault(name, [])
            rows = self._forest.walk(roots.get(name, 0), _rows([table]), is_index=table.is_index, faults=faults)
            for part, ordered in with_order(rows, lambda cell, _: cell.rowid, self.sequences.get(name)):
                self._staging.find(part, ordered, "free" if self._forest.free[part.page] else "tree")
        for name, index in self._wanted.indexes.items():
            faults = self._faults.setdefault(name, [])
            entries = self._forest.walk(roots.get(name, 0), _entries(index), is_index=True, faults=faults)
            for known, ordered in with_order(entries, lambda _, said: sortable(said.values())):
                self._staging.know(index, known, ordered)

    def _read_strays(self) -> list[int]:
        """Rows on pages that belong to nothing; those pages, without the ones on which long rows go on."""
        rows = _rows([table for table in self._wanted.tables.values() if not table.is_index])
        others = _rows([table for table in self._wanted.tables.values() if table.is_index])
        found = []
        for number in self._forest.strays():
            if self._forest.is_overflow(number):
                continue
            found.append(number)
            for reading, is_index in ((rows, False), (others, True)):
                part = self._forest.stray_part(number, reading, is_index=is_index)
                if part is not None:
                    self._staging.find(part, in_order([cell.rowid for cell, _ in part.cells]), "stray")
        return found

    def _indexes_are_whole(self, table: str) -> bool:
        names = PHASES if table == "message" else [f"sqlite_autoindex_{table}_1"]
        return not any(self._faults[name] for name in names if name in self._wanted.indexes)

    def _values(self, table: Table, number: int, offset: int, kind: int) -> ValuesByName | None:
        """Read a row again: only where it stands was kept, so that memory does not grow with the file."""
        if self._page is None or self._page.number != number:
            self._page = Page(self._pages, number)
        try:
            cell = self._page.cell(offset, kind)
            return table.row(cell.rowid, record(cell.payload))
        except Broken:
            return None


def _rows(tables: list[Table]) -> Callable[[Cell], tuple[Table, ValuesByName] | None]:
    def read(cell: Cell) -> tuple[Table, ValuesByName] | None:
        values = record(cell.payload)
        for table in tables:
            row = table.row(cell.rowid, values)
            if row is not None:
                return table, row
        return None

    return read


def _entries(index: Index) -> Callable[[Cell], ValuesByName | None]:
    return lambda cell: index.entry(record(cell.payload))


def _sequence(cell: Cell) -> tuple[str, int] | None:
    match record(cell.payload):
        case [str(table), int(number)]:
            return table, number
        case _:
            return None
