"""What a relay leaves out for a while, because the broker refused it."""

from __future__ import annotations

from dataclasses import dataclass, field

_FIRST, _LONGEST = 0.5, 30.0


@dataclass(slots=True)
class Aside:
    """Names, each with how often it was refused in a row and until when it is left out. The time is an argument."""

    _refused: dict[str, int] = field(default_factory=dict)
    _until: dict[str, float] = field(default_factory=dict)

    def put(self, name: str, now: float) -> float | None:
        """Leave it out, twice as long as the last time, at most 30 s; how long, or None where that was said before."""
        count = self._refused[name] = self._refused.get(name, 0) + 1
        seconds = min(_LONGEST, _FIRST * 2.0 ** min(count, 10))
        self._until[name] = now + seconds
        return seconds if count == 1 else None

    def release(self, names: set[str]) -> list[str]:
        """These went through; which of them had been refused."""
        back = [name for name in names if name in self._refused]
        for name in back:
            del self._refused[name]
            self._until.pop(name, None)
        return back

    def names(self, now: float) -> list[str]:
        """What is left out now."""
        return [name for name, until in self._until.items() if until > now]

    def __contains__(self, name: str) -> bool:
        return name in self._refused

    def __len__(self) -> int:
        return len(self._refused)
