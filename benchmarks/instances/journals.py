"""A store that hears what is written of sagas: how often, and of each instance when its end was on disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from redrive.store import SAGAS, Namespace, Store


class Journals:
    """Stands before a store. An instance has ended when the write that says so was answered."""

    def __init__(self, store: Store, ended: Callable[[str], None] | None = None) -> None:
        """Listen.

        Args:
            store: the real one.
            ended: told the key of each instance that ended, on the loop that wrote it.
        """
        self._store, self._ended = store, ended
        self.writes = 0
        """Of journals."""
        self.began = 0.0
        """When the first write was asked for, in seconds of the wall clock."""

    @classmethod
    def before(cls, store: Store, ended: Callable[[str], None] | None = None) -> tuple[Store, Journals]:
        """The store to use instead, and what it hears."""
        heard = cls(store, ended)
        return cast("Store", heard), heard

    async def put(self, namespace: Namespace, key: str, value: bytes, **settings: Any) -> int:  # noqa: ANN401
        """Write an entry. A journal that may expire is that of an instance that has ended."""
        if namespace is not SAGAS:
            return await self._store.put(namespace, key, value, **settings)
        self.began = self.began or time.time()
        version = await self._store.put(namespace, key, value, **settings)
        self.writes += 1
        if self._ended is not None and settings.get("expires_at_ms") is not None:
            self._ended(key)
        return version

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - everything else is the store's own
        return getattr(self._store, name)
