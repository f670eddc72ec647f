"""Engine time follows the wall clock, and neither turns back nor jumps."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redrive.clock import LONGEST_REST_MS, ManualClock, SteadyClock, SystemClock, taken_up

START = 1_700_000_000_000
HOUR, YEAR = 3_600_000, 365 * 86_400_000


class TwoClocks:
    """A wall clock that somebody sets, and a monotonic one that nobody can."""

    def __init__(self) -> None:
        self.wall_ms = float(START)
        self.elapsed = 1_000.0

    def now_ms(self) -> int:
        return int(self.wall_ms)

    def monotonic(self) -> float:
        return self.elapsed

    def advance(self, seconds: float) -> None:
        self.wall_ms += seconds * 1000
        self.elapsed += seconds

    def jump(self, ms: float) -> None:
        self.wall_ms += ms


def test_it_follows_the_wall_clock() -> None:
    """Nobody touches anything: it is the wall clock."""
    clocks = TwoClocks()
    steady = SteadyClock(clocks)
    for _ in range(100):
        clocks.advance(0.0373)
        assert steady.now_ms() == clocks.now_ms()
        assert steady.ignored_jump_ms == 0


@pytest.mark.parametrize("jump", [HOUR, -HOUR, YEAR, -YEAR, 100 * YEAR, -50 * YEAR, 60_001, -60_001])
def test_a_jump_is_ignored_while_running(jump: int) -> None:
    """Time goes on at the monotonic clock's pace, and says how far off the wall clock stands."""
    clocks = TwoClocks()
    steady = SteadyClock(clocks)
    clocks.advance(5)
    clocks.jump(jump)
    assert steady.now_ms() == START + 5_000
    assert steady.ignored_jump_ms == jump
    clocks.advance(7)
    assert steady.now_ms() == START + 12_000


@pytest.mark.parametrize("every", [0.0001, 0.0009, 0.0011, 0.0019, 0.05, 1.0])
@pytest.mark.parametrize("jump", [HOUR, -YEAR])
def test_an_ignored_clock_costs_no_time(jump: int, every: float) -> None:
    """However often it is asked, a minute takes a minute: the parts of milliseconds are not lost."""
    clocks = TwoClocks()
    steady = SteadyClock(clocks)
    clocks.jump(jump)
    steps = round(2 / every)
    for _ in range(steps):
        clocks.advance(every)
        steady.now_ms()
    assert steady.now_ms() == pytest.approx(START + steps * every * 1000, abs=2)


def test_a_small_step_forward_is_followed() -> None:
    """A second of correction is what time servers do."""
    clocks = TwoClocks()
    steady = SteadyClock(clocks)
    clocks.jump(1_000)
    assert steady.now_ms() == START + 1_000


def test_a_small_step_back_is_made_up_for_at_half_pace() -> None:
    """Time goes on all the while: after two seconds the wall clock, set back by one, has caught up."""
    clocks = TwoClocks()
    steady = SteadyClock(clocks)
    clocks.advance(1)
    assert steady.now_ms() == START + 1_000
    clocks.jump(-1_000)
    clocks.advance(0.5)
    assert steady.now_ms() == START + 1_250
    clocks.advance(1.0)
    assert steady.now_ms() == START + 1_750
    clocks.advance(0.75)
    assert steady.now_ms() == clocks.now_ms() == START + 2_250


@pytest.mark.parametrize("every", [0.0001, 0.0009, 0.0011, 0.05, 1.0])
def test_half_pace_is_half_pace(every: float) -> None:
    """However often it is asked."""
    clocks = TwoClocks()
    steady = SteadyClock(clocks)
    clocks.jump(-50_000)
    for _ in range(round(2 / every)):
        clocks.advance(every)
        steady.now_ms()
    assert steady.now_ms() == pytest.approx(START + 1_000, abs=2)


def test_a_clock_that_comes_back_is_followed_again() -> None:
    """Somebody corrects the mistake: nothing has happened."""
    clocks = TwoClocks()
    steady = SteadyClock(clocks)
    clocks.jump(HOUR)
    clocks.advance(10)
    steady.now_ms()
    clocks.jump(-HOUR)
    clocks.advance(10)
    assert steady.now_ms() == START + 20_000
    assert steady.ignored_jump_ms == 0


def test_a_restart_lets_the_wall_clock_advance_it_but_not_turn_it_back() -> None:
    """What was stored is the floor."""
    clocks = TwoClocks()
    assert SteadyClock(clocks, floor_ms=START - HOUR).now_ms() == START
    assert SteadyClock(clocks, floor_ms=START + YEAR).now_ms() == START + YEAR
    behind = SteadyClock(clocks, floor_ms=START + YEAR)
    clocks.advance(3)
    assert behind.now_ms() == START + YEAR + 3_000


