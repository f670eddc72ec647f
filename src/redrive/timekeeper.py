"""The timekeeper: one leader that does what is due: sends beyond the broker's longest delay, and schedules."""

from __future__ import annotations

import base64
import inspect
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redrive.broker import Outgoing
from redrive.errors import VersionConflict
from redrive.leadership import Leadership
from redrive.message import Message
from redrive.runtime import Runtime
from redrive.store import ABSENT, SCHEDULES, TIMERS, Entry, Store

_log = logging.getLogger("redrive.timekeeper")
IDLE = 1.0
_BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Something to do every so often, once for all workers."""

    name: str
    every: float
    """Seconds."""
    function: Callable[..., Any]
    """Takes nothing, or the resources."""


async def set_timer(store: Store, queue: str, message: Message, *, due_at_ms: int) -> None:
    """Keep a message until it is due; durable when it returns."""
    value = {
        "v": 1,
        "queue": queue,
        "id": message.id,
        "body": base64.b64encode(message.body).decode(),
        "attributes": dict(message.attributes),
        "group": message.group,
        "sent_at_ms": message.sent_at_ms,
    }
    await store.put(TIMERS, f"send/{message.id}", json.dumps(value).encode(), if_version=ABSENT, due_at_ms=due_at_ms)


class Timekeeper:
    """Does what is due, as long as this process leads."""

    def __init__(
        self, runtime: Runtime, schedules: Sequence[Schedule], *, leadership: Leadership | None = None
    ) -> None:
        self._runtime = runtime
        self._schedules = {schedule.name: schedule for schedule in schedules}
        self._leadership = leadership or Leadership(
            runtime.store, runtime.clock, task="timekeeper", holder=runtime.worker
        )
        self._set_up = False

    async def step(self) -> float:
        """Do what is due now; seconds until it should be called again.

        Raises:
            BrokerError: If the broker is away; what is due stays due.
            StoreError: If the store is away.
        """
        if not await self._leadership.held():
            return IDLE
        if not self._set_up:
            await self._begin_schedules()
            self._set_up = True
        now_ms = self._runtime.clock.now_ms()
        timers = await self._runtime.store.due(TIMERS, before_ms=now_ms, limit=_BATCH)
        for entry in timers:
            await self._send(entry)
        if self._schedules:
            for entry in await self._runtime.store.due(SCHEDULES, before_ms=now_ms, limit=_BATCH):
                await self._tick(entry, now_ms)
        return 0.0 if len(timers) == _BATCH else IDLE

    async def resign(self) -> None:
        """Let another worker lead at once."""
        await self._leadership.resign()

    async def _send(self, entry: Entry) -> None:
        """Send, then forget: a crash in between sends it again under the same id."""
        value = json.loads(entry.value)
        message = Message(
            id=value["id"],
            body=base64.b64decode(value["body"]),
            attributes=value["attributes"],
            group=value["group"],
            sent_at_ms=value["sent_at_ms"],
        )
        outgoing = Outgoing(message=message, deduplication_id=f"{message.id}/timer")
        (error,) = await self._runtime.broker.send(value["queue"], [outgoing])
        if error is not None:
            raise error
        await self._runtime.store.delete(TIMERS, entry.key, if_version=entry.version)

    async def _begin_schedules(self) -> None:
        for schedule in self._schedules.values():
            due = self._runtime.clock.now_ms() + int(schedule.every * 1000)
            try:
                await self._runtime.store.put(SCHEDULES, schedule.name, b"{}", if_version=ABSENT, due_at_ms=due)
            except VersionConflict:
                continue  # it has its time already

    async def _tick(self, entry: Entry, now_ms: int) -> None:
        """Claim the tick, then run it: at most once; a crash in between leaves it to the next tick."""
        schedule = self._schedules.get(entry.key)
        if schedule is None or entry.due_at_ms is None:
            return
        period = int(schedule.every * 1000)
        due = entry.due_at_ms + period * max(1, -(-(now_ms - entry.due_at_ms + 1) // period))
        try:
            await self._runtime.store.put(SCHEDULES, entry.key, entry.value, if_version=entry.version, due_at_ms=due)
        except VersionConflict:
            return
        try:
            takes_resources = bool(inspect.signature(schedule.function).parameters)
            result = schedule.function(self._runtime.resources) if takes_resources else schedule.function()
            if inspect.isawaitable(result):
                await result
        except Exception:  # noqa: BLE001 - an outermost loop: logged, counted, survived
            _log.exception("schedule %s raised; it runs again in %g s", schedule.name, schedule.every)
