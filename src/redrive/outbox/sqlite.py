"""Reading the outbox in an SQLite file.

By Python's own `sqlite3`, as the application does: two copies of SQLite in one process take each other's locks away
when they close a file. Source: "How To Corrupt An SQLite Database File", section 2.2.1.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from redrive.errors import StoreUnavailable
from redrive.outbox.source import LARGEST_READ, Row, without_table
from redrive.outbox.statements import statements

T = TypeVar("T")
_BUSY = 5.0
"""Seconds that a statement waits for other writers."""
_AWAKE = 2.0
_SOONEST, _LATEST = 0.01, 0.1
"""Seconds between two looks at whether something was committed: while there is traffic, and when there is none.

One look is a read of shared memory. Source: SQLite, `PRAGMA data_version`.
"""


class SqliteSource:
    """One file, on a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._version = 0
        self._seen_at = 0.0
        self._sql = statements("sqlite")

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def address(self) -> str:
        """`sqlite:` and the file."""
        return f"sqlite:{self._path}"

    async def next(self, app: str, *, without: tuple[Collection[str], Collection[str]], limit: int) -> list[Row]:
        """What is committed, in order."""
        queues, lines = (json.dumps(list(one)) for one in without)
        values = {"app": app, "queues": queues, "lines": lines, "limit": limit, "characters": LARGEST_READ}

        def read(connection: sqlite3.Connection) -> list[Row]:
            self._version = _version(connection)  # before reading: what is committed meanwhile is a change
            rows = connection.execute(self._sql["next"], values).fetchall()
            return [Row(id=one[0], queue=one[1], line=one[2], document=one[3]) for one in rows]

        return await self._run(read)

    async def delete(self, ids: Collection[int]) -> None:
        """Forget rows, in one transaction."""
        values = {"ids": json.dumps(list(ids))}
        await self._run(lambda connection: connection.execute(self._sql["delete"], values))

    async def changed(self, wait: float) -> None:
        """Look at the version of the file's data, often while it changes."""
        give_up = time.monotonic() + wait
        while (now := time.monotonic()) < give_up:
            if await self._run(_version) != self._version:
                self._seen_at = now
                return
            await asyncio.sleep(_SOONEST if now - self._seen_at < _AWAKE else _LATEST)

    async def close(self) -> None:
        """Close the file and end the thread."""
        if self._thread is not None:
            await self._on_thread(self._close)
            self._thread.shutdown(wait=False)
            self._thread = None

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._on_thread(lambda: work(self._opened()))
        except sqlite3.Error as error:
            if "no such table" in str(error):
                raise without_table(self.address, "sqlite") from None
            raise StoreUnavailable(self.address, str(error)) from error

    async def _on_thread(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="redrive-outbox")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            address = f"{self._path.resolve().as_uri()}?mode=rw"  # a file that is not there is not made
            self._connection = sqlite3.connect(address, uri=True, timeout=_BUSY, isolation_level=None)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _version(connection: sqlite3.Connection) -> int:
    """A number that changes when another connection commits."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)
