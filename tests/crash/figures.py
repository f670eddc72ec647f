"""How long callers waited, from what a loop wrote down."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from redrive.testing import History


def latencies(history: History) -> dict[str, float]:
    """Of sends of one message, from the call to its answer."""
    sizes = Counter(id(one.call) for one in history.sends)
    alone = (one.call for one in history.sends if one.call.answered and sizes[id(one.call)] == 1)
    return _percentiles("small send", (one.ended - one.began for one in alone))


def waits(file: Path) -> dict[str, float]:
    """Of each transaction, how long it waited for other processes' to end."""
    data = file.read_bytes()
    return _percentiles("wait behind other processes", struct.unpack(f"{len(data) // 8}d", data[: len(data) // 8 * 8]))


def _percentiles(what: str, seconds: Iterable[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {
        f"{what}: number": len(ordered),
        f"{what}: p50 ms": round(1000 * ordered[len(ordered) // 2], 3),
        f"{what}: p99 ms": round(1000 * ordered[int(len(ordered) * 0.99)], 3),
        f"{what}: longest ms": round(1000 * ordered[-1], 3),
    }
