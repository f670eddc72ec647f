"""Connections to one PostgreSQL: opened so that a silent network is noticed, and cut where nobody answers in time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import psycopg

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

CONNECT_TIMEOUT, ANSWER_TIMEOUT = 3, 5.0
"""Seconds for a connection, and for an answer; the server itself gives a statement up after 4."""
_USUAL = {
    "application_name": "redrive",
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def settings_of(url: str) -> dict[str, Any]:
    """What an address says, as libpq takes it, over what is usual here.

    Raises:
        psycopg.ProgrammingError: If libpq does not know an option.
    """
    return {**_USUAL, **psycopg.conninfo.conninfo_to_dict(url)}


async def opened(settings: dict[str, Any], session: bytes) -> Connection:
    """A connection that commits each statement by itself.

    Raises:
        psycopg.Error: If there is none within the time for it.
    """
    connection = await psycopg.AsyncConnection.connect(**settings, autocommit=True, prepare_threshold=None)
    try:
        with answered_in_time(connection):
            await connection.execute(session)
    except BaseException:
        await connection.close()
        raise
    return connection


@contextlib.contextmanager
def answered_in_time(connection: Connection, seconds: float | None = None) -> Iterator[None]:
    """Whoever waits for an answer below gets `psycopg.OperationalError` once its time, ANSWER_TIMEOUT, is over.

    The task is not cancelled: psycopg would ask the server, which does not answer, to cancel the statement.
    """
    loop = asyncio.get_running_loop()
    handle = loop.call_later(ANSWER_TIMEOUT if seconds is None else seconds, cut, connection)
    try:
        yield
    finally:
        handle.cancel()


def cut(connection: Connection) -> None:
    """End a connection from below: whoever waits on it sees that it is lost, at once."""
    with contextlib.suppress(OSError, psycopg.Error):
        end = socket.socket(fileno=os.dup(connection.pgconn.socket))
        with contextlib.closing(end):
            end.shutdown(socket.SHUT_RDWR)
