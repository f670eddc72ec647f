"""Time as a value that is handed in: nothing else in redrive reads a clock."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import NamedTuple, Protocol

LONGEST_REST_MS = 366 * 86_400_000
"""A wall clock that is further ahead of a database than that is taken to be wrong."""
_CATCH_UP_PACE = 0.5
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """Where the runtime gets its time from."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never backwards, untouched by changes of the wall clock."""
        ...


class SystemClock:
    """The machine's clocks."""

    @property
    def boot(self) -> str | None:
        """Which start of the machine the monotonic clock counts from; None where the system does not say."""
        try:
            return _BOOT.read_text("ascii").strip() or None
        except OSError:
            return None

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC, by the wall clock."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is told to advance; for tests and rehearsals."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._start_ms = now_ms
        self._elapsed_ms = 0

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC: the start plus what was advanced."""
        return self._start_ms + self._elapsed_ms

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        return self._elapsed_ms / 1000

    def advance(self, seconds: float) -> None:
        """Move both clocks forward by `seconds` (0 or more; parts of a millisecond are rounded up)."""
        if seconds < 0:
            message = f"a clock cannot be advanced by {seconds!r} seconds; give 0 or more"
            raise ValueError(message)
        self._elapsed_ms += -int(-seconds * 1000 // 1)


class TakenUp(NamedTuple):
    """Where engine time goes on when a database is opened."""

    start_ms: int
    rested_ms: int
    """How long nobody had run the broker, so far as is known."""
    doubted_ms: int
    """How far the wall clock is ahead and not believed; 0: it is believed, or behind."""


def taken_up(*, mark_ms: int, wall_ms: int, running_ms: int | None) -> TakenUp:
    """Where engine time goes on, given the database's mark (0: a new one), the wall clock, and what runs already.

    The wall clock may advance it, never turn it back. It is not asked while others run the broker (`running_ms` is
    their time), and not believed when it would have the database rest for more than a year.
    """
    if running_ms is not None:
        return TakenUp(max(mark_ms, running_ms), 0, 0)
    ahead = wall_ms - mark_ms
    if mark_ms == 0 or ahead <= 0:
        return TakenUp(max(mark_ms, wall_ms), 0, 0)
    if ahead > LONGEST_REST_MS:
        return TakenUp(mark_ms, 0, ahead)
    return TakenUp(wall_ms, ahead, 0)


class SteadyClock:
    """Engine time: follows the wall clock, but neither turns back nor jumps.

    Invariants:
        1. `now_ms` never decreases, in one process and across restarts (the caller feeds what was stored back by
           `start` or `at_least`).
        2. While running, a wall clock that moved by more than `max_step_ms` against the monotonic clock is ignored:
           time goes on at the monotonic clock's pace. Only a restart lets a wall clock far ahead advance it.
        3. It never stands still either, or whoever waits for the next millisecond would ask again and again: while a
           wall clock that was set back a little is behind, time goes at half its pace.
    """

    def __init__(self, clock: Clock, *, floor_ms: int = 0, max_step_ms: int = 60_000) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._max_step_ms = max_step_ms
        self._last_ms = max(clock.now_ms(), floor_ms)
        self._last_monotonic = clock.monotonic()
        self._was_read = False
        self.ignored_jump_ms = 0
        """How far the wall clock stands from engine time while it is being ignored; 0 when it is followed."""

    @property
    def boot(self) -> str | None:
        """Which start of the machine its monotonic clock counts from; None: not known, or not the machine's."""
        return getattr(self._clock, "boot", None)

    def now_ms(self) -> int:
        """Engine time in milliseconds since 1970-01-01 UTC. Safe from every thread."""
        with self._lock:
            self._was_read = True
            return self._step()

    def wall_ms(self) -> int:
        """The wall clock, whether it is followed or not."""
        return self._clock.now_ms()

    def start(self, start_ms: int) -> None:
        """Go on from `start_ms`, wherever the wall clock stands; where time was read already, never back."""
        with self._lock:
            if start_ms > self._last_ms or not self._was_read:
                self._last_ms, self._last_monotonic = start_ms, self._clock.monotonic()

    def at_least(self, floor_ms: int) -> None:
        """Take note that another process already stood at `floor_ms`."""
        with self._lock:
            if floor_ms > self._last_ms:
                self._last_ms, self._last_monotonic = floor_ms, self._clock.monotonic()

    def monotonic(self) -> float:
        """Seconds of the monotonic clock."""
        return self._clock.monotonic()

    def _step(self) -> int:
        monotonic, wall = self._clock.monotonic(), self._clock.now_ms()
        elapsed = max(0.0, monotonic - self._last_monotonic) * 1000
        off = wall - (self._last_ms + int(elapsed))
        self.ignored_jump_ms = off if abs(off) > self._max_step_ms else 0
        pace = 1.0 if self.ignored_jump_ms else _CATCH_UP_PACE
        steady = self._last_ms + int(elapsed * pace)
        if self.ignored_jump_ms or wall < steady:
            self._last_monotonic += (steady - self._last_ms) / pace / 1000  # the part of a millisecond is not lost
            self._last_ms = steady
        else:
            self._last_ms, self._last_monotonic = wall, monotonic
        return self._last_ms
