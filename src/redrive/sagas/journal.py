"""A saga's journal: the one document from which an instance is continued, undone or shown.

    running ──► completed                    its function returned
     │  ▲ ▲
     │  │ └──► waiting                       for a time or a signal; nobody owns it and no message stands for it
     ▼  │
    undoing ──► undone                       what was done is undone, the last thing first
     ▲  │
     │  ▼
    stuck                                    a person has to look; goes on where it was left

Invariants:
    1. A step or an undo is in the journal as started, with its attempt counted, before its body runs.
    2. `steps` stands in order of start; undo goes through it backwards. What was rejected is passed over.
    3. Attempts only grow. An attempt that nobody saw end has ended as a crash.
    4. A settled instance (completed, undone) is never written again until it expires.

Everything here is a value; nobody reads a clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from redrive.errors import NewerRecord
from redrive.sagas.forms import Form

VERSION = 1
WAKE_AGAIN_MS = 30_000
"""How long a wake-up that was sent has to arrive before another one is."""
LARGEST_RESULT = 32 * 1024
"""The most that one step's result may be, in bytes of JSON."""


class State(StrEnum):
    """Where an instance is."""

    RUNNING = "running"
    WAITING = "waiting"
    UNDOING = "undoing"
    COMPLETED = "completed"
    UNDONE = "undone"
    STUCK = "stuck"


SETTLED = frozenset({State.COMPLETED, State.UNDONE})


class StepState(StrEnum):
    """How a step stands."""

    STARTED = "started"
    """An attempt runs, or will; it may have taken effect."""
    DONE = "done"
    REJECTED = "rejected"
    """A certain no: it has no effect, and is not undone."""
    UNKNOWN = "unknown"
    """Given up on; it may have taken effect, and is undone without a result."""


class UndoState(StrEnum):
    """How the undo of a step stands."""

    STARTED = "started"
    DONE = "done"
    SKIPPED = "skipped"
    """A person said that it is not to be done."""
    FAILED = "failed"
    """Given up on: the instance is stuck here."""


@dataclass(slots=True, kw_only=True)
class Problem:
    """An error, as it is kept."""

    type: str
    text: str
    at_ms: int


@dataclass(slots=True, kw_only=True)
class Undo:
    """The undo of one step."""

    state: UndoState = UndoState.STARTED
    attempts: int = 0
    """Begun so far; the one that runs is counted."""
    since_ms: int = 0
    """When the first attempt began; the policy's patience counts from here, less what was parked."""
    parked_ms: int = 0
    due_at_ms: int | None = None
    """Before which the next attempt does not begin."""
    ended_at_ms: int | None = None
    error: Problem | None = None
    note: str | None = None
    """Of the person who skipped it."""


@dataclass(slots=True, kw_only=True)
class StepRecord:
    """One call of a step."""

    name: str
    call: int
    """The n-th call of this name, from 1."""
    place: str
    """Where its code is: `module:qualname`; finds it again when the saga function is not run."""
    arguments: dict[str, Any]
    """By parameter, as JSON."""
    state: StepState = StepState.STARTED
    attempts: int = 0
    """Begun so far; the one that runs is counted."""
    fence: int = 0
    """Rises with each attempt of it and of its undo, and never falls."""
    began_at_ms: int = 0
    """When its first attempt began; 0: its body never ran, and there is nothing to undo."""
    ended_at_ms: int | None = None
    due_at_ms: int | None = None
    """Before which the next attempt does not begin."""
    result: Any = None
    """As JSON; restored by the step's return annotation."""
    error: Problem | None = None
    """Of the last attempt that failed."""
    passed: bool = False
    """Whether the function went on after it had failed: then it is not tried anew."""
    undoable: bool = True
    """Whether it had an undo when it was begun: code that has none by now cannot undo it."""
    undo: Undo | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state is StepState.STARTED

    @property
    def has_failed(self) -> bool:
        """Whether it ended without a result."""
        return self.state in {StepState.REJECTED, StepState.UNKNOWN}

    @property
    def wants_undo(self) -> bool:
        """Whether there may be an effect that is not yet undone; where the step has no undo, nothing follows."""
        if self.state is StepState.REJECTED or not self.began_at_ms:
            return False
        return self.undo is None or self.undo.state in {UndoState.STARTED, UndoState.FAILED}


