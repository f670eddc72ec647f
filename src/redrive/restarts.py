"""How long to wait before another worker is started, by how the last ones ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Self

_FIRST = 0.1
_LONGEST = 5.0
_LONGEST_AFTER_A_MESSAGE = 0.4
"""Each death by a message leaves fewer messages that kill."""
_FIRST_WHILE_AWAY = 1.0
_LONGEST_WHILE_AWAY = 30.0
_SHORT_LIFE = 5.0
_MOST_DOUBLINGS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One worker's life, as its keeper saw it end."""

    seconds: float
    """How long it lasted."""
    accused: bool = False
    """Whether it leaves suspects."""
    away: str | None = None
    """What it waits for, in the words of its error: a broker or a store that could not be reached when it started."""
    code: int | None = None
    """The exit code, if another worker would do no better."""


@dataclass(frozen=True, slots=True)
class Restarts:
    """What counts of the lives so far; `after` each of them there is a new one."""

    short: int = 0
    """Lives in a row that were short."""
    away: int = 0
    """Lives in a row that ended because broker or store were away."""

    def after(self, life: Life) -> Self:
        """One more life is over."""
        if life.away is not None:  # it may have waited for long, and has lived for nothing
            return replace(self, short=0, away=self.away + 1)
        return replace(self, short=self.short + 1 if life.seconds < _SHORT_LIFE else 0, away=0)

    def pause(self, life: Life, random: Random) -> float:
        """Seconds until the next worker starts, with jitter at the cap too: many workers would start as one."""
        if life.away is not None:
            longest, first, count = _LONGEST_WHILE_AWAY, _FIRST_WHILE_AWAY, self.away
        else:
            longest, first, count = _LONGEST_AFTER_A_MESSAGE if life.accused else _LONGEST, _FIRST, self.short
        full = min(longest, first * 2.0 ** min(max(0, count - 1), _MOST_DOUBLINGS))
        return full * random.uniform(0.5, 1.0)
