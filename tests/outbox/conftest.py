"""Databases that an outbox stands in: an SQLite file, and a PostgreSQL of this run's own."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tools.services import Missing, Postgres, postgres

from tests.outbox.databases import Database, prepare


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
def sqlite_file(tmp_path: Path) -> Database:
    """A file in the journal mode that SQLite has by itself."""
    path = tmp_path / "shop.db"
    return prepare(Database(f"sqlite:{path}", "sqlite", lambda: sqlite3.connect(path, timeout=30)))


@pytest.fixture
def postgresql(server: Postgres) -> Iterator[Database]:
    """A database of this test's own on the run's server."""
    name = f"shop-{secrets.token_hex(6)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = server.url.rpartition("/")[0] + f"/{name}"
        yield prepare(Database(url, "postgresql", lambda: psycopg.connect(url)))
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each of the two."""
    found: Database = request.getfixturevalue("sqlite_file" if request.param == "sqlite" else request.param)
    return found


@pytest.fixture
def connection(database: Database) -> Iterator[Any]:
    """A connection of the application's."""
    with contextlib.closing(database.connect()) as connection:
        yield connection
