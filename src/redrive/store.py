"""The port to stores: small documents, written only by whoever read the version that stands.

Circuits, claims, schedules, leadership and the catalogue stand on these six calls, and so work on every store.
One key a write: there are no transactions over several keys. An expired entry is absent to every read at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

ABSENT = 0
"""The version of what is not there: `put(..., if_version=ABSENT)` creates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A family of keys; says what it will be asked for, so that each store can lay it out."""

    name: str
    listable: bool = False
    """Whether `scan` is asked of it."""
    timed: bool = False
    """Whether `due` is asked of it."""


CLAIMS = Namespace(name="claims")
UNSENT = Namespace(name="unsent")
CIRCUITS = Namespace(name="circuits", listable=True)
LEADERS = Namespace(name="leaders")
WORKERS = Namespace(name="workers", listable=True)
MANIFESTS = Namespace(name="manifests", listable=True)
CONTROLS = Namespace(name="controls", listable=True)
LETTERS = Namespace(name="letters", listable=True)
BODIES = Namespace(name="bodies")
SUSPECTS = Namespace(name="suspects")
TIMERS = Namespace(name="timers", timed=True)
SAGAS = Namespace(name="sagas", listable=True, timed=True)
SIGNALS = Namespace(name="signals", listable=True)
SCHEDULES = Namespace(name="schedules", listable=True, timed=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One document as it stands."""

    key: str
    value: bytes
    version: int
    """Opaque, over 0, never the same twice for a key."""
    due_at_ms: int | None = None


class Store(Protocol):
    """What redrive asks of a store. Every call may raise StoreUnavailable."""

    @property
    def address(self) -> str:
        """Where it is, without credentials."""
        ...

    @property
    def max_value(self) -> int:
        """Largest value, in bytes."""
        ...

    async def get(self, namespace: Namespace, key: str) -> Entry | None:
        """The entry, or None when it is absent or expired."""
        ...

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
        """Write the entry if its version still is `if_version`; the new version.

        Raises:
            VersionConflict: If it is not (an expired entry counts as absent).
            ValueTooLarge: If the value is over `max_value`.
        """
        ...

    async def delete(self, namespace: Namespace, key: str, *, if_version: int) -> None:
        """Remove the entry if its version still is `if_version`.

        Raises:
            VersionConflict: If it is not.
        """
        ...

    async def due(self, namespace: Namespace, *, before_ms: int, limit: int) -> Sequence[Entry]:
        """Entries due at or before `before_ms`, earliest first; of a `timed` namespace."""
        ...

    async def scan(self, namespace: Namespace, *, after: str = "", limit: int = 100) -> Sequence[Entry]:
        """Entries whose key is greater than `after`, by key; of a `listable` namespace."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


@runtime_checkable
class Watchable(Protocol):
    """What a store may offer besides: it tells when something was written, so that nobody has to poll for it."""

    def watching(self, namespace: Namespace) -> AbstractContextManager[asyncio.Event]:
        """An event of the running loop that is set after every write to a `timed` namespace, whoever wrote.

        It may be set for nothing, and a write may be missed while the store is away: look now and then all the same.
        """
        ...


@contextlib.contextmanager
def watching(store: Store, namespace: Namespace) -> Iterator[asyncio.Event]:
    """An event that is set when the namespace, a `timed` one, may have changed; of some stores it never is.

    Clear it, then look, then wait for it with a limit: what is written after the look is not missed.

        with watching(store, TIMERS) as changed:
            while True:
                changed.clear()
                ...                                     # store.due(TIMERS, ...)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), seconds)
    """
    if isinstance(store, Watchable):
        with store.watching(namespace) as changed:
            yield changed
    else:
        yield asyncio.Event()
