"""Makes a message fit the queue that it is saved for, where what its checksum does not cover cannot be true."""

from __future__ import annotations

from typing import Any, NamedTuple

from redrive.broker import LONGEST_LEASE, MOST_RECEIVES, RETENTION
from redrive.sqlite.damage.cells import Value
from redrive.sqlite.rows import DAMAGED, DELAYED, IN_FLIGHT, IN_LINE, LEASED, READY

CLOCK_STEP_MS = 60_000
"""The stored clock may be a little behind the engine's, and the wall clock no more than this off (see SteadyClock)."""
_RECEIPT = 16
"""Bytes."""


class Kind(NamedTuple):
    """What a queue asks of its messages."""

    fifo: bool
    retention_ms: int | None
    round: int


def fitted(message: dict[str, Value], queue: Kind, now_ms: int, last_queue: int) -> dict[str, Value]:
    """The message as it can stand in its queue; the same where nothing had to be changed.

    A lease that cannot be is ended, a delay that cannot be is over: a message comes too early rather than never.

    Args:
        message: its columns, of today's schema.
        queue: where it goes.
        now_ms: engine time.
        last_queue: the highest number that a queue ever had.
    """
    was: Any = dict(message)
    longest = now_ms + CLOCK_STEP_MS + int(LONGEST_LEASE * 1000)
    can_be_leased = isinstance(was["receipt"], bytes) and len(was["receipt"]) == _RECEIPT
    leased = was["phase"] in {IN_FLIGHT, LEASED} and can_be_leased and was["visible_at_ms"] <= longest
    later = was["phase"] != READY and was["phase"] != DAMAGED and now_ms < was["visible_at_ms"] <= longest
    origin = was["origin"]
    return message | {
        "phase": _phase(queue, leased=leased, later=later, was=was["phase"]),
        "visible_at_ms": was["visible_at_ms"] if leased or later else min(was["visible_at_ms"], now_ms + CLOCK_STEP_MS),
        "receipt": was["receipt"] if leased else None,
        "receive_count": _receives(was["receive_count"], leased=leased),
        "round": _round(was, queue),
        "expires_at_ms": _expiry(was["expires_at_ms"], queue, now_ms),
        "origin": origin if origin is not None and 1 <= origin <= last_queue else None,
        "group_id": was["group_id"] or "recovered" if queue.fifo else was["group_id"],
    }


def _phase(queue: Kind, *, leased: bool, later: bool, was: int) -> int:
    if queue.fifo:
        return LEASED if leased else IN_LINE
    if leased:
        return IN_FLIGHT
    return DELAYED if later or was == DELAYED else READY


def _receives(count: int, *, leased: bool) -> int:
    if not 0 <= count <= MOST_RECEIVES:
        count = 0
    return max(count, int(leased))


def _round(was: dict[str, Any], queue: Kind) -> int:
    found: int = max(was["round"], 0)
    return min(found, queue.round + 1) if queue.fifo or was["group_id"] is None else found


def _expiry(at_ms: int | None, queue: Kind, now_ms: int) -> int | None:
    if queue.retention_ms is None:
        return None
    if at_ms is None or at_ms > now_ms + CLOCK_STEP_MS + int(RETENTION[1] * 1000):
        return now_ms + queue.retention_ms
    return at_ms
