"""When another worker is started: soon after a crash, later where that does not help, and never all at once."""

from __future__ import annotations

from random import Random

import pytest

from redrive.restarts import Life, Restarts

AWAY = Life(seconds=1.0, away="the broker is away")
SHORT = Life(seconds=1.0)
LONG = Life(seconds=60.0)
BY_A_MESSAGE = Life(seconds=1.0, accused=True)


class _Fixed(Random):
    """Draws the same share of every range."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self._share = share

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * self._share


def pauses(*lives: Life, share: float = 1.0) -> list[float]:
    restarts, found = Restarts(), []
    for life in lives:
        restarts = restarts.after(life)
        found.append(restarts.pause(life, _Fixed(share)))
    return found


def test_while_the_broker_is_away_pauses_grow_to_half_a_minute() -> None:
    """A second, two, four; never more than thirty."""
    assert pauses(*[AWAY] * 8) == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


@pytest.mark.parametrize(("life", "longest"), [(AWAY, 30.0), (SHORT, 5.0), (BY_A_MESSAGE, 0.4)])
def test_no_two_workers_need_start_at_once_however_long_it_takes(life: Life, longest: float) -> None:
    """There is jitter at the cap too, over half of the pause."""
    assert pauses(*[life] * 100, share=1.0)[-1] == longest
    assert pauses(*[life] * 100, share=0.0)[-1] == longest / 2


def test_a_broker_that_lets_its_callers_wait_makes_no_life_a_long_one() -> None:
    """Who waited a minute for an answer is not started again at once."""
    assert pauses(*[Life(seconds=60.0, away="no answer")] * 3) == [1.0, 2.0, 4.0]


def test_who_lived_is_replaced_at_once() -> None:
    """The first crash after a long life, or after the broker was away, waits a tenth of a second."""
    assert pauses(SHORT, SHORT, SHORT, LONG) == [0.1, 0.2, 0.4, 0.1]
    assert pauses(AWAY, AWAY, SHORT, AWAY) == [1.0, 2.0, 0.1, 1.0]


def test_deaths_by_messages_are_followed_soon() -> None:
    """Each leaves fewer messages that kill."""
    assert pauses(*[BY_A_MESSAGE] * 5) == [0.1, 0.2, 0.4, 0.4, 0.4]
