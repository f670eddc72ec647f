"""The outbox's SQL, which lives in `.sql` files: one for each dialect, statements by name."""

from __future__ import annotations

import re
from functools import cache

from redrive.errors import DeclarationError

DIALECTS = ("sqlite", "postgresql")
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")


@cache
def statements(dialect: str) -> dict[str, str]:
    """The statements of a dialect by name, with parameters as `:name`.

    Raises:
        DeclarationError: If there are none.
    """
    if dialect not in DIALECTS:
        raise DeclarationError(f"an outbox in {dialect!r}", "is not known", f"use one of {', '.join(DIALECTS)}")
    from importlib.resources import files  # noqa: PLC0415 - only where there is an outbox

    parts = _NAME.split((files(__package__) / "sql" / f"{dialect}.sql").read_text("utf-8"))
    return {name: sql.strip() for name, sql in zip(parts[1::2], parts[2::2], strict=True)}


def in_percents(sql: str) -> str:
    """The statement with parameters as `%(name)s`, as psycopg takes it."""
    return _PARAMETER.sub(r"%(\1)s", sql)


def ddl(dialect: str) -> str:
    """The SQL that makes the outbox's table, for your own migrations; running it again changes nothing.

    Args:
        dialect: `sqlite` or `postgresql`.

    Raises:
        DeclarationError: If it is neither.
    """
    return statements(dialect)["create"]
