"""One process at the file: a transaction at a time, in its turn; engine time; and starting anew after a fault.

Invariants:
    1. An outcome without an error is on disk (see the levels in `database`).
    2. Work that raises a RedriveError has changed nothing, and so does not disturb what shares its transaction. If
       anything else is raised, the transaction is rolled back and its work is done again in smaller ones, until what
       raised stands alone.
    3. A commit that raised may have happened: its outcomes are unknown, and nothing more is done until the file was
       opened anew and all that its log holds is in the database.
    4. Engine time never decreases (see SteadyClock); it is stored once a second with work that wrote something, and
       every five minutes without.
    5. A transaction takes in no more work after `LONGEST` seconds: other processes wait for it.

A crash before the commit leaves nothing of a transaction, after it all of it.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from redrive.clock import Clock, SteadyClock, TakenUp, taken_up
from redrive.errors import BrokerUnavailable, DatabaseUnusable, OutcomeUnknown, RedriveError
from redrive.sqlite.database import BUSY_MS, FULL, HELP, address_of, cannot_be_shared, connect, damaged, explained
from redrive.sqlite.log import Log
from redrive.sqlite.space import Space
from redrive.sqlite.tables import Tables, Work
from redrive.sqlite.turn import turn_for

LONGEST = 0.004
"""Seconds, and the work that is being done then."""
_MARK_EVERY_MS, _MARK_IDLE_MS = 1_000, 300_000
_RESTED_MS = 3_600_000
"""Nobody ran the broker for longer than that: the retention of messages does not count it."""
_PATIENCE_MS = 1_000
"""How long opening anew waits for a program that reads from the file."""
_log = logging.getLogger("redrive.sqlite")


class Outcome(NamedTuple):
    """What became of a piece of work."""

    value: Any
    error: Exception | None


class Session:
    """A connection, the turn at it, and the clock. One thread at a time."""

    def __init__(self, path: str, clock: Clock, durability: str = FULL) -> None:
        """Open the file; blocks until it is migrated.

        Raises:
            DatabaseUnusable: If the file cannot be used.
        """
        self.path, self.address = path, address_of(path, durability)
        self._durability = durability
        self._clock = clock if isinstance(clock, SteadyClock) else SteadyClock(clock)
        self._jumped = False
        self._marked_ms = self._opened_ms = 0
        self._broken = False
        self._space = Space(self.address, path)
        self._use(connect(path, durability))
        self._file = _identity(path)
        try:
            self._turn = turn_for(path)
        except OSError as error:
            self.tables.connection.close()
            raise cannot_be_shared(path, error) from None

    def take_up_time(self, *, others: bool) -> None:
        """Go on from where the database stood; `others` says whether another process is at the file.

        Raises:
            BrokerUnavailable: If another program keeps the file locked.
            DatabaseUnusable: If the file cannot be read or written.
        """
        execute = self.tables.connection.execute
        with explained(self.path):
            if not others:  # who wrote the log may have been killed after a sync that failed
                with contextlib.suppress(apsw.FullError, apsw.BusyError):
                    self._empty_log(self.tables.connection)
            self._turn.take()
            try:
                execute("BEGIN IMMEDIATE")
                self._postpone_expiry(self._taken_up(others=others))
                execute("COMMIT")
                self._note_time()
            finally:
                self._roll_back()
                self._turn.give()

    def now_ms(self) -> int:
        """Engine time."""
        return self._clock.now_ms()

    def run(self, works: Sequence[Work[Any]]) -> list[Outcome]:
        """Do as many pieces of work, from the first, as one transaction takes; what became of these, on disk."""
        try:
            self._begin()
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was done
            return [Outcome(None, _refusal(self, error)) for _ in works]
        outcomes: list[Outcome] = []
        try:
            self._do(works, outcomes)
        except OutcomeUnknown as error:
            _log.error("%s; opening it anew", error)
            self._broken = True
            return [Outcome(None, OutcomeUnknown(self.address, error.problem)) for _ in outcomes]
        except Exception as error:  # noqa: BLE001 - invariant 2: nothing was committed
            failed = error
        else:
            self._tell()
            return outcomes
        finally:
            self._turn.give()
        return [Outcome(None, _refusal(self, failed))] if len(works) == 1 else self.run(works[: len(works) // 2])

    def tidy(self) -> None:
        """Shorten a long log; for when nobody waits."""
        if not self._broken and self._log.is_long(scarce=self.tables.full is not None):
            self._log.shorten(self._turn)

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(apsw.Error):  # what was answered is in the log, and stays there
            self.tables.connection.close()
        self._turn.close()

    # A transaction, step by step

    def _begin(self) -> None:
        if _identity(self.path) != self._file:
            problem = "was moved, removed or replaced while it was open"
            raise DatabaseUnusable(self.path, problem, "put it back, or start anew")
        if self._broken:
            self._open_anew()
        self.tables.full = self._space.shortage()
        self._turn.take()
        try:
            self.tables.connection.execute("BEGIN IMMEDIATE")
        except BaseException:
            self._broken = True  # what was in the way may be a lock of its own that the system refused to undo
            self._turn.give()
            raise

    def _do(self, works: Sequence[Work[Any]], outcomes: list[Outcome]) -> None:
        tables = self.tables
        tables.engine.became_ready.clear()
        tables.engine.damaged.clear()
        ends = time.monotonic() + LONGEST
        try:
            before = tables.connection.total_changes()
            tables.now_ms = self._followed_ms()
            for work in works:
                outcomes.append(_done(work, tables))
                if time.monotonic() >= ends:
                    break
            self._mark(changed=tables.connection.total_changes() != before)
        except BaseException:
            self._roll_back()
            raise
        self._commit()

    def _tell(self) -> None:
        """What others should know of a transaction that is on disk."""
        for queue, message_id in self.tables.engine.damaged:
            _log.error("message %s of %s in %s is damaged and set aside; %s", message_id, queue, self.path, HELP)
        if self._marked_ms == self.tables.now_ms:
            self._note_time()

    def _commit(self) -> None:
        try:
            self.tables.connection.execute("COMMIT")
        except apsw.Error as error:
            raise OutcomeUnknown(self.address, str(error)) from error

    def _roll_back(self) -> None:
        if not self.tables.connection.in_transaction:  # a full disk has rolled it back already
            return
        try:
            self.tables.connection.execute("ROLLBACK")
        except apsw.Error:
            self._broken = True

    # Starting anew

    def _use(self, connection: apsw.Connection) -> None:
        self.tables = Tables(connection)
        self._log = Log(connection, self.path)

    def _open_anew(self) -> None:
        """Invariant 3. While it cannot be opened, work is refused, each time with the reason."""
        with contextlib.suppress(apsw.Error):
            self.tables.connection.close()
        connection = connect(self.path, self._durability)
        try:
            self._empty_log(connection)
        except BaseException:
            connection.close()
            raise
        self._use(connection)
        self._broken = False

    def _empty_log(self, connection: apsw.Connection) -> None:
        """Copy all that the log holds into the database, and begin a new one.

        A sync that failed may have dropped what it should have written: later syncs succeed, and leave a hole in the
        log that only a power cut shows, with everything behind it lost. So nothing is added to such a log.
        Source: "Can Applications Recover from fsync Failures?", Rebello et al., USENIX ATC 2020.
        """
        self._turn.take()
        try:
            connection.set_busy_timeout(_PATIENCE_MS)
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.set_busy_timeout(BUSY_MS)
            self._turn.give()

    # Time

    def _taken_up(self, *, others: bool) -> TakenUp:
        clock, boot = self._clock, self._clock.boot
        running = self._turn.noted_time_ms(boot=boot, monotonic=clock.monotonic()) if others and boot else None
        taken = taken_up(mark_ms=self._mark_in_file(), wall_ms=clock.wall_ms(), running_ms=running)
        clock.start(taken.start_ms)
        self._opened_ms = taken.start_ms
        if taken.doubted_ms:
            _log.warning(
                "the wall clock is %d days ahead of %s, more than a year; it is not believed, time goes on from %s",
                taken.doubted_ms // 86_400_000,
                self.path,
                time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(taken.start_ms / 1000)),
            )
        return taken

    def _postpone_expiry(self, taken: TakenUp) -> None:
        """Messages do not grow old while nobody could handle them."""
        if taken.rested_ms <= _RESTED_MS:
            return
        try:
            self.tables.engine.postpone_expiry(taken.rested_ms)
            self._store_mark(taken.start_ms)
        except apsw.FullError:
            _log.warning("the disk of %s is full: the %d hours of rest count", self.path, taken.rested_ms // 3_600_000)

    def _followed_ms(self) -> int:
        """Engine time, not before what any process has stored."""
        self._clock.at_least(self._mark_in_file())
        now_ms = self._clock.now_ms()
        if bool(self._clock.ignored_jump_ms) is not self._jumped:
            self._jumped = not self._jumped
            if self._jumped:
                _log.warning("the wall clock jumped by %d s; it is ignored", self._clock.ignored_jump_ms // 1000)
        return now_ms

    def _mark(self, *, changed: bool) -> None:
        now = self.tables.now_ms
        due = self._marked_ms + _MARK_EVERY_MS if changed else max(self._marked_ms, self._opened_ms) + _MARK_IDLE_MS
        if now < due:
            return
        self._store_mark(now)
        self.tables.entries.sweep(now_ms=now)
        self.tables.engine.sweep(now)
        self._marked_ms = now

    def _mark_in_file(self) -> int:
        found: int | None = self.tables.connection.execute("SELECT clock_high_water_ms FROM meta").get
        if found is None:
            raise apsw.CorruptError("the table meta has lost its row")
        return found

    def _store_mark(self, now_ms: int) -> None:
        statement = "UPDATE meta SET clock_high_water_ms = max(clock_high_water_ms, ?)"
        self.tables.connection.execute(statement, (now_ms,))

    def _note_time(self) -> None:
        clock = self._clock
        if clock.boot is not None:
            self._turn.note_time(boot=clock.boot, monotonic=clock.monotonic(), engine_ms=clock.now_ms())


def _identity(path: str) -> tuple[int, int]:
    """Which file it is, whatever it is called."""
    try:
        found = os.stat(path)  # noqa: PTH116 - once a transaction: no Path objects
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def _done(work: Work[Any], tables: Tables) -> Outcome:
    try:
        return Outcome(work(tables), None)
    except RedriveError as error:
        return Outcome(None, error)


def _refusal(session: Session, error: Exception) -> Exception:
    """SQLite's and the system's refusals are the broker's, with nothing done; anything else is a fault of the work."""
    match error:
        case RedriveError():
            return copy.copy(error)  # one for each caller
        case apsw.FullError():
            return BrokerUnavailable(session.address, "the disk is full; nothing was written")
        case apsw.BusyError():
            problem = "another program has kept the file locked for seconds; nothing was written"
            return BrokerUnavailable(session.address, problem)
        case apsw.CorruptError() | apsw.NotADBError() | UnicodeDecodeError():
            return damaged(session.path, error)
        case apsw.Error() | OSError():
            return BrokerUnavailable(session.address, f"{error}; nothing was written")
        case _:
            return error
