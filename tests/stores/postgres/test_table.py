"""What declaring makes of the table, and what it says of one that will not do: with the SQL that helps."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import psycopg
import pytest
from tools.services import Postgres

from redrive.errors import DeclarationError, StoreUnavailable
from redrive.store import ABSENT, CLAIMS
from redrive.stores.postgres import PostgresStore, parsed
from redrive.stores.postgres.statements import definition
from tests.stores.postgres.conftest import Open

Sql = psycopg.AsyncConnection


async def _run(sql: Sql, statements: str) -> None:
    await sql.execute(statements.encode())


@pytest.fixture
async def guest(sql: Sql, server: Postgres) -> AsyncIterator[str]:
    """The address of a user who may do nothing; its name is before the colon."""
    name = f"guest_{secrets.token_hex(4)}"
    await _run(sql, f"CREATE ROLE {name} LOGIN PASSWORD 'guest'")
    yield f"postgresql://{name}:guest@127.0.0.1:{server.port}/postgres"
    await _run(sql, f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_a_missing_table_is_an_error_with_its_sql(opened: Open, sql: Sql) -> None:
    """Nothing is made by `verify`; what the error says to run makes a table that will do."""
    with pytest.raises(DeclarationError, match="does not exist; add declare=create") as caught:
        await opened("&declare=verify").put(CLAIMS, "key", b"value", if_version=ABSENT)
    await _run(sql, str(caught.value).partition("or run:\n")[2])
    await opened("&declare=verify").put(CLAIMS, "key", b"value", if_version=ABSENT)


async def test_a_table_is_made_on_this_machine(opened: Open) -> None:
    """Unless told otherwise; it passes the look of `verify`, and is made once by all who come at the same time."""
    await asyncio.gather(*(opened().declare() for _ in range(5)))
    await opened("&declare=verify").declare()


async def test_a_schema_is_made_with_it(opened: Open, sql: Sql) -> None:
    """Where the address names one that is missing."""
    schema = f"shop_{secrets.token_hex(4)}"
    await opened(f"&schema={schema}").put(CLAIMS, "key", b"value", if_version=ABSENT)
    assert await opened("").get(CLAIMS, "key") is None
    await _run(sql, f"DROP SCHEMA {schema} CASCADE")


async def test_a_table_of_another_kind_is_left_alone(opened: Open, sql: Sql, table: str) -> None:
    """All that is wrong with it is said at once."""
    await _run(sql, f'CREATE TABLE "{table}" (namespace text NOT NULL, key text COLLATE "C" NOT NULL, value text)')
    with pytest.raises(DeclarationError) as caught:
        await opened().declare()
    assert 'namespace is text NOT NULL, not text COLLATE "C" NOT NULL' in str(caught.value)
    assert "value is text, not bytea NOT NULL" in str(caught.value)
    assert "it has no column version" in str(caught.value)
    assert "give another name, as ?table=NAME" in str(caught.value)


async def test_missing_indexes_are_named_with_what_makes_them(opened: Open, sql: Sql, table: str) -> None:
    """Running that is enough; without them a list would read the whole table."""
    await _run(sql, definition(f'"public"."{table}"').partition(";")[0])
    with pytest.raises(DeclarationError, match=r"has no index \(namespace, due_at_ms, key\).* and no index") as caught:
        await opened().declare()
    for statement in str(caught.value).partition("run:\n")[2].split(";\n"):
        await _run(sql, statement)
    await opened().declare()


async def test_what_is_not_permitted_is_said_at_once(opened: Open, sql: Sql, table: str, guest: str) -> None:
    """Before any message is handled; the GRANT that it names is enough."""
    await opened().declare()
    await _run(sql, f'GRANT SELECT, INSERT ON "{table}" TO {parsed(guest).url[13:].partition(":")[0]}')
    with pytest.raises(DeclarationError, match="does not permit UPDATE, DELETE to its user") as caught:
        await opened(url=guest).declare()
    await _run(sql, str(caught.value).partition("run: ")[2])
    await opened(url=guest).put(CLAIMS, "key", b"value", if_version=ABSENT)


async def test_whoever_may_not_make_it_is_told_what_to_ask_for(opened: Open, sql: Sql, guest: str) -> None:
    """The SQL, for somebody who may."""
    await _run(sql, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(DeclarationError, match="cannot be made by its user; let somebody who may run:\nCREATE TABLE"):
        await opened(url=guest).declare()


async def test_a_closed_schema_is_named(opened: Open, sql: Sql, guest: str) -> None:
    """With the GRANT."""
    schema = f"closed_{secrets.token_hex(4)}"
    await opened(f"&schema={schema}").declare()
    with pytest.raises(DeclarationError, match=f'run: GRANT USAGE ON SCHEMA "{schema}" TO guest_'):
        await opened(f"&schema={schema}", url=guest).declare()
    await _run(sql, f"DROP SCHEMA {schema} CASCADE")


async def test_a_database_of_another_encoding_is_refused(opened: Open, sql: Sql, server: Postgres) -> None:
    """It could not hold every key."""
    name = f"latin_{secrets.token_hex(4)}"
    await _run(sql, f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    store = opened(url=server.url.replace("/postgres", f"/{name}"))
    with pytest.raises(DeclarationError, match="is in a database of encoding LATIN1"):
        await store.declare()
    await store.close()
    await _run(sql, f"DROP DATABASE {name}")


async def test_a_database_that_does_not_sync_is_asked_to(store: PostgresStore, sql: Sql) -> None:
    """What was answered is on disk, whatever the user's default is."""
    await _run(sql, "ALTER ROLE CURRENT_USER SET synchronous_commit = off")
    try:
        lane_connection = await store._connect()
        shown = await (await lane_connection.execute("SHOW synchronous_commit")).fetchone()
        await lane_connection.close()
    finally:
        await _run(sql, "ALTER ROLE CURRENT_USER RESET synchronous_commit")
    assert shown == ("on",)


async def test_an_outage_while_declaring_passes(
    server: Postgres, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is concluded from it: the next call declares again."""
    monkeypatch.setattr("redrive.stores.postgres.lanes.PATIENCE", 0.0)
    store = opened()
    await asyncio.to_thread(server.stop)
    try:
        with pytest.raises(StoreUnavailable):
            await store.get(CLAIMS, "key")
    finally:
        await asyncio.to_thread(server.start)
    assert await store.get(CLAIMS, "key") is None
