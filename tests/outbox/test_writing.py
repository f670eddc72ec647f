"""The outbox writes in the transaction of whichever connection it is given."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiosqlite
import psycopg
import pytest
from click.testing import CliRunner
from pydantic import BaseModel
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from redrive import App, DeclarationError, LimitExceeded, NoTransaction, PayloadError
from redrive.cli import main
from redrive.outbox import DIALECTS, AsyncOutbox, Outbox, ddl
from tests.outbox.databases import Database


class Order(BaseModel):
    """A payload."""

    id: int


APP = App("shop")
ORDERS = APP.queue("orders", Order)
LINES = APP.queue("lines", Order, fifo=True)


def with_driver(address: str, *, awaited: bool) -> str:
    """The address as SQLAlchemy wants it."""
    if address.startswith("sqlite:"):
        return f"sqlite{'+aiosqlite' * awaited}:///{address.removeprefix('sqlite:')}"
    return address.replace("postgresql:", "postgresql+psycopg:")


def placing(database: Database, number: int, connection: object) -> Any:
    """The change that the message belongs to, as the connection takes it."""
    is_alchemy = "sqlalchemy" in "".join(kind.__module__ for kind in type(connection).__mro__)
    return text(database.place(number)) if is_alchemy else database.place(number)


@pytest.fixture(params=["plain", "connection", "session", "scoped"])
def blocking(request: pytest.FixtureRequest, database: Database) -> Iterator[Any]:
    """Each kind of connection that blocks."""
    engine = create_engine(with_driver(database.address, awaited=False))
    makers: dict[str, Callable[[], Any]] = {
        "plain": database.connect,
        "connection": engine.connect,
        "session": lambda: Session(engine),
        "scoped": scoped_session(sessionmaker(engine)),
    }
    with contextlib.closing(makers[request.param]()) as connection:
        yield connection
    engine.dispose()


@pytest.fixture(params=["plain", "connection", "session"])
async def awaited(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Any]:
    """Each kind of connection to await."""
    engine = create_async_engine(with_driver(database.address, awaited=True))
    if request.param == "session":
        opened: Any = AsyncSession(engine)
    elif request.param == "connection":
        opened = engine.connect()
    elif database.dialect == "sqlite":
        opened = aiosqlite.connect(database.address.removeprefix("sqlite:"))
    else:
        opened = await psycopg.AsyncConnection.connect(database.address)
    async with opened as connection:
        yield connection
    await engine.dispose()


def written(database: Database) -> list[tuple[str, str, dict[str, Any]]]:
    """The rows: line, id and document."""
    with contextlib.closing(database.connect()) as connection:
        rows = connection.execute("SELECT line, message_id, document FROM redrive_outbox ORDER BY id").fetchall()
        return [(line, identity, json.loads(document)) for line, identity, document in rows]


def test_a_row_lives_and_dies_with_its_transaction(database: Database, blocking: Any) -> None:
    """On every kind of connection that blocks: sqlite3, psycopg, SQLAlchemy's connections and sessions."""
    outbox = APP.outbox(blocking)
    assert isinstance(outbox, Outbox)
    identity, more = "", [""]
    for number, end in ((1, blocking.commit), (2, blocking.rollback), (3, blocking.commit)):
        blocking.execute(placing(database, number, blocking))
        identity = outbox.send(ORDERS, Order(id=number))
        more = outbox.send_many(LINES, [Order(id=number), Order(id=number)], group="g")
        end()
    assert database.placed() == {1, 3}
    rows = written(database)
    assert [json.loads(one["body"])["id"] for _, _, one in rows] == [1, 1, 1, 3, 3, 3]
    assert [identity for _, identity, _ in rows[3:]] == [identity, *more] == [one["id"] for _, _, one in rows[3:]]
    assert [line for line, _, _ in rows[3:]] == [identity, "lines/g", "lines/g"]


async def test_a_row_lives_and_dies_with_its_transaction_that_is_awaited(database: Database, awaited: Any) -> None:
    """On every kind of connection to await: aiosqlite, psycopg, SQLAlchemy's connections and sessions."""
    outbox = APP.outbox(awaited)
    assert isinstance(outbox, AsyncOutbox)
    for number, end in ((1, awaited.commit), (2, awaited.rollback), (3, awaited.commit)):
        await awaited.execute(placing(database, number, awaited))
        await outbox.send(ORDERS, Order(id=number))
        await outbox.send_many(LINES, [Order(id=number), Order(id=number)], group="g")
        await end()
    assert database.placed() == {1, 3}
    assert [json.loads(one["body"])["id"] for _, _, one in written(database)] == [1, 1, 1, 3, 3, 3]


