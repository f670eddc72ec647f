"""The board: what a worker child is doing, in memory that outlives it.

The child writes which messages it holds, which of them run, when its loop turned and when its broker answered; the
supervisor, which runs no user code, reads it while the child runs and when it is dead. A memory-mapped file, because
it costs a microsecond a message and needs nobody's help in a crash.
"""

from __future__ import annotations

import json
import mmap
import struct
import time
from collections.abc import Collection, Mapping
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

_TIME = struct.Struct("d")  # native and aligned: written and read in one piece
_CODE = struct.Struct("i")
_BEAT_AT, _ANSWER_AT, _CODE_AT, _LEAVING_AT, _FACTS_AT = 0, 8, 16, 20, 24
_HEADER = 8192
_WHY_AT = _HEADER - 1024
_RUNNING, _SLOT = 4096, 192
_HOLDING, _HOLD = 4096, 1024
_HELD_AT = _HEADER + _SLOT * _RUNNING
_SIZE = _HELD_AT + _HOLD * _HOLDING


class Holding(NamedTuple):
    """A message that the child has under a lease: what it takes to hand it back."""

    queue: str
    message_id: str
    group: str | None
    receipt: str


class Board:
    """Slots for what runs and for what is held, and a few facts. One process writes it, one reads it."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            missing = _SIZE - path.stat().st_size
            if missing > 0:  # written, not only promised: a full disk shows here, and not as a signal in the worker
                file.seek(0, 2)
                file.write(bytes(missing))
                file.flush()
            self._map = mmap.mmap(file.fileno(), _SIZE)
        self._free = list(range(_RUNNING - 1, -1, -1))
        self._turns: dict[int, tuple[str, float]] = {}
        self._free_holds = list(range(_HOLDING - 1, -1, -1))
        self._holds: dict[str, int] = {}

    def introduce(self, **facts: Any) -> None:  # noqa: ANN401 - JSON
        """The child says what the supervisor has to know: the broker's address and the longest handler timeout."""
        text = json.dumps(facts, ensure_ascii=False).encode("utf-8", "surrogateescape")
        if len(text) > _WHY_AT - _FACTS_AT:
            raise ValueError(f"{len(text)} bytes of facts, and the board has room for {_WHY_AT - _FACTS_AT}")
        self._map[_FACTS_AT + 1 : _WHY_AT] = text[1:].ljust(_WHY_AT - _FACTS_AT - 1, b"\0")
        self._map[_FACTS_AT] = text[0]  # the last byte to be written: before that nothing was said

    def facts(self) -> dict[str, Any]:
        """What the child said; empty before it did."""
        if not self._map[_FACTS_AT]:
            return {}
        text = self._map[_FACTS_AT:_WHY_AT].rstrip(b"\0")
        facts: dict[str, Any] = json.loads(text.decode("utf-8", "surrogateescape"))
        return facts

    def beat(self, monotonic: float) -> None:
        """The child's loop turned."""
        _TIME.pack_into(self._map, _BEAT_AT, monotonic)

    def last_beat(self) -> float:
        """When the child's loop last turned; 0 before it did."""
        return float(_TIME.unpack_from(self._map, _BEAT_AT)[0])

    def answered(self, monotonic: float) -> None:
        """The child's broker answered."""
        _TIME.pack_into(self._map, _ANSWER_AT, monotonic)

    def last_answer(self) -> float:
        """When the child's broker last answered; 0 before it did."""
        return float(_TIME.unpack_from(self._map, _ANSWER_AT)[0])

    def leave(self) -> None:
        """The child asks to be replaced, and finishes what runs."""
        self._map[_LEAVING_AT] = 1

    def is_leaving(self) -> bool:
        """Whether the child asked to be replaced."""
        return self._map[_LEAVING_AT] == 1

    def say(self, code: int, why: str = "") -> None:
        """The child ends with this exit code by its own decision, and why: a handler can end it with any code."""
        text = why.encode("utf-8", "replace")[: _HEADER - _WHY_AT]
        self._map[_WHY_AT:_HEADER] = text.ljust(_HEADER - _WHY_AT, b"\0")
        _CODE.pack_into(self._map, _CODE_AT, code)

    def said(self) -> int | None:
        """The exit code that the child said it would end with; None: it said nothing."""
        return _CODE.unpack_from(self._map, _CODE_AT)[0] or None

    def why(self) -> str:
        """Why the child ended, as it said."""
        return self._map[_WHY_AT:_HEADER].rstrip(b"\0").decode("utf-8", "replace")

    def begin(self, queue: str, message_id: str) -> int:
        """A message starts running; the slot to clear when it ends."""
        slot = self._free.pop()
        self._turns[slot] = queue, time.monotonic()
        at = _HEADER + slot * _SLOT
        text = f"{queue}/{message_id}".encode()[: _SLOT - 1]
        self._map[at : at + len(text) + 1] = text + b"\0"
        return slot

    def end(self, slot: int) -> None:
        """The message of a slot ended."""
        self._map[_HEADER + slot * _SLOT] = 0
        del self._turns[slot]
        self._free.append(slot)

    def overdue(self, patience: Mapping[str, float], now: float) -> list[int]:
        """The slots of turns that run for longer than their queue has patience, in seconds; for the child itself."""
        return [slot for slot, (queue, began) in self._turns.items() if now - began > patience.get(queue, inf)]

    def blame(self, slots: Collection[int]) -> None:
        """The child takes itself down because of these: nothing else on the board is a suspect."""
        for slot in self._turns.keys() - set(slots):
            self._map[_HEADER + slot * _SLOT] = 0

    def running(self) -> list[str]:
        """`queue/message id` of everything that runs."""
        return [
            self._map[at : at + _SLOT].split(b"\0", 1)[0].decode("utf-8", "replace")
            for at in _used(self._map[_HEADER:_HELD_AT:_SLOT], _HEADER, _SLOT)
        ]

    def hold(self, one: Holding) -> None:
        """A message was received. What does not fit, or is too much, is left to its lease."""
        text = f"{one.queue}\0{one.message_id}\0{one.group or ''}\0{one.receipt}".encode()
        if len(text) >= _HOLD or not self._free_holds or one.receipt in self._holds:
            return
        slot = self._holds[one.receipt] = self._free_holds.pop()
        at = _HELD_AT + slot * _HOLD
        self._map[at : at + len(text) + 1] = text + b"\0"

    def let_go(self, receipt: str) -> None:
        """A message was settled, or its lease was lost."""
        slot = self._holds.pop(receipt, None)
        if slot is not None:
            self._map[_HELD_AT + slot * _HOLD] = 0
            self._free_holds.append(slot)

    def held(self) -> list[Holding]:
        """Everything that the child has under a lease."""
        slots = _used(self._map[_HELD_AT:_SIZE:_HOLD], _HELD_AT, _HOLD)
        return [_holding(self._map[at : at + _HOLD]) for at in slots]

    def close(self) -> None:
        """Let go of the memory."""
        self._map.close()


def _holding(slot: bytes) -> Holding:
    queue, message_id, group, receipt = slot.decode("utf-8", "replace").split("\0", 4)[:4]
    return Holding(queue, message_id, group or None, receipt)


def _used(first_bytes: bytes, at: int, size: int) -> list[int]:
    """Where the slots begin that hold something."""
    return [at + number * size for number, first in enumerate(first_bytes) if first]
