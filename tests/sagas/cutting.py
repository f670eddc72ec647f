"""Turns that are cut off: a process that dies at its n-th write, or in the n-th body, and what comes after it.

Between a death and the next life nothing is written, nothing settled and nothing done: all that a `kill -9` leaves.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Any

from redrive.broker import Results
from redrive.errors import BrokerError, StoreError, StoreUnavailable
from redrive.harness import Harness
from redrive.relay import Relay
from redrive.store import SAGAS, Namespace, Store
from tests.sagas.counting import StoreInFront


class Cut(StrEnum):
    """What happens at a point."""

    BEFORE = "killed before"
    AFTER = "killed after"
    REFUSED = "refused"
    LOST = "its answer lost"


class Killed(BaseException):
    """The process is gone; no `except Exception` holds it."""


class Fate:
    """When the process dies; shared by what it writes with and by the bodies that it runs."""

    def __init__(self, *, writes: dict[int, Cut] | None = None, bodies: dict[int, Cut] | None = None) -> None:
        self.writes, self.bodies = writes or {}, bodies or {}
        self.written = self.begun = self.deaths = self.troubles = 0
        self.dead = False

    def die(self) -> None:
        """From here on nothing happens."""
        self.dead = True
        self.deaths += 1

    def check(self) -> None:
        """Raise where the process is gone."""
        if self.dead:
            raise Killed

    def body_begins(self) -> Cut | None:
        """Count a body; whether the process dies in it, and where."""
        self.check()
        self.begun += 1
        return self.bodies.get(self.begun)


class MortalStore(StoreInFront):
    """A store whose process dies at its n-th write of a journal."""

    def __init__(self, store: Store, fate: Fate) -> None:
        super().__init__(store)
        self._fate = fate

    async def get(self, namespace: Namespace, key: str) -> Any:
        self._fate.check()
        return await super().get(namespace, key)

    async def put(self, namespace: Namespace, key: str, value: bytes, *, if_version: int, **times: Any) -> int:
        fate = self._fate
        fate.check()
        fate.written += namespace == SAGAS
        cut = fate.writes.get(fate.written) if namespace == SAGAS else None
        if cut is Cut.BEFORE:
            fate.die()
            raise Killed
        if cut in {Cut.REFUSED, Cut.LOST}:
            fate.troubles += 1
        if cut is Cut.REFUSED:
            raise StoreUnavailable("here", "on purpose")
        version = await super().put(namespace, key, value, if_version=if_version, **times)
        if cut is Cut.AFTER:
            fate.die()
            raise Killed
        if cut is Cut.LOST:
            raise StoreUnavailable("here", "on purpose")
        return version


class MortalBroker(Relay):
    """A broker that a dead process does not reach."""

    fate: Fate

    async def settle(self, settlements: Any) -> Results:
        self.fate.check()
        return await super().settle(settlements)

    async def send(self, queue: str, messages: Any) -> Any:
        self.fate.check()
        return await super().send(queue, messages)


def mortal(fate: Fate) -> dict[str, Any]:
    """What `app.test` takes so that its process can die."""

    def broker(real: Any) -> MortalBroker:
        one = MortalBroker(real)
        one.fate = fate
        return one

    return {"store": lambda real: MortalStore(real, fate), "broker": broker}


async def live(t: Harness[Any], fate: Fate, seconds: float) -> None:
    """Let time pass, in as many lives as it takes."""
    end = t.clock.now_ms() + int(seconds * 1000)
    while t.clock.now_ms() < end:
        try:
            await t.advance((end - t.clock.now_ms()) / 1000)
        except (Killed, StoreError, BrokerError):
            for _ in range(50):
                await asyncio.sleep(0)  # what was beside it dies too
            fate.dead = False
