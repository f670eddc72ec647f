"""The ramp of a redrive: slow at first, doubling while all is well, halving on a failure, never a burst."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.ramp import START_RATE, Ramp


def run(ramp: Ramp, start: float, seconds: float, *, every: float = 0.05) -> tuple[Ramp, int]:
    """Spend all that is allowed, for so many seconds; how many left."""
    sent, now = 0, start
    for _ in range(round(seconds / every)):
        now += every
        ramp = ramp.step(now)
        sent += ramp.allowance
        ramp = ramp.spend(ramp.allowance)
    return ramp, sent


def test_the_first_message_may_leave_at_once() -> None:
    """And it alone."""
    ramp = Ramp.begin(10.0, maximum=100.0)
    assert (ramp.rate, ramp.allowance, ramp.wait()) == (START_RATE, 1, 0.0)
    assert ramp.spend(1).allowance == 0
    assert ramp.spend(1).wait() == pytest.approx(1 / START_RATE)


def test_the_rate_doubles_each_second_up_to_its_maximum() -> None:
    """5, 10, 20, 40, 50, 50."""
    ramp = Ramp.begin(0.0, maximum=50.0)
    rates = []
    for now in range(6):
        ramp = ramp.step(float(now))
        rates.append(ramp.rate)
    assert rates == [5, 10, 20, 40, 50, 50]
    assert Ramp.begin(0.0, maximum=50.0).step(0.99).rate == 5


def test_what_leaves_is_the_rate() -> None:
    """In the first second 5, in the second 10, in the third 20: nothing is lost to rounding."""
    ramp, now = Ramp.begin(0.0, maximum=1_000.0).spend(1), 0.0
    for expected in (5, 10, 20, 40, 80):
        ramp, sent = run(ramp, now, 1.0)
        now += 1.0
        assert sent == pytest.approx(expected, abs=1 + expected * 0.06)


def test_a_failure_halves_the_rate_and_stops_for_a_moment() -> None:
    """Down to one a second, and the doubling begins anew a second later."""
    ramp = Ramp.begin(0.0, maximum=40.0, start=40.0)
    rates = []
    for now in range(1, 9):
        ramp = ramp.step(float(now), failures=3)
        rates.append(ramp.rate)
        assert ramp.allowance == 0
    assert rates == [20, 10, 5, 2.5, 1.25, 1, 1, 1]
    assert ramp.step(8.5).rate == 1
    assert ramp.step(9.0).rate == 2


def test_a_low_maximum_is_kept_on_a_failure() -> None:
    """Halving never makes it faster than it may be."""
    ramp = Ramp.begin(0.0, maximum=0.5)
    assert ramp.rate == 0.5
    assert ramp.step(1.0, failures=1).rate <= 0.5


@given(st.floats(0, 1e6), st.floats(0.1, 1_000), st.floats(0.1, 1_000))
def test_a_pause_is_not_followed_by_a_burst(pause: float, start: float, maximum: float) -> None:
    """However long nobody asked, no more than a second's worth may leave at once."""
    ramp = Ramp.begin(5.0, maximum=maximum, start=start)
    assert ramp.step(5.0 + pause).allowance <= max(1.0, ramp.rate)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 2)), max_size=60), st.floats(0.2, 500))
def test_the_bounds_hold_whatever_happens(steps: list[tuple[float, int]], maximum: float) -> None:
    """The rate stays over zero and within its maximum, the credit within a second's worth."""
    ramp, now = Ramp.begin(0.0, maximum=maximum), 0.0
    for passed, failures in steps:
        now += passed
        ramp = ramp.step(now, failures=failures)
        assert 0 < ramp.rate <= maximum
        assert 0 <= ramp.credit <= max(1.0, ramp.rate)
        assert ramp.wait() <= 1 / ramp.rate
        ramp = ramp.spend(ramp.allowance)


@given(st.floats(0.1, 1_000), st.floats(0, 1e6))
def test_after_the_wait_one_may_leave(rate: float, begun: float) -> None:
    """The wait is neither too short nor endless."""
    ramp = Ramp.begin(begun, maximum=rate, start=rate).spend(1)
    assert ramp.step(begun + ramp.wait() + 0.001).allowance >= 1


def test_a_clock_that_stands_still_gives_nothing() -> None:
    """Nor does one that turns back."""
    ramp = Ramp.begin(100.0, maximum=10.0).spend(1)
    assert ramp.step(100.0).allowance == 0
    assert ramp.step(50.0).allowance == 0
