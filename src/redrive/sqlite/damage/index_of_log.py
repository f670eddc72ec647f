"""The `-shm` file: SQLite's index of the write-ahead log, which says how long the log was.

It is made anew whenever the first process opens the database, so it is never a fault by itself; but it knows of frames
that a log has lost.

Source: SQLite, "WAL-mode File Format", section 2.1, "The WAL-Index Header".
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import NamedTuple

_ORDER = "<" if sys.byteorder == "little" else ">"
_COPY = 48


class LogIndex(NamedTuple):
    """What a `-shm` says of the log that it was made for."""

    frames: int
    """Of committed transactions."""
    copied: int
    """How many of them were already copied into the database file."""
    salts: tuple[int, int]


def read_index(path: str) -> LogIndex | None:
    """Read it; None when there is none, or it says nothing."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(2 * _COPY + 4)
    except FileNotFoundError:
        return None
    if len(data) < 2 * _COPY + 4 or data[:_COPY] != data[_COPY : 2 * _COPY] or not data[12]:
        return None
    (frames,) = struct.unpack_from(f"{_ORDER}I", data, 16)
    salts = struct.unpack_from(">2I", data, 32)  # as they stand in the log
    (copied,) = struct.unpack_from(f"{_ORDER}I", data, 2 * _COPY)
    return LogIndex(frames, copied, salts)
