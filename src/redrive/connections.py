"""From an address to a broker and the store that follows it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl

from redrive.broker import Broker
from redrive.clock import Clock
from redrive.errors import DeclarationError
from redrive.store import Store

_SQLITE = "sqlite:"
_DURABILITY = "durability"


class SqliteAddress(NamedTuple):
    """What `sqlite:FILE?durability=LEVEL` says; in FILE, `%3F` is a question mark and `%25` a percent sign."""

    path: str
    durability: str

    def __str__(self) -> str:
        from redrive.sqlite.database import address_of  # noqa: PLC0415 - SQLite is imported when it is asked for

        return address_of(self.path, self.durability)


def parsed(address: str) -> SqliteAddress:
    """The parts of an address.

    Raises:
        DeclarationError: If no broker answers to it, or an option or its value is not known.
    """
    from redrive.sqlite.database import DURABILITY, FULL  # noqa: PLC0415 - likewise

    path, _, query = address.removeprefix(_SQLITE).partition("?")
    if not address.startswith(_SQLITE) or not path:
        raise DeclarationError(f"broker {address!r}", "is not known", "use sqlite:FILE")
    given = parse_qsl(query, keep_blank_values=True)
    options = dict(given)
    if len(options) < len(given):
        raise DeclarationError(f"broker {address!r}", "says the same twice", "say it once")
    if unknown := [name for name in options if name != _DURABILITY]:
        raise DeclarationError(
            f"option {unknown[0]!r} of broker {address!r}", "is not known", f"it takes {_DURABILITY}"
        )
    durability = options.get(_DURABILITY, FULL)
    if durability not in DURABILITY:
        subject = f"{_DURABILITY} {durability!r} of broker {address!r}"
        raise DeclarationError(subject, "is not known", f"it is one of {', '.join(DURABILITY)}")
    return SqliteAddress(path.replace("%3F", "?").replace("%25", "%"), durability)


def absolute(address: str, folder: Path) -> str:
    """The address with its file in full; a relative one belongs into `folder`.

    Raises:
        DeclarationError: If no broker answers to such an address.
    """
    found = parsed(address)
    return str(found._replace(path=str((folder / Path(found.path).expanduser()).resolve())))


def file_of(address: str) -> Path:
    """The file of a full address.

    Raises:
        DeclarationError: If no broker answers to such an address.
    """
    return Path(parsed(address).path)


def connect(address: str, clock: Clock) -> tuple[Broker, Store]:
    """Open a broker and the store that follows it; blocks until both can be used.

    Raises:
        DatabaseUnusable: If the file cannot be used.
        DeclarationError: If no broker answers to such an address.
    """
    from redrive.brokers.sqlite import SqliteBroker  # noqa: PLC0415 - each adapter's client is imported when asked for
    from redrive.sqlite.writer import FileDatabase  # noqa: PLC0415 - likewise
    from redrive.stores.sqlite import SqliteStore  # noqa: PLC0415 - likewise

    path, durability = parsed(address)
    database = FileDatabase(path, clock, durability=durability)
    return SqliteBroker(database), SqliteStore(database)
