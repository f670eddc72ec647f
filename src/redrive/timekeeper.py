"""The timekeeper: one leader that does what is due: sends beyond the broker's longest delay, and schedules."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import inspect
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redrive.broker import Outgoing
from redrive.errors import BrokerError, BrokerUnavailable, LimitExceeded, QueueNotFound, VersionConflict
from redrive.leadership import Leadership
from redrive.message import Message
from redrive.runtime import Runtime
from redrive.store import ABSENT, SCHEDULES, TIMERS, Entry, Store

_log = logging.getLogger("redrive.timekeeper")
IDLE = 1.0
_BATCH = 100
_POSTPONED_MS = 60_000
_PATIENCE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Something to do every so often, once for all workers."""

    name: str
    every: float
    """Seconds."""
    function: Callable[..., Any]
    """Takes nothing, or the resources; a plain function runs in a thread."""


async def set_timer(
    store: Store, queue: str, message: Message, *, due_at_ms: int, deduplication_id: str | None = None
) -> None:
    """Keep a message until it is due; durable when it returns.

    Raises:
        LimitExceeded: If it is larger than what the store keeps in one entry; nothing was kept.
    """
    await set_timers(store, queue, [message], due_at_ms=due_at_ms, deduplication_id=deduplication_id)


async def set_timers(
    store: Store, queue: str, messages: Sequence[Message], *, due_at_ms: int, deduplication_id: str | None = None
) -> None:
    """Keep messages until they are due, each in a write of its own: a call that breaks may have kept some.

    Raises:
        LimitExceeded: If one is larger than what the store keeps in one entry; none was kept.
    """
    values = [_timer_of(queue, message, deduplication_id, largest=store.max_value) for message in messages]
    for message, value in zip(messages, values, strict=True):
        await store.put(TIMERS, f"send/{message.id}", value, if_version=ABSENT, due_at_ms=due_at_ms)


def check_timer(store: Store, queue: str, message: Message) -> None:
    """Be sure that a message can be kept until it is due.

    Raises:
        LimitExceeded: If it is larger than what the store keeps in one entry.
    """
    _timer_of(queue, message, None, largest=store.max_value)


def _timer_of(queue: str, message: Message, deduplication_id: str | None, *, largest: int) -> bytes:
    body = base64.b64encode(message.body).decode()
    document = {
        "v": 1,
        "queue": queue,
        "id": message.id,
        "body": body,
        "attributes": dict(message.attributes),
        "deduplication_id": deduplication_id,
        "group": message.group,
        "sent_at_ms": message.sent_at_ms,
    }
    value = json.dumps(document).encode()
    if len(value) > largest:
        room = largest - (len(value) - len(body))  # for what base64 makes of a body
        limit = f"at most {max(0, room // 4 * 3)} bytes; send it without so long a delay, or send its content's key"
        raise LimitExceeded("the body of a message that waits in the store until it is due", len(message.body), limit)
    return value


