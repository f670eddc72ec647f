"""How long to wait before the next try: exponential, with full jitter that is kept at the cap."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from redrive.errors import DeclarationError

_LARGEST_EXPONENT = 62
_LONGEST = 43_200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with full jitter.

    The n-th delay is drawn evenly from 0 to min(maximum, first x factor^(n-1)). The jitter is kept at the cap: without
    it, everything that failed together comes back together.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog (full jitter).
    """

    first: float | timedelta = 1.0
    """Upper end of the first delay, in seconds; over 0."""
    factor: float = 2.0
    """What the upper end is multiplied by each time; 1 or more."""
    maximum: float | timedelta = 300.0
    """The cap of the upper end, in seconds; at least `first`, at most 12 hours (what a lease can be)."""

    def __post_init__(self) -> None:
        first, maximum = seconds(self.first), seconds(self.maximum)
        if not 0 < first <= maximum <= _LONGEST:
            raise DeclarationError(
                f"Backoff(first={first!r}, maximum={maximum!r})", "is out of range", "use 0 < first <= maximum <= 43200"
            )
        if not self.factor >= 1:  # not a number is refused too
            raise DeclarationError(f"Backoff(factor={self.factor!r})", "shrinks", "use a factor of 1 or more")

    def ceiling(self, failures: int) -> float:
        """The longest delay after the given number of failures (1 or more), in seconds."""
        exponent = min(max(failures, 1) - 1, _LARGEST_EXPONENT)
        try:
            return min(seconds(self.maximum), seconds(self.first) * self.factor**exponent)
        except OverflowError:
            return seconds(self.maximum)

    def delay(self, failures: int, *, random: float, floor: float = 0.0) -> float:
        """The delay after the given number of failures, in seconds.

        Args:
            failures: how often it failed so far, this time included; 1 or more.
            random: the draw, evenly from [0, 1).
            floor: what the other side asked for (Retry-After); never waited shorter, and the jitter is added to it.
        """
        return floor + self.ceiling(failures) * random


def seconds(value: float | timedelta) -> float:
    """A duration as float seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
