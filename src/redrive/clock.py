"""Time as a value that is handed in: nothing else in redrive reads a clock."""

from __future__ import annotations

import threading
import time
from typing import Protocol


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


class SteadyClock:
    """Engine time: follows the wall clock, but neither turns back nor jumps.

    Invariants:
        1. `now_ms` never decreases, in one process and across restarts (the caller feeds the stored high-water mark
           back by `at_least`).
        2. While running, a wall clock that moved by more than `max_step_ms` against the monotonic clock is ignored:
           time goes on at the monotonic clock's pace. Only a restart lets a wall clock far ahead advance it.
    """

    def __init__(self, clock: Clock, *, floor_ms: int = 0, max_step_ms: int = 60_000) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._max_step_ms = max_step_ms
        self._last_ms = max(clock.now_ms(), floor_ms)
        self._last_monotonic = clock.monotonic()
        self.ignored_jump_ms = 0
        """How far the wall clock stands from engine time while it is being ignored; 0 when it is followed."""

    def now_ms(self) -> int:
        """Engine time in milliseconds since 1970-01-01 UTC. Safe from every thread."""
        with self._lock:
            return self._step()

    def at_least(self, floor_ms: int) -> None:
        """Take note that another process already stood at `floor_ms`."""
        with self._lock:
            if floor_ms > self._last_ms:
                self._last_ms, self._last_monotonic = floor_ms, self._clock.monotonic()

    def monotonic(self) -> float:
        """Seconds of the monotonic clock."""
        return self._clock.monotonic()

    def _step(self) -> int:
        monotonic = self._clock.monotonic()
        expected = self._last_ms + max(0, int((monotonic - self._last_monotonic) * 1000))
        wall = self._clock.now_ms()
        off = wall - expected
        if abs(off) <= self._max_step_ms:
            self.ignored_jump_ms = 0
            now = max(wall, self._last_ms)
        else:
            self.ignored_jump_ms = off
            now = expected
            monotonic = self._last_monotonic + (now - self._last_ms) / 1000  # the part of a millisecond is not lost
        if now > self._last_ms:
            self._last_ms, self._last_monotonic = now, monotonic
        return now
