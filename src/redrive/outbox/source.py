"""Where a relay reads: the database whose transactions write into the outbox."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from redrive.errors import StoreUnavailable
from redrive.outbox.statements import ddl

LARGEST_READ = 8 * 1024 * 1024
"""Characters of messages that are read at once, and one message more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A committed message that has not been sent."""

    id: int
    queue: str
    line: str
    """What is sent in order: a group of a FIFO queue; every other message is a line of its own."""
    document: str


class Source(Protocol):
    """One connection to such a database. Every call opens it if need be, and raises StoreUnavailable."""

    @property
    def address(self) -> str:
        """Where it is, without credentials."""
        ...

    async def next(self, app: str, *, without: tuple[Collection[str], Collection[str]], limit: int) -> list[Row]:
        """What is committed for an application, in the order in which it was written; at most 8 MiB, or one message.

        Args:
            app: its name.
            without: queues and lines to leave out.
            limit: the most rows.
        """
        ...

    async def delete(self, ids: Collection[int]) -> None:
        """Forget rows, in one transaction."""
        ...

    async def changed(self, wait: float) -> None:
        """Return when something may have been committed, and after `wait` seconds at the latest."""
        ...

    async def close(self) -> None:
        """Let go of the connection; the next call opens it again."""
        ...


def without_table(address: str, dialect: str) -> StoreUnavailable:
    """The error where nobody has made the table."""
    first = ddl(dialect).partition("(")[0].strip()
    remedy = f"make it with the SQL of `redrive outbox ddl {dialect}`: {first} ..."
    return StoreUnavailable(address, f"it has no table redrive_outbox; {remedy}")
