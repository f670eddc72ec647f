"""From an address to a broker and the store that follows it."""

from __future__ import annotations

from pathlib import Path

from redrive.broker import Broker
from redrive.clock import Clock
from redrive.errors import DeclarationError
from redrive.store import Store

_SQLITE = "sqlite:"


def absolute(address: str, folder: Path) -> str:
    """The address with its file in full; a relative one belongs into `folder`.

    Raises:
        DeclarationError: If no broker answers to such an address.
    """
    if not address.startswith(_SQLITE) or address == _SQLITE:
        raise DeclarationError(f"broker {address!r}", "is not known", "use sqlite:FILE")
    return f"{_SQLITE}{(folder / Path(address.removeprefix(_SQLITE)).expanduser()).resolve()}"


def connect(address: str, clock: Clock) -> tuple[Broker, Store]:
    """Open a broker and the store that follows it; blocks until both can be used.

    Raises:
        DatabaseUnusable: If the file cannot be used.
        DeclarationError: If no broker answers to such an address.
    """
    from redrive.brokers.sqlite import SqliteBroker  # noqa: PLC0415 - each adapter's client is imported when asked for
    from redrive.sqlite.writer import FileDatabase  # noqa: PLC0415 - likewise
    from redrive.stores.sqlite import SqliteStore  # noqa: PLC0415 - likewise

    if not address.startswith(_SQLITE):
        raise DeclarationError(f"broker {address!r}", "is not known", "use sqlite:FILE")
    database = FileDatabase(address.removeprefix(_SQLITE), clock)
    return SqliteBroker(database), SqliteStore(database)
