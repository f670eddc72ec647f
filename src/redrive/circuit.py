"""When to stop calling a dependency, and when to begin again.

Two values, both without I/O. A `Window` is one worker's own view: the last calls it made. A `Circuit` is what all
workers share: it is kept in the store, and every change of it is a pure function from the old one to the new one.

    closed ──trips──► open ──probe passed──► half-open ──one success──► closed
                       ▲ ▲                        │
                       │ └── probe failed         └──one failure──► open
                       forced open and forced closed are left by an operator only

Invariants:
    1. Every change of state begins a new generation; results of an earlier generation change nothing.
    2. Half-open cannot wedge: it is left by any one result, and permits to try expire (see `Dependency`), so that a
       worker which died with one holds nobody up.
    3. The time between probes grows with each failed probe, never beyond the canary's period, and starts again only
       after five minutes closed.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

from redrive.errors import DeclarationError, NewerRecord

_VERSION = 1
CALM_MS = 300_000
"""How long a circuit must stay closed before its history is forgotten (invariant 3)."""
CORROBORATION_MS = 10_000
"""Two workers that report within this time are believed without asking the canary."""


class State(StrEnum):
    """The states of a circuit."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"
    FORCED_OPEN = "forced-open"
    FORCED_CLOSED = "forced-closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPolicy:
    """When a circuit trips and how often it is probed."""

    trip_after: int = 5
    """Failures in a row, of different messages, that trip it; 1 or more (1 is the strictest)."""
    failure_ratio: float = 0.5
    """Share of failures in the window that trips it, each message's counted once; over 0, at most 1."""
    minimum_calls: int = 10
    """Fewer than this in the window, answers and failed messages together, never trip it by ratio."""
    window: float = 30.0
    """Length of the window, in seconds."""
    probe_every: float = 60.0
    """The longest time between two probes while open, in seconds: the canary's period."""

    def __post_init__(self) -> None:
        for name, good in (
            ("trip_after", self.trip_after >= 1),
            ("failure_ratio", 0 < self.failure_ratio <= 1),
            ("minimum_calls", self.minimum_calls >= 1),
            ("window", self.window > 0),
            ("probe_every", self.probe_every > 0),
        ):
            if not good:
                raise DeclarationError(f"circuit setting {name}={getattr(self, name)!r}", "is out of range", "raise it")


