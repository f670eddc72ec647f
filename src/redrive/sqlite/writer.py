"""The one writer: takes all that is waiting, commits it as one transaction, then answers everybody.

This is where the speed comes from: a hundred callers share one fsync, and none is answered before it.

Invariants:
    1. Whoever is answered finds his work on disk.
    2. Work that raises a RedriveError has changed nothing, and so does not disturb what shares its transaction. If
       anything else is raised, the transaction is rolled back and each piece of work gets one of its own.
    3. A commit that raised may have happened: its callers are told OutcomeUnknown, and the connection is opened anew.
    4. Engine time never decreases (see SteadyClock); it is stored once a second, with work that wrote something.

A crash before the commit leaves nothing of the batch, after it all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import apsw

from redrive.clock import Clock, SteadyClock
from redrive.errors import BrokerUnavailable, DatabaseUnusable, OutcomeUnknown, RedriveError
from redrive.sqlite.database import MEMORY, Turn, connect, turn_for
from redrive.sqlite.engine import Engine
from redrive.sqlite.entries import Entries
from redrive.sqlite.signals import Neighbours, Signals

T = TypeVar("T")
_log = logging.getLogger("redrive.sqlite")
_LARGEST_BATCH = 2_000
_MARK_EVERY_MS = 1_000
_LONG_LOG = 1_000
"""Pages, of 4 KiB. SQLite's own default."""