class Timekeeper:
    """Does what is due, as long as this process leads: timers for all applications, schedules for its own."""

    def __init__(
        self, runtime: Runtime, schedules: Sequence[Schedule], *, leadership: Leadership | None = None
    ) -> None:
        def leads(task: str) -> Leadership:
            return leadership or Leadership(runtime.store, runtime.clock, task=task, holder=runtime.worker)

        self._runtime = runtime
        self._schedules = {f"{runtime.app}/{schedule.name}": schedule for schedule in schedules}
        self._timers_leader = leads("timekeeper")
        self._schedules_leader = leads(f"schedules/{runtime.app}")
        self._running: dict[str, asyncio.Task[None]] = {}
        self._set_up = False

    async def step(self) -> float:
        """Do what is due now; seconds until it should be called again.

        Raises:
            BrokerError: If the broker is away; what is due stays due.
            StoreError: If the store is away.
        """
        sent = await self._send_due() if await self._timers_leader.held() else 0
        if self._schedules and await self._schedules_leader.held():
            await self._tick_due()
        return 0.0 if sent == _BATCH else IDLE

    async def resign(self) -> None:
        """Let another worker lead at once; what schedules still do is cut off."""
        running, self._running = self._running, {}
        for task in running.values():
            task.cancel()
        await asyncio.gather(*running.values(), return_exceptions=True)
        await self._timers_leader.resign()
        await self._schedules_leader.resign()

    async def _send_due(self) -> int:
        now_ms = self._runtime.clock.now_ms()
        timers = await self._runtime.store.due(TIMERS, before_ms=now_ms, limit=_BATCH)
        refused: dict[str, tuple[QueueNotFound | BrokerUnavailable, list[Entry]]] = {}
        sent = False
        for entry in timers:
            value = json.loads(entry.value)
            queue = value["queue"]
            if queue in refused:  # it would only be refused again
                refused[queue][1].append(entry)
                continue
            with contextlib.suppress(VersionConflict):  # another leader was faster
                try:
                    await self._send(entry, value)
                    sent = True
                except LimitExceeded as error:
                    await self._postpone(error, [entry], now_ms)
                except (QueueNotFound, BrokerUnavailable) as error:
                    refused[queue] = (error, [entry])
        for why, entries in refused.values():
            if not sent and type(why) is BrokerUnavailable:
                raise why  # the broker is away, and not one queue
            await self._postpone(why, entries, now_ms)
        return len(timers)

    async def _postpone(self, error: BrokerError, entries: Sequence[Entry], now_ms: int) -> None:
        """Keep what one queue does not take, and let what is due for the others pass."""
        _log.error("%d delayed messages, due now, are kept for a minute: %s", len(entries), error)
        for entry in entries:
            with contextlib.suppress(VersionConflict):
                due = now_ms + _POSTPONED_MS
                await self._runtime.store.put(TIMERS, entry.key, entry.value, if_version=entry.version, due_at_ms=due)

    async def _send(self, entry: Entry, value: Mapping[str, Any]) -> None:
        """Send, then forget: a crash in between sends it again under the same id.

        Raises:
            BrokerError: If it was refused.
        """
        message = Message(
            id=value["id"],
            body=base64.b64decode(value["body"]),
            attributes=value["attributes"],
            group=value["group"],
            sent_at_ms=value["sent_at_ms"],
        )
        outgoing = Outgoing(message=message, deduplication_id=value.get("deduplication_id") or message.id)
        (sent,) = await self._runtime.broker.send(value["queue"], [outgoing])
        if isinstance(sent, BrokerError):
            raise sent
        await self._runtime.store.delete(TIMERS, entry.key, if_version=entry.version)

    async def _tick_due(self) -> None:
        if not self._set_up:
            await self._begin_schedules()
            self._set_up = True
        now_ms = self._runtime.clock.now_ms()
        entries = await self._runtime.store.due(SCHEDULES, before_ms=now_ms, limit=_BATCH)
        begun = [task for entry in entries if (task := await self._tick(entry, now_ms)) is not None]
        if begun:
            await asyncio.wait(begun, timeout=_PATIENCE)  # the rest of it goes on beside

    async def _begin_schedules(self) -> None:
        """Give each its first time, and anew where its period is another one than before."""
        for key, schedule in self._schedules.items():
            value = json.dumps({"v": 1, "every": schedule.every}).encode()
            entry = await self._runtime.store.get(SCHEDULES, key)
            if entry is not None and entry.value == value:
                continue
            version = ABSENT if entry is None else entry.version
            due = self._runtime.clock.now_ms() + int(schedule.every * 1000)
            with contextlib.suppress(VersionConflict):  # another one is at it
                await self._runtime.store.put(SCHEDULES, key, value, if_version=version, due_at_ms=due)

    async def _tick(self, entry: Entry, now_ms: int) -> asyncio.Task[None] | None:
        """Claim the tick, then run it: at most once; a crash in between leaves it to the next tick."""
        schedule = self._schedules.get(entry.key)
        if schedule is None or entry.due_at_ms is None:
            return None
        period = int(schedule.every * 1000)
        due = entry.due_at_ms + period * max(1, -(-(now_ms - entry.due_at_ms + 1) // period))
        try:
            await self._runtime.store.put(SCHEDULES, entry.key, entry.value, if_version=entry.version, due_at_ms=due)
        except VersionConflict:
            return None
        if (running := self._running.get(entry.key)) is not None and not running.done():
            _log.warning("schedule %s still runs; this tick is left out", schedule.name)
            return None
        task = self._running[entry.key] = asyncio.create_task(self._run(schedule))
        return task

    async def _run(self, schedule: Schedule) -> None:
        takes_resources = bool(inspect.signature(schedule.function).parameters)
        arguments = (self._runtime.resources,) if takes_resources else ()
        try:
            if inspect.iscoroutinefunction(schedule.function):
                await schedule.function(*arguments)
            else:
                given = await asyncio.to_thread(schedule.function, *arguments)
                if inspect.isawaitable(given):
                    await given
        except (Exception, SystemExit):  # noqa: BLE001 - an outermost loop: logged and survived
            _log.exception("schedule %s raised; it runs again in %g s", schedule.name, schedule.every)
