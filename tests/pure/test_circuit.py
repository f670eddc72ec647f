"""The shared circuit and each worker's own window; invariants by their number in `redrive.circuit`."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from redrive import circuit as rules
from redrive.circuit import CALM_MS, CORROBORATION_MS, Circuit, CircuitPolicy, State, Window
from redrive.errors import DeclarationError, NewerRecord

POLICY = CircuitPolicy(probe_every=60.0)
FORCED = {State.FORCED_OPEN, State.FORCED_CLOSED}
workers = st.sampled_from(["w1", "w2", "w3"])
draws = st.floats(0, 1, exclude_max=True)


class TheCircuit(RuleBasedStateMachine):
    """Whatever workers, canaries and operators do, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_700_000_000_000
        self.circuit = Circuit(changed_at_ms=self.now_ms)
        self.reports: dict[str, int] = {}
        self.failed_probes = 0

    def becomes(self, after: Circuit, *, state: State) -> None:
        """The circuit afterwards; checks invariant 1."""
        before = self.circuit
        if state is before.state and before.generation == after.generation:
            assert after.changed_at_ms == before.changed_at_ms
        else:
            assert after.generation == before.generation + 1
            assert after.changed_at_ms == self.now_ms
            self.reports = {}
        assert after.state is state
        self.circuit = after

    def opens(self, after: Circuit, *, failed_probes: int) -> None:
        self.failed_probes = failed_probes
        self.becomes(after, state=State.OPEN)
        self.check_wait()

    def check_wait(self) -> None:
        """Invariant 3: a quarter of the period, a half, all of it, never longer; a fifth is jitter, at the cap too."""
        assert self.circuit.probe_at_ms is not None
        wait = (self.circuit.probe_at_ms - self.now_ms) / 1000
        longest = min(POLICY.probe_every, POLICY.probe_every * 0.25 * 2**self.failed_probes)
        assert 0.8 * longest - 0.001 <= wait <= longest <= POLICY.probe_every

    @rule(seconds=st.sampled_from([0.001, 1, 9.999, 10, 60, 299.999, 300, 3_600]))
    def time_passes(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)

    @rule(worker=workers, alone=st.booleans(), random=draws)
    def a_worker_reports(self, worker: str, *, alone: bool, random: float) -> None:
        after = rules.report(
            self.circuit, POLICY, worker=worker, alone=alone, reason="Timeout", now_ms=self.now_ms, random=random
        )
        others = [at for name, at in self.reports.items() if name != worker]
        believed = alone or any(self.now_ms - at <= CORROBORATION_MS for at in others)
        if self.circuit.state is not State.CLOSED:
            assert after == self.circuit
        elif believed:
            self.opens(after, failed_probes=self.history())
        else:
            self.reports[worker] = self.now_ms
            self.becomes(after, state=State.CLOSED)
            assert worker in after.reports

    @rule(random=draws)
    def a_canary_failed_while_closed(self, random: float) -> None:
        after = rules.trip(self.circuit, POLICY, owner="w1", reason="canary", now_ms=self.now_ms, random=random)
        if self.circuit.state is State.CLOSED:
            self.opens(after, failed_probes=self.history())
        else:
            assert after == self.circuit

    @rule(random=draws)
    def a_probe_fails(self, random: float) -> None:
        after = rules.probe_failed(self.circuit, POLICY, reason="still down", now_ms=self.now_ms, random=random)
        if self.circuit.state is State.OPEN:
            self.failed_probes += 1
            self.becomes(after, state=State.OPEN)
            self.check_wait()
        else:
            assert after == self.circuit

    @rule()
    def a_probe_passes(self) -> None:
        after = rules.probe_passed(self.circuit, owner="healer", now_ms=self.now_ms)
        if self.circuit.state is State.OPEN:
            self.becomes(after, state=State.HALF_OPEN)
        else:
            assert after == self.circuit

    @rule(ok=st.booleans(), age=st.sampled_from([-1, 0, 0, 0, 1, 5]), random=draws)
    def a_call_ends(self, *, ok: bool, age: int, random: float) -> None:
        """Invariants 1 and 2: one result of this generation ends half-open; one of another changes nothing."""
        generation = self.circuit.generation - age
        if ok:
            after = rules.succeeded(self.circuit, generation=generation, owner="w2", now_ms=self.now_ms)
        else:
            after = rules.failed(
                self.circuit,
                POLICY,
                generation=generation,
                owner="w2",
                reason="Timeout",
                now_ms=self.now_ms,
                random=random,
            )
        if self.circuit.state is not State.HALF_OPEN or age != 0:
            assert after == self.circuit
        elif ok:
            self.becomes(after, state=State.CLOSED)
        else:
            self.opens(after, failed_probes=self.failed_probes + 1)

    @precondition(lambda self: self.now_ms % 2 == 0)
    @rule(state=st.sampled_from(sorted(FORCED)), minutes=st.none() | st.integers(1, 60))
    def an_operator_holds_it(self, state: State, minutes: int | None) -> None:
        until = None if minutes is None else self.now_ms + minutes * 60_000
        after = rules.forced(self.circuit, state, owner="ops", reason="drill", now_ms=self.now_ms, until_ms=until)
        assert after.generation == self.circuit.generation + 1
        self.becomes(after, state=state)
        assert after.until_ms == until

    @rule(random=draws)
    def an_operator_lets_go(self, random: float) -> None:
        after = rules.automatic(self.circuit, POLICY, owner="ops", now_ms=self.now_ms, random=random)
        if self.circuit.state is State.FORCED_OPEN:
            self.opens(after, failed_probes=0)
        elif self.circuit.state is State.FORCED_CLOSED:
            self.becomes(after, state=State.CLOSED)
        else:
            assert after == self.circuit

    def history(self) -> int:
        """Invariant 3: failed probes are forgotten after five minutes closed, and not sooner."""
        return 0 if self.now_ms - self.circuit.changed_at_ms >= CALM_MS else self.failed_probes

    @invariant()
    def a_probe_is_due_exactly_while_open(self) -> None:
        assert (self.circuit.probe_at_ms is not None) == (self.circuit.state is State.OPEN)

    @invariant()
    def calls_pass_exactly_while_closed(self) -> None:
        assert self.circuit.passes == (self.circuit.state in {State.CLOSED, State.FORCED_CLOSED})

    @invariant()
    def only_a_forced_state_ends_by_itself(self) -> None:
        assert self.circuit.until_ms is None or self.circuit.state in FORCED

    @invariant()
    def it_is_stored_whole(self) -> None:
        assert Circuit.from_json(self.circuit.to_json()) == self.circuit


