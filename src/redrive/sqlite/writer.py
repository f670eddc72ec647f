"""The one writer: takes all that is waiting, commits it as one transaction, then answers everybody.

This is where the speed comes from: a hundred callers share one fsync, and none is answered before it. What holds of a
transaction stands in `session`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from redrive.clock import Clock
from redrive.errors import BrokerUnavailable, OutcomeUnknown
from redrive.sqlite.database import FULL, MEMORY, address_of, cannot_be_shared, connect
from redrive.sqlite.forks import opened_by_this_process
from redrive.sqlite.session import Outcome, Session
from redrive.sqlite.signals import Neighbours, Signals
from redrive.sqlite.tables import T, Tables, Work

__all__ = ["Database", "FileDatabase", "InlineDatabase", "Tables", "Work"]

_log = logging.getLogger("redrive.sqlite")
_LARGEST_BATCH = 2_000
_IDLE = 300.0
"""Seconds after which engine time is stored although nobody asks for anything."""
_LOOK_FOR_MOVES_MS = 1_000


class Database(Protocol):
    """Runs work on the database, durably, and tells when queues may have something."""

    signals: Signals
    path: str
    address: str

    def run(self, work: Work[T]) -> asyncio.Future[T]:
        """Queue the work; the future of the running loop is done when it is on disk."""
        ...

    def close(self) -> None:
        """Finish what is queued and close the file."""
        ...


class InlineDatabase:
    """Runs work at once, in memory, on the caller's thread; for tests in virtual time."""

    path, address = MEMORY, address_of(MEMORY)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.tables = Tables(connect(MEMORY))
        self.signals = Signals()
        self._closed = False

    def run(self, work: Work[T]) -> asyncio.Future[T]:
        """Do the work, and what message moves have to do by now; the future is done already.

        Raises:
            BrokerUnavailable: If the database was closed.
        """
        if self._closed:
            raise BrokerUnavailable(self.address, "it was closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        tables = self.tables
        tables.now_ms = self._clock.now_ms()
        with tables.connection:
            tables.move()
        execute = tables.connection.execute
        execute("BEGIN")
        try:
            future.set_result(work(tables))
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the caller
            future.set_exception(error)
            execute("ROLLBACK")
        else:
            execute("COMMIT")
        self.signals.fire(tables.engine.became_ready)
        tables.engine.became_ready.clear()
        return future

    def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self.tables.connection.close()
        self.signals.fire()


class _Job(NamedTuple):
    work: Work[Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class FileDatabase:
    """The writer thread on a file. `run` may be called from every thread that has a running loop."""

    def __init__(self, path: str, clock: Clock, *, durability: str = FULL) -> None:
        """Open the file; blocks until it is migrated.

        Raises:
            DatabaseUnusable: If the file cannot be used.
        """
        self.path, self.address = path, address_of(path, durability)
        self._process = os.getpid()
        self.signals = Signals()
        with contextlib.ExitStack() as opened:
            opened.enter_context(opened_by_this_process(path))
            self._session = Session(path, clock, durability)
            opened.callback(self._session.close)
            self._neighbours = _neighbours(path, self.signals)
            opened.callback(self._neighbours.close)
            self._session.take_up_time(others=self._neighbours.anybody())
            self._opened = opened.pop_all()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting: list[_Job] = []
        self._moves_stand = self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="redrive-writer", daemon=True)
        self._thread.start()

    def run(self, work: Work[T]) -> asyncio.Future[T]:
        """Queue the work; the future is done when it is on disk.

        Raises:
            BrokerUnavailable: If the database was closed.
        """
        if os.getpid() != self._process:
            raise BrokerUnavailable(self.address, "it was opened before this process was forked")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:  # behind the end of the jobs nobody would answer
            if self._closed:
                raise BrokerUnavailable(self.address, "it was closed")
            self._jobs.put(_Job(work, future, loop))
        return future

    def close(self) -> None:
        """Finish what is queued, then close the file; blocks for as long as that takes. Twice is once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        self.signals.fire()
        self._opened.close()

    # The writer's thread

    def _loop(self) -> None:
        ended = False
        while not ended or self._waiting:
            ended = self._take_in() or ended
            moved = self._move_if_due()
            if self._waiting:
                self._work()
            elif not moved and not ended:
                self._run([_nothing])
            self._session.tidy()

    def _take_in(self) -> bool:
        """Everything that is asked by now; waits for the first, up to the next chore. Whether the end is among it."""
        with contextlib.suppress(queue.Empty):
            job = self._jobs.get(timeout=0.0 if self._waiting else self._until_a_chore())
            while job is not None:
                self._waiting.append(job)
                if len(self._waiting) >= _LARGEST_BATCH:
                    return False
                job = self._jobs.get_nowait()
            return True
        return False

    def _work(self) -> None:
        """One transaction, and its answers; what did not fit into it waits for the next."""
        outcomes = self._run([job.work for job in self._waiting])
        jobs, self._waiting = self._waiting[: len(outcomes)], self._waiting[len(outcomes) :]
        _answer(jobs, outcomes)
        tables = self._session.tables
        if tables.move_at_ms is None:
            tables.move_at_ms = tables.now_ms + _LOOK_FOR_MOVES_MS

    def _move_if_due(self) -> bool:
        """Message moves go on here, in transactions of their own and whichever process is first. Whether it was due."""
        tables, now_ms = self._session.tables, self._session.now_ms()
        if tables.move_at_ms is None or now_ms < tables.move_at_ms:
            return False
        tables.move_at_ms = now_ms + _LOOK_FOR_MOVES_MS  # unless the engine says when
        (outcome,) = self._run([Tables.move])
        if outcome.error is not None and not self._moves_stand:
            _log.warning("message moves of %s do not go on: %s", self.path, outcome.error)
        self._moves_stand = outcome.error is not None
        return True

    def _until_a_chore(self) -> float:
        """Seconds."""
        at_ms = self._session.tables.move_at_ms
        return _IDLE if at_ms is None else min(1.0, max(0.0, (at_ms - self._session.now_ms()) / 1000))

    def _run(self, works: Sequence[Work[Any]]) -> list[Outcome]:
        try:
            outcomes = self._session.run(works)
        except Exception as error:  # noqa: BLE001 - a fault of ours: nobody may be left without an answer
            _log.exception("a fault in the writer of %s", self.path)
            unknown = f"{type(error).__name__}: {error}"
            return [Outcome(None, OutcomeUnknown(self.address, unknown)) for _ in works]
        became_ready = self._session.tables.engine.became_ready
        if became_ready:
            self.signals.fire(became_ready)
            self._neighbours.tell(became_ready)
            became_ready.clear()
        return outcomes


def _nothing(_: Tables) -> None:
    """For a transaction that only stores engine time, if that is due."""


def _neighbours(path: str, signals: Signals) -> Neighbours:
    try:
        return Neighbours(path, signals)
    except OSError as error:
        raise cannot_be_shared(path, error) from None


def _answer(jobs: Sequence[_Job], outcomes: Iterable[Outcome]) -> None:
    """One call into each loop, however many wait there."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, Outcome]]] = {}
    for job, outcome in zip(jobs, outcomes, strict=True):
        by_loop.setdefault(job.loop, []).append((job, outcome))
    for loop, those in by_loop.items():
        with contextlib.suppress(RuntimeError):  # its loop has closed meanwhile: nobody is waiting
            loop.call_soon_threadsafe(_deliver, those)


def _deliver(answers: Sequence[tuple[_Job, Outcome]]) -> None:
    for job, (value, error) in answers:
        if job.future.done():
            continue  # its caller was cancelled; the work is done all the same
        if error is None:
            job.future.set_result(value)
        else:
            job.future.set_exception(error)
