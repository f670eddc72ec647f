"""Where rows of a damaged file were found, and what its indexes know; kept in a temporary database, not in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import apsw

from redrive.sqlite.damage.cells import Cell, Value
from redrive.sqlite.damage.layout import Index, Table
from redrive.sqlite.damage.rows_by_hand import fits
from redrive.sqlite.damage.trees import Part
from redrive.sqlite.statements import named

T = TypeVar("T")
ValuesByName = dict[str, Value]

PHASES = {
    "message_by_visibility": (0, 5),  # of schema 1, which had no phases
    "message_ready": (0, 0),
    "message_delayed": (1, 1),
    "message_in_flight": (2, 2),
    "message_in_line": (3, 4),
    "message_leased": (4, 4),
    "message_damaged": (5, 5),
}
"""The phases of the messages that stand in an index; each message stands in one, and a leased one of a line in two."""
KEYS = {"queue": ("name",), "entry": ("namespace", "key"), "move_task": ("id",)}
"""What the rows of a table are searched by; the unique index on it knows their numbers."""
_STAGED = ("queue", "phase", "round", "visible_at_ms", "group_id", "expires_at_ms")
_SQL = named("damage/salvage.sql")


class Staging:
    """The temporary database."""

    def __init__(self) -> None:
        self._execute = apsw.Connection("").execute
        self._execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
        self._execute(_SQL["stage"])
        self._execute("BEGIN")

    def ask(self, statement: str, *values: Any) -> list[Any]:  # noqa: ANN401 - whatever SQL takes
        """The rows that a statement gives."""
        return self._execute(_SQL[statement], values).fetchall()

    def stream(self, statement: str, *values: Any) -> Iterator[Any]:  # noqa: ANN401 - likewise
        """The same, one after the other."""
        return self._execute(_SQL[statement], values)

    def ask_about(self, statement: str, values: dict[str, Any]) -> list[Any]:
        """The same, for a statement that names its values."""
        return self._execute(_SQL[statement], values).fetchall()

    def complete(self) -> None:
        """Everything was read; from now on it is asked about."""
        self._execute("COMMIT")
        self._execute(_SQL["index_known"])

    def find(self, part: Part[tuple[Table, ValuesByName]], ordered: set[int], place: str) -> None:
        """Take down the rows of a page.

        Args:
            part: the page.
            ordered: which of its cells stand in order.
            place: `tree`, `free` (the page is said to be free), `stray` or `searched`.
        """
        beside = _beside([cell.rowid for cell, _ in part.cells], ordered)
        for at, (cell, (table, values)) in enumerate(part.cells):
            order = (at in ordered or table.is_index, *beside[at])
            self._find(table, cell, values, place, order)

    def know(self, index: Index, part: Part[ValuesByName], ordered: set[int]) -> None:
        """Take down what a page of an index knows."""
        beside = _beside([json.dumps([*said.values()]) for _, said in part.cells], ordered)
        for at, (_, said) in enumerate(part.cells):
            row, (low, high) = said[index.columns[-1].name], beside[at]
            if index.name == "message_by_expiry" and at in ordered:
                bounds = [None if one is None else json.loads(one)[0] for one in (low, high)]
                self.ask("know_expiry", row, said["expires_at_ms"], *bounds)
            elif index.name in PHASES:
                known = [said.get(name) for name in ("round", "visible_at_ms", "group_id")]
                order = (at in ordered, low, high)
                self.ask("know", "message", row, *order, None, said["queue"], *PHASES[index.name], *known)
            elif index.table in KEYS and index.name == f"sqlite_autoindex_{index.table}_1":
                key = json.dumps([said[name] for name in KEYS[index.table]])
                self.ask("know", index.table, row, at in ordered, low, high, key, *[None] * 6)

    def _find(self, table: Table, cell: Cell, values: ValuesByName, place: str, order: tuple[Any, ...]) -> None:
        key = json.dumps([values[name] for name in KEYS[table.name]]) if table.name in KEYS else None
        staged = [values.get(name) for name in _STAGED] if table.name == "message" else [None] * len(_STAGED)
        row = cell.page << 16 | cell.offset if table.is_index else cell.rowid
        where = (table.name, row, cell.page, cell.offset, cell.kind, place)
        self.ask("find", *where, *order, is_whole(table, values), key, *staged)


def is_whole(table: Table, values: ValuesByName) -> bool:
    """Whether a row is as it was written, as far as anything tells."""
    if table.name != "message":
        return True
    content = [values[name] for name in ("id", "sent_at_ms", "group_id", "attributes", "notes", "body")]
    return fits(values.get("checksum"), tuple(one.encode() if isinstance(one, str) else one for one in content))


def _beside(those: Sequence[T], ordered: set[int]) -> list[tuple[T | None, T | None]]:
    """For each place the nearest one in order before and behind it."""
    low: list[T | None] = [None]
    high: list[T | None] = [None]
    for at in range(len(those)):
        low.append(those[at] if at in ordered else low[-1])
        back = len(those) - 1 - at
        high.append(those[back] if back in ordered else high[-1])
    return list(zip(low[:-1], reversed(high[:-1]), strict=True))
