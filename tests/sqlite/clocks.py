"""A machine's clocks, for tests: one that somebody sets, and one that nobody can."""

from __future__ import annotations

SECOND, HOUR, YEAR = 1_000, 3_600_000, 365 * 86_400_000
START_MS = 1_700_000_000_000
JUMPS = [SECOND, -SECOND, HOUR, -HOUR, -YEAR, 100 * YEAR]


class MachineClock:
    """A wall clock and a monotonic one; `boot` says which start of the machine the second counts from."""

    def __init__(self, boot: str | None = "this-start") -> None:
        self.boot = boot
        self._wall_ms, self._elapsed = float(START_MS), 1_000.0

    def now_ms(self) -> int:
        return int(self._wall_ms)

    def monotonic(self) -> float:
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self._wall_ms += seconds * 1000
        self._elapsed += seconds

    def jump(self, ms: float) -> None:
        """Somebody sets the wall clock."""
        self._wall_ms += ms
