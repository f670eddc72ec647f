"""What a person does to a journal: what changes, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest

from redrive.errors import NotFound, OperationRefused
from redrive.sagas import deeds
from redrive.sagas.journal import (
    WAKE_AGAIN_MS,
    Cause,
    Deed,
    Fact,
    Journal,
    Owner,
    State,
    StepRecord,
    StepState,
    Undo,
    UndoState,
)

NOW = 1_000_000
DEED = Deed(what="something", by="ada", at_ms=NOW, note="why not")


def step(name: str, *, call: int = 1, state: StepState = StepState.DONE, undo: Undo | None = None) -> StepRecord:
    """A step that began."""
    return StepRecord(name=name, call=call, place="m:f", arguments={}, state=state, began_at_ms=1, undo=undo)


def journal(state: State = State.RUNNING, *steps: StepRecord) -> Journal:
    """An instance that nobody has in hand."""
    return Journal(
        saga="orders", id="7", version=1, state=state, input={"a": 1}, started_with="x", sent_at_ms=1, began_at_ms=1,
        steps=list(steps),
    )  # fmt: skip


def stuck(while_: State, *steps: StepRecord) -> Journal:
    """An instance that is stuck."""
    found = journal(while_, *steps)
    found.stick(Cause(reason="a bug", at_ms=1))
    return found


def owned(found: Journal, until_ms: int) -> Journal:
    """The same, in a turn's hands."""
    found.owner = Owner(token="1", message_id="m", worker="w1", until_ms=until_ms)  # noqa: S106 - a turn, no secret
    return found


def refused(act: Callable[[], object]) -> str:
    """Why something was refused."""
    with pytest.raises(OperationRefused) as caught:
        act()
    return str(caught.value)


def test_a_stuck_one_goes_on_where_it_was_left() -> None:
    """It is due at once, as if just woken, with the deed written down."""
    found = stuck(State.RUNNING)
    deeds.retry(found, DEED)
    assert (found.state, found.stuck, found.deeds) == (State.RUNNING, None, [DEED])
    assert found.due_at_ms() == NOW + WAKE_AGAIN_MS


def test_an_undo_that_failed_is_tried_anew() -> None:
    """With its patience at the beginning."""
    failed = step("charge", undo=Undo(state=UndoState.FAILED, attempts=9, since_ms=5, due_at_ms=8))
    found = stuck(State.UNDOING, failed)
    deeds.retry(found, DEED)
    assert found.state is State.UNDOING
    assert failed.undo == Undo(state=UndoState.STARTED, attempts=9)


def test_one_whose_owner_was_not_heard_of_is_woken() -> None:
    """Its time has passed; who still holds it writes nothing more."""
    found = owned(journal(), NOW - 1)
    deeds.retry(found, DEED)
    assert found.owner is None


@pytest.mark.parametrize("state", [State.COMPLETED, State.UNDONE])
def test_what_has_ended_is_never_changed(state: State) -> None:
    """Whatever is asked."""
    found = journal(state, step("charge"))
    for act in (
        lambda: deeds.retry(found, DEED),
        lambda: deeds.cancel(found, DEED),
        lambda: deeds.skip(found, "charge", DEED),
        lambda: deeds.signal(found, DEED),
        lambda: deeds.resume(found, {}, DEED),
    ):
        assert f"is {state}" in refused(act)
    assert found.deeds == []


def test_what_goes_on_by_itself_is_not_retried() -> None:
    """The refusal says what it waits for."""
    assert "in hand of worker w1" in refused(lambda: deeds.retry(owned(journal(), NOW + 1), DEED))
    waiting = journal(State.WAITING)
    waiting.facts = [Fact(kind="wait", name="approved", call=1, over=False)]
    assert "waits for signal 'approved'" in refused(lambda: deeds.retry(waiting, DEED))
    waiting.facts, waiting.wake_at_ms = [Fact(kind="sleep", name="", call=1, over=False, due_at_ms=NOW + 9)], NOW + 9
    assert "sleeps until 1970-01-01T00:16:40Z" in refused(lambda: deeds.retry(waiting, DEED))
    assert waiting.deeds == []


