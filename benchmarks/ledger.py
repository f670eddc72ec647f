"""Which orders were handled, how often and how soon: one file, mapped by every process that handles any.

Invariant: a figure counts only if `verify` passed after all workers ended: each order was handled, and handled once.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from workload import Order

_NAME = "ledger"
_HEAD = struct.Struct("=dq")
"""When the first one was handled, in seconds of the wall clock, and for how many orders there is room."""
_LOOK = 0.0005
"""Seconds between two looks of whoever waits."""


class Miscounted(Exception):
    """What was handled is not what was sent, each once."""


class Ledger:
    """The handled orders of one folder. Any thread of any process may write; no two of them the same order."""

    def __init__(self, folder: Path) -> None:
        with (folder / _NAME).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._room = int(_HEAD.unpack_from(self._map)[1])
        self._took = memoryview(self._map)[_took_at(self._room) :].cast("q")
        self._times = memoryview(self._map)[_HEAD.size : _HEAD.size + self._room]
        self._first = True

    @classmethod
    def make(cls, folder: Path, room: int) -> Self:
        """An empty one for the orders 0 to `room` - 1."""
        with (folder / _NAME).open("wb") as file:
            file.write(_HEAD.pack(0.0, room))
            file.truncate(_took_at(room) + 8 * room)
        return cls(folder)

    def handled(self, order: Order) -> int:
        """Write down that an order was handled now; how often it was before."""
        if self._first:
            self._first = False
            if not self.began:
                self._map[: _HEAD.size] = _HEAD.pack(time.time(), self._room)
        number = order.number
        self._took[number] = time.monotonic_ns() - order.sent_ns
        before = self._times[number]
        self._times[number] = min(255, before + 1)
        return before

    @property
    def began(self) -> float:
        """When the first one was handled, in seconds of the wall clock; 0 before."""
        return float(_HEAD.unpack_from(self._map)[0])

    @property
    def count(self) -> int:
        """How many different orders were handled."""
        return self._room - bytes(self._times).count(0)

    def took_ns(self, numbers: range) -> list[int]:
        """From the send to the handler, for each of these orders; nanoseconds."""
        return [self._took[number] for number in numbers]

    def holds(self, numbers: range) -> bool:
        """Whether each of these orders was handled."""
        return self._map.find(b"\0", _HEAD.size + numbers.start, _HEAD.size + numbers.stop) < 0

    def wait(self, numbers: range, *, patience: float = 120.0) -> float:
        """Wait until each of these was handled; when that was seen, in seconds of the wall clock.

        Raises:
            Miscounted: If some were not within `patience` seconds.
        """
        deadline = time.monotonic() + patience
        while not self.holds(numbers):
            if time.monotonic() > deadline:
                missing = bytes(self._times[numbers.start : numbers.stop]).count(0)
                raise Miscounted(f"{missing} of {len(numbers)} orders were not handled within {patience:g} s")
            time.sleep(_LOOK)
        return time.time()

    def verify(self, numbers: Sequence[int]) -> None:
        """Check that each of these orders was handled, once, and no other one.

        Raises:
            Miscounted: If not.
        """
        found = Counter(bytes(self._times))
        if found != Counter({1: len(numbers), 0: self._room - len(numbers)}) or not all(
            self._times[number] for number in numbers
        ):
            shown = ", ".join(f"{orders} orders {times} times" for times, orders in sorted(found.items()))
            raise Miscounted(f"{len(numbers)} orders were sent; handled were {shown}")


def _took_at(room: int) -> int:
    return (_HEAD.size + room + 7) // 8 * 8
