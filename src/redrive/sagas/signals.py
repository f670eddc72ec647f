"""Signals to instances: entries of their own, so that a sender needs no leave; the owner takes them into the journal.

A sender writes the signal, then looks whether anybody waits, and wakes him. The owner writes that he waits, then looks
once more for signals. One of the two sees the other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from redrive.clock import Clock
from redrive.errors import NotKept, VersionConflict
from redrive.sagas.journal import LARGEST_RESULT, Fact, Journal
from redrive.sagas.record import KEPT_MS, key_of
from redrive.store import ABSENT, SIGNALS, Entry, Store

_MOST = 1000


async def leave_signal(
    store: Store,
    clock: Clock,
    *,
    saga: str,
    instance: str,
    name: str,
    value: Any,  # noqa: ANN401
    unique: str,
) -> None:
    """Leave a signal for an instance, whether it waits for it by now or will; durable when it returns.

    Args:
        store: where.
        clock: for its expiry, 14 days from now.
        saga: the queue.
        instance: its id; it may begin later.
        name: of the signal.
        value: JSON, at most 32 KB.
        unique: orders the signals of one name, and makes a repeat of this one known.

    Raises:
        NotKept: If the value is no JSON, or too large.
        StoreError: If the store is away.
    """
    try:
        text = json.dumps({"v": 1, "value": value}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise NotKept(f"signal {name!r}", f"is no JSON ({error})", "send what json.dumps takes") from None
    if len(text) > LARGEST_RESULT:
        problem = f"has {len(text)} bytes, over the limit of {LARGEST_RESULT}"
        raise NotKept(f"signal {name!r}", problem, "keep it elsewhere and send its key")
    if not name or "/" in name or not name.isprintable():
        raise NotKept(f"signal {name!r}", "has a name that cannot stand in a key", "use letters, without /")
    key = f"{_prefix(saga, instance, name)}{unique}"
    try:
        await store.put(SIGNALS, key, text.encode(), if_version=ABSENT, expires_at_ms=clock.now_ms() + KEPT_MS)
    except VersionConflict:
        return  # it was left before


class Signals:
    """The signals of one instance, as its owner takes them."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store, self._journal = store, journal
        self._taken: list[Entry] = []

    async def take(self, fact: Fact) -> bool:
        """Take the signal that a wait waits for into the journal's fact; whether there is one."""
        taken = {one.key for one in self._taken}
        for entry in await self._waiting(fact.name):
            if entry.key not in taken and entry.key not in self._used(fact.name):
                fact.value = {"key": entry.key, "value": json.loads(entry.value)["value"]}
                self._taken.append(entry)
                return True
        return False

    async def have_come(self) -> bool:
        """Whether there is one that a wait of the instance waits for."""
        for fact in self._journal.facts:
            if fact.kind == "wait" and not fact.over:
                used = self._used(fact.name)
                if any(one.key not in used for one in await self._waiting(fact.name)):
                    return True
        return False

    async def forget_taken(self) -> None:
        """Delete what the journal has by now: call it after a write. What a crash leaves is known as used."""
        taken, self._taken = self._taken, []
        for entry in taken:
            try:
                await self._store.delete(SIGNALS, entry.key, if_version=entry.version)
            except VersionConflict:
                continue

    def _used(self, name: str) -> set[str]:
        return {
            one.value["key"] for one in self._journal.facts if one.kind == "wait" and one.name == name and one.value
        }

    async def _waiting(self, name: str) -> Sequence[Entry]:
        prefix = _prefix(self._journal.saga, self._journal.id, name)
        found = await self._store.scan(SIGNALS, after=prefix, limit=_MOST)
        return [one for one in found if one.key.startswith(prefix)]


def _prefix(saga: str, instance: str, name: str) -> str:
    return f"{key_of(saga, instance)}/{name}/"
