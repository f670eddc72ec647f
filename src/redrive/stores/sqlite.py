"""The embedded store: entries beside the embedded broker's queues, in the same file and the same commits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from redrive.errors import BrokerError, StoreUnavailable
from redrive.sqlite.entries import MAX_VALUE
from redrive.sqlite.writer import Database, Tables, Work
from redrive.store import Entry, Namespace

T = TypeVar("T")


class SqliteStore:
    """A store in one SQLite file. What was answered is on disk."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def address(self) -> str:
        """`sqlite:`, the file and its level of durability."""
        return self._database.address

    @property
    def max_value(self) -> int:
        """2 MiB."""
        return MAX_VALUE

    async def get(self, namespace: Namespace, key: str) -> Entry | None:
        """The entry, or None when it is absent or expired."""
        return await self._run(lambda tables: tables.entries.get(namespace, key, now_ms=tables.now_ms))

    async def put(
        self,
        namespace: Namespace,
        key: str,
        value: bytes,
        *,
        if_version: int,
        due_at_ms: int | None = None,
        expires_at_ms: int | None = None,
    ) -> int:
        """Write the entry if its version still is `if_version`; the new version."""

        def work(tables: Tables) -> int:
            version = tables.entries.put(
                namespace,
                key,
                value,
                if_version=if_version,
                due_at_ms=due_at_ms,
                expires_at_ms=expires_at_ms,
                now_ms=tables.now_ms,
            )
            _tell(tables, namespace)
            return version

        return await self._run(work)

    async def delete(self, namespace: Namespace, key: str, *, if_version: int) -> None:
        """Remove the entry if its version still is `if_version`."""

        def work(tables: Tables) -> None:
            tables.entries.delete(namespace, key, if_version=if_version, now_ms=tables.now_ms)
            _tell(tables, namespace)

        await self._run(work)

    async def due(self, namespace: Namespace, *, before_ms: int, limit: int) -> Sequence[Entry]:
        """Entries due at or before `before_ms`, earliest first."""
        return await self._run(
            lambda tables: tables.entries.due(namespace, before_ms=before_ms, limit=limit, now_ms=tables.now_ms)
        )

    async def scan(self, namespace: Namespace, *, after: str = "", limit: int = 100) -> Sequence[Entry]:
        """Entries whose key is greater than `after`, by key."""
        return await self._run(
            lambda tables: tables.entries.scan(namespace, after=after, limit=limit, now_ms=tables.now_ms)
        )

    def watching(self, namespace: Namespace) -> AbstractContextManager[asyncio.Event]:
        """An event that is set after every write to a timed namespace, by whichever process; see `Watchable`."""
        return self._database.signals.listening(_signal(namespace))

    async def close(self) -> None:
        """Finish what is queued and close the file, unless the broker did already."""
        await asyncio.to_thread(self._database.close)

    async def _run(self, work: Work[T]) -> T:
        """Do the work; the file's troubles are the store's here."""
        try:
            return await self._database.run(work)
        except BrokerError as error:
            raise StoreUnavailable(self.address, getattr(error, "problem", str(error))) from error


def _tell(tables: Tables, namespace: Namespace) -> None:
    """Wake who watches, once it is committed."""
    if namespace.timed:
        tables.engine.became_ready.add(_signal(namespace))


def _signal(namespace: Namespace) -> str:
    """What its signals are called: no queue's name has a slash."""
    return f"entries/{namespace.name}"
