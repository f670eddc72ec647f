"""What a person does to an instance: a journal and a deed go in, the journal is changed or it is refused.

A deed that has the instance go on makes it due now, as if it had just been woken: should the wake-up that follows the
write be lost, the waker sends another half a minute later. It also takes the instance from whoever had it, who can
write nothing more; where a body may be running, that is refused.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from redrive.errors import NotFound, OperationRefused
from redrive.sagas.journal import Cause, Deed, Journal, State, StepRecord, StepState, Undo, UndoState

RESUME = "resume"
"""The deed that changes an input: from there arguments are not what they were."""
_KEPT = 50
"""How many deeds a journal keeps: the last."""
_SHOWN_OF_INPUT = 2000


def retry(journal: Journal, deed: Deed) -> None:
    """Let a stuck instance go on where it was left, or one that everybody has lost be taken up.

    Raises:
        OperationRefused: If it goes on by itself, or has ended.
    """
    if journal.state is State.STUCK:
        journal.go_on()
    else:
        _refuse_settled(journal)
        if not _is_lost(journal, deed.at_ms):
            problem, remedy = _why_it_waits(journal)
            raise OperationRefused(f"saga {journal.id!r}", problem, remedy)
    _wake(journal, deed)
    note(journal, deed)


def cancel(journal: Journal, deed: Deed) -> bool:
    """Have undone what was done; whether a wake-up has to follow: a turn that has it in hand sees it by itself.

    Raises:
        OperationRefused: If it is past the point of no return, is undone by now, or has ended.
    """
    _refuse_settled(journal)
    _refuse_going_back(journal)
    note(journal, deed)
    if journal.state is State.STUCK:
        journal.go_on()
        journal.undo_from_here(Cause(reason=cancelled_by(deed), at_ms=deed.at_ms))
    else:
        journal.cancelled = deed
        if _is_in_hand(journal, deed.at_ms) and not _only_pauses(journal, deed.at_ms):
            return False
    _wake(journal, deed)
    return True


def skip(journal: Journal, named: str, deed: Deed) -> StepRecord:
    """Leave the effect of one step as it is, and go on with the undo of the others; the step.

    Args:
        journal: of an instance that is being undone, or is stuck at it.
        named: the step: its key, `name/call`, or its name if that says which.
        deed: who, when, and why.

    Raises:
        OperationRefused: If there is nothing to undo there, or an undo may be running now.
    """
    step = step_named(journal, named)
    key = journal.key_of(step)
    _refuse_settled(journal)
    if State.UNDOING not in {journal.state, journal.stuck_while}:
        problem = "is not being undone, and the saga needs its result: only an undo can be skipped"
        remedy = "mend the step and `redrive saga retry`, or undo everything with `redrive saga cancel`"
        raise OperationRefused(f"step {key!r}", problem, remedy)
    if not step.wants_undo:
        raise OperationRefused(f"step {key!r}", _why_nothing_to_undo(step), "see `redrive saga show`")
    if _is_in_hand(journal, deed.at_ms) and not _pauses(journal):
        problem, _ = _why_it_waits(journal)
        raise OperationRefused(f"saga {journal.id!r}", problem, "an undo may be running now: try again in a moment")
    step.undo = step.undo or Undo()
    step.undo.state, step.undo.note, step.undo.ended_at_ms = UndoState.SKIPPED, deed.note, deed.at_ms
    if journal.state is State.STUCK:
        journal.go_on()
    _wake(journal, deed)
    note(journal, deed)
    return step


def resume(journal: Journal, input_: Any, deed: Deed) -> None:  # noqa: ANN401 - JSON
    """Let a stuck instance go on forward with another input; what its steps were given before stays as it is.

    Raises:
        OperationRefused: If it is not stuck, is being undone, or the input is the one that it has.
    """
    if journal.state is not State.STUCK:
        problem, remedy = f"is {journal.state}, not stuck", "the input of an instance that goes on is not changed"
        raise OperationRefused(f"saga {journal.id!r}", problem, remedy)
    if journal.stuck_while is State.UNDOING:
        problem = "is being undone, which does not look at its input"
        raise OperationRefused(
            f"saga {journal.id!r}", problem, "use `redrive saga retry`, or skip the undo that failed"
        )
    if input_ == journal.input:
        raise OperationRefused("the input", "is the one that it has", "use `redrive saga retry`")
    before = json.dumps(journal.input, ensure_ascii=False)[:_SHOWN_OF_INPUT]
    journal.input = input_
    journal.go_on()
    _wake(journal, deed)
    note(journal, replace(deed, note="; ".join(filter(None, (deed.note, f"the input was {before}")))))


def signal(journal: Journal, deed: Deed) -> bool:
    """A signal was left for it; whether it waits, and a wake-up has to follow.

    Raises:
        OperationRefused: If it has ended.
    """
    _refuse_settled(journal)
    note(journal, deed)
    if journal.state is not State.WAITING:
        return False
    _wake(journal, deed)
    return True


def note(journal: Journal, deed: Deed) -> None:
    """Write down who did what; the last fifty are kept."""
    journal.deeds = [*journal.deeds, deed][-_KEPT:]


def cancelled_by(deed: Deed) -> str:
    """Why an instance is undone that a person cancelled."""
    return f"cancelled by {deed.by}" + (f": {deed.note}" if deed.note else "")


def step_named(journal: Journal, named: str) -> StepRecord:
    """The one step of this key, `name/call` or name.

    Raises:
        OperationRefused: If there is none, or more than one.
    """
    found = [one for one in journal.steps if named in {journal.key_of(one), f"{one.name}/{one.call}"}]
    found = found or [one for one in journal.steps if one.name == named]
    if not found:
        known = ", ".join(map(journal.key_of, journal.steps)) or "none yet"
        raise NotFound(f"step {named!r} of saga {journal.id!r}", f"its steps are: {known}")
    if len(found) > 1:
        keys = ", ".join(map(journal.key_of, found))
        raise OperationRefused(f"step {named!r}", f"could be any of {keys}", "give its key")
    return found[0]


def standing(journal: Journal) -> str:
    """What an instance does or waits for now, in a few words; empty when it has ended."""
    if journal.stuck is not None:
        return journal.stuck.reason
    if journal.is_settled:
        return ""
    if journal.parked_for is not None:
        return f"parked for {journal.parked_for}"
    if journal.state is State.WAITING:
        return _waited_for(journal)
    if journal.state is State.UNDOING:
        undoing = _first_to_undo(journal)
        return "" if undoing is None else f"undoing {undoing.name}{_tried(undoing.undo)}"
    return ", ".join(f"{one.name}{_tried(one)}" for one in journal.steps if one.is_open)


def _refuse_settled(journal: Journal) -> None:
    if journal.is_settled:
        raise OperationRefused(f"saga {journal.id!r}", f"is {journal.state}", "what has ended is not changed any more")


def _refuse_going_back(journal: Journal) -> None:
    if State.UNDOING in {journal.state, journal.stuck_while}:
        problem, remedy = "is being undone by now", "see `redrive saga show`; where it is stuck: `redrive saga retry`"
    elif journal.beyond_return:
        problem, remedy = (
            "is past its point of no return",
            "mend what keeps it; if it is stuck, `redrive saga retry`",
        )
    elif journal.cancelled is not None:
        problem, remedy = f"was {cancelled_by(journal.cancelled)}", "it is undone when the attempt that runs has ended"
    else:
        return
    raise OperationRefused(f"saga {journal.id!r}", problem, remedy)


def _wake(journal: Journal, deed: Deed) -> None:
    """Make it due, with its wake-up on its way."""
    journal.unpark(deed.at_ms)
    journal.owner, journal.wake_at_ms, journal.woken_at_ms = None, deed.at_ms, deed.at_ms


def _is_in_hand(journal: Journal, now_ms: int) -> bool:
    return journal.parked_for is None and journal.owner is not None and journal.owner.until_ms > now_ms


def _is_lost(journal: Journal, now_ms: int) -> bool:
    """Whether it should go on by now and nobody is known to see to it."""
    if journal.parked_for is not None:  # whether its wake-up still is, nobody knows; it is parked again if need be
        return True
    if _is_in_hand(journal, now_ms):
        return False
    if journal.owner is not None or journal.is_over_at(now_ms):
        return True
    return (journal.wake_at_ms or 0) <= now_ms and not _waits_for_signal_alone(journal)


def _only_pauses(journal: Journal, now_ms: int) -> bool:
    """Whether everything that has begun and not ended waits for its next try: then no body runs."""
    begun = [one for one in journal.steps if one.is_open and one.began_at_ms]
    return bool(begun) and all((one.due_at_ms or 0) > now_ms for one in begun)


def _waits_for_signal_alone(journal: Journal) -> bool:
    return journal.state is State.WAITING and journal.wake_at_ms is None


def _pauses(journal: Journal) -> bool:
    """Whether the undo that comes next waits before it is tried again: then no body runs."""
    first = _first_to_undo(journal)
    return first is not None and first.undo is not None and first.undo.due_at_ms is not None


def _first_to_undo(journal: Journal) -> StepRecord | None:
    return next((one for one in journal.to_undo() if one.undoable), None)


def _why_it_waits(journal: Journal) -> tuple[str, str]:
    """What it waits for, and what to do about that."""
    if journal.parked_for is not None:
        remedy = f"the healer brings it back; see `redrive circuit show {journal.parked_for}`"
        return f"is parked for {journal.parked_for!r}", remedy
    if journal.owner is not None:
        until = instant(journal.owner.until_ms)
        return f"is in hand of worker {journal.owner.worker} until {until} at most", "it goes on by itself"
    if journal.state is State.WAITING:
        return _waited_for(journal), "it goes on by itself; a signal is sent with `redrive saga signal`"
    return f"is tried again at {instant(journal.wake_at_ms or 0)}", "it goes on by itself"


def _waited_for(journal: Journal) -> str:
    waits = [one for one in journal.facts if not one.over]
    if not waits:
        return "waits"
    last = waits[-1]
    until = "" if last.due_at_ms is None else f" until {instant(last.due_at_ms)}"
    return f"waits for signal {last.name!r}{until}" if last.kind == "wait" else f"sleeps{until}"


def _tried(one: StepRecord | Undo | None) -> str:
    if one is None or not one.attempts:
        return ""
    again = "" if one.due_at_ms is None else f", again at {instant(one.due_at_ms)}"
    return f", attempt {one.attempts}{again}"


def _why_nothing_to_undo(step: StepRecord) -> str:
    if step.state is StepState.REJECTED:
        return "was rejected, and has no effect"
    if not step.began_at_ms:
        return "never began"
    return "is undone" if step.undo is not None and step.undo.state is UndoState.DONE else "was skipped before"


def instant(at_ms: int) -> str:
    """An instant as people and programs read it: `2026-01-31T08:15:00Z`."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
