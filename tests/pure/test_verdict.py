"""What becomes of a message: every way a turn can end, with every counter at its limit and beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.backoff import Backoff
from redrive.message import NOTHING, Notes
from redrive.verdict import Ack, Dead, Happening, Outcome, Park, Policy, Retry, Verdict, decide

POLICY = Policy(max_attempts=3, max_bounces=5, max_crashes=2, backoff=Backoff(first=1.0, maximum=8.0))
NEVER_RETRIED = {Happening.REJECTED, Happening.PAYLOAD, Happening.EXPIRED, Happening.CONFLICT}
counters = st.integers(0, 30)
any_notes = st.builds(Notes, attempts=counters, bounces=counters, crashes=counters, forwards=counters)
any_outcome = st.builds(
    Outcome,
    happening=st.sampled_from(Happening),
    reason=st.text(max_size=20),
    after=st.none() | st.floats(0, 43_200),
    dependency=st.just("payments"),
    circuit_open=st.booleans(),
    counted=st.booleans(),
)
draws = st.floats(0, 1, exclude_max=True)


def decided(happening: Happening, notes: Notes = NOTHING, *, random: float = 0.5, **facts: object) -> Verdict:
    outcome = replace(Outcome(happening=happening, reason="because"), **facts)  # type: ignore[arg-type]
    return decide(outcome, notes, POLICY, random=random)


@given(any_notes)
def test_what_was_handled_leaves(notes: Notes) -> None:
    """Whatever happened to it before."""
    assert decided(Happening.HANDLED, notes) == Ack()


@pytest.mark.parametrize("happening", sorted(NEVER_RETRIED))
def test_what_can_never_succeed_is_dead_at_once(happening: Happening) -> None:
    """At the first turn, with the reason, and nothing is counted."""
    verdict = decided(happening)
    assert isinstance(verdict, Dead)
    assert verdict.notes == NOTHING
    assert verdict.reason.endswith(": because")
    assert not verdict.reason.startswith(":")


@pytest.mark.parametrize("happening", [Happening.RAISED, Happening.TIMEOUT])
@pytest.mark.parametrize(("attempts", "dead"), [(0, False), (1, False), (2, True), (3, True), (9, True)])
def test_attempts(happening: Happening, attempts: int, *, dead: bool) -> None:
    """The handler's own exceptions count; the third of three is the last."""
    verdict = decided(happening, Notes(attempts=attempts, bounces=1, crashes=1))
    counted = Notes(attempts=attempts + 1, bounces=1, crashes=1)
    if dead:
        assert verdict == Dead(reason=f"{attempts + 1} of 3 attempts: because", notes=counted)
    else:
        assert verdict == Retry(delay=0.5 * 2**attempts, notes=counted)


@pytest.mark.parametrize(("crashes", "dead"), [(0, False), (1, True), (2, True)])
def test_crashes(crashes: int, *, dead: bool) -> None:
    """Turns that took their worker down count for themselves."""
    verdict = decided(Happening.CRASHED, Notes(attempts=2, crashes=crashes))
    counted = Notes(attempts=2, crashes=crashes + 1)
    if dead:
        assert verdict == Dead(reason=f"{crashes + 1} of 2 crashes: because", notes=counted)
    else:
        assert verdict == Retry(delay=0.5, notes=counted)


@pytest.mark.parametrize(("bounces", "dead"), [(0, False), (3, False), (4, True), (5, True)])
@pytest.mark.parametrize("circuit_open", [False, True])
def test_bounces(bounces: int, *, dead: bool, circuit_open: bool) -> None:
    """A call that failed is a bounce; delayed while the circuit is closed, parked when it has just opened."""
    verdict = decided(Happening.UNAVAILABLE, Notes(bounces=bounces), dependency="payments", circuit_open=circuit_open)
    counted = Notes(bounces=bounces + 1)
    if dead:
        assert verdict == Dead(reason=f"{bounces + 1} of 5 bounces: because", notes=counted)
    elif circuit_open:
        assert verdict == Park(dependency="payments", notes=counted)
    else:
        assert verdict == Retry(delay=0.5 * min(8, 2**bounces), notes=counted)


@given(any_notes, draws)
def test_an_open_circuit_parks_and_counts_nothing(notes: Notes, random: float) -> None:
    """Open means park, never dead: not even when the limit was lowered meanwhile and the counter stands over it."""
    verdict = decided(
        Happening.UNAVAILABLE, notes, random=random, dependency="payments", circuit_open=True, counted=False
    )
    assert verdict == Park(dependency="payments", notes=notes)


@given(any_notes, draws)
def test_a_call_that_was_not_let_through_is_no_bounce(notes: Notes, random: float) -> None:
    """Where the message is delayed it is delayed, and nothing is counted."""
    verdict = decided(
        Happening.UNAVAILABLE, notes, random=random, dependency="payments", circuit_open=False, counted=False
    )
    assert isinstance(verdict, Retry)
    assert verdict.notes == notes
    assert 0 <= verdict.delay <= 8.0


@pytest.mark.parametrize(("after", "delay"), [(None, 0.5), (0.0, 0.0), (2.5, 2.5), (43_200.0, 43_200.0)])
def test_come_back_later_counts_nothing(after: float | None, delay: float) -> None:
    """After the time that was asked for; without one, the backoff's first."""
    notes = Notes(attempts=2, bounces=4, crashes=1)
    assert decided(Happening.LATER, notes, after=after) == Retry(delay=delay, notes=notes, counted=False)


@given(any_outcome, any_notes, draws)
def test_no_counter_falls_and_at_most_one_rises(outcome: Outcome, notes: Notes, random: float) -> None:
    """By one; forwards, times and record are nobody's business here."""
    verdict = decide(outcome, notes, POLICY, random=random)
    if isinstance(verdict, Ack):
        return
    before = (notes.attempts, notes.bounces, notes.crashes)
    after = (verdict.notes.attempts, verdict.notes.bounces, verdict.notes.crashes)
    risen = [new - old for old, new in zip(before, after, strict=True)]
    assert sorted(risen) in ([0, 0, 0], [0, 0, 1])
    assert replace(verdict.notes, attempts=0, bounces=0, crashes=0) == replace(notes, attempts=0, bounces=0, crashes=0)


@given(any_outcome, any_notes, draws)
def test_a_delay_is_one_that_a_broker_takes(outcome: Outcome, notes: Notes, random: float) -> None:
    """From nothing to twelve hours."""
    verdict = decide(outcome, notes, POLICY, random=random)
    if isinstance(verdict, Retry):
        assert 0 <= verdict.delay <= 43_200


@pytest.mark.parametrize("after", [-1.0, float("nan"), float("inf"), 1e9])
def test_an_odd_wish_is_brought_into_bounds(after: float) -> None:
    """`RetryLater(after=-1)` is no reason to lose a message."""
    verdict = decided(Happening.LATER, after=after)
    assert isinstance(verdict, Retry)
    assert 0 <= verdict.delay <= 43_200


def test_the_broker_s_backstop_is_far_above_ours() -> None:
    """What no worker lives to decide is the broker's, and nothing else is."""
    assert POLICY.backstop == 3 + 2 + 20
    assert Policy(max_attempts=900, max_crashes=900).backstop == 1_000