def test_it_starts_where_it_is_told_unless_it_was_read() -> None:
    """Behind the wall clock too; but nobody who has read it sees it turn back."""
    clocks = TwoClocks()
    steady = SteadyClock(clocks)
    steady.start(START - YEAR)
    clocks.advance(1)
    assert steady.now_ms() == START - YEAR + 1_000
    assert steady.ignored_jump_ms == YEAR
    steady.start(START - 2 * YEAR)
    assert steady.now_ms() == START - YEAR + 1_000
    steady.start(START)
    assert steady.now_ms() == START + 1_000


@pytest.mark.parametrize(
    ("mark", "wall", "running", "taken"),
    [
        pytest.param(0, START, None, (START, 0, 0), id="a new database begins with the wall clock"),
        pytest.param(START, START + HOUR, None, (START + HOUR, HOUR, 0), id="an hour of rest"),
        pytest.param(START, START - HOUR, None, (START, 0, 0), id="never back"),
        pytest.param(START, START - YEAR, None, (START, 0, 0), id="not by a year either"),
        pytest.param(START, START + LONGEST_REST_MS, None, (START + LONGEST_REST_MS, LONGEST_REST_MS, 0), id="a year"),
        pytest.param(START, START + 100 * YEAR, None, (START, 0, 100 * YEAR), id="a century is not believed"),
        pytest.param(START, START + HOUR, START + 7, (START + 7, 0, 0), id="others know better than the wall clock"),
        pytest.param(START, START + HOUR, START - 7, (START, 0, 0), id="and are not behind what is stored"),
        pytest.param(0, START, START + 7, (START + 7, 0, 0), id="others have just made it"),
    ],
)
def test_what_time_it_is_when_a_database_is_opened(
    mark: int, wall: int, running: int | None, taken: tuple[int, int, int]
) -> None:
    """Where it goes on, how long it rested, and how far the wall clock is not believed."""
    assert taken_up(mark_ms=mark, wall_ms=wall, running_ms=running) == taken


def test_it_takes_note_of_another_process() -> None:
    """Nobody is behind what anybody has stored."""
    clocks = TwoClocks()
    steady = SteadyClock(clocks)
    steady.at_least(START + 500)
    assert steady.now_ms() == START + 500
    steady.at_least(START)
    clocks.advance(1)
    assert steady.now_ms() == START + 1_000


@example([("at_least", 5_000.0), ("advance", 5.0), ("jump", 60_002.0)])  # what stood still made up for it in one step
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("advance"), st.floats(0, 100)),
            st.tuples(st.just("jump"), st.integers(-100 * YEAR, 100 * YEAR).map(float)),
            st.tuples(st.just("jump"), st.integers(-70_000, 70_000).map(float)),
            st.tuples(st.just("at_least"), st.integers(-HOUR, HOUR).map(float)),
        ),
        max_size=50,
    )
)
def test_it_never_turns_back_and_never_jumps(steps: list[tuple[str, float]]) -> None:
    """Whatever is done to the wall clock; only another process's time may pull it ahead."""
    clocks = TwoClocks()
    steady = SteadyClock(clocks)
    last = steady.now_ms()
    for what, amount in steps:
        allowed = 60_001.0
        if what == "advance":
            clocks.advance(amount)
            allowed += amount * 1000
        elif what == "jump":
            clocks.jump(amount)
        else:
            steady.at_least(last + int(amount))
            allowed += max(0.0, amount)
        now = steady.now_ms()
        assert last <= now <= last + allowed
        last = now


def test_a_manual_clock_moves_when_it_is_told() -> None:
    """Both of its clocks alike, parts of a millisecond rounded up; never back."""
    clock = ManualClock()
    clock.advance(1.5)
    clock.advance(0.0001)
    assert (clock.now_ms(), clock.monotonic()) == (START + 1_501, 1.501)
    with pytest.raises(ValueError, match="cannot be advanced"):
        clock.advance(-0.001)


def test_the_system_s_clocks_are_milliseconds_and_seconds() -> None:
    """Since 1970, and since whenever."""
    clock = SystemClock()
    assert clock.now_ms() > START
    first = clock.monotonic()
    assert 0 <= clock.monotonic() - first < 60
    assert clock.boot == SystemClock().boot
    assert clock.boot != ""


def test_engine_time_has_the_monotonic_clock_too() -> None:
    """It is a clock like the others."""
    assert SteadyClock(TwoClocks()).monotonic() == 1_000.0
