"""Telling of writes, not too often: a commit that notifies excludes every other such commit while it syncs.

The first write to a namespace notifies in its own transaction. Those of the next QUIET seconds do not; one notification
of its own, which syncs nothing, tells of them all when these are over. So two processes that write as fast as they can
commit side by side: with a notification in each transaction both together wrote half as much.

A crash between such a write and its notification loses the notification: who watches looks now and then all the same.

Source: PostgreSQL's source, `PreCommit_Notify` in async.c: the lock on "database 0", held until the commit is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

QUIET = 0.01
"""Seconds between two notifications of one process for one namespace."""


class Telling:
    """When to notify. For one event loop."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """`tell` sends a notification for a namespace, and does not wait for it."""
        self._tell = tell
        self._quiet_until: dict[str, float] = {}
        self._later: dict[str, asyncio.TimerHandle] = {}

    def at_once(self, names: Iterable[str]) -> list[str]:
        """Of the namespaces that will be written to, those of which the write itself shall tell."""
        now = asyncio.get_running_loop().time()
        return [name for name in sorted(set(names)) if now >= self._quiet_until.get(name, 0.0)]

    def wrote(self, names: Iterable[str], *, told: Iterable[str]) -> None:
        """These were written to, and the writes told of some of them already."""
        loop = asyncio.get_running_loop()
        for name in set(told):
            self._quiet_until[name] = loop.time() + QUIET
        for name in set(names).difference(told):
            if name not in self._later:
                self._later[name] = loop.call_at(self._quiet_until.get(name, 0.0), self._tell_now, name)

    def close(self) -> None:
        """Tell nobody any more."""
        for handle in self._later.values():
            handle.cancel()

    def _tell_now(self, name: str) -> None:
        del self._later[name]
        self._quiet_until[name] = asyncio.get_running_loop().time() + QUIET
        self._tell(name)
