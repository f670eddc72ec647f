"""The store on PostgreSQL: one table, a row for each entry, and every write one condition in one statement.

Invariants:
    1. Each write has a random version, so that one that was tried again recognises itself and is no conflict. A number
       of a sequence would only be known from the answer, which may get lost.
    2. A write whose answer was lost, and that then finds another's version, says that nothing is known.
    3. What was answered is committed, and on the disk of the server as far as it syncs.
    4. Expiry is judged by this process's clock, in reads and in the conditions of writes; deleting expired rows, an
       hour later, only makes room.

A crash leaves each write done or not done. Nothing is locked between two calls.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from redrive.clock import Clock
from redrive.errors import DeclarationError, StoreUnavailable, ValueTooLarge
from redrive.store import Entry, Namespace
from redrive.stores.postgres.address import PostgresAddress
from redrive.stores.postgres.jobs import Declaring, Job, Listing, Notice, Read, Write, kept
from redrive.stores.postgres.statements import statements
from redrive.stores.postgres.telling import Telling

if TYPE_CHECKING:
    from redrive.stores.postgres.connections import Connection

J = TypeVar("J", bound=Job)

MAX_VALUE = 2 * 1024 * 1024
"""Largest value, in bytes: as in the embedded store."""
LONGEST_KEY = 1024
"""Longest key, in bytes of UTF-8: an index takes rows of up to 2,704 bytes, with the namespace in them.

Source: PostgreSQL's documentation, "B-Tree Indexes": about a third of a page of 8 KB.
"""


class PostgresStore:
    """A store in one table. For one event loop; the first call declares the table, once."""

    def __init__(self, clock: Clock, address: PostgresAddress) -> None:
        """Open nothing yet.

        Args:
            clock: whose wall clock decides what is expired; machines should agree within seconds.
            address: where it is, and whether a missing table is made.

        Raises:
            DeclarationError: If psycopg is not installed, or libpq does not know an option of the address.
        """
        self._address, self._shown = address, address.shown
        try:
            import psycopg  # noqa: PLC0415 - an extra

            from redrive.stores.postgres.asking import Asking  # noqa: PLC0415 - imports it
            from redrive.stores.postgres.connections import settings_of  # noqa: PLC0415 - likewise
            from redrive.stores.postgres.lanes import Lanes  # noqa: PLC0415 - likewise
            from redrive.stores.postgres.notices import Notices  # noqa: PLC0415 - likewise
        except ImportError as missing:
            problem, remedy = "needs psycopg, which is not installed", "pip install 'redrive[postgres]'"
            raise DeclarationError(f"store {self._shown!r}", problem, remedy) from missing
        try:
            self._settings = settings_of(address.url)
        except psycopg.ProgrammingError:  # whose words may hold a password
            remedy = "take those that libpq knows, and table, schema and declare"
            raise DeclarationError(f"an option of store {self._shown!r}", "is not known", remedy) from None
        sql = statements(address.quoted)
        self._session = sql["session"]
        self._telling = Telling(self._tell)
        asking = Asking(self._shown, sql, clock, channel=address.channel, telling=self._telling)
        self._lanes = Lanes(self._shown, self._connect, asking)
        self._notices = Notices(self._shown, address.channel, self._connect)
        self._declaring = asyncio.Lock()
        self._declared = self._closed = False

    @property
    def address(self) -> str:
        """`postgresql://`, host and database; whoever writes a password into it does not find it in the log."""
        return self._shown

    @property
    def max_value(self) -> int:
        """2 MiB."""
        return MAX_VALUE

    async def declare(self) -> None:
        """Make the table or look at it, once; every call does so first.

        Raises:
            DeclarationError: If it is missing or cannot be used, with the SQL that helps.
            StoreUnavailable: If the server cannot be asked; the next call declares again.
        """
        async with self._declaring:
            if self._closed:
                raise StoreUnavailable(self._shown, "it is closed")
            if not self._declared:
                await self._lanes.ask(_job(Declaring, address=self._address))
                self._declared = True

    async def get(self, namespace: Namespace, key: str) -> Entry | None:
        """The entry, or None when it is absent or expired."""
        _check_key(namespace, key)
        found: Entry | None = await self._ask(_job(Read, namespace=namespace, key=key))
        return found

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
        if len(value) > MAX_VALUE:
            raise ValueTooLarge(namespace.name, key, len(value), MAX_VALUE)
        return await self._write(
            _job(
                Write,
                namespace=namespace,
                key=key,
                value=bytes(value),
                if_version=if_version,
                version=secrets.randbits(62) + 1,
                due_at_ms=due_at_ms,
                expires_at_ms=expires_at_ms,
            )
        )

    async def delete(self, namespace: Namespace, key: str, *, if_version: int) -> None:
        """Remove the entry if its version still is `if_version`."""
        token = secrets.randbits(62) + 1
        await self._write(_job(Write, namespace=namespace, key=key, value=None, if_version=if_version, version=token))

    async def due(self, namespace: Namespace, *, before_ms: int, limit: int) -> Sequence[Entry]:
        """Entries due at or before `before_ms`, earliest first."""
        arguments = {"namespace": namespace.name, "before_ms": before_ms, "limit": limit}
        return await self._list("due", arguments)

    async def scan(self, namespace: Namespace, *, after: str = "", limit: int = 100) -> Sequence[Entry]:
        """Entries whose key is greater than `after`, by key: by its UTF-8."""
        return await self._list("scan", {"namespace": namespace.name, "after": kept(after), "limit": limit})

    def watching(self, namespace: Namespace) -> AbstractContextManager[asyncio.Event]:
        """An event that is set after every write to a timed namespace, by whichever process; see `Watchable`."""
        return self._notices.watching(namespace)

    async def close(self) -> None:
        """Close the connections; calls under way end with StoreUnavailable. Closing again is fine."""
        self._closed = True
        self._telling.close()
        await self._notices.close()
        await self._lanes.close()

    async def _write(self, job: Write) -> int:
        _check_key(job.namespace, job.key)
        version: int = await self._ask(job)
        return version

    async def _list(self, statement: str, arguments: dict[str, Any]) -> Sequence[Entry]:
        entries: Sequence[Entry] = await self._ask(_job(Listing, statement=statement, arguments=arguments))
        return entries

    async def _ask(self, job: Job) -> Any:  # noqa: ANN401 - what kind of answer, the kind of job says
        if not self._declared:
            await self.declare()
        return await self._lanes.ask(job)

    def _tell(self, namespace: str) -> None:
        job = _job(Notice, namespace=namespace)
        job.answer.add_done_callback(_is_looked_at)
        self._lanes.put(job)

    async def _connect(self) -> Connection:
        from redrive.stores.postgres.connections import opened  # noqa: PLC0415 - imports psycopg

        return await opened(self._settings, self._session)


def _job(kind: type[J], **facts: Any) -> J:  # noqa: ANN401 - what the kind takes
    loop = asyncio.get_running_loop()
    return kind(answer=loop.create_future(), asked_at=loop.time(), **facts)


def _is_looked_at(answer: asyncio.Future[None]) -> None:
    """Nobody waits for it; where it failed, everybody listens anew and looks."""
    if not answer.cancelled():
        answer.exception()


def _check_key(namespace: Namespace, key: str) -> None:
    if len(key) * 4 > LONGEST_KEY and (size := len(key.encode())) > LONGEST_KEY:
        raise ValueTooLarge(namespace.name, key, size, LONGEST_KEY)