class Window:
    """The last calls of one worker: decides when its own circuit trips."""

    def __init__(self, policy: CircuitPolicy) -> None:
        self._policy = policy
        self._calls: deque[tuple[float, str | None]] = deque()  # when, and whose it was if it failed
        self._failed: Counter[str] = Counter()
        self._answered = 0
        self._row: set[str] = set()

    def record(self, *, ok: bool, subject: str, now: float) -> bool:
        """Count one call; True when the circuit has to trip.

        Args:
            ok: whether the dependency answered.
            subject: whose call it was (a message id): one message failing again and again is poison, not an outage.
            now: seconds of the monotonic clock.
        """
        self._calls.append((now, None if ok else subject))
        self._forget(now)
        if ok:
            self._answered += 1
            self._row.clear()
            return False
        self._row.add(subject)
        self._failed[subject] += 1
        if len(self._row) >= self._policy.trip_after:
            return True
        failed = len(self._failed)  # however often each of them did
        calls = self._answered + failed
        return failed > 1 and calls >= self._policy.minimum_calls and failed / calls >= self._policy.failure_ratio

    @property
    def in_a_row(self) -> int:
        """Subjects that failed since the last success."""
        return len(self._row)

    def clear(self) -> None:
        """Forget everything: a new generation begins."""
        self._calls.clear()
        self._row.clear()
        self._failed.clear()
        self._answered = 0

    def _forget(self, now: float) -> None:
        while self._calls and self._calls[0][0] < now - self._policy.window:
            subject = self._calls.popleft()[1]
            if subject is None:
                self._answered -= 1
            else:
                self._failed[subject] -= 1
                if not self._failed[subject]:
                    del self._failed[subject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """The shared circuit of one dependency."""

    state: State = State.CLOSED
    generation: int = 0
    """Rises with every change of state (invariant 1)."""
    changed_at_ms: int = 0
    """When the state last changed."""
    probe_at_ms: int | None = None
    """When the next probe is due; set exactly while open."""
    failed_probes: int = 0
    """Probes failed since it last was calm."""
    reason: str = ""
    """Why it is in this state, for people: the last error's type, or the operator's words."""
    owner: str = ""
    """Who changed it last: a worker, or an operator."""
    until_ms: int | None = None
    """When a forced state ends by itself; None: only an operator ends it."""
    reports: dict[str, int] = field(default_factory=dict)
    """Workers whose own circuit tripped while this one was closed, and when, in ms."""

    @property
    def passes(self) -> bool:
        """Whether calls may go through freely."""
        return self.state in {State.CLOSED, State.FORCED_CLOSED}

    def to_json(self) -> bytes:
        """The stored form."""
        return json.dumps({"v": _VERSION, **asdict(self)}).encode("ascii")

    @classmethod
    def from_json(cls, value: bytes) -> Circuit:
        """Read the stored form.

        Raises:
            NewerRecord: If a later version of redrive wrote it.
        """
        document = json.loads(value)
        version = document.pop("v")
        if version > _VERSION:
            raise NewerRecord("circuit", version, _VERSION)
        return cls(**{**document, "state": State(document["state"])})


def report(
    circuit: Circuit, policy: CircuitPolicy, *, worker: str, alone: bool, reason: str, now_ms: int, random: float
) -> Circuit:
    """One worker's own circuit tripped: note it, and open when it is alone or another said so within ten seconds."""
    if circuit.state is not State.CLOSED:
        return circuit
    fresh = {name: at for name, at in circuit.reports.items() if now_ms - at <= CORROBORATION_MS}
    if alone or any(name != worker for name in fresh):
        return trip(circuit, policy, owner=worker, reason=reason, now_ms=now_ms, random=random)
    return replace(circuit, reports={**fresh, worker: now_ms})


def trip(circuit: Circuit, policy: CircuitPolicy, *, owner: str, reason: str, now_ms: int, random: float) -> Circuit:
    """Open a closed circuit: its worker is believed, or its canary failed too."""
    if circuit.state is not State.CLOSED:
        return circuit
    calm = now_ms - circuit.changed_at_ms >= CALM_MS
    failed_probes = 0 if calm else circuit.failed_probes
    return _opened(circuit, policy, failed_probes, owner=owner, reason=reason, now_ms=now_ms, random=random)


def probing(circuit: Circuit, *, until_ms: int) -> Circuit:
    """One leader asks the canary now: for as long as that may take, no other one does."""
    return circuit if circuit.state is not State.OPEN else replace(circuit, probe_at_ms=until_ms)


def probe_failed(circuit: Circuit, policy: CircuitPolicy, *, reason: str, now_ms: int, random: float) -> Circuit:
    """The canary failed while open: wait longer for the next one."""
    if circuit.state is not State.OPEN:
        return circuit
    failed_probes = circuit.failed_probes + 1
    wait_ms = _wait_ms(policy, failed_probes, random)
    return replace(circuit, failed_probes=failed_probes, probe_at_ms=now_ms + wait_ms, reason=reason)


def probe_passed(circuit: Circuit, *, owner: str, now_ms: int, reason: str = "the canary passed") -> Circuit:
    """The canary passed, or there is none and it is time to try: let one real message through."""
    if circuit.state is not State.OPEN:
        return circuit
    return _changed(circuit, State.HALF_OPEN, owner=owner, reason=reason, now_ms=now_ms)


def succeeded(
    circuit: Circuit, *, generation: int, owner: str, now_ms: int, reason: str = "a call succeeded"
) -> Circuit:
    """A real call of this generation succeeded: half-open closes."""
    if circuit.state is not State.HALF_OPEN or circuit.generation != generation:
        return circuit
    return _changed(circuit, State.CLOSED, owner=owner, reason=reason, now_ms=now_ms)


def failed(
    circuit: Circuit, policy: CircuitPolicy, *, generation: int, owner: str, reason: str, now_ms: int, random: float
) -> Circuit:
    """A real call of this generation failed: half-open opens again, for longer."""
    if circuit.state is not State.HALF_OPEN or circuit.generation != generation:
        return circuit
    return _opened(circuit, policy, circuit.failed_probes + 1, owner=owner, reason=reason, now_ms=now_ms, random=random)


def forced(circuit: Circuit, state: State, *, owner: str, reason: str, now_ms: int, until_ms: int | None) -> Circuit:
    """An operator holds the circuit open or closed."""
    return replace(_changed(circuit, state, owner=owner, reason=reason, now_ms=now_ms), until_ms=until_ms)


def automatic(circuit: Circuit, policy: CircuitPolicy, *, owner: str, now_ms: int, random: float) -> Circuit:
    """An operator, or the end of the forced time, gives it back: open stays open until a probe, closed stays closed."""
    if circuit.state is State.FORCED_OPEN:
        return _opened(circuit, policy, 0, owner=owner, reason="no longer forced", now_ms=now_ms, random=random)
    if circuit.state is State.FORCED_CLOSED:
        return _changed(circuit, State.CLOSED, owner=owner, reason="no longer forced", now_ms=now_ms)
    return circuit


def _opened(
    circuit: Circuit,
    policy: CircuitPolicy,
    failed_probes: int,
    *,
    owner: str,
    reason: str,
    now_ms: int,
    random: float,
) -> Circuit:
    changed = _changed(circuit, State.OPEN, owner=owner, reason=reason, now_ms=now_ms)
    return replace(changed, failed_probes=failed_probes, probe_at_ms=now_ms + _wait_ms(policy, failed_probes, random))


def _changed(circuit: Circuit, state: State, *, owner: str, reason: str, now_ms: int) -> Circuit:
    return Circuit(
        state=state,
        generation=circuit.generation + 1,
        changed_at_ms=now_ms,
        failed_probes=circuit.failed_probes,
        reason=reason,
        owner=owner,
    )


def _wait_ms(policy: CircuitPolicy, failed_probes: int, random: float) -> int:
    """A quarter of the period at first, doubling up to the period; a fifth of it is jitter, at the cap too."""
    longest = policy.probe_every * min(1.0, 0.25 * 2.0 ** min(failed_probes, 8))
    return max(1, int(longest * (0.8 + 0.2 * random) * 1000))