def test_what_cannot_be_handled_cannot_be_written(sqlite_file: Database) -> None:
    """The same checks as at a send, on an application that is not open; nothing of a broken call is written."""
    with contextlib.closing(sqlite_file.connect()) as connection:
        outbox = APP.outbox(connection)
        bad: Any = "no order"
        with pytest.raises(PayloadError):
            outbox.send_many(ORDERS, [Order(id=1), bad])
        with pytest.raises(LimitExceeded, match="group"):
            outbox.send(LINES, Order(id=1))
        with pytest.raises(LimitExceeded, match="delay"):
            outbox.send(LINES, Order(id=1), group="g", delay=1)
        with pytest.raises(LimitExceeded, match="deduplication"):
            outbox.send(ORDERS, Order(id=1), deduplication_id="d")
        with pytest.raises(DeclarationError, match="at most 9"):
            outbox.send(ORDERS, Order(id=1), attributes={str(n): "" for n in range(10)})
        with pytest.raises(DeclarationError, match="not of application 'shop'"):
            outbox.send(App("other").queue("orders", Order), Order(id=1))
        connection.commit()
    assert sqlite_file.count() == 0


def test_a_connection_without_a_transaction_is_refused(sqlite_file: Database, postgresql: Database) -> None:
    """The message would leave whatever became of the rest; once a transaction has begun, it is not."""
    path = sqlite_file.address.removeprefix("sqlite:")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        with pytest.raises(NoTransaction, match="begin a transaction first"):
            APP.outbox(connection).send(ORDERS, Order(id=1))
        connection.execute("BEGIN")
        APP.outbox(connection).send(ORDERS, Order(id=1))
        connection.rollback()
    with psycopg.connect(postgresql.address, autocommit=True) as connected:
        with pytest.raises(NoTransaction, match="begin a transaction first"):
            APP.outbox(connected).send(ORDERS, Order(id=1))
        with connected.transaction():
            APP.outbox(connected).send(ORDERS, Order(id=1))
    engine = create_engine(with_driver(postgresql.address, awaited=False), isolation_level="AUTOCOMMIT")
    with engine.connect() as alchemy, pytest.raises(NoTransaction):
        APP.outbox(alchemy).send(ORDERS, Order(id=1))
    with Session(engine) as session, pytest.raises(NoTransaction):
        APP.outbox(session).send(ORDERS, Order(id=1))
    engine.dispose()
    plain = create_engine(with_driver(postgresql.address, awaited=False))
    with plain.connect().execution_options(isolation_level="AUTOCOMMIT") as alchemy, pytest.raises(NoTransaction):
        APP.outbox(alchemy).send(ORDERS, Order(id=1))
    plain.dispose()
    assert (sqlite_file.count(), postgresql.count()) == (0, 1)


def test_a_connection_of_something_else_is_refused() -> None:
    """Of a library, or to a database, that the outbox does not know."""

    class Strange:
        def commit(self) -> None: ...

    with pytest.raises(DeclarationError, match="of no library that the outbox knows"):
        APP.outbox(Strange()).send(ORDERS, Order(id=1))
    with pytest.raises(DeclarationError, match="use one of sqlite, postgresql"):
        ddl("mysql")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_command_prints_the_sql(dialect: str) -> None:
    """For your own migrations."""
    result = CliRunner().invoke(main, ["outbox", "ddl", dialect])
    assert result.exit_code == 0
    assert result.output.strip() == ddl(dialect)
    assert "CREATE TABLE IF NOT EXISTS redrive_outbox" in result.output


def test_the_sql_can_be_split_at_semicolons() -> None:
    """As many a migration tool does: none stands in a comment."""
    for dialect in DIALECTS:
        assert [one.split()[0] for one in ddl(dialect).split(";") if one.strip()] == ["CREATE", "CREATE"]


def test_nothing_of_a_database_is_imported(tmp_path: Path) -> None:
    """An outbox on sqlite3 needs neither psycopg nor SQLAlchemy."""
    code = """
import sqlite3, sys
from redrive import App
from redrive.outbox import ddl
app = App("shop")
orders = app.queue("orders", int)
connection = sqlite3.connect(sys.argv[1])
connection.executescript(ddl("sqlite"))
app.outbox(connection).send(orders, 7)
connection.commit()
assert not {"psycopg", "sqlalchemy", "aiosqlite", "apsw"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "shop.db")], check=True, timeout=30)