def test_the_circuit_keeps_its_invariants() -> None:
    """Thousands of steps, other ones each time."""
    run_state_machine_as_test(TheCircuit, settings=settings(max_examples=100, stateful_step_count=40, deadline=None))


@pytest.mark.parametrize("age", [-1, 0, 1, 2])
def test_results_of_another_generation_change_nothing(age: int) -> None:
    """A call that began before the circuit opened says nothing about today (invariant 1)."""
    opened = rules.trip(Circuit(generation=5), POLICY, owner="w", reason="r", now_ms=1, random=0.5)
    half_open = rules.probe_passed(opened, owner="h", now_ms=2)
    generation = half_open.generation - age
    good = rules.succeeded(half_open, generation=generation, owner="w", now_ms=3)
    bad = rules.failed(half_open, POLICY, generation=generation, owner="w", reason="r", now_ms=3, random=0.5)
    if age:
        assert good == bad == half_open
    else:
        assert (good.state, bad.state) == (State.CLOSED, State.OPEN)


def test_two_reports_within_ten_seconds_open_it() -> None:
    """One worker alone may be mistaken; the eleventh second is too late."""

    def reported(circuit: Circuit, worker: str, at_ms: int) -> Circuit:
        return rules.report(circuit, POLICY, worker=worker, alone=False, reason="Timeout", now_ms=at_ms, random=0.5)

    once = reported(Circuit(), "w1", 1_000_000)
    assert once.state is State.CLOSED
    assert reported(once, "w1", 1_000_001).state is State.CLOSED
    assert reported(once, "w2", 1_010_000).state is State.OPEN
    late = reported(once, "w2", 1_010_001)
    assert late.state is State.CLOSED
    assert set(late.reports) == {"w2"}


