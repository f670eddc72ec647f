"""What operators are shown of sagas: a list's line, and one instance as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redrive.sagas.deeds import standing
from redrive.sagas.journal import Cause, Deed, Fact, Journal, Problem, StepRecord, Undo


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaView:
    """One instance in a list."""

    queue: str
    id: str
    version: int
    state: str
    """`running`, `waiting`, `undoing`, `completed`, `undone` or `stuck`."""
    parked_for: str | None
    """The dependency that it waits for, whatever its state."""
    doing: str
    """What it does or waits for, in a few words; empty when it has ended."""
    steps: int
    """How many were begun."""
    began_at_ms: int
    changed_at_ms: int
    deadline_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaPage:
    """Some of the instances, by queue and id."""

    sagas: tuple[SagaView, ...]
    cursor: str | None
    """Where the next page begins; None: this is the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemView:
    """An error, as it was kept."""

    type: str
    text: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoView:
    """The undo of a step."""

    state: str
    """`started`, `done`, `skipped` or `failed`."""
    attempts: int
    began_at_ms: int | None
    ended_at_ms: int | None
    due_at_ms: int | None
    """Before which it is not tried again."""
    error: ProblemView | None
    note: str | None
    """Of the person who skipped it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One call of a step."""

    key: str
    name: str
    call: int
    place: str
    """`module:qualname` of its code."""
    arguments: dict[str, Any]
    state: str
    """`started`, `done`, `rejected` or `unknown`."""
    attempts: int
    began_at_ms: int | None
    """When its first attempt began; None: it never ran."""
    ended_at_ms: int | None
    """When its last attempt ended; None: none has."""
    due_at_ms: int | None
    result: Any
    error: ProblemView | None
    undoable: bool
    undo: UndoView | None
    wants_undo: bool
    """Whether it may have an effect that nobody has undone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactView:
    """A sleep, a wait for a signal, or a time, number or UUID that the function asked for."""

    kind: str
    """`sleep`, `wait`, `now`, `random` or `uuid`."""
    name: str
    """Of the signal; else empty."""
    call: int
    value: Any
    after: int
    """How many steps had been called before it."""
    at_ms: int
    due_at_ms: int | None
    over_at_ms: int | None
    over: bool
    timed_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseView:
    """Why an instance is undone, or stuck."""

    reason: str
    at_ms: int
    step: str | None
    """The step's key."""
    error: ProblemView | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeedView:
    """What an operator did."""

    what: str
    by: str
    at_ms: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerView:
    """The turn that works on an instance."""

    worker: str
    message_id: str
    until_ms: int
    """When another may take over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceView:
    """One instance, as its journal has it."""

    summary: SagaView
    input: Any
    result: Any
    group: str | None
    sent_at_ms: int
    beyond_return: bool
    owner: OwnerView | None
    parked_at_ms: int | None
    due_at_ms: int | None
    """When a wake-up is sent to it unless one comes before; None: never."""
    cancelled: DeedView | None
    cause: CauseView | None
    """Why it is undone."""
    stuck: CauseView | None
    stuck_while: str | None
    """What it goes on with: `running` or `undoing`."""
    steps: tuple[StepView, ...]
    """In the order in which they began; undo goes through them backwards."""
    facts: tuple[FactView, ...]
    signals: tuple[str, ...]
    """Names of the signals that came and that it has not taken."""
    deeds: tuple[DeedView, ...]


def saga_view(journal: Journal) -> SagaView:
    """A journal as a line in a list."""
    return SagaView(
        queue=journal.saga,
        id=journal.id,
        version=journal.version,
        state=journal.state.value,
        parked_for=journal.parked_for,
        doing=standing(journal),
        steps=sum(1 for one in journal.steps if one.began_at_ms),
        began_at_ms=journal.began_at_ms,
        changed_at_ms=journal.changed_at_ms,
        deadline_ms=journal.deadline_ms,
    )


def instance_view(journal: Journal, signals: tuple[str, ...] = ()) -> InstanceView:
    """A journal as a whole."""
    owner = journal.owner
    return InstanceView(
        summary=saga_view(journal),
        input=journal.input,
        result=journal.result,
        group=journal.group,
        sent_at_ms=journal.sent_at_ms,
        beyond_return=journal.beyond_return,
        owner=None
        if owner is None
        else OwnerView(worker=owner.worker, message_id=owner.message_id, until_ms=owner.until_ms),
        parked_at_ms=journal.parked_at_ms,
        due_at_ms=journal.due_at_ms(),
        cancelled=None if journal.cancelled is None else _deed(journal.cancelled),
        cause=_cause(journal.cause),
        stuck=_cause(journal.stuck),
        stuck_while=None if journal.stuck_while is None else journal.stuck_while.value,
        steps=tuple(_step(one, journal.key_of(one)) for one in journal.steps),
        facts=tuple(map(_fact, journal.facts)),
        signals=signals,
        deeds=tuple(map(_deed, journal.deeds)),
    )


def _step(step: StepRecord, key: str) -> StepView:
    return StepView(
        key=key,
        name=step.name,
        call=step.call,
        place=step.place,
        arguments=step.arguments,
        state=step.state.value,
        attempts=step.attempts,
        began_at_ms=step.began_at_ms or None,
        ended_at_ms=step.ended_at_ms,
        due_at_ms=step.due_at_ms,
        result=step.result,
        error=_problem(step.error),
        undoable=step.undoable,
        undo=None if step.undo is None else _undo(step.undo),
        wants_undo=step.wants_undo,
    )


def _undo(undo: Undo) -> UndoView:
    return UndoView(
        state=undo.state.value,
        attempts=undo.attempts,
        began_at_ms=undo.since_ms or None,
        ended_at_ms=undo.ended_at_ms,
        due_at_ms=undo.due_at_ms,
        error=_problem(undo.error),
        note=undo.note,
    )


def _fact(fact: Fact) -> FactView:
    return FactView(
        kind=fact.kind,
        name=fact.name,
        call=fact.call,
        value=fact.value["value"] if fact.kind == "wait" and fact.value else fact.value,
        after=fact.after,
        at_ms=fact.at_ms,
        due_at_ms=fact.due_at_ms,
        over_at_ms=fact.over_at_ms,
        over=fact.over,
        timed_out=fact.timed_out,
    )


def _problem(problem: Problem | None) -> ProblemView | None:
    return None if problem is None else ProblemView(type=problem.type, text=problem.text, at_ms=problem.at_ms)


def _cause(cause: Cause | None) -> CauseView | None:
    if cause is None:
        return None
    return CauseView(reason=cause.reason, at_ms=cause.at_ms, step=cause.step, error=_problem(cause.error))


def _deed(deed: Deed) -> DeedView:
    return DeedView(what=deed.what, by=deed.by, at_ms=deed.at_ms, note=deed.note)