def test_a_parked_one_can_be_retried() -> None:
    """Its wake-up may have been deleted; where it was not, it is acknowledged when it comes."""
    found = owned(journal(), NOW + 1)
    found.parked_for, found.parked_at_ms = "payments", NOW - 5
    deeds.retry(found, DEED)
    assert found.owner is None
    assert found.due_at_ms() == NOW + 30_000


def test_one_that_only_waits_for_its_next_try_is_cancelled_at_once() -> None:
    """No body runs; whoever has its wake-up can write nothing."""
    found = owned(journal(), NOW + 1)
    step = StepRecord(name="charge", call=1, place="m:charge", arguments={}, attempts=1, began_at_ms=1)
    found.steps = [step]
    assert not deeds.cancel(deepcopy(found), DEED)
    step.due_at_ms = NOW + 500_000
    assert deeds.cancel(found, DEED)
    assert found.owner is None


def test_a_sleep_that_is_over_is_woken() -> None:
    """Where no waker runs."""
    found = journal(State.WAITING)
    found.facts, found.wake_at_ms = [Fact(kind="sleep", name="", call=1, over=False, due_at_ms=NOW)], NOW
    deeds.retry(found, DEED)
    assert found.woken_at_ms == NOW


def test_a_turn_in_hand_is_left_to_see_that_it_is_cancelled() -> None:
    """It is not taken from it, and no wake-up follows."""
    found = owned(journal(), NOW + 1)
    assert deeds.cancel(found, DEED) is False
    assert (found.cancelled, found.owner is not None) == (DEED, True)
    assert "cancelled by ada" in refused(lambda: deeds.cancel(found, DEED))


def test_one_that_waits_is_cancelled_at_once() -> None:
    """It is due now, by a wake-up."""
    found = journal(State.WAITING)
    assert deeds.cancel(found, DEED) is True
    assert found.due_at_ms() == NOW + WAKE_AGAIN_MS


def test_a_parked_one_is_cancelled_at_once() -> None:
    """Whatever its dependency does: another wake-up may take it."""
    found = owned(journal(), NOW + 1)
    found.parked_for, found.parked_at_ms = "payments", NOW - 5
    assert deeds.cancel(found, DEED) is True
    assert not found.is_anothers("another", NOW)
    assert found.due_at_ms() is not None


def test_one_that_was_cancelled_while_it_parked_does_not_wait_for_its_dependency() -> None:
    """The cancellation was merged by the turn that then parked it."""
    found = owned(journal(), NOW + 1)
    found.parked_for, found.cancelled = "payments", DEED
    assert not found.is_anothers("another", NOW)
    assert found.due_at_ms() == NOW


def test_a_stuck_one_is_cancelled_from_where_it_was_left() -> None:
    """Without its function, which may be what is broken."""
    found = stuck(State.RUNNING, step("charge"))
    assert deeds.cancel(found, DEED) is True
    assert found.state is State.UNDOING
    assert found.cause == Cause(reason="cancelled by ada: why not", at_ms=NOW)


def test_there_is_no_way_back_past_the_point_of_no_return() -> None:
    """Nor twice."""
    found = stuck(State.RUNNING)
    found.beyond_return = True
    assert "point of no return" in refused(lambda: deeds.cancel(found, DEED))
    assert "being undone" in refused(lambda: deeds.cancel(journal(State.UNDOING), DEED))
    assert "being undone" in refused(lambda: deeds.cancel(stuck(State.UNDOING), DEED))


@pytest.mark.parametrize("named", ["7/charge/1", "charge/1", "charge"])
def test_a_failed_undo_is_skipped(named: str) -> None:
    """Its effect stays, the reason is kept with it, and the undo of the others goes on."""
    charge, reserve = step("charge", undo=Undo(state=UndoState.FAILED)), step("reserve")
    found = stuck(State.UNDOING, reserve, charge)
    assert deeds.skip(found, named, DEED) is charge
    assert found.state is State.UNDOING
    assert charge.undo == Undo(state=UndoState.SKIPPED, note="why not", ended_at_ms=NOW)
    assert list(found.to_undo()) == [reserve]


def test_an_undo_that_has_not_begun_is_skipped() -> None:
    """And one that waits to be tried again; who had it in hand writes nothing more."""
    charge = step("charge", undo=Undo(attempts=3, due_at_ms=NOW + 60_000))
    reserve = step("reserve")
    found = owned(journal(State.UNDOING, reserve, charge), NOW + 90_000)
    deeds.skip(found, "reserve", DEED)
    assert (found.owner, reserve.undo is not None) == (None, True)
    assert list(found.to_undo()) == [charge]


