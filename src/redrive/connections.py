"""From an address to a broker and the store that follows it: the scheme of the address says which adapter."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import parse_qsl, quote

from redrive.broker import Broker
from redrive.clock import Clock
from redrive.credentials import without_credentials
from redrive.errors import DeclarationError
from redrive.store import Store

_SQLITE, _POSTGRES = "sqlite:", ("postgresql:", "postgres:")
_DURABILITY, _STORE = "durability", "store_url"


class SqliteAddress(NamedTuple):
    """What `sqlite:FILE?durability=LEVEL` says; in FILE, `%3F` is a question mark and `%25` a percent sign.

    `store_url=postgresql://…` may stand there too: then the store is another one, and this does not hold it.
    """

    path: str
    durability: str

    def __str__(self) -> str:
        from redrive.sqlite.database import address_of  # noqa: PLC0415 - SQLite is imported when it is asked for

        return address_of(self.path, self.durability)


class _Adapter(Protocol):
    """What an address of one scheme leads to. Each call raises DeclarationError for an address that cannot be."""

    usage: str
    """How such an address looks."""

    def absolute(self, address: str, folder: Path) -> str:
        """The address in full."""
        ...

    def file_of(self, address: str) -> Path | None:
        """The file it names; None: it names none."""
        ...

    def connect(self, address: str, clock: Clock) -> tuple[Broker, Store]:
        """Open a broker and the store that follows it."""
        ...


class _Sqlite:
    usage = "sqlite:FILE"

    def absolute(self, address: str, folder: Path) -> str:
        found = parsed(address)
        full = str(found._replace(path=str((folder / Path(found.path).expanduser()).resolve())))
        store = _store_of(address)
        return full if store is None else f"{full}{'&' if '?' in full else '?'}{_STORE}={quote(store, safe=':/[]')}"

    def file_of(self, address: str) -> Path | None:
        return Path(parsed(address).path)

    def connect(self, address: str, clock: Clock) -> tuple[Broker, Store]:
        from redrive.brokers.sqlite import SqliteBroker  # noqa: PLC0415 - each adapter is imported when asked for
        from redrive.sqlite.writer import FileDatabase  # noqa: PLC0415 - likewise
        from redrive.stores.sqlite import SqliteStore  # noqa: PLC0415 - likewise

        path, durability = parsed(address)
        elsewhere = _store_of(address)
        store = None if elsewhere is None else _postgres_store(elsewhere, clock)
        database = FileDatabase(path, clock, durability=durability)
        return SqliteBroker(database), store or SqliteStore(database)


class _Sqs:
    usage = "sqs://REGION"

    def absolute(self, address: str, folder: Path) -> str:
        from redrive.brokers.sqs.address import parsed as parsed_sqs  # noqa: PLC0415 - likewise

        found = parsed_sqs(address)
        if file := found.store_in_a_file:
            found = found._replace(store_url=_Sqlite().absolute(file, folder))
        return str(found)

    def file_of(self, address: str) -> Path | None:
        from redrive.brokers.sqs.address import parsed as parsed_sqs  # noqa: PLC0415 - likewise

        parsed_sqs(address)
        return None

    def connect(self, address: str, clock: Clock) -> tuple[Broker, Store]:
        from redrive.brokers.sqs import SqsBroker  # noqa: PLC0415 - likewise
        from redrive.brokers.sqs import parsed as parsed_sqs  # noqa: PLC0415 - likewise

        found = parsed_sqs(address)
        if file := found.store_in_a_file:
            return SqsBroker(found), _embedded_store(file, clock)
        if url := found.store_on_postgres:
            return SqsBroker(found.shown), _postgres_store(url, clock, prefix=found.prefix)
        from redrive.stores.dynamodb import DynamoStore  # noqa: PLC0415 - likewise

        store = DynamoStore(
            clock,
            table=found.table,
            region=found.region or None,
            endpoint_url=found.store_endpoint,
            local=found.store_is_local,
            declare=found.mode,
        )
        return SqsBroker(found), store


def _embedded_store(address: str, clock: Clock) -> Store:
    from redrive.sqlite.writer import FileDatabase  # noqa: PLC0415 - likewise
    from redrive.stores.sqlite import SqliteStore  # noqa: PLC0415 - likewise

    path, durability = parsed(address)
    return SqliteStore(FileDatabase(path, clock, durability=durability))


def _postgres_store(address: str, clock: Clock, *, prefix: str = "") -> Store:
    """The store on PostgreSQL; what is apart by a prefix of the queues' names has a table of its own."""
    from redrive.stores.postgres import PostgresStore  # noqa: PLC0415 - likewise
    from redrive.stores.postgres import parsed as parsed_postgres  # noqa: PLC0415 - likewise
    from redrive.stores.postgres.address import TABLE  # noqa: PLC0415 - likewise

    return PostgresStore(clock, parsed_postgres(address, table=prefix + TABLE))


