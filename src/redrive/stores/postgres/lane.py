"""One connection, made when it is needed and again when it was lost, and the task that uses it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg

from redrive.stores.postgres.connections import Connection, answered_in_time, cut


class Lane:
    """For one event loop."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self.task: asyncio.Task[None] | None = None
        self.sent = False
        """Whether the last try came to a statement."""
        self._busy = False

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[Connection]:
        """The connection that stands, or a new one, for one statement that is answered in time."""
        self.sent = False
        if self._connection is None or self._connection.closed:
            await self.drop()
            self._connection = await self._connect()
        self.sent = self._busy = True
        try:
            with answered_in_time(self._connection):
                yield self._connection
        finally:
            self._busy = False

    def end(self) -> None:
        """Let the task come to its end: at once, but never while the server could still be asked to cancel."""
        if self._busy and self._connection is not None:
            cut(self._connection)
        elif self.task is not None:
            self.task.cancel()

    async def drop(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()