def test_nothing_is_skipped_while_an_undo_may_be_running() -> None:
    """It would be run twice at once."""
    found = owned(journal(State.UNDOING, step("charge", undo=Undo(attempts=1))), NOW + 1)
    assert "may be running now" in refused(lambda: deeds.skip(found, "charge", DEED))


def test_a_step_that_goes_forward_is_not_skipped() -> None:
    """The saga needs its result; the refusal says what to do instead."""
    for found in (journal(State.RUNNING, step("charge")), stuck(State.RUNNING, step("charge"))):
        said = refused(lambda found=found: deeds.skip(found, "charge", DEED))  # type: ignore[misc]
        assert "only an undo can be skipped" in said
        assert "`redrive saga cancel`" in said


def test_what_has_no_effect_is_not_skipped() -> None:
    """Rejected, never begun, undone, skipped: each says so."""
    never = step("never", state=StepState.STARTED)
    never.began_at_ms = 0
    found = stuck(
        State.UNDOING,
        step("no", state=StepState.REJECTED),
        never,
        step("undone", undo=Undo(state=UndoState.DONE)),
        step("left", undo=Undo(state=UndoState.SKIPPED)),
    )
    for name, why in (("no", "was rejected"), ("never", "never began"), ("undone", "is undone"), ("left", "skipped")):
        assert why in refused(lambda name=name: deeds.skip(found, name, DEED))  # type: ignore[misc]


def test_a_step_has_to_be_named_so_that_it_is_one() -> None:
    """The refusal names those that there are."""
    found = stuck(State.UNDOING, step("charge"), step("charge", call=2))
    assert "7/charge/1, 7/charge/2" in refused(lambda: deeds.skip(found, "charge", DEED))
    with pytest.raises(NotFound, match="its steps are: 7/charge/1, 7/charge/2"):
        deeds.skip(found, "brew", DEED)


def test_a_stuck_one_resumes_with_another_input() -> None:
    """What it was started with stays known, and so does the input before."""
    found = stuck(State.RUNNING)
    deeds.resume(found, {"a": 2}, DEED)
    assert (found.state, found.input, found.started_with) == (State.RUNNING, {"a": 2}, "x")
    assert found.deeds[0].note == 'why not; the input was {"a": 1}'


def test_an_input_is_changed_only_where_it_is_looked_at_again() -> None:
    """Not of one that goes on, not of one that is undone, and not to what it is."""
    assert "not stuck" in refused(lambda: deeds.resume(journal(), {}, DEED))
    assert "being undone" in refused(lambda: deeds.resume(stuck(State.UNDOING), {}, DEED))
    assert "is the one that it has" in refused(lambda: deeds.resume(stuck(State.RUNNING), {"a": 1}, DEED))


def test_a_signal_wakes_only_who_waits() -> None:
    """One that runs takes it when it comes to it."""
    assert deeds.signal(journal(State.WAITING), DEED) is True
    found = owned(journal(), NOW + 1)
    assert deeds.signal(found, DEED) is False
    assert (found.owner is not None, found.deeds) == (True, [DEED])


def test_the_last_fifty_deeds_are_kept() -> None:
    """A journal does not grow with those who look after it."""
    found = journal()
    for number in range(60):
        deeds.note(found, Deed(what=str(number), by="ada", at_ms=number))
    assert [one.what for one in found.deeds] == [str(number) for number in range(10, 60)]


def test_what_it_does_is_said_in_a_few_words() -> None:
    """For a list."""
    tried = step("charge", state=StepState.STARTED)
    tried.attempts, tried.due_at_ms = 2, NOW
    assert deeds.standing(journal(State.RUNNING, tried)) == "charge, attempt 2, again at 1970-01-01T00:16:40Z"
    undoing = step("charge", undo=Undo(attempts=1))
    assert deeds.standing(journal(State.UNDOING, undoing)) == "undoing charge, attempt 1"
    assert deeds.standing(stuck(State.RUNNING)) == "a bug"
    assert not deeds.standing(journal(State.COMPLETED))
