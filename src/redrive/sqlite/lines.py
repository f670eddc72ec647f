"""Order: the messages of one group in a FIFO queue stand in a line.

A receive takes from the front of a line, and from then on the line is locked, until none of its messages is leased any
more. A message that was handed back with a delay holds its line too: it stands in front, and its time has not come.

`line.free_at_ms` says when the front may be received. Everything that changes a line's front or its leases renews it in
the same transaction; only a lease that runs out needs no hand, for it was in there from the beginning.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import apsw

from redrive.sqlite.rows import RECEIVED, Row
from redrive.sqlite.statements import named

_SQL = {name: sql.replace("{RECEIVED}", RECEIVED) for name, sql in named("lines.sql").items()}


class Lease(NamedTuple):
    """What a receive asks for."""

    queue: int
    now_ms: int
    until_ms: int


class Lines:
    """The lines of all FIFO queues on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute

    def join(self, queue: int, group: str, visible_at_ms: int) -> None:
        """A message was put at the end of a line; where there was none, it begins with it."""
        self._execute(_SQL["join"], (queue, group, visible_at_ms))

    def free(self, lease: Lease, limit: int) -> list[str]:
        """The groups whose front may be received, those that are free longest first."""
        return [group for (group,) in self._execute(_SQL["free"], (lease.queue, lease.now_ms, limit))]

    def take(self, lease: Lease, group: str, limit: int) -> list[Row]:
        """Lease up to `limit` messages from the front of a free line, in order, and lock it."""
        front: list[Any] = self._execute(_SQL["front"], (lease.queue, group, limit)).fetchall()
        ready = [seq for seq, _ in _ready(front, lease.now_ms)]
        rows = self._execute(_SQL["take"], (lease.until_ms, json.dumps(ready))).fetchall()
        return sorted(map(Row, rows), key=lambda row: row.seq)

    def take_by_id(self, lease: Lease, identity: str) -> list[Row]:
        """Lease messages by their id, wherever they stand in lines of which nothing is leased."""
        parameters = (lease.until_ms, lease.queue, lease.now_ms, identity)
        return [Row(values) for values in self._execute(_SQL["take_by_id"], parameters).fetchall()]

    def renew(self, queue: int, group: str, now_ms: int) -> bool:
        """Say anew when the line's front may be received; whether that is now."""
        state: Any = self._execute(_SQL["state"], (queue, group)).fetchone()
        front, leased_until = state
        if front is None:
            self._execute(_SQL["leave"], (queue, group))
            return False
        free_at: int = max(front, leased_until or 0)
        self._execute(_SQL["renew"], (queue, group, free_at))
        return free_at <= now_ms

    def next_free_ms(self, queue: int) -> int | None:
        """When the next line becomes free (past: one is); None when there is none."""
        found: int | None = self._execute(_SQL["next_free"], (queue,)).get
        return found


def _ready(front: list[tuple[int, int]], now_ms: int) -> Iterator[tuple[int, int]]:
    """Up to the first whose time has not come: nobody overtakes it."""
    for seq, visible_at_ms in front:
        if visible_at_ms > now_ms:
            return
        yield seq, visible_at_ms
