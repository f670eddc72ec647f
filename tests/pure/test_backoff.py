"""Backoff: exponential, with full jitter that is kept at the cap."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.backoff import Backoff, seconds
from redrive.errors import DeclarationError

backoffs = st.builds(
    lambda first, ratio, factor: Backoff(first=first, factor=factor, maximum=min(43_200.0, first * ratio)),
    st.floats(0.001, 43_200),
    st.floats(1, 1e6),
    st.floats(1, 1e12),
)
draws = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("failures", "ceiling"), [(-1, 1), (0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (6, 32), (7, 60), (8, 60), (10_000, 60)]
)
def test_the_ceiling_doubles_up_to_the_cap(failures: int, ceiling: float) -> None:
    """Of Backoff(first=1, maximum=60)."""
    assert Backoff(first=1.0, maximum=60.0).ceiling(failures) == ceiling


@given(backoffs, st.integers(1, 10_000), draws)
def test_a_delay_is_between_nothing_and_its_ceiling(backoff: Backoff, failures: int, random: float) -> None:
    """Whatever the numbers; and the ceiling never goes over the maximum."""
    assert 0 <= backoff.delay(failures, random=random) <= backoff.ceiling(failures) <= seconds(backoff.maximum)


@given(backoffs, st.integers(1, 10_000))
def test_ceilings_never_shrink(backoff: Backoff, failures: int) -> None:
    """Who fails more often waits longer, or as long."""
    assert backoff.ceiling(failures) <= backoff.ceiling(failures + 1)


@given(backoffs, st.integers(1, 10_000), st.floats(0, 43_200), draws)
def test_what_was_asked_for_is_the_least(backoff: Backoff, failures: int, floor: float, random: float) -> None:
    """Retry-After is a floor, and the jitter comes on top: who was sent away together does not come back together."""
    delay = backoff.delay(failures, random=random, floor=floor)
    assert floor <= delay <= floor + backoff.ceiling(failures)
    assert backoff.delay(failures, random=0.5, floor=floor) > floor


def test_the_jitter_is_kept_at_the_cap() -> None:
    """A hundred failures on, delays are still spread from nothing to the maximum."""
    backoff = Backoff(first=1.0, maximum=60.0)
    delays = [backoff.delay(100, random=draw / 10) for draw in range(10)]
    assert delays == pytest.approx([6.0 * draw for draw in range(10)])


def test_durations_may_be_timedeltas() -> None:
    """They mean the same."""
    assert Backoff(first=timedelta(seconds=2), maximum=timedelta(minutes=1)).ceiling(3) == 8.0
    assert Backoff(first=timedelta(seconds=2), maximum=timedelta(seconds=5)).ceiling(3) == 5.0


@pytest.mark.parametrize(
    "settings",
    [
        {"first": 0},
        {"first": -1},
        {"first": 10, "maximum": 9},
        {"maximum": 43_201},
        {"first": float("nan")},
        {"maximum": float("nan")},
        {"maximum": float("inf")},
        {"factor": 0.99},
        {"factor": float("nan")},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    """When they are declared, not at the first failure."""
    with pytest.raises(DeclarationError, match="Backoff"):
        Backoff(**settings)
