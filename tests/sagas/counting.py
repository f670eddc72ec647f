"""A store and a broker that count what is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from redrive.broker import Acknowledge, Results
from redrive.relay import Relay
from redrive.store import SAGAS, Entry, Namespace, Store

T = TypeVar("T")


class Kept(Generic[T]):
    """What `app.test` takes to put something in front, and keeps it for the test."""

    one: T

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make

    def __call__(self, real: Any) -> T:
        self.one = self._make(real)
        return self.one


class StoreInFront:
    """A store in front of another one that passes everything on."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def address(self) -> str:
        return self._store.address

    @property
    def max_value(self) -> int:
        return self._store.max_value

    async def get(self, namespace: Namespace, key: str) -> Entry | None:
        return await self._store.get(namespace, key)

    async def put(self, namespace: Namespace, key: str, value: bytes, *, if_version: int, **times: Any) -> int:
        return await self._store.put(namespace, key, value, if_version=if_version, **times)

    async def delete(self, namespace: Namespace, key: str, *, if_version: int) -> None:
        await self._store.delete(namespace, key, if_version=if_version)

    async def due(self, namespace: Namespace, *, before_ms: int, limit: int) -> Any:
        return await self._store.due(namespace, before_ms=before_ms, limit=limit)

    async def scan(self, namespace: Namespace, *, after: str = "", limit: int = 100) -> Any:
        return await self._store.scan(namespace, after=after, limit=limit)

    async def close(self) -> None:
        await self._store.close()


class CountingStore(StoreInFront):
    """Counts the writes of journals."""

    puts = 0

    async def put(self, namespace: Namespace, key: str, value: bytes, *, if_version: int, **times: Any) -> int:
        self.puts += namespace == SAGAS
        return await super().put(namespace, key, value, if_version=if_version, **times)


class CountingBroker(Relay):
    """Counts the settlements."""

    acknowledged = settled = 0

    async def settle(self, settlements: Any) -> Results:
        self.settled += len(settlements)
        self.acknowledged += sum(isinstance(one, Acknowledge) for one in settlements)
        return await super().settle(settlements)
