"""The board: what a worker child is doing, in memory that outlives it.

The child writes in each lane's slot which message is running; the supervisor, which runs no user code, reads it when
the child is dead. A memory-mapped file, because it costs a microsecond a message and needs nobody's help in a crash.
"""

from __future__ import annotations

import json
import mmap
import struct
from pathlib import Path
from typing import Any

_HEADER = 1024
_SLOT = 192
_SLOTS = 4096
_BEAT = struct.Struct("<d")


class Board:
    """A fixed number of slots, each empty or naming a queue and a message id."""

    def __init__(self, path: Path) -> None:
        size = _HEADER + _SLOT * _SLOTS
        with path.open("r+b") as file:
            if path.stat().st_size < size:
                file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        self._free = list(range(_SLOTS - 1, -1, -1))

    def introduce(self, **facts: Any) -> None:  # noqa: ANN401 - JSON
        """The child says what the supervisor has to know: the broker's address and the longest handler timeout."""
        text = json.dumps(facts).encode()[: _HEADER - _BEAT.size]
        self._map[_BEAT.size : _HEADER] = text.ljust(_HEADER - _BEAT.size, b"\0")

    def facts(self) -> dict[str, Any]:
        """What the child said; empty before it did."""
        text = self._map[_BEAT.size : _HEADER].rstrip(b"\0")
        return json.loads(text) if text else {}

    def beat(self, monotonic: float) -> None:
        """The child's loop turned."""
        _BEAT.pack_into(self._map, 0, monotonic)

    def last_beat(self) -> float:
        """When the child's loop last turned; 0 before it did."""
        return float(_BEAT.unpack_from(self._map, 0)[0])

    def begin(self, queue: str, message_id: str) -> int:
        """A message starts running; the slot to clear when it ends."""
        slot = self._free.pop()
        at = _HEADER + slot * _SLOT
        text = f"{queue}/{message_id}".encode()[: _SLOT - 1]
        self._map[at : at + len(text) + 1] = text + b"\0"
        return slot

    def end(self, slot: int) -> None:
        """The message of a slot ended."""
        self._map[_HEADER + slot * _SLOT] = 0
        self._free.append(slot)

    def running(self) -> list[str]:
        """`queue/message id` of everything that runs."""
        return [
            self._map[at : at + _SLOT].split(b"\0", 1)[0].decode("utf-8", "replace")
            for at in range(_HEADER, _HEADER + _SLOT * _SLOTS, _SLOT)
            if self._map[at]
        ]

    def close(self) -> None:
        """Let go of the memory."""
        self._map.close()