@dataclass(slots=True, kw_only=True)
class Fact:
    """Something the function asked for that would be another thing when asked again: a time, a number, a signal."""

    kind: str
    """`now`, `random`, `uuid`, `sleep` or `wait`."""
    name: str
    """Of the signal; else empty."""
    call: int
    """The n-th of this kind and name, from 1."""
    value: Any = None
    due_at_ms: int | None = None
    """When it is over: of a sleep, and of a wait with a timeout."""
    over: bool = True
    """Whether the function may go on: False while it waits."""
    timed_out: bool = False
    after: int = 0
    """How many steps were in the journal when it was noted: its place among them."""
    at_ms: int = 0
    """When it was noted."""
    over_at_ms: int | None = None
    """When a sleep or a wait was over."""


@dataclass(slots=True, kw_only=True)
class Owner:
    """The turn that works on the instance."""

    token: str
    """Its own; nobody else's writes succeed."""
    message_id: str
    """Of the wake-up in its hands: when that is delivered again, its lease ran out and this turn has ended."""
    worker: str
    until_ms: int
    """When another wake-up may take over."""


@dataclass(slots=True, kw_only=True)
class Cause:
    """Why an instance is undone, or stuck."""

    reason: str
    at_ms: int
    step: str | None = None
    """The step's key."""
    error: Problem | None = None


@dataclass(slots=True, kw_only=True)
class Deed:
    """What an operator did."""

    what: str
    by: str
    at_ms: int
    note: str = ""


