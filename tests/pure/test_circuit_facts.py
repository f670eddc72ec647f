"""What a circuit tells people: who changed it, when and why; and the edges of what may be set."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from redrive import circuit as circuits
from redrive.backoff import Backoff
from redrive.circuit import Circuit, CircuitPolicy, State, Window
from redrive.errors import DeclarationError, NewerRecord

POLICY = CircuitPolicy(probe_every=60.0)
OPEN = Circuit(
    state=State.OPEN, generation=4, changed_at_ms=10, probe_at_ms=20, failed_probes=1, reason="before", owner="earlier"
)
CLOSED = Circuit(state=State.CLOSED, generation=4, changed_at_ms=10, failed_probes=1, reason="before", owner="earlier")
HALF_OPEN = replace(OPEN, state=State.HALF_OPEN, probe_at_ms=None)
FORCED_OPEN = replace(HALF_OPEN, state=State.FORCED_OPEN, until_ms=99)
FORCED_CLOSED = replace(HALF_OPEN, state=State.FORCED_CLOSED, until_ms=99)

CHANGES: list[tuple[str, Callable[[], Circuit], State, str]] = [
    (
        "report alone",
        lambda: circuits.report(CLOSED, POLICY, worker="w1", alone=True, reason="Timeout", now_ms=100, random=0.5),
        State.OPEN,
        "Timeout",
    ),
    (
        "trip",
        lambda: circuits.trip(CLOSED, POLICY, owner="w1", reason="Timeout", now_ms=100, random=0.5),
        State.OPEN,
        "Timeout",
    ),
    (
        "probe passed",
        lambda: circuits.probe_passed(OPEN, owner="w1", now_ms=100),
        State.HALF_OPEN,
        "the canary passed",
    ),
    (
        "probe passed for a reason",
        lambda: circuits.probe_passed(OPEN, owner="w1", now_ms=100, reason="time to try"),
        State.HALF_OPEN,
        "time to try",
    ),
    (
        "succeeded",
        lambda: circuits.succeeded(HALF_OPEN, generation=4, owner="w1", now_ms=100),
        State.CLOSED,
        "a call succeeded",
    ),
    (
        "succeeded for a reason",
        lambda: circuits.succeeded(HALF_OPEN, generation=4, owner="w1", now_ms=100, reason="it answered"),
        State.CLOSED,
        "it answered",
    ),
    (
        "failed",
        lambda: circuits.failed(HALF_OPEN, POLICY, generation=4, owner="w1", reason="Timeout", now_ms=100, random=0.5),
        State.OPEN,
        "Timeout",
    ),
    (
        "forced",
        lambda: circuits.forced(CLOSED, State.FORCED_OPEN, owner="w1", reason="works", now_ms=100, until_ms=900),
        State.FORCED_OPEN,
        "works",
    ),
    (
        "no longer forced open",
        lambda: circuits.automatic(FORCED_OPEN, POLICY, owner="w1", now_ms=100, random=0.5),
        State.OPEN,
        "no longer forced",
    ),
    (
        "no longer forced closed",
        lambda: circuits.automatic(FORCED_CLOSED, POLICY, owner="w1", now_ms=100, random=0.5),
        State.CLOSED,
        "no longer forced",
    ),
]


@pytest.mark.parametrize(("change", "state", "reason"), [one[1:] for one in CHANGES], ids=[one[0] for one in CHANGES])
def test_every_change_tells_who_when_and_why(change: Callable[[], Circuit], state: State, reason: str) -> None:
    """And begins the next generation (invariant 1)."""
    changed = change()
    assert (changed.state, changed.generation) == (state, 5)
    assert (changed.owner, changed.changed_at_ms, changed.reason) == ("w1", 100, reason)
    assert changed.until_ms == (900 if state is State.FORCED_OPEN else None)
    assert (changed.probe_at_ms is not None) is (state is State.OPEN)


def test_a_failed_probe_tells_why_and_changes_nobody() -> None:
    """The circuit is as open as before: only the next probe is later."""
    failed = circuits.probe_failed(OPEN, POLICY, reason="still down", now_ms=100, random=1.0)
    assert failed == replace(OPEN, failed_probes=2, reason="still down", probe_at_ms=100 + 60_000)


def test_a_leader_that_probes_keeps_the_others_away_for_as_long() -> None:
    """Only while the circuit is open; nothing else changes."""
    assert circuits.probing(OPEN, until_ms=77) == replace(OPEN, probe_at_ms=77)
    for other in (CLOSED, HALF_OPEN, FORCED_OPEN, FORCED_CLOSED):
        assert circuits.probing(other, until_ms=77) is other


@pytest.mark.parametrize(("failed_probes", "quarters"), [(0, 1), (1, 2), (2, 4), (3, 4), (8, 4), (10_000, 4)], ids=str)
def test_the_wait_for_a_probe_doubles_up_to_the_period(failed_probes: int, quarters: int) -> None:
    """From a quarter of it; a fifth of the wait is jitter, at the cap too (invariant 3)."""
    for random, share in ((0.0, 0.8), (0.5, 0.9), (1.0, 1.0)):
        half_open = replace(HALF_OPEN, failed_probes=failed_probes - 1)
        opened = circuits.failed(half_open, POLICY, generation=4, owner="w", reason="r", now_ms=100, random=random)
        assert opened.failed_probes == failed_probes
        assert opened.probe_at_ms == 100 + int(quarters * 15_000 * share)


def test_a_probe_is_never_due_before_the_next_millisecond() -> None:
    """However short the period is."""
    policy = CircuitPolicy(probe_every=0.001)
    assert circuits.trip(CLOSED, policy, owner="w", reason="r", now_ms=100, random=0.0).probe_at_ms == 101


@pytest.mark.parametrize(
    "settings",
    [
        {"trip_after": 1},
        {"failure_ratio": 1.0},
        {"failure_ratio": 0.001},
        {"minimum_calls": 1},
        {"window": 0.5},
        {"probe_every": 0.5},
    ],
    ids=str,
)
def test_a_policy_may_be_as_strict_as_it_likes(settings: dict[str, float]) -> None:
    """Each of these is allowed."""
    for name, value in settings.items():
        assert getattr(CircuitPolicy(**settings), name) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: CircuitPolicy(trip_after=0), "circuit setting trip_after=0 is out of range; raise it"),
        (lambda: CircuitPolicy(probe_every=0.0), "circuit setting probe_every=0.0 is out of range; raise it"),
        (
            lambda: Backoff(first=2.0, maximum=1.0),
            "Backoff(first=2.0, maximum=1.0) is out of range; use 0 < first <= maximum <= 43200",
        ),
        (lambda: Backoff(factor=0.5), "Backoff(factor=0.5) shrinks; use a factor of 1 or more"),
    ],
)
def test_a_setting_that_cannot_be_is_told(make: Callable[[], object], sentence: str) -> None:
    """With its value and what to do."""
    with pytest.raises(DeclarationError) as caught:
        make()
    assert str(caught.value) == sentence


def test_a_newer_circuit_says_how_new() -> None:
    """And what this redrive knows."""
    written = json.loads(OPEN.to_json()) | {"v": 9}
    with pytest.raises(NewerRecord, match="circuit has version 9, and this redrive knows 1"):
        Circuit.from_json(json.dumps(written).encode())


# The window


def test_one_failed_message_is_no_ratio() -> None:
    """Two different ones are, when there were calls enough."""
    policy = CircuitPolicy(trip_after=100, minimum_calls=2, failure_ratio=0.5)
    window = Window(policy)
    assert not window.record(ok=True, subject="a", now=0.0)
    assert not window.record(ok=False, subject="b", now=0.0)
    assert window.record(ok=False, subject="c", now=0.0)


def test_a_call_as_old_as_the_window_still_counts() -> None:
    """One that is any older does not."""
    policy = CircuitPolicy(trip_after=100, minimum_calls=2, failure_ratio=1.0, window=30.0)
    at_the_edge, beyond = Window(policy), Window(policy)
    for window, now in ((at_the_edge, 30.0), (beyond, 30.001)):
        window.record(ok=False, subject="a", now=0.0)
        assert window.record(ok=False, subject="b", now=now) is (now == 30.0)


def test_a_cleared_window_counts_from_nothing() -> None:
    """Answers of before are not among the calls of the next generation."""
    policy = CircuitPolicy(trip_after=100, minimum_calls=3, failure_ratio=0.1)
    window = Window(policy)
    window.record(ok=True, subject="a", now=0.0)
    window.clear()
    assert not window.record(ok=False, subject="b", now=0.0)
    assert not window.record(ok=False, subject="c", now=0.0)
    assert window.record(ok=False, subject="d", now=0.0)
