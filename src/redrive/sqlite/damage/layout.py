"""How the tables ought to be: asked of SQLite itself, after the scripts that make them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import apsw

from redrive.sqlite.damage.cells import Value
from redrive.sqlite.statements import migrations

_PYTHON = {"INTEGER": int, "REAL": float, "TEXT": str, "BLOB": bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column as it ought to be."""

    name: str
    kind: str
    """INTEGER, REAL, TEXT or BLOB."""
    needed: bool
    default: Value = None

    def takes(self, value: Value) -> bool:
        """Whether such a value may stand in it."""
        if value is None:
            return not self.needed
        kind = _PYTHON[self.kind]
        return isinstance(value, kind) or (kind is float and isinstance(value, int))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table, with the columns as they stand in its records."""

    name: str
    columns: tuple[Column, ...]
    rowid: int | None
    """Which column is the number of the row; a record has NULL there. None: it is no such table, or has no name."""
    is_index: bool
    """WITHOUT ROWID: its rows stand in a b-tree of the index kind."""
    least: int
    """How many columns its oldest records may have; those that are not there have their default."""

    def row(self, rowid: int, values: list[Value]) -> dict[str, Value] | None:
        """The values by name; None when they cannot be a row of this table."""
        if not self.least <= len(values) <= len(self.columns):
            return None
        if self.rowid is not None:
            if values[self.rowid] is not None:
                return None
            values = [*values[: self.rowid], rowid, *values[self.rowid + 1 :]]
        values = [*values, *(column.default for column in self.columns[len(values) :])]
        if not all(column.takes(value) for column, value in zip(self.columns, values, strict=True)):
            return None
        return {column.name: value for column, value in zip(self.columns, values, strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """One index."""

    name: str
    table: str
    columns: tuple[Column, ...]
    """As they stand in its records; the last one is the number of the row, under the name that the table has for it."""

    def entry(self, values: list[Value]) -> dict[str, Value] | None:
        """The values by name; None when they cannot be an entry of this index."""
        if len(values) != len(self.columns):
            return None
        if not all(column.takes(value) for column, value in zip(self.columns, values, strict=True)):
            return None
        return {column.name: value for column, value in zip(self.columns, values, strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A whole database as it ought to be."""

    version: int
    definitions: dict[tuple[str, str], str | None]
    """The SQL of each table and index, by its type and name."""
    roots: dict[str, int]
    """The first page of each table and index in a database that was made at once with this schema."""
    tables: dict[str, Table]
    indexes: dict[str, Index]


@cache
def layout(version: int) -> Layout:
    """The database after the first `version` scripts; 1 up to as many as there are."""
    connection = apsw.Connection(":memory:")
    least: dict[str, int] = {}
    for script in migrations()[:version]:
        connection.execute(script)
        for name in _names(connection):
            least.setdefault(name, len(connection.execute(f"PRAGMA table_info({name})").fetchall()))
    rows: list[Any] = connection.execute("SELECT type, name, rootpage, sql FROM sqlite_schema").fetchall()
    tables = {name: _table(connection, name, least[name]) for name in _names(connection)}
    found: list[Any] = connection.execute("SELECT name, tbl_name FROM sqlite_schema WHERE type = 'index'").fetchall()
    made = Layout(
        version=version,
        definitions={(kind, name): sql for kind, name, _, sql in rows},
        roots={name: root for _, name, root, _ in rows},
        tables=tables,
        indexes={name: _index(connection, name, tables[table]) for name, table in found},
    )
    connection.close()
    return made


def _names(connection: apsw.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return [name for (name,) in found]


def _table(connection: apsw.Connection, name: str, least: int) -> Table:
    is_index: int = connection.execute("SELECT wr FROM pragma_table_list WHERE name = ?", (name,)).get
    rows: list[Any] = connection.execute(f"PRAGMA table_info({name})").fetchall()
    if is_index:  # the columns of the key stand in front, in its order
        rows.sort(key=lambda row: (not row[-1], row[-1]))
    columns = tuple(
        Column(name=column, kind=kind, needed=bool(needed), default=_default(connection, default))
        for _, column, kind, needed, default, _ in rows
    )
    keys = [place for place, row in enumerate(rows) if row[-1]]
    return Table(name=name, columns=columns, rowid=None if is_index else keys[0], is_index=bool(is_index), least=least)


def _index(connection: apsw.Connection, name: str, table: Table) -> Index:
    by_name = {column.name: column for column in table.columns}
    number = None if table.rowid is None else table.columns[table.rowid]
    columns = []
    for _, _, column, *_ in connection.execute(f"PRAGMA index_xinfo({name})"):
        found = by_name[column] if column is not None else number
        if found is not None:
            columns.append(found)
    return Index(name=name, table=table.name, columns=tuple(columns))


def _default(connection: apsw.Connection, expression: str | None) -> Value:
    found: Value = None if expression is None else connection.execute(f"SELECT {expression}").get
    return found
