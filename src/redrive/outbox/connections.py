"""Other people's connections: which kind one is, told by its class's module, so that nothing has to be imported."""

from __future__ import annotations

from typing import Any

from redrive.errors import DeclarationError, NoTransaction
from redrive.outbox.statements import in_percents, statements

_AUTOCOMMIT_OF_OLD = -1
"""Source: Python, sqlite3, `LEGACY_TRANSACTION_CONTROL`: `isolation_level` decides."""


def insert_on(connection: Any) -> Any:  # noqa: ANN401 - whichever library's
    """What its `execute` takes to write a row, in the transaction that it has open or begins by itself.

    Raises:
        DeclarationError: If it is of no library that is known, or its database has no outbox.
        NoTransaction: If each statement on it is a transaction of its own.
    """
    modules = {kind.__module__.partition(".")[0] for kind in type(connection).__mro__}
    if modules & {"sqlite3", "aiosqlite"}:
        _refuse_autocommit_of_sqlite(connection)
        return statements("sqlite")["insert"]
    if "psycopg" in modules:
        if connection.autocommit and not connection.info.transaction_status:
            raise NoTransaction("a psycopg connection with autocommit")
        return in_percents(statements("postgresql")["insert"])
    if "sqlalchemy" in modules:
        return _sqlalchemy(connection)
    problem = "is of no library that the outbox knows"
    remedy = "give a connection of sqlite3, psycopg or SQLAlchemy, or a session of SQLAlchemy"
    raise DeclarationError(f"a {type(connection).__module__}.{type(connection).__qualname__}", problem, remedy)


def _refuse_autocommit_of_sqlite(connection: Any) -> None:  # noqa: ANN401 - sqlite3's or aiosqlite's
    autocommit = getattr(connection, "autocommit", _AUTOCOMMIT_OF_OLD)
    by_itself = connection.isolation_level is None if autocommit == _AUTOCOMMIT_OF_OLD else autocommit
    if by_itself and not connection.in_transaction:
        raise NoTransaction("an sqlite3 connection in autocommit mode")


def _sqlalchemy(connection: Any) -> Any:  # noqa: ANN401 - SQLAlchemy's
    from sqlalchemy import text  # noqa: PLC0415 - whoever has such a connection has imported it

    bind = connection.get_bind() if hasattr(connection, "get_bind") else connection
    bind = getattr(bind, "sync_connection", None) or bind
    levels = (
        bind.get_execution_options().get("isolation_level"),
        getattr(bind.dialect, "_on_connect_isolation_level", None),  # of create_engine; nothing public says it
    )
    if "AUTOCOMMIT" in levels:
        raise NoTransaction("a connection of SQLAlchemy with AUTOCOMMIT")
    return text(statements(bind.dialect.name)["insert"])
