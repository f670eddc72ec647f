"""The relay: one leader that sends what is committed in an outbox, and forgets what it sent.

Invariants:
    1. A row is deleted only after its message was sent. A crash in between sends it again, under the same id.
    2. Of one line the next row is sent only after the one before: rounds, with one row of each line in each.
    3. A line, or a queue, that the broker refuses waits by itself; the others go on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from redrive.errors import BrokerError, DeclarationError, NewerRecord, StoreError
from redrive.leadership import Leadership
from redrive.outbox.addresses import Address, source
from redrive.outbox.aside import Aside
from redrive.outbox.source import Row, Source
from redrive.runtime import Runtime
from redrive.unsent import Unsent, send_batch

_log = logging.getLogger("redrive.outbox")
IDLE = 1.0
"""Seconds between two looks without a wake-up, and between two tries to lead."""
_ROWS = 500
_MOST_LINES = 1_000
"""Lines that are left out one by one; with more of them the whole queue is."""
_VERSION = 1


class OutboxRelay:
    """Relays one outbox, as long as this process leads."""

    def __init__(self, runtime: Runtime, source: Source, *, name: str, leadership: Leadership | None = None) -> None:
        task = f"outbox/{runtime.app}/{name}"
        self._runtime, self._source = runtime, source
        self._leader = leadership or Leadership(runtime.store, runtime.clock, task=task, holder=runtime.worker)
        self._queues, self._lines = Aside(), Aside()
        self._refused: set[str] = set()
        """Of the two, what was refused in this round."""

    @property
    def address(self) -> str:
        """Where it reads, without credentials."""
        return self._source.address

    async def step(self) -> float:
        """Send what is there, or wait until there is something; seconds until it should be called again.

        Raises:
            StoreUnavailable: If the database is away, or has no such table.
        """
        if not await self._leader.held():
            await self._source.close()
            return IDLE
        if not await self.relay():
            await self._source.changed(IDLE)
        return 0.0

    async def relay(self) -> int:
        """Send what is committed now, up to 500 rows; how many were sent. What the broker refuses stays.

        Raises:
            StoreUnavailable: If the database is away, or has no such table.
        """
        now = self._runtime.clock.monotonic()
        without = self._queues.names(now), self._lines.names(now)
        rows = await self._source.next(self._runtime.app, without=without, limit=_ROWS)
        sent = 0
        while rows and await self._leader.held():
            self._refused.clear()
            first, rows = _round(rows)
            sent += await self._send(first)
            rows = [row for row in rows if not {row.line, row.queue} & self._refused]
        return sent

    async def resign(self) -> None:
        """Let another worker lead at once."""
        await self._source.close()
        await self._leader.resign()

    async def _send(self, rows: Sequence[Row]) -> int:
        """Send one round, queue by queue, and delete what was sent; how many."""
        sent = 0
        size = self._runtime.broker.capabilities.max_batch
        for queue, group in groupby(sorted(rows, key=lambda row: row.queue), lambda row: row.queue):
            messages = [one for row in group if (one := self._read(row)) is not None]
            for start in range(0, len(messages), size):
                if queue not in self._refused:
                    sent += await self._send_batch(queue, messages[start : start + size])
        return sent

    async def _send_batch(self, queue: str, messages: Sequence[tuple[Row, Unsent]]) -> int:
        try:
            results = await send_batch(self._runtime, queue, [one for _, one in messages])
        except (BrokerError, StoreError) as error:
            self._put_aside(self._queues, queue, error)
            return 0
        rows = [row for row, _ in messages]
        done = [row for row, result in zip(rows, results, strict=True) if result is None]
        if done:
            await self._source.delete([row.id for row in done])
            self._went({row.line for row in done}, queue)
        for row, result in zip(rows, results, strict=True):
            if result is not None:
                self._put_aside(self._lines, row.line, result)
            if result is not None and len(self._lines) > _MOST_LINES:
                self._put_aside(self._queues, queue, result)
        return len(done)

    def _read(self, row: Row) -> tuple[Row, Unsent] | None:
        """The message of a row; None where it cannot be read, which holds up its line alone."""
        try:
            return row, _message_of(row)
        except (NewerRecord, ValueError, KeyError, TypeError) as error:
            self._put_aside(self._lines, row.line, error)
            return None

    def _put_aside(self, what: Aside, name: str, error: Exception) -> None:
        """Leave it out for a while (invariant 3)."""
        self._refused.add(name)
        seconds = what.put(name, self._runtime.clock.monotonic())
        if seconds is not None:
            text = f"{type(error).__name__}: {error}"
            _log.error(
                "%r in the outbox %s is held up, and tried again from %g s on: %s", name, self.address, seconds, text
            )

    def _went(self, lines: set[str], queue: str) -> None:
        for name in (*self._lines.release(lines), *self._queues.release({queue})):
            _log.info("%r in the outbox %s is sent again", name, self.address)


def _message_of(row: Row) -> Unsent:
    document = json.loads(row.document)
    if document["v"] > _VERSION:
        raise NewerRecord("row of an outbox", document["v"], _VERSION)
    return Unsent.from_document(document)


def _round(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The first row of each line, and the rest (invariant 2)."""
    first: dict[str, Row] = {}
    rest: list[Row] = []
    for row in rows:
        if row.line in first:
            rest.append(row)
        else:
            first[row.line] = row
    return list(first.values()), rest


def relays(runtime: Runtime, addresses: Sequence[Address], folder: Path) -> list[OutboxRelay]:
    """The relays of an application.

    Raises:
        DeclarationError: If an address is of no database that can be read, or of the broker's own file.
    """
    sources = [source(address, folder) for address in addresses]
    for one in sources:
        if one.address == runtime.broker.address.partition("?")[0]:
            remedy = "keep it in a file of its own: two SQLites in one process must not share one"
            raise DeclarationError(f"the outbox {one.address!r}", "is in the broker's file", remedy)
    return [OutboxRelay(runtime, one, name=str(number)) for number, one in enumerate(sources)]
