"""Clocks at their edges."""

from __future__ import annotations

import time

import pytest

from redrive.clock import ManualClock, SystemClock


def test_the_machines_clock_tells_milliseconds_of_today() -> None:
    """Between two looks at the same clock by other means."""
    before = time.time()
    now_ms = SystemClock().now_ms()
    after = time.time()
    assert before * 1000 - 1 <= now_ms <= after * 1000 + 1


def test_a_manual_clock_may_be_advanced_by_nothing() -> None:
    """And not by less; a part of a millisecond is a whole one."""
    clock = ManualClock(5)
    clock.advance(0)
    assert (clock.now_ms(), clock.monotonic()) == (5, 0.0)
    clock.advance(0.0001)
    assert (clock.now_ms(), clock.monotonic()) == (6, 0.001)
    with pytest.raises(ValueError, match=r"a clock cannot be advanced by -0\.001 seconds; give 0 or more"):
        clock.advance(-0.001)
    assert clock.now_ms() == 6