def test_probes_are_further_and_further_apart() -> None:
    """Up to the canary's period; a new outage within five minutes goes on where the last one was."""
    circuit = rules.trip(Circuit(), POLICY, owner="w", reason="r", now_ms=10_000_000, random=0.999)
    waits = []
    for _ in range(5):
        assert circuit.probe_at_ms is not None
        waits.append((circuit.probe_at_ms - 10_000_000) / 1000)
        circuit = rules.probe_failed(circuit, POLICY, reason="r", now_ms=10_000_000, random=0.999)
    assert waits == pytest.approx([15, 30, 60, 60, 60], rel=0.01)
    half_open = rules.probe_passed(circuit, owner="h", now_ms=10_000_000)
    closed = rules.succeeded(half_open, generation=half_open.generation, owner="w", now_ms=10_000_000)
    soon = rules.trip(closed, POLICY, owner="w", reason="r", now_ms=10_000_000 + CALM_MS - 1, random=0.0)
    later = rules.trip(closed, POLICY, owner="w", reason="r", now_ms=10_000_000 + CALM_MS, random=0.0)
    assert soon.failed_probes == circuit.failed_probes
    assert later.failed_probes == 0


def test_a_newer_circuit_is_left_to_newer_workers() -> None:
    """It is not guessed at."""
    document = {**json.loads(Circuit().to_json()), "v": 2, "mood": "odd"}
    with pytest.raises(NewerRecord, match="circuit"):
        Circuit.from_json(json.dumps(document).encode())


@pytest.mark.parametrize(
    "setting",
    [
        {"trip_after": 0},
        {"failure_ratio": 0.0},
        {"failure_ratio": 1.01},
        {"failure_ratio": float("nan")},
        {"minimum_calls": 0},
        {"window": 0.0},
        {"probe_every": -1.0},
        {"probe_every": float("nan")},
    ],
    ids=str,
)
def test_impossible_policies_are_refused(setting: dict[str, float]) -> None:
    """By the name of the setting."""
    with pytest.raises(DeclarationError, match=next(iter(setting))):
        CircuitPolicy(**setting)  # type: ignore[arg-type]


# One worker's window


def calls(window: Window, *oks: bool, start: float = 0.0, every: float = 0.1, subject: str | None = None) -> list[bool]:
    return [
        window.record(ok=ok, subject=subject or f"m{start}-{number}", now=start + number * every)
        for number, ok in enumerate(oks)
    ]


def test_failures_in_a_row_trip_it() -> None:
    """Five different messages: the fifth."""
    assert calls(Window(CircuitPolicy()), *[False] * 5) == [False, False, False, False, True]


def test_the_strictest_trips_at_once() -> None:
    """`trip_after=1`."""
    assert calls(Window(CircuitPolicy(trip_after=1)), *[False]) == [True]


def test_a_success_begins_the_row_anew() -> None:
    """Four and four are not five."""
    window = Window(CircuitPolicy(failure_ratio=1.0))
    assert not any(calls(window, *[False] * 4, *[True], *[False] * 4))
    assert window.in_a_row == 4


