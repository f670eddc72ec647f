"""The embedded store's heart: versioned entries in one SQLite database. Synchronous, the time an argument."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import apsw

from redrive.errors import ValueTooLarge, VersionConflict
from redrive.sqlite.statements import named
from redrive.store import ABSENT, Entry, Namespace

MAX_VALUE = 2 * 1024 * 1024
"""Largest value, in bytes: room for the largest body, encoded."""

_SQL = named("entries.sql")


class Entries:
    """Entries on one connection. One thread at a time; a call that raises has changed nothing."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute
        self._changes = connection.changes

    def get(self, namespace: Namespace, key: str, *, now_ms: int) -> Entry | None:
        """The entry, or None when it is absent or expired."""
        row = self._execute(_SQL["get"], (namespace.name, key, now_ms)).fetchone()
        return None if row is None else Entry(key=key, value=row[0], version=row[1], due_at_ms=row[2])

    def put(
        self,
        namespace: Namespace,
        key: str,
        value: bytes,
        *,
        if_version: int,
        due_at_ms: int | None,
        expires_at_ms: int | None,
        now_ms: int,
    ) -> int:
        """Write the entry if its version is `if_version`; the new version.

        Raises:
            VersionConflict: If it is not.
            ValueTooLarge: If the value is over 2 MiB.
        """
        if len(value) > MAX_VALUE:
            raise ValueTooLarge(namespace.name, key, len(value), MAX_VALUE)
        version = secrets.randbits(62) + 1
        arguments = (namespace.name, key, value, version, due_at_ms, expires_at_ms, now_ms)
        if if_version == ABSENT:
            self._execute(_SQL["create"], arguments)
        else:
            self._execute(_SQL["replace"], (*arguments, if_version))
        if self._changes() != 1:
            raise VersionConflict(namespace.name, key)
        return version

    def delete(self, namespace: Namespace, key: str, *, if_version: int, now_ms: int) -> None:
        """Remove the entry if its version is `if_version`.

        Raises:
            VersionConflict: If it is not.
        """
        self._execute(_SQL["delete"], (namespace.name, key, if_version, now_ms))
        if self._changes() != 1:
            raise VersionConflict(namespace.name, key)

    def due(self, namespace: Namespace, *, before_ms: int, limit: int, now_ms: int) -> Sequence[Entry]:
        """Entries due at or before `before_ms`, earliest first."""
        return self._entries("due", (namespace.name, before_ms, limit, now_ms))

    def scan(self, namespace: Namespace, *, after: str, limit: int, now_ms: int) -> Sequence[Entry]:
        """Entries whose key is greater than `after`, by key."""
        return self._entries("scan", (namespace.name, after, limit, now_ms))

    def next_due_ms(self, namespace: Namespace) -> int | None:
        """When the next entry is due; None when none is."""
        found: int | None = self._execute(_SQL["next_due"], (namespace.name,)).get
        return found

    def sweep(self, *, now_ms: int) -> None:
        """Delete up to 500 expired entries."""
        self._execute(_SQL["sweep"], (now_ms,))

    def _entries(self, statement: str, arguments: tuple[str | int, ...]) -> list[Entry]:
        return [
            Entry(key=key, value=value, version=version, due_at_ms=due)
            for key, value, version, due in self._execute(_SQL[statement], arguments)
        ]
