"""A worker: the pumps of an application's consumers, its healers and its timekeeper, on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from redrive.board import Board
from redrive.consumer import Consumer
from redrive.dependency import Dependency
from redrive.errors import BrokerError, StoreError, VersionConflict
from redrive.healer import Healer, Parked
from redrive.intake import Intake
from redrive.isolation import Isolation
from redrive.leadership import Leadership
from redrive.outbox.relaying import OutboxRelay
from redrive.pump import Pump
from redrive.renewal import Renewal
from redrive.runtime import GRACE, Runtime
from redrive.sagas.turns import turns_for
from redrive.sagas.waking import Waker
from redrive.store import ABSENT, WORKERS
from redrive.timekeeper import Schedule, Timekeeper

_log = logging.getLogger("redrive.worker")
HEARTBEAT = 1.0
ALIVE_MS = 10_000
"""A worker that has not been heard of for this long counts as gone."""
_IDLE_HEARTBEAT = 3.0
_REMEMBERED_MS = 24 * 3600 * 1000
IDLE = 2.0
_MAX_LOOP_PAUSE = 5.0


class Worker:
    """Runs everything that makes an application's messages move. One loop; `run` until `stop`."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        consumers: Sequence[Consumer[Any]],
        dependencies: Sequence[Dependency[Any]],
        schedules: Sequence[Schedule],
        relays: Sequence[OutboxRelay] = (),
        recover_within: dict[str, float],
        existing: Collection[str] = (),
        board: Board | None = None,
        isolation: Isolation | None = None,
        grace: float = GRACE,
    ) -> None:
        self._runtime, self._board, self._isolation, self._grace = runtime, board, isolation, grace
        self._consumers, self._dependencies = list(consumers), list(dependencies)
        most = sum(consumer.concurrency for consumer in consumers if consumer.needs_threads)
        self._threads = ThreadPoolExecutor(most or 1, thread_name_prefix="redrive-handler")
        self._pumps = [
            Pump(
                runtime,
                consumer,
                turns_for(runtime, consumer, self._threads),
                board=board,
                isolate=None if isolation is None else isolation.run,
            )
            for consumer in consumers
        ]
        self._healers = [
            Healer(
                runtime,
                dependency,
                parked_queues(consumers, dependency.name, existing),
                recover_within=recover_within.get(dependency.name),
            )
            for dependency in dependencies
        ]
        self._timekeeper = Timekeeper(runtime, schedules)
        self._relays = list(relays)
        self._waker = Waker(runtime)
        self._intake = Intake(runtime.broker, runtime.store, runtime.clock)
        self._renewal = Renewal(runtime.broker, runtime.clock)
        self._parked = [one.parked for need in dependencies for one in parked_queues(consumers, need.name, existing)]
        self._intake_leader = Leadership(
            runtime.store, runtime.clock, task=f"intake/{runtime.app}", holder=runtime.worker
        )
        self._said: tuple[str, float] = ("", float("-inf"))
        self._stop = asyncio.Event()
        self.stuck = False
        """Whether a thread outlived its handler's timeout; the process has to be replaced, without waiting for it."""

    async def run(self) -> None:
        """Work until `stop` is called; then finish what runs, hand the rest back and return."""
        for pump in self._pumps:
            pump.start()
        if self._isolation is not None:
            self._isolation.start()
        loops = [
            self._repeated("the heartbeat", self._beat),
            *(self._repeated(f"the healer of {one.name}", one.step) for one in self._healers),
            self._repeated("the timekeeper", self._timekeeper.step),
            self._repeated("the waker of sagas", self._waker.step),
            self._repeated("the intake", self._take_in),
            *(self._repeated(f"the relay of {one.address}", one.step) for one in self._relays),
        ]
        tasks = [asyncio.create_task(loop) for loop in loops]
        watchers = [asyncio.create_task(self._replace_when_stuck(pump)) for pump in self._pumps]
        await self._stop.wait()
        stopping = [pump.stop(self._grace) for pump in self._pumps]
        if self._isolation is not None:
            stopping.append(self._isolation.stop(self._grace))
        await asyncio.gather(*stopping)
        for task in (*tasks, *watchers):
            task.cancel()
        await asyncio.gather(*tasks, *watchers, return_exceptions=True)
        await self._resign()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Ask `run` to finish. Safe to call twice."""
        self._stop.set()

    async def _repeated(self, name: str, step: Callable[[], Awaitable[float]]) -> None:
        """Call a step for ever, as often as it asks; whatever it raises is logged, counted and survived."""
        failures = 0
        while True:
            try:
                pause = await step()
                failures = 0
            except (BrokerError, StoreError) as error:
                failures += 1
                self._runtime.counters.loop_errors += 1
                if failures == 1:
                    _log.warning("%s is waiting: %s", name, error)
                pause = min(_MAX_LOOP_PAUSE, 0.2 * 2**failures)
            except Exception:  # noqa: BLE001 - an outermost loop: logged, counted, survived
                failures += 1
                self._runtime.counters.loop_errors += 1
                _log.exception("%s raised", name)
                pause = min(_MAX_LOOP_PAUSE, 0.2 * 2**failures)
            await asyncio.sleep(pause)

    async def _replace_when_stuck(self, pump: Pump) -> None:
        await pump.stuck.wait()
        self.stuck = True
        if self._board is not None:
            self._board.leave()
        _log.error("a handler's thread outlived its timeout and cannot be stopped; this worker is replaced")
        self.stop()

    async def _take_in(self) -> float:
        if await self._intake_leader.held():
            for consumer in self._consumers:
                await self._intake.step(consumer.queue)
            for parked in self._parked:
                await self._renewal.step(parked)
        return IDLE

    async def _resign(self) -> None:
        resigning = [one.resign for one in self._healers] + [one.resign for one in self._relays]
        for resign in (*resigning, self._timekeeper.resign, self._waker.resign, self._intake_leader.resign):
            with contextlib.suppress(BrokerError, StoreError):
                await resign()
        with contextlib.suppress(BrokerError, StoreError):
            await self._say(gone=True)

    async def _beat(self) -> float:
        """Say that this worker is alive and what it counted; hear of the others."""
        now = self._runtime.clock.monotonic()
        counts = json.dumps(self._runtime.counters.to_document())
        if counts != self._said[0] or now - self._said[1] >= _IDLE_HEARTBEAT:
            await self._say()
            self._said = (counts, now)
            await self._hear()
        return HEARTBEAT

    async def _say(self, *, gone: bool = False) -> None:
        now_ms = self._runtime.clock.now_ms()
        document = {
            "v": 1,
            "app": self._runtime.app,
            "at_ms": 0 if gone else now_ms,
            "pid": os.getpid(),
            "queues": [consumer.queue for consumer in self._consumers],
            "counters": self._runtime.counters.to_document(),
        }
        key = f"{self._runtime.app}/{self._runtime.worker}"
        entry = await self._runtime.store.get(WORKERS, key)
        with contextlib.suppress(VersionConflict):
            await self._runtime.store.put(
                WORKERS,
                key,
                json.dumps(document).encode(),
                if_version=ABSENT if entry is None else entry.version,
                expires_at_ms=now_ms + _REMEMBERED_MS,
            )

    async def _hear(self) -> None:
        """How many workers there are, and how many calls of each dependency failed in the others."""
        prefix = f"{self._runtime.app}/"
        others = 0
        failures: dict[str, int] = {}
        for entry in await self._runtime.store.scan(WORKERS, after=prefix, limit=1000):
            if not entry.key.startswith(prefix) or entry.key == prefix + self._runtime.worker:
                continue
            document = json.loads(entry.value)
            others += self._runtime.clock.now_ms() - document["at_ms"] < ALIVE_MS
            for name, count in document["counters"]["failures"].items():
                failures[name] = failures.get(name, 0) + count
        for dependency in self._dependencies:
            if dependency.gate is not None:
                dependency.gate.alone = not others
                dependency.gate.peer_failures = failures.get(dependency.name, 0)


def parked_queues(consumers: Sequence[Consumer[Any]], dependency: str, existing: Collection[str] = ()) -> list[Parked]:
    """Where messages wait for a dependency, and where they go back to.

    Queues from a time when a consumer still needed the dependency are among them, so that nothing is stranded.
    """
    return [
        Parked(consumer.queue, consumer.parked_queue(dependency))
        for consumer in consumers
        if dependency in consumer.needs or consumer.parked_queue(dependency) in existing
    ]
