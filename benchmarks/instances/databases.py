"""Where a measure keeps its instances: a file in its folder, or a PostgreSQL database that nobody used before.

The server is the run's; each measure makes a database of its own, so that none finds what another one left.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit, urlunsplit

import psycopg
from servers import POSTGRES_URL

STORE = "BENCH_STORE"
"""The environment variable that asks for `POSTGRESQL`; without it instances are kept in a file."""
POSTGRESQL = "postgresql"


def fresh() -> str | None:
    """The address of a new database; None if a file was asked for. Blocks while it is made."""
    if os.environ.get(STORE) != POSTGRESQL:
        return None
    server, name = os.environ[POSTGRES_URL], f"run_{os.environ['BENCH_RUN']}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
