"""A PostgreSQL of this run's own, and stores on it."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator

import psycopg
import pytest
from tools.services import Missing, Postgres, postgres

from redrive.clock import ManualClock
from redrive.stores.postgres import PostgresStore, parsed

Open = Callable[..., PostgresStore]


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """Started and ended with the run; without fsync, which no test here needs: no power is cut."""
    try:
        with postgres(durable=False) as server:
            yield server
    except Missing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def table() -> str:
    """A name that nobody used before."""
    return f"entry-{secrets.token_hex(8)}"


@pytest.fixture
async def opened(server: Postgres, clock: ManualClock, table: str) -> AsyncIterator[Open]:
    """Opens stores, each of which stands for a process; closes them."""
    stores = []

    def open_(more: str = "", *, url: str = server.url) -> PostgresStore:
        stores.append(PostgresStore(clock, parsed(f"{url}?table={table}{more}")))
        return stores[-1]

    yield open_
    for store in stores:
        await store.close()


@pytest.fixture
def store(opened: Open) -> PostgresStore:
    return opened()


@pytest.fixture
def other(opened: Open) -> PostgresStore:
    """Another process."""
    return opened()


@pytest.fixture
async def sql(server: Postgres) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection of nobody's store."""
    async with await psycopg.AsyncConnection.connect(server.url, autocommit=True) as connection:
        yield connection
