"""How much room the disk has: sends are refused before it is full, because a full disk stops acknowledging too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from redrive.errors import DiskNearlyFull

FLOOR = 64 * 1024 * 1024
"""Bytes that are kept free."""
SHARE = 10
"""Of a small disk, one part in so many instead, if that is less."""
_MEASURED_FOR, _SHORT_FOR = 0.25, 0.02
"""Seconds that a measurement is good for: at most, and while there is too little."""
_FASTEST = 1024**3
"""Bytes a second that a disk may be filled with: with less above the floor a measurement is good for a shorter time."""


class Measured(Protocol):
    """What `statvfs` says of a file system."""

    @property
    def f_frsize(self) -> int:
        """Bytes in a block."""
        ...

    @property
    def f_blocks(self) -> int:
        """Blocks in all."""
        ...

    @property
    def f_bavail(self) -> int:
        """Blocks that are free for everybody, without what is reserved for root."""
        ...


class Space:
    """The room on the disk that holds a file, measured at most four times a second while there is plenty of it."""

    def __init__(
        self,
        address: str,
        path: str,
        *,
        measure: Callable[[str], Measured] = os.statvfs,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address, self._folder = address, str(Path(path).absolute().parent)
        self._measure, self._monotonic = measure, monotonic
        self._good_until = float("-inf")
        self._shortage: DiskNearlyFull | None = None

    def shortage(self) -> DiskNearlyFull | None:
        """Why nothing more may be sent; None while there is room."""
        now = self._monotonic()
        if now >= self._good_until:
            free, floor = self._measured()
            self._shortage = DiskNearlyFull(self._address, free, floor) if free < floor else None
            self._good_until = now + (_SHORT_FOR if self._shortage else min(_MEASURED_FOR, (free - floor) / _FASTEST))
        return self._shortage

    def _measured(self) -> tuple[int, int]:
        """Bytes that are free, and bytes that have to be."""
        try:
            disk = self._measure(self._folder)
        except OSError:
            return 0, 0  # a disk that does not say is not called full
        return disk.f_bavail * disk.f_frsize, min(FLOOR, disk.f_blocks * disk.f_frsize // SHARE)