def _store_of(address: str) -> str | None:
    """The store that the embedded broker's address names; None: the store is in the same file."""
    return dict(parse_qsl(address.partition("?")[2])).get(_STORE)


_ADAPTERS: dict[str, _Adapter] = {_SQLITE: _Sqlite(), "sqs:": _Sqs()}


def parsed(address: str) -> SqliteAddress:
    """The parts of the embedded broker's address.

    Raises:
        DeclarationError: If it is none, or an option or its value is not known.
    """
    from redrive.sqlite.database import DURABILITY, FULL  # noqa: PLC0415 - likewise

    shown = without_credentials(address)
    path, _, query = address.removeprefix(_SQLITE).partition("?")
    if not address.startswith(_SQLITE) or not path:
        raise _unknown(address)
    given = parse_qsl(query, keep_blank_values=True)
    options = dict(given)
    if len(options) < len(given):
        raise DeclarationError(f"broker {shown!r}", "says the same twice", "say it once")
    _check_options(shown, options, secret=shown != address)
    durability = options.get(_DURABILITY, FULL)
    if durability not in DURABILITY:
        subject = f"{_DURABILITY} {durability!r} of broker {shown!r}"
        raise DeclarationError(subject, "is not known", f"it is one of {', '.join(DURABILITY)}")
    return SqliteAddress(path.replace("%3F", "?").replace("%25", "%"), durability)


def _check_options(shown: str, options: dict[str, str], *, secret: bool) -> None:
    if unknown := [name for name in options if name not in {_DURABILITY, _STORE}]:
        remedy = f"it takes {_DURABILITY} and {_STORE}"
        if secret:  # what is not known may be the end of a password
            raise DeclarationError(f"an option of broker {shown!r}", "is not known", f"{remedy}, with & as %26")
        raise DeclarationError(f"option {unknown[0]!r} of broker {shown!r}", "is not known", remedy)
    if not options.get(_STORE, _POSTGRES[0]).startswith(_POSTGRES):
        subject = f"{_STORE} {options[_STORE]!r} of broker {shown!r}"
        raise DeclarationError(subject, "is not known", "use postgresql://…, or leave it out for the same file")


def absolute(address: str, folder: Path) -> str:
    """The address in full: with its file, where a relative one belongs into `folder`, and no option that says nothing.

    Raises:
        DeclarationError: If no broker answers to such an address.
    """
    return _adapter(address).absolute(address, folder)


def has_file(address: str) -> bool:
    """Whether a broker at this address lives in a file.

    Raises:
        DeclarationError: If no broker answers to such an address.
    """
    return _adapter(address).file_of(address) is not None


def file_of(address: str) -> Path:
    """The file of a full address.

    Raises:
        DeclarationError: If no broker answers to such an address, or it has no file.
    """
    found = _adapter(address).file_of(address)
    if found is None:
        raise DeclarationError(
            f"broker {without_credentials(address)!r}", "has no file", f"name a broker that has one: {_Sqlite.usage}"
        )
    return found


def connect(address: str, clock: Clock) -> tuple[Broker, Store]:
    """Open a broker and the store that follows it; blocks until both can be used, or were found to be well named.

    Raises:
        DatabaseUnusable: If the file cannot be used.
        DeclarationError: If no broker answers to such an address, or its client is not installed.
    """
    return _adapter(address).connect(address, clock)


def _adapter(address: str) -> _Adapter:
    for scheme, adapter in _ADAPTERS.items():
        if address.startswith(scheme):
            return adapter
    raise _unknown(address)


def _unknown(address: str) -> DeclarationError:
    usages = " or ".join(adapter.usage for adapter in _ADAPTERS.values())
    return DeclarationError(f"broker {without_credentials(address)!r}", "is not known", f"use {usages}")