@dataclass(slots=True, kw_only=True)
class Journal:
    """One instance."""

    saga: str
    """The queue whose saga it is."""
    id: str
    version: int
    """Of the saga function that it began with, and keeps."""
    state: State = State.RUNNING
    input: Any
    """The payload, as JSON."""
    started_with: str
    """Hash of the payload that it was started with; another payload under the same id is a conflict."""
    group: str | None = None
    sent_at_ms: int
    began_at_ms: int
    changed_at_ms: int = 0
    deadline_ms: int | None = None
    """When what is left is given up and undone; None: never."""
    beyond_return: bool = False
    """Whether the point of no return was passed: from there it only goes forward."""
    steps: list[StepRecord] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    owner: Owner | None = None
    parked_for: str | None = None
    """The dependency that its wake-up waits for."""
    parked_at_ms: int | None = None
    wake_at_ms: int | None = None
    """When what it waits for is over: a sleep, a wait's timeout, a long pause before another try."""
    woken_at_ms: int | None = None
    """When a wake-up was last sent to it; none follows for a while."""
    cancelled: Deed | None = None
    cause: Cause | None = None
    """Why it is undone."""
    stuck: Cause | None = None
    stuck_while: State | None = None
    """What it goes on with when a person says so."""
    letter: str | None = None
    """The id of the message that is its dead letter, or will be."""
    result: Any = None
    unsent: list[Any] = field(default_factory=list)
    """Messages that steps have sent, on their way out: as `redrive.unsent` writes them."""
    deeds: list[Deed] = field(default_factory=list)

    @property
    def is_settled(self) -> bool:
        """Whether it has ended."""
        return self.state in SETTLED

    def key_of(self, step: StepRecord) -> str:
        """The idempotency key of a step: the same after every retry and crash."""
        return f"{self.id}/{step.name}/{step.call}"

    def step(self, name: str, call: int) -> StepRecord | None:
        """The n-th call of a step, if it was started."""
        return next((one for one in self.steps if one.name == name and one.call == call), None)

    def fact(self, kind: str, name: str, call: int) -> Fact | None:
        """The n-th fact of a kind and name, if it was noted."""
        return next((one for one in self.facts if (one.kind, one.name, one.call) == (kind, name, call)), None)

    def to_undo(self) -> Iterator[StepRecord]:
        """What is left to undo, in the order in which it has to be done (invariant 2)."""
        return (one for one in reversed(self.steps) if one.wants_undo)

    def due_at_ms(self) -> int | None:
        """When somebody has to be woken if nobody comes by himself; None: never."""
        if self.is_settled or self.state is State.STUCK:
            return None
        times = [self.deadline_ms if self.may_be_undone else None]
        if self.cancelled is not None and self.is_called_off:
            times.append(self.cancelled.at_ms)
        if self.parked_for is None:
            times.append(self.wake_at_ms)
            if self.owner is not None:
                times = [self.owner.until_ms]  # its own turn sees to the rest
        first = min((one for one in times if one is not None), default=None)
        if first is None or self.woken_at_ms is None:
            return first
        return max(first, self.woken_at_ms + WAKE_AGAIN_MS)

    @property
    def may_be_undone(self) -> bool:
        """Whether a deadline or an operator can still have it undone."""
        return self.state in {State.RUNNING, State.WAITING} and not self.beyond_return

    def is_over_at(self, now_ms: int) -> bool:
        """Whether its deadline has passed, and counts."""
        return self.may_be_undone and self.deadline_ms is not None and self.deadline_ms <= now_ms

    @property
    def is_called_off(self) -> bool:
        """Whether an operator cancelled it, and that counts."""
        return self.may_be_undone and self.cancelled is not None

    def is_anothers(self, message_id: str, now_ms: int) -> bool:
        """Whether another wake-up than this one stands for it: a turn has it in hand, or it is parked."""
        if self.owner is None or self.owner.message_id == message_id:
            return False
        if self.parked_for is not None:
            return not (self.is_over_at(now_ms) or self.is_called_off)
        return self.owner.until_ms > now_ms

    def goes_on(self) -> None:
        """The function does something new: what had failed before, it knows of."""
        for one in self.steps:
            one.passed = one.passed or one.has_failed

    def unpark(self, now_ms: int) -> None:
        """Its wake-up is back. The patience of its undo does not run while it is parked."""
        if self.parked_at_ms is not None:
            for one in self.steps:
                if one.undo is not None and one.undo.state is UndoState.STARTED and one.undo.since_ms:
                    one.undo.parked_ms += max(0, now_ms - self.parked_at_ms)
        self.parked_for = self.parked_at_ms = None

    def undo_from_here(self, cause: Cause) -> None:
        """From now on what was done is undone."""
        self.state, self.cause = State.UNDOING, cause

    def stick(self, cause: Cause) -> None:
        """A person has to look."""
        if self.state is not State.STUCK:
            self.stuck_while = State.UNDOING if self.state is State.UNDOING else State.RUNNING
        self.letter = self.letter if self.owner is None else self.owner.message_id
        self.state, self.stuck, self.owner = State.STUCK, cause, None

    def go_on(self) -> None:
        """Where it was stuck, with its tries anew."""
        self.state, self.stuck, self.stuck_while = self.stuck_while or State.RUNNING, None, None
        self.letter = None
        for one in self.steps:
            if one.undo is not None and one.undo.state is UndoState.FAILED:
                one.undo.state, one.undo.since_ms, one.undo.due_at_ms = UndoState.STARTED, 0, None
            if one.has_failed and not one.passed and self.beyond_return and self.state is State.RUNNING:
                one.state, one.attempts, one.due_at_ms = StepState.STARTED, 0, None

    def begin(self, step: StepRecord, now_ms: int) -> None:
        """Count an attempt; the first one puts the step at the end of those begun (invariant 2)."""
        if not step.began_at_ms:
            step.began_at_ms = now_ms
            self.steps.remove(step)
            self.steps.append(step)
        step.attempts, step.fence, step.due_at_ms = step.attempts + 1, step.fence + 1, None

    def to_json(self) -> bytes:
        """The stored form."""
        # a signal or an error's text may have half a character; json.loads takes it back
        return _ENCODE({"v": VERSION, **_JOURNAL.written(self)}).encode(errors="surrogatepass")

    @classmethod
    def from_json(cls, value: bytes) -> Journal:
        """Read the stored form.

        Raises:
            NewerRecord: If a later version of redrive wrote it.
        """
        document = json.loads(value)
        if (found := document.pop("v")) > VERSION:
            raise NewerRecord("saga journal", found, VERSION)
        return _JOURNAL.read(document)


_PROBLEM, _OWNER, _DEED, _FACT = Form(Problem), Form(Owner), Form(Deed), Form(Fact)
_UNDO = Form(Undo, one={"error": _PROBLEM}, plain={"state": UndoState})
_CAUSE = Form(Cause, one={"error": _PROBLEM})
_STEP = Form(StepRecord, one={"error": _PROBLEM, "undo": _UNDO}, plain={"state": StepState})
_JOURNAL = Form(
    Journal,
    one={"owner": _OWNER, "cancelled": _DEED, "cause": _CAUSE, "stuck": _CAUSE},
    many={"steps": _STEP, "facts": _FACT, "deeds": _DEED},
    plain={"state": State, "stuck_while": State},
)
_ENCODE = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