def test_one_message_is_poison_and_no_outage() -> None:
    """However often it fails, in a row or among the successes of others."""
    window = Window(CircuitPolicy())
    assert not any(calls(window, *[False] * 100, subject="poison"))
    assert window.in_a_row == 1
    window.clear()
    for now in range(50):
        assert not window.record(ok=True, subject=f"good {now}", now=now / 10)
        assert not window.record(ok=False, subject="poison", now=now / 10)


def test_half_of_the_calls_failing_trips_it() -> None:
    """Of ten or more in the window, of different messages; one after the other good and bad is half, too."""
    window = Window(CircuitPolicy())
    assert calls(window, *[True, False] * 5) == [False] * 9 + [True]
    rarer = Window(CircuitPolicy())
    assert not any(calls(rarer, *[True, True, False] * 20))


def test_one_poisonous_message_counts_once_in_the_ratio() -> None:
    """It fails again and again, one other message fails too, and eight are answered: no outage."""
    window = Window(CircuitPolicy())
    told = [window.record(ok=True, subject=f"good-{number}", now=0.0) for number in range(8)]
    told += [window.record(ok=False, subject="poison", now=1.0) for _ in range(20)]
    told.append(window.record(ok=False, subject="another", now=2.0))
    assert not any(told)


def test_too_few_calls_say_nothing() -> None:
    """Nine failures of nine, where a hundred in a row are asked for."""
    assert not any(calls(Window(CircuitPolicy(trip_after=100)), *[False] * 9))


def test_what_is_older_than_the_window_is_forgotten() -> None:
    """Yesterday's failures do not count with today's."""
    window = Window(CircuitPolicy(trip_after=100, window=30.0))
    calls(window, *[False] * 9, start=0.0, every=0.1)
    assert not any(calls(window, *[False] * 9, start=31.0, every=0.1))


def test_a_cleared_window_knows_nothing() -> None:
    """A new generation begins."""
    window = Window(CircuitPolicy())
    calls(window, *[False] * 4)
    window.clear()
    assert window.in_a_row == 0
    assert not any(calls(window, *[False] * 4))


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef"), st.floats(0, 20)), max_size=80))
def test_the_window_counts_like_a_list(steps: list[tuple[bool, str, float]]) -> None:
    """Told anew each time from all calls, the verdict is the same."""
    policy = CircuitPolicy(trip_after=4, window=30.0, minimum_calls=6)
    window, history, now = Window(policy), [], 0.0
    for ok, subject, passed in steps:
        now += passed
        history.append((now, ok, subject))
        row: set[str] = set()
        for _, good, who in reversed(history):
            if good:
                break
            row.add(who)
        recent = [(good, who) for at, good, who in history if at >= now - 30.0]
        failed = len({who for good, who in recent if not good})
        counted = sum(good for good, _ in recent) + failed
        by_ratio = failed > 1 and counted >= 6 and failed / counted >= 0.5
        assert window.record(ok=ok, subject=subject, now=now) == (not ok and (len(row) >= 4 or by_ratio))


def test_jitter_spreads_the_probes_of_many_dependencies() -> None:
    """A hundred circuits that opened together are not probed together."""
    random = Random(1)  # noqa: S311 - repeatable on purpose
    due = {
        rules.trip(Circuit(), POLICY, owner="w", reason="r", now_ms=0, random=random.random()).probe_at_ms
        for _ in range(100)
    }
    assert len(due) > 90


def test_a_forced_circuit_ignores_every_result() -> None:
    """An operator's word stands until an operator, or its time, ends it."""
    for state in FORCED:
        circuit = rules.forced(Circuit(), state, owner="ops", reason="drill", now_ms=5, until_ms=9)
        assert rules.trip(circuit, POLICY, owner="w", reason="r", now_ms=6, random=0.1) == circuit
        assert rules.probe_passed(circuit, owner="w", now_ms=6) == circuit
        assert rules.succeeded(circuit, generation=circuit.generation, owner="w", now_ms=6) == circuit
        assert replace(circuit, until_ms=None).state is state
