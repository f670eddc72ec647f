"""How fast a redrive may go: it starts slowly, doubles while all is well, halves on a failure."""

from __future__ import annotations

from dataclasses import dataclass, replace

START_RATE = 5.0
"""Messages a second at the beginning of a redrive."""
_LOWEST_RATE = 1.0
_STEP = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """The rate of one redrive at one instant.

    A message may leave as soon as one unit of credit has gathered; credit gathers at `rate` and never exceeds one
    second's worth, so that a pause is not followed by a burst.
    """

    rate: float
    """Messages a second now."""
    maximum: float
    """The highest rate, in messages a second."""
    credit: float
    """Messages that may leave now; the part below one is carried on."""
    counted_at: float
    """When credit was last counted, in seconds of the monotonic clock."""
    changed_at: float
    """When the rate last changed, in seconds of the monotonic clock."""

    @classmethod
    def begin(cls, now: float, *, maximum: float, start: float = START_RATE) -> Ramp:
        """A redrive that begins now; the first message may leave at once."""
        return cls(rate=min(start, maximum), maximum=maximum, credit=1.0, counted_at=now, changed_at=now)

    def step(self, now: float, *, failures: int = 0) -> Ramp:
        """The ramp at `now`, given how many failures of the dependency were seen since the last step."""
        gathered = self.credit + max(0.0, now - self.counted_at) * self.rate
        counted = replace(self, credit=min(gathered, max(1.0, self.rate)), counted_at=now)
        if failures:
            return replace(
                counted, rate=min(self.maximum, max(_LOWEST_RATE, self.rate / 2)), changed_at=now, credit=0.0
            )
        if now - self.changed_at >= _STEP and self.rate < self.maximum:
            return replace(counted, rate=min(self.maximum, self.rate * 2), changed_at=now)
        return counted

    @property
    def allowance(self) -> int:
        """How many messages may leave now; 0 or more."""
        return int(self.credit)

    def spend(self, count: int) -> Ramp:
        """The ramp after `count` messages left."""
        return replace(self, credit=self.credit - count)

    def wait(self) -> float:
        """Seconds until the next message may leave; 0 when one may leave now."""
        return max(0.0, (1.0 - self.credit) / self.rate)
