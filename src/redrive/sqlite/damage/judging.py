"""What is true of the rows that were found in a damaged file: three things can be wrong with one that is whole.

It may be an old copy of a row that was deleted, it may stand under another number than its own, and what its checksum
does not cover may have changed. An index knows better in each case: of every message one of them holds its number, its
queue and its times.

    1. A row in its tree, on a page that is not free, is there. Anywhere else it has to be known to an index; where no
       index can be read in full, it is kept and counted as in doubt: to be handled twice is better than to be lost.
    2. What an index knows and no row was found for is searched for, byte by byte, beside its neighbours and where
       nothing could be read.
    3. Where a row is contradicted by the index that has it, and by no other borne out, the index is right if its entry
       stands in order and is possible, and if what the row says would stand elsewhere: an entry that was changed mostly
       is out of order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from redrive.broker import LONGEST_LEASE
from redrive.sqlite.damage.cells import TABLE_LEAF, Broken, Page, Value, record, varint
from redrive.sqlite.damage.fitting import CLOCK_STEP_MS
from redrive.sqlite.damage.layout import Layout, Table
from redrive.sqlite.damage.pages import Missing, Pages
from redrive.sqlite.damage.staging import KEYS, Staging, is_whole
from redrive.sqlite.damage.trees import Part

_MISPLACED = ("tab", "key", "queue", "phase", "round", "visible_at_ms", "group_id", "low", "high")


class Suspects(NamedTuple):
    """Pages on which something may stand that was not found."""

    by_table: dict[str, set[int]]
    """Pages of a table that are not what they should be."""
    strays: Collection[int]
    """Pages that belong to nothing."""


class Judge:
    """Decides what becomes of each row that was found."""

    def __init__(self, staging: Staging, pages: Pages, wanted: Layout, now_ms: int) -> None:
        self._ask, self._ask_about, self._find = staging.ask, staging.ask_about, staging.find
        self._pages, self._wanted, self._now_ms = pages, wanted, now_ms
        self.mended: Counter[str] = Counter()
        """Rows that an index knew better, by table."""

    def judge(self, suspects: Suspects, whole_indexes: Iterable[str]) -> None:
        """Apply the rules.

        Args:
            suspects: where to search.
            whole_indexes: the tables of which every index entry could be read.
        """
        self._ask("drop_copies")
        for name in ("message", *KEYS):
            self._search(self._wanted.tables.get(name), suspects)
        self._ask("drop_copies")
        self._put_in_place()
        for name in whole_indexes:
            self._ask("drop_leftovers", name)
        self._believe_indexes()
        self._ask("damage")

    def _search(self, table: Table | None, suspects: Suspects) -> None:
        """Rule 2."""
        lost = {row for (row,) in self._ask("lost", "" if table is None else table.name)}
        if table is None or not lost:
            return
        by_page = dict.fromkeys([*suspects.by_table[table.name], *suspects.strays], lost)
        beside: dict[int, set[int]] = {}
        for row in lost:
            for (page,) in self._ask("pages_beside", table.name, row):
                beside.setdefault(page, set()).add(row)
        for page, rows in (beside | by_page).items():
            self._search_page(table, page, rows)

    def _search_page(self, table: Table, number: int, wanted: set[int]) -> None:
        try:
            page = Page(self._pages, number)
        except Missing:
            return
        for offset in range(8, len(page.data) - 4):
            try:
                _, at = varint(page.data, offset)
                row, _ = varint(page.data, at)
                if row not in wanted:
                    continue
                cell = page.cell(offset, TABLE_LEAF)
                values = table.row(row, record(cell.payload))
            except Broken:
                continue
            if values is not None and is_whole(table, values):
                self._find(Part(number, [(cell, (table, values))], []), {0}, "searched")

    def _put_in_place(self) -> None:
        """Rows under a number that cannot be theirs get the one that an index knows for such a row between the same."""
        for number, *told in self._ask("misplaced"):
            places = self._ask_about("place_of", dict(zip(_MISPLACED, told, strict=True)))
            if len(places) == 1:
                self._ask("put_in_place", number, places[0][0])
                self.mended[told[0]] += 1

    def _believe_indexes(self) -> None:
        """Rule 3."""
        for number, *known in self._ask("contradicted"):
            low_phase, high_phase, queue, round_, visible_at_ms, *_ = known
            latest_ms = self._now_ms + CLOCK_STEP_MS + (int(LONGEST_LEASE * 1000) if high_phase else 0)
            if _would_fit(known) or (visible_at_ms is not None and visible_at_ms > latest_ms):
                continue
            self._ask("believe_index", number, queue, low_phase, high_phase, round_, visible_at_ms)
            self.mended["message"] += 1
        self._ask("believe_expiry")
        for number, table, own, key, low, high in self._ask("other_keys"):
            if not _is_between(json.loads(own), low, high):
                self._ask("believe_key", number, key)
                self.mended[table] += 1


def sortable(values: Iterable[Value]) -> tuple[Any, ...]:
    """What an index is sorted by; NULL stands before everything."""
    return tuple((value is not None, value) for value in values)


def _would_fit(known: list[Any]) -> bool:
    """Whether a row's own word for it would stand in the same place of the index: then the index knows no better."""
    low_phase, high_phase, queue, round_, visible_at_ms, low, high, phase, own_queue, own_round, group, own_ms, row = (
        known
    )
    if phase is not None and not low_phase <= phase <= high_phase:
        return False
    in_line = low_phase if low_phase >= 3 else None  # noqa: PLR2004 - the phases of FIFO queues, whose indexes have groups
    parts = [(queue, own_queue), (round_, own_round), (in_line, group), (visible_at_ms, own_ms)]
    return _is_between([*(value for there, value in parts if there is not None), row], low, high)


def _is_between(key: list[Any], low: str | None, high: str | None) -> bool:
    own = sortable(key)
    is_behind = low is None or sortable(json.loads(low)[: len(key)]) < own
    return is_behind and (high is None or own < sortable(json.loads(high)[: len(key)]))
