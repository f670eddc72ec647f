"""Order: the messages of one group in a FIFO queue stand in a line.

A receive takes from the front of a line, and from then on the line is locked, until none of its messages is leased any
more. A message that was handed back with a delay holds its line too: it stands in front, and its time has not come.

`line.free_at_ms` says when the front may be received. Everything that changes a line's front or its leases renews it in
the same transaction; only a lease that runs out needs no hand, for it was in there from the beginning.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
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
    by_group: bool = False
    """Whether one group may fill the whole answer."""


class Lines:
    """The lines of all FIFO queues on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute

    def join(self, queue: int, group: str, visible_at_ms: int, seq: int) -> None:
        """A message was put at the end of a line; where there was none, it begins with it."""
        self._execute(_SQL["join"], (queue, group, visible_at_ms, seq))

    def take(self, lease: Lease, limit: int) -> list[Row]:
        """Lease up to `limit` messages from the fronts of free lines, each line's in order, and lock those lines.

        Lines that are free longest come first, and of those the one whose first message is oldest. From each as many
        are taken as leaves something for the others. What is left of an earlier receive whose leases ran out is stale
        from now on: nobody may begin with the second of a line while the first is handled anew.
        """
        free: list[Any] = self._execute(_SQL["free"], (lease.queue, lease.now_ms, limit)).fetchall()
        if not free:
            return []
        each = limit if lease.by_group else -(-limit // len(free))
        fronts = free if each == 1 else self._long_fronts(lease, [group for group, _ in free], limit, each)
        groups = json.dumps(list(dict.fromkeys(group for group, _ in fronts)))
        self._execute(_SQL["lapse"], (lease.queue, groups, lease.now_ms))
        rows = self.lease(lease, [seq for _, seq in fronts])
        self._execute(_SQL["lock"], (lease.queue, groups, lease.until_ms))
        place = {seq: number for number, (_, seq) in enumerate(fronts)}
        return sorted(rows, key=lambda row: place[row.seq])

    def find(self, lease: Lease, identity: str) -> list[int]:
        """Messages of this id, wherever they stand in lines of which nothing is leased."""
        return [seq for (seq,) in self._execute(_SQL["find"], (lease.queue, lease.now_ms, identity))]

    def lease(self, lease: Lease, seqs: list[int]) -> list[Row]:
        """Lease these; their lines have to be locked by whoever calls."""
        return [
            Row(one)
            for one in self._execute(
                _SQL["take"], (lease.until_ms, json.dumps(seqs), lease.queue, lease.now_ms)
            ).fetchall()
        ]

    def _long_fronts(self, lease: Lease, groups: list[Any], limit: int, each: int) -> list[tuple[Any, int]]:
        """Some messages of each line, up to the first whose time has not come: nobody overtakes it."""
        chosen: list[tuple[Any, int]] = []
        for group in groups:
            if not (most := min(each, limit - len(chosen))):
                break
            for seq, visible_at_ms in self._execute(_SQL["front"], (lease.queue, group, most)):
                if visible_at_ms > lease.now_ms:
                    break
                chosen.append((group, seq))
        return chosen

    def renew(self, queue: int, groups: Iterable[str], now_ms: int) -> bool:
        """Say anew when the fronts of these lines may be received; whether one of them may be now."""
        those = json.dumps(list(groups))
        self._execute(_SQL["leave"], (queue, those))
        return any([free_at <= now_ms for (free_at,) in self._execute(_SQL["renew"], (queue, those))])  # noqa: C419 - all

    def next_free_ms(self, queue: int) -> int | None:
        """When the next line becomes free (past: one is); None when there is none."""
        found: int | None = self._execute(_SQL["next_free"], (queue,)).get
        return found
