"""What the tests of the runtime share: a payload, an application on a real file, a worker, and a store that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from redrive import App, Queue
from redrive.broker import Outgoing
from redrive.errors import StoreUnavailable
from redrive.harness import Harness
from redrive.message import Message, message_id
from redrive.store import Entry, Namespace, Store

T = TypeVar("T")
DEADLINE = 10.0
"""Seconds that a test waits for what has to happen; far more than it takes."""


class Order(BaseModel):
    """A payload."""

    id: str
    drink: str = "tea"


class Down(Exception):
    """What a dependency that is down raises."""


async def within(waiting: Awaitable[T], seconds: float = DEADLINE) -> T:
    """Wait for something, but not for ever."""
    async with asyncio.timeout(seconds):
        return await waiting


async def until(condition: Callable[[], Any], seconds: float = DEADLINE) -> Any:
    """Wait until a condition, sync or async, holds; what it gave."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.01)  # the condition is a state in a store or a process: there is no event for it


@asynccontextmanager
async def opened(app: App[Any], folder: Path, monkeypatch: Any) -> AsyncIterator[App[Any]]:
    """The application on a real file."""
    monkeypatch.setenv("REDRIVE_BROKER", f"sqlite:{folder / 'test.db'}")
    async with app:
        yield app


@asynccontextmanager
async def working(app: App[Any], *, grace: float = 5.0, **settings: Any) -> AsyncIterator[asyncio.Event]:
    """A worker on an open application, stopped at the end; setting the event stops it before."""
    stop = asyncio.Event()
    task = asyncio.create_task(app.work(stop=stop, grace=grace, **settings))
    try:
        yield stop
    finally:
        stop.set()
        await within(task, 20)


async def put(harness: Harness[Any], queue: Queue[Any], body: bytes, **facts: Any) -> str:
    """Put a body into a queue as a foreign producer does: unchecked."""
    runtime = harness.runtime
    now = runtime.clock.now_ms()
    identity = facts.pop("id", None) or message_id(now, runtime.random.randbytes(10))
    message = Message(id=identity, body=body, sent_at_ms=now, **facts)
    (error,) = await runtime.broker.send(queue.name, [Outgoing(message=message)])
    assert error is None
    return identity


class FailingStore:
    """A store whose calls fail for as long as `fails` says so."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.fails: Callable[[str, Namespace, str, bytes], bool] = lambda *_: False
        """Asked with the call's name, the namespace, the key and the value before each call."""
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @property
    def address(self) -> str:
        return "test:store"

    @property
    def max_value(self) -> int:
        return self._store.max_value

    def away(self) -> None:
        """From now on every call fails."""
        self.fails = lambda *_: True

    def back(self) -> None:
        """From now on none does."""
        self.fails = lambda *_: False

    async def get(self, namespace: Namespace, key: str) -> Entry | None:
        self._check("get", namespace, key)
        return await self._store.get(namespace, key)

    async def put(self, namespace: Namespace, key: str, value: bytes, **conditions: Any) -> int:
        self._check("put", namespace, key, value)
        return await self._store.put(namespace, key, value, **conditions)

    async def delete(self, namespace: Namespace, key: str, *, if_version: int) -> None:
        self._check("delete", namespace, key)
        await self._store.delete(namespace, key, if_version=if_version)

    async def due(self, namespace: Namespace, *, before_ms: int, limit: int) -> Sequence[Entry]:
        self._check("due", namespace)
        return await self._store.due(namespace, before_ms=before_ms, limit=limit)

    async def scan(self, namespace: Namespace, *, after: str = "", limit: int = 100) -> Sequence[Entry]:
        self._check("scan", namespace)
        return await self._store.scan(namespace, after=after, limit=limit)

    async def close(self) -> None:
        await self._store.close()

    def _check(self, call: str, namespace: Namespace, key: str = "", value: bytes = b"") -> None:
        if self.fails(call, namespace, key, value):
            self.failed += 1
            raise StoreUnavailable(self.address, "it was made to fail")
