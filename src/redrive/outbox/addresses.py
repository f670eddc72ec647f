"""Which database the address of a relay names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from redrive.errors import DeclarationError
from redrive.outbox.postgres import PostgresSource, check_client
from redrive.outbox.source import Source
from redrive.outbox.sqlite import SqliteSource

Address = str | Callable[[], str]
"""An address, or a function that gives it whenever a connection is made, as where a password is one that expires."""
_USAGE = "use sqlite:FILE or postgresql://USER@HOST/DATABASE"


def source(address: Address, folder: Path) -> Source:
    """The source at an address; does no I/O.

    Args:
        address: `sqlite:FILE` or `postgresql://...`; SQLAlchemy's forms of the two are understood.
        folder: where a relative file belongs.
    """
    found = address if isinstance(address, str) else address()
    scheme, _, rest = found.partition(":")
    match scheme.partition("+")[0]:
        case "sqlite":
            return SqliteSource(folder / Path(rest.removeprefix("///")).expanduser())
        case "postgresql" | "postgres":
            check_client()
            return PostgresSource(lambda: f"postgresql:{_given(address).partition(':')[2]}")
        case _:
            raise DeclarationError("the address of a relay", "is of no database that it knows", _USAGE)


def _given(address: Address) -> str:
    return address if isinstance(address, str) else address()
