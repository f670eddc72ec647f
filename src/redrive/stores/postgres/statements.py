"""The SQL of this room, by name, on one table."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def statements(table: str) -> dict[str, bytes]:
    """The statements, on a table whose name is quoted."""
    parts = _NAME.split(_text("statements.sql"))
    return {name: _on(table, sql).encode() for name, sql in zip(parts[1::2], parts[2::2], strict=True)}


def definition(table: str) -> str:
    """What makes the table and its indexes."""
    return _on(table, _text("table.sql"))


def _text(file: str) -> str:
    return (files(__package__) / file).read_text("utf-8")


def _on(table: str, sql: str) -> str:
    return sql.replace("{table}", table).strip().removesuffix(";")
