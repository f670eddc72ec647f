"""Calls side by side: each of a few connections takes all that waits, asks it in one statement, and answers everybody.

So a hundred callers share one round trip and one sync, and none is answered before it. A statement is a transaction:
what conflicts in it was not written, and all the rest was.

Invariants:
    1. A statement that was not answered is asked again on a new connection, for PATIENCE seconds. Its writes know
       themselves by their versions, and are no conflicts.
    2. A write that may have happened, and that then finds another's version, says that nothing is known.
    3. One call that PostgreSQL refuses takes none of its neighbours with it: they are asked again, one by one.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg

from redrive.backoff import Backoff
from redrive.errors import StoreUnavailable
from redrive.stores.postgres.connections import Connection
from redrive.stores.postgres.jobs import Job, taken
from redrive.stores.postgres.lane import Lane
from redrive.stores.postgres.troubles import Trouble, trouble_of

LANES = 4
"""Connections at most; one is made when all others are busy."""
PATIENCE = 5.0
"""Seconds after which a call is not tried again."""
_BACKOFF = Backoff(first=0.05, maximum=1.0)
_log = logging.getLogger("redrive.postgres")

Ask = Callable[[Connection, Sequence[Job]], Awaitable[None]]


class Lanes:
    """Serves jobs. For one event loop."""

    def __init__(self, address: str, connect: Callable[[], Awaitable[Connection]], ask: Ask) -> None:
        """Open nothing yet.

        Args:
            address: for errors.
            connect: a new connection.
            ask: asks jobs of one kind in one statement, and answers them; raises what psycopg raises.
        """
        self._address, self._connect, self._ask = address, connect, ask
        self._waiting: deque[Job] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._lanes: list[Lane] = []
        self._closed = False

    async def ask(self, job: Job) -> Any:  # noqa: ANN401 - what kind of answer, the kind of job says
        """The answer to a job.

        Raises:
            StoreUnavailable: If this was closed, or PostgreSQL refused it, or could not be asked for too long.
            StoreError: If the answer is one.
        """
        self.put(job)
        return await job.answer

    def put(self, job: Job) -> None:
        """Let a job be served.

        Raises:
            StoreUnavailable: If this was closed.
        """
        if self._closed:
            raise self._closed_error()
        self._waiting.append(job)
        if self._idle:
            self._idle.pop().set_result(None)
        elif len(self._lanes) < LANES:
            lane = Lane(self._connect)
            lane.task = asyncio.create_task(self._serve(lane), name=f"redrive-postgres-{len(self._lanes)}")
            self._lanes.append(lane)

    async def close(self) -> None:
        """End all; what is under way or waits is answered with StoreUnavailable. Closing again is fine."""
        self._closed = True
        for lane in self._lanes:
            lane.end()
        await asyncio.gather(*(lane.task for lane in self._lanes if lane.task is not None), return_exceptions=True)
        while self._waiting:
            self._waiting.popleft().failed(self._closed_error())

    async def _serve(self, lane: Lane) -> None:
        try:
            while not self._closed:
                while not self._waiting:
                    idle = asyncio.get_running_loop().create_future()
                    self._idle.append(idle)
                    await idle
                await self._answer(lane, taken(self._waiting))
        finally:
            await lane.drop()

    async def _answer(self, lane: Lane, jobs: list[Job]) -> None:
        try:
            await self._persist(lane, jobs)
        except asyncio.CancelledError:
            for job in jobs:
                job.failed(self._closed_error())
            raise
        except Exception as error:  # noqa: BLE001 - an outermost loop: a fault of ours, and nobody is left unanswered
            _log.exception("a fault in the store %s", self._address)
            for job in jobs:
                job.failed(StoreUnavailable(self._address, f"{type(error).__name__}: {error}"))

    async def _persist(self, lane: Lane, jobs: list[Job]) -> None:
        """Ask until it is answered, or for good refused, or too late: invariant 1."""
        for attempt in itertools.count(1):
            try:
                async with lane.asking() as connection:
                    await self._ask(connection, jobs)
            except (psycopg.Error, OSError) as error:
                trouble = trouble_of(error, sent=lane.sent)
            else:
                return
            if trouble.lost:
                await lane.drop()
            if not trouble.passes:
                await self._refused(lane, jobs, trouble)
                return
            jobs = self._left(jobs, trouble)
            if not jobs:
                return
            await asyncio.sleep(_BACKOFF.delay(attempt, random=secrets.randbits(32) / 2**32))

    async def _refused(self, lane: Lane, jobs: list[Job], trouble: Trouble) -> None:
        """Invariant 3."""
        if len(jobs) == 1:
            jobs[0].failed(StoreUnavailable(self._address, trouble.problem))
            return
        for job in jobs:
            await self._persist(lane, [job])

    def _left(self, jobs: Sequence[Job], trouble: Trouble) -> list[Job]:
        """Those whose callers still have patience and have not gone; the others are told."""
        left, now = [], asyncio.get_running_loop().time()
        for job in jobs:
            job.doubtful |= trouble.doubtful
            if self._closed:
                job.failed(self._closed_error())
            elif now - job.asked_at >= PATIENCE:
                job.failed(StoreUnavailable(self._address, trouble.problem))
            elif not job.answer.done():
                left.append(job)
        return left

    def _closed_error(self) -> StoreUnavailable:
        return StoreUnavailable(self._address, "it is closed")