class Tables:
    """What a piece of work is given: the engine, the entries and the time."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.engine = Engine(connection)
        self.entries = Entries(connection)
        self.now_ms = 0
        self.log_pages = 0
        """How long the write-ahead log was after the last commit."""
        connection.set_wal_hook(self._grown)  # in place of SQLite's own, which makes a caller wait for the checkpoint

    def _grown(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.log_pages = pages
        return apsw.SQLITE_OK


Work = Callable[[Tables], T]


class Database(Protocol):
    """Runs work on the database, durably, and tells when queues may have something."""

    signals: Signals
    path: str

    def run(self, work: Work[T]) -> asyncio.Future[T]:
        """Queue the work; the future of the running loop is done when it is on disk."""
        ...

    def close(self) -> None:
        """Finish what is queued and close the file."""
        ...


class _Job(NamedTuple):
    work: Work[Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class _Answer(NamedTuple):
    job: _Job
    value: Any
    error: Exception | None


class InlineDatabase:
    """Runs work at once, in memory, on the caller's thread; for tests in virtual time."""

    path = MEMORY

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.tables = Tables(connect(MEMORY))
        self.signals = Signals()
        self._closed = False

    def run(self, work: Work[T]) -> asyncio.Future[T]:
        """Do the work; the future is done already.

        Raises:
            BrokerUnavailable: If the database was closed.
        """
        if self._closed:
            raise BrokerUnavailable(self.path, "it was closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.tables.now_ms = self._clock.now_ms()
        execute = self.tables.connection.execute
        execute("BEGIN")
        try:
            future.set_result(work(self.tables))
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the caller
            future.set_exception(error)
            execute("ROLLBACK")
        else:
            execute("COMMIT")
        self.signals.fire(self.tables.engine.became_ready)
        self.tables.engine.became_ready.clear()
        return future

    def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self.tables.connection.close()
        self.signals.fire()


class FileDatabase:
    """The writer thread on a file. `run` may be called from every thread that has a running loop."""

    def __init__(self, path: str, clock: Clock) -> None:
        """Open the file; blocks until it is migrated.

        Raises:
            DatabaseUnusable: If the file cannot be used.
        """
        self.path = path
        self.signals = Signals()
        self._tables = Tables(connect(path))
        self._turn, self._neighbours = self._shared(path)
        mark = self._tables.connection.execute("SELECT clock_high_water_ms FROM meta").get
        self._clock = clock if isinstance(clock, SteadyClock) else SteadyClock(clock)
        self._clock.at_least(mark)
        self._jumped = False
        self._marked_ms = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._broken = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="redrive-writer", daemon=True)
        self._thread.start()

    def run(self, work: Work[T]) -> asyncio.Future[T]:
        """Queue the work; the future is done when it is on disk.

        Raises:
            BrokerUnavailable: If the database was closed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:  # behind the end of the jobs nobody would answer
            if self._closed:
                raise BrokerUnavailable(self.path, "it was closed")
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
        self._neighbours.close()
        self._tables.connection.close()
        self._turn.close()

    def _shared(self, path: str) -> tuple[Turn, Neighbours]:
        """What stands beside the file for the other processes."""
        with contextlib.ExitStack() as opened:
            opened.callback(self._tables.connection.close)
            try:
                turn = turn_for(path)
                opened.callback(turn.close)
                neighbours = Neighbours(path, self.signals)
            except OSError as error:
                remedy = "check the owner and mode of what stands beside the file"
                raise DatabaseUnusable(path, f"cannot be shared ({error})", remedy) from None
            opened.pop_all()
        return turn, neighbours

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch, last = self._waiting(job)
            self._answer(self._do(batch))
            self._checkpoint()
            if last:
                return

    def _waiting(self, first: _Job) -> tuple[list[_Job], bool]:
        """Everything that is waiting now, and whether the end is among it."""
        batch = [first]
        with contextlib.suppress(queue.Empty):
            while len(batch) < _LARGEST_BATCH:
                job = self._jobs.get_nowait()
                if job is None:
                    return batch, True
                batch.append(job)
        return batch, False

    def _do(self, batch: list[_Job]) -> list[_Answer]:
        try:
            if self._broken:
                self._reopen()
            answers = self._transaction(batch)
        except OutcomeUnknown as error:
            _log.error("%s; opening it anew", error)
            self._broken = True
            return [_Answer(job, None, OutcomeUnknown(self.path, error.problem)) for job in batch]
        except Exception as error:  # noqa: BLE001 - invariant 2: nothing was committed
            if len(batch) == 1:
                return [_Answer(batch[0], None, _explained(self.path, error))]
            return [answer for job in batch for answer in self._do([job])]
        became_ready = self._tables.engine.became_ready
        if became_ready:
            self.signals.fire(became_ready)
            self._neighbours.tell(became_ready)
        return answers

    def _transaction(self, batch: list[_Job]) -> list[_Answer]:
        tables = self._tables
        execute = tables.connection.execute
        tables.engine.became_ready.clear()
        self._turn.take()
        try:
            execute("BEGIN IMMEDIATE")
            try:
                before = tables.connection.total_changes()
                tables.now_ms = self._now_ms()
                answers = [_answered(job, tables) for job in batch]
                if tables.connection.total_changes() != before:
                    self._mark()
            except BaseException:
                if tables.connection.in_transaction:  # a full disk has rolled it back already
                    execute("ROLLBACK")
                raise
            self._commit()
            return answers
        finally:
            self._turn.give()

    def _commit(self) -> None:
        try:
            self._tables.connection.execute("COMMIT")
        except apsw.Error as error:
            raise OutcomeUnknown(self.path, str(error)) from error

    def _checkpoint(self) -> None:
        """Copy a long log into the file.

        After the answers, for nobody has to wait for it; in this process's turn, so that no other one makes the log
        longer meanwhile. What fails is left to the next one: what was answered is on disk either way.
        """
        if self._broken or self._tables.log_pages < _LONG_LOG:
            return
        self._turn.take()
        try:
            self._tables.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._tables.log_pages = 0
        except apsw.Error as error:
            _log.debug("the log of %s stays as it is: %s", self.path, error)
        finally:
            self._turn.give()

    def _now_ms(self) -> int:
        """Engine time, not before what any process has stored."""
        self._clock.at_least(self._tables.connection.execute("SELECT clock_high_water_ms FROM meta").get)
        now_ms = self._clock.now_ms()
        if bool(self._clock.ignored_jump_ms) is not self._jumped:
            self._jumped = not self._jumped
            if self._jumped:
                _log.warning("the wall clock jumped by %d s; it is ignored", self._clock.ignored_jump_ms // 1000)
        return now_ms

    def _mark(self) -> None:
        now = self._tables.now_ms
        if now >= self._marked_ms + _MARK_EVERY_MS:
            self._tables.connection.execute("UPDATE meta SET clock_high_water_ms = max(clock_high_water_ms, ?)", (now,))
            self._tables.entries.sweep(now_ms=now)
            self._marked_ms = now

    def _reopen(self) -> None:
        """Invariant 3. While it cannot be opened, work is refused, each time with the reason."""
        with contextlib.suppress(apsw.Error):
            self._tables.connection.close()
        self._tables = Tables(connect(self.path))
        self._broken = False

    def _answer(self, answers: Sequence[_Answer]) -> None:
        """One call into each loop, however many wait there."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Answer]] = {}
        for answer in answers:
            by_loop.setdefault(answer.job.loop, []).append(answer)
        for loop, those in by_loop.items():
            with contextlib.suppress(RuntimeError):  # its loop has closed meanwhile: nobody is waiting
                loop.call_soon_threadsafe(_deliver, those)


def _answered(job: _Job, tables: Tables) -> _Answer:
    try:
        return _Answer(job, job.work(tables), None)
    except RedriveError as error:
        return _Answer(job, None, error)


def _deliver(answers: Sequence[_Answer]) -> None:
    for job, value, error in answers:
        if job.future.done():
            continue  # its caller was cancelled; the work is done all the same
        if error is None:
            job.future.set_result(value)
        else:
            job.future.set_exception(error)


def _explained(path: str, error: Exception) -> Exception:
    """SQLite's refusals are the broker's, with nothing done; anything else is a fault of the work."""
    if isinstance(error, apsw.FullError):
        return BrokerUnavailable(path, "the disk is full; nothing was written")
    if isinstance(error, apsw.Error):
        return BrokerUnavailable(path, f"{error}; nothing was written")
    return error
