"""One statement for many jobs, and the answer to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redrive.clock import Clock
from redrive.errors import DeclarationError, StoreUnavailable, VersionConflict
from redrive.stores.postgres.connections import Connection
from redrive.stores.postgres.jobs import (
    Declaring,
    Job,
    Listing,
    Notice,
    Read,
    Write,
    entry_of,
    places,
    standing,
    written,
)
from redrive.stores.postgres.table import Table
from redrive.stores.postgres.telling import Telling

SWEEP_EVERY_MS, SWEEP_GRACE_MS = 60_000, 3_600_000
"""Expired entries are deleted once a minute, an hour after their expiry: by then even a machine whose clock is late
takes them for expired."""
_MOST_SWEPT = 500  # as the statement says


class Asking:
    """Asks one table."""

    def __init__(
        self, address: str, statements: dict[str, bytes], clock: Clock, *, channel: str, telling: Telling
    ) -> None:
        self._address, self._sql, self._clock, self._channel = address, statements, clock, channel
        self._telling = telling
        self._sweep_at_ms = 0

    async def __call__(self, connection: Connection, jobs: Sequence[Job]) -> None:
        """Ask jobs of one kind, and answer them.

        Raises:
            psycopg.Error: If it was not answered, or refused; no job is answered then.
        """
        match jobs[0]:
            case Write():
                await self._write(connection, [job for job in jobs if isinstance(job, Write)])
                await self._sweep(connection)
            case Read():
                await self._read(connection, [job for job in jobs if isinstance(job, Read)])
            case Listing() as listing:
                arguments = {**listing.arguments, "now_ms": self._clock.now_ms()}
                rows = await self._rows(connection, listing.statement, arguments)
                listing.done([entry_of(row) for row in rows])
            case Declaring() as declaring:
                await self._declare(connection, declaring)
            case Notice() as notice:
                arguments = {"channel": self._channel, "namespace": notice.namespace}
                await connection.execute(self._sql["notify"], arguments, prepare=True)
                notice.done(None)
            case other:
                raise TypeError(other)  # pragma: no cover - there is no other kind

    async def _declare(self, connection: Connection, job: Declaring) -> None:
        try:
            await Table(job.address, connection).declare(job.address.mode)
        except DeclarationError as error:
            job.failed(error)
        else:
            job.done(None)

    async def _write(self, connection: Connection, jobs: Sequence[Write]) -> None:
        told = self._telling.at_once(job.namespace.name for job in jobs if job.namespace.timed)
        arguments = written(jobs, told=told, channel=self._channel, now_ms=self._clock.now_ms())
        rows = await self._rows(connection, "write", arguments)
        done = {version for version, *_ in rows}
        timed = [job.namespace.name for job in jobs if job.namespace.timed and job.version in done]
        self._telling.wrote(timed, told=[name for _, name, _ in rows if name is not None])
        doubtful = [job for job in jobs if job.doubtful and job.version not in done]
        if doubtful:  # an earlier try may have done it
            done |= {version for (version,) in await self._rows(connection, "standing", standing(doubtful))}
        for job in jobs:
            if job.version in done:
                job.done(job.version)
            else:
                job.failed(self._conflict(job))

    def _conflict(self, job: Write) -> Exception:
        if job.doubtful:
            problem = "a write was not answered, and is a conflict now; it may have happened before somebody else's"
            return StoreUnavailable(self._address, problem)
        return VersionConflict(job.namespace.name, job.key)

    async def _read(self, connection: Connection, jobs: Sequence[Read]) -> None:
        arguments = {**places(jobs), "now_ms": self._clock.now_ms()}
        found = {}
        for namespace, *row in await self._rows(connection, "get", arguments):
            entry = entry_of(row)
            found[namespace, entry.key] = entry
        for job in jobs:
            job.done(found.get(job.place))

    async def _sweep(self, connection: Connection) -> None:
        """Delete what expired long ago, now and then; every job is answered by now."""
        now_ms = self._clock.now_ms()
        if now_ms < self._sweep_at_ms:
            return
        cursor = await connection.execute(self._sql["sweep"], {"before_ms": now_ms - SWEEP_GRACE_MS})
        self._sweep_at_ms = now_ms if cursor.rowcount == _MOST_SWEPT else now_ms + SWEEP_EVERY_MS

    async def _rows(self, connection: Connection, statement: str, arguments: dict[str, Any]) -> list[tuple[Any, ...]]:
        cursor = connection.cursor(binary=True)
        await cursor.execute(self._sql[statement], arguments, prepare=True)
        return await cursor.fetchall()
