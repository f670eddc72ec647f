"""Notifications: one connection that waits for them, and sets the events of those who want to know.

PostgreSQL sends a notification with the commit of a write. Whoever is not connected then gets none, so every event is
set once after each connecting. Waiting costs nothing: the loop is told by the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator

import psycopg

from redrive.backoff import Backoff
from redrive.errors import StoreUnavailable
from redrive.store import Namespace
from redrive.stores.postgres.connections import Connection
from redrive.stores.postgres.lane import Lane
from redrive.stores.postgres.troubles import trouble_of

_BACKOFF = Backoff(first=0.1, maximum=5.0)
_log = logging.getLogger("redrive.postgres")


class Notices:
    """Events by namespace. For one event loop; connects with the first who wants to know, and then stays."""

    def __init__(self, address: str, channel: str, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._address, self._lane = address, Lane(connect)
        self._listen = f'LISTEN "{channel}"'.encode()
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._closed = False

    @contextlib.contextmanager
    def watching(self, namespace: Namespace) -> Iterator[asyncio.Event]:
        """An event that is set after every write to the namespace, whoever wrote.

        Raises:
            StoreUnavailable: If this was closed.
        """
        if self._closed:
            raise StoreUnavailable(self._address, "it is closed")
        if self._lane.task is None:
            self._lane.task = asyncio.create_task(self._run(), name="redrive-postgres-notices")
        event = asyncio.Event()
        self._waiters.setdefault(namespace.name, set()).add(event)
        try:
            yield event
        finally:
            self._waiters[namespace.name].discard(event)

    async def close(self) -> None:
        """Stop listening; everybody who waits is woken, for the last time."""
        self._closed = True
        self._lane.end()
        if self._lane.task is not None:
            await asyncio.gather(self._lane.task, return_exceptions=True)
        self._wake(self._waiters)

    async def _run(self) -> None:
        failures = 0
        try:
            while not self._closed:
                try:
                    async with self._lane.asking() as connection:
                        await connection.execute(self._listen)
                    failures = 0
                    self._wake(self._waiters)
                    await self._hear(connection)
                except (psycopg.Error, OSError) as error:
                    await self._lane.drop()
                    failures += 1
                    self._say(failures, error)
                await asyncio.sleep(_BACKOFF.delay(failures, random=secrets.randbits(32) / 2**32))
        finally:
            await self._lane.drop()

    async def _hear(self, connection: Connection) -> None:
        """Wake whom each notification is for, until the connection is lost.

        By psycopg's own generator of notifications, an idle process would look for them ten times a second.
        """
        loop, libpq, readable = asyncio.get_running_loop(), connection.pgconn, asyncio.Event()
        socket = libpq.socket
        loop.add_reader(socket, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                libpq.consume_input()
                names = set()
                while (notice := libpq.notifies()) is not None:
                    names.add(notice.extra.decode())
                self._wake(names)
        finally:
            loop.remove_reader(socket)

    def _wake(self, names: Iterable[str]) -> None:
        for name in names:
            for event in self._waiters.get(name, ()):
                event.set()

    def _say(self, failures: int, error: Exception) -> None:
        if failures == 1 and not self._closed:
            problem = trouble_of(error, sent=False).problem
            _log.warning("store %s sends no notifications until it is back: %s", self._address, problem)
