"""One leader for each task among all workers, by the store alone.

A leader renews its entry; who wants to take over has to see one and the same version for the leadership's whole length
by its own monotonic clock. No two machines' clocks are compared. A leader that could not renew in time stops by itself.
"""

from __future__ import annotations

import json

from redrive.clock import Clock
from redrive.errors import StoreError, VersionConflict
from redrive.store import ABSENT, LEADERS, Store

LENGTH = 6.0
"""Seconds that a leadership lasts without being renewed."""


class Leadership:
    """This process's claim to lead one task. Call `held` before each step; it renews or takes over when it may."""

    def __init__(self, store: Store, clock: Clock, *, task: str, holder: str, length: float = LENGTH) -> None:
        self._store, self._clock = store, clock
        self._task, self.length = task, length
        self._value = json.dumps({"v": 1, "holder": holder}).encode()
        self._version: int | None = None
        self._renewed_at = 0.0
        self._seen: tuple[int, float] | None = None

    @property
    def leads(self) -> bool:
        """Whether this process leads now, as far as it knows without asking."""
        return self._version is not None and self._clock.monotonic() - self._renewed_at < self.length * 2 / 3

    async def held(self) -> bool:
        """Whether this process leads now, for at least a third of the length; one read or one write at most."""
        now = self._clock.monotonic()
        if self._version is not None and now - self._renewed_at < self.length / 3:
            return True
        try:
            await (self._renew(now) if self._version is not None else self._take_over(now))
        except VersionConflict:
            self._version = None
        except StoreError:
            pass  # a leader leads on for as long as nobody may follow
        return self.leads

    async def resign(self) -> None:
        """Let another take over at once; the entry is gone."""
        version, self._version = self._version, None
        if version is not None:
            try:
                await self._store.delete(LEADERS, self._task, if_version=version)
            except StoreError:
                return

    async def _renew(self, now: float) -> None:
        self._version = await self._store.put(LEADERS, self._task, self._value, if_version=self._version or ABSENT)
        self._renewed_at = now

    async def _take_over(self, now: float) -> None:
        entry = await self._store.get(LEADERS, self._task)
        version = ABSENT if entry is None else entry.version
        if entry is not None and (self._seen is None or self._seen[0] != version):
            self._seen = (version, self._clock.monotonic())  # after the answer: a slow one is no watch
            return
        if entry is not None and self._seen is not None and now - self._seen[1] < self.length:
            return
        now = self._clock.monotonic()
        self._version = await self._store.put(LEADERS, self._task, self._value, if_version=version)
        self._renewed_at = now
