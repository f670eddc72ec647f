"""Writing messages into the outbox, in the transaction of the caller."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Coroutine, Iterable, Mapping
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from redrive.clock import Clock
from redrive.errors import DeclarationError
from redrive.outbox.connections import insert_on
from redrive.queue import Queue
from redrive.sending import SendOptions, at_random, prepared
from redrive.unsent import Unsent

T = TypeVar("T")


class Connection(Protocol):
    """A connection or session that blocks: of sqlite3, psycopg or SQLAlchemy."""

    def commit(self) -> None:
        """End the transaction."""
        ...


class AsyncConnection(Protocol):
    """One to await: psycopg's AsyncConnection, SQLAlchemy's AsyncConnection or AsyncSession, aiosqlite's Connection."""

    def commit(self) -> Coroutine[Any, Any, None]:
        """End the transaction."""
        ...


class Declared(Protocol):
    """The application, as its outbox needs it. It need not be open."""

    name: str
    queues: dict[str, Queue[Any]]


class _Rows:
    """What is written for messages."""

    def __init__(self, app: Declared, clock: Clock) -> None:
        self._app, self._clock = app, clock

    def of(self, queue: Queue[T], payloads: Iterable[T], options: SendOptions) -> list[dict[str, str]]:
        """A row for each payload, all of them checked."""
        if self._app.queues.get(queue.name) is not queue:
            subject = f"queue {queue.name!r}"
            raise DeclarationError(subject, f"is not of application {self._app.name!r}", "use its own app.outbox(...)")
        now_ms = self._clock.now_ms()
        unsent = prepared(queue, payloads, options, now_ms=now_ms, identify=at_random(now_ms, os.urandom))
        return [self._row(one, fifo=queue.fifo) for one in unsent]

    def _row(self, one: Unsent, *, fifo: bool) -> dict[str, str]:
        message = one.message
        return {
            "app": self._app.name,
            "queue": one.queue,
            "line": f"{one.queue}/{message.group}" if fifo else message.id,
            "message_id": message.id,
            "document": json.dumps({"v": 1, **one.to_document()}),
        }


class Outbox:
    """Sends in the transaction of one connection; made by `app.outbox(connection)`."""

    def __init__(self, app: Declared, connection: Any, clock: Clock) -> None:  # noqa: ANN401 - see `Connection`
        self._connection, self._rows = connection, _Rows(app, clock)

    def send(
        self,
        queue: Queue[T],
        payload: T,
        *,
        delay: float | timedelta = 0.0,
        group: str | None = None,
        attributes: Mapping[str, str] | None = None,
        deduplication_id: str | None = None,
    ) -> str:
        """Write one message; its id. It is sent when the transaction has been committed, and not otherwise.

        The arguments are those of `Queue.send`. Blocks for one statement.

        Raises:
            PayloadError: If it does not fit the queue's type, or is over the limit.
            LimitExceeded: If the group, the delay or the deduplication id cannot be.
            DeclarationError: If the connection cannot be used, or the queue is another application's.
            NoTransaction: If each statement on the connection is a transaction of its own.
        """
        options = SendOptions(delay, group, attributes, deduplication_id)
        return self._write(self._rows.of(queue, [payload], options))[0]

    def send_many(
        self,
        queue: Queue[T],
        payloads: Iterable[T],
        *,
        delay: float | timedelta = 0.0,
        group: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Write several messages; their ids, in order. All are checked before the first is written; else as `send`."""
        return self._write(self._rows.of(queue, payloads, SendOptions(delay, group, attributes)))

    def _write(self, rows: list[dict[str, str]]) -> list[str]:
        insert = insert_on(self._connection)
        for row in rows:
            self._connection.execute(insert, row)
        return [row["message_id"] for row in rows]


class AsyncOutbox:
    """Sends in the transaction of one connection that is awaited; made by `app.outbox(connection)`."""

    def __init__(self, app: Declared, connection: Any, clock: Clock) -> None:  # noqa: ANN401 - see `AsyncConnection`
        self._connection, self._rows = connection, _Rows(app, clock)

    async def send(
        self,
        queue: Queue[T],
        payload: T,
        *,
        delay: float | timedelta = 0.0,
        group: str | None = None,
        attributes: Mapping[str, str] | None = None,
        deduplication_id: str | None = None,
    ) -> str:
        """Write one message; its id. All else as `Outbox.send`."""
        options = SendOptions(delay, group, attributes, deduplication_id)
        return (await self._write(self._rows.of(queue, [payload], options)))[0]

    async def send_many(
        self,
        queue: Queue[T],
        payloads: Iterable[T],
        *,
        delay: float | timedelta = 0.0,
        group: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Write several messages; their ids, in order. All else as `Outbox.send_many`."""
        return await self._write(self._rows.of(queue, payloads, SendOptions(delay, group, attributes)))

    async def _write(self, rows: list[dict[str, str]]) -> list[str]:
        insert = insert_on(self._connection)
        for row in rows:
            await self._connection.execute(insert, row)
        return [row["message_id"] for row in rows]


def outbox(app: Declared, connection: object, clock: Clock) -> Outbox | AsyncOutbox:
    """The outbox on a connection of either kind."""
    return AsyncOutbox(app, connection, clock) if _is_awaited(connection) else Outbox(app, connection, clock)


def _is_awaited(connection: object) -> bool:
    return inspect.iscoroutinefunction(getattr(connection, "commit", None))
