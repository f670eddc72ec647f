"""Undoing an instance: from its journal alone, the last thing first, each as patiently as its step says.

The saga's function is not run for it, so that a deploy, or a fault in the function, does not keep it from being done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from redrive.errors import CannotContinue, NotKept
from redrive.sagas.bodies import Bodies, Ended
from redrive.sagas.departing import keep
from redrive.sagas.journal import Cause, StepRecord, StepState, Undo, UndoState
from redrive.sagas.leaving import Later, Parks, Sticks
from redrive.sagas.steps import Step
from redrive.verdict import Happening


class Undoing:
    """The undos of one turn."""

    def __init__(self, bodies: Bodies, find: Callable[[StepRecord], Step[Any, Any, Any]]) -> None:
        """Be ready to undo.

        Args:
            bodies: of the turn.
            find: the step of a journaled call, as the code has it; CannotContinue if it has none.
        """
        self._bodies, self._find = bodies, find
        self._journal = bodies.record.journal

    async def run(self) -> None:
        """Undo what is left.

        Raises:
            Leave: If the turn ends before it is done.
        """
        for record in list(self._journal.to_undo()):
            try:
                await self._undo(record)
            except (CannotContinue, NotKept) as error:
                cause = Cause(reason=str(error), at_ms=self._bodies.now_ms(), step=self._journal.key_of(record))
                cause.error = self._bodies.problem(error)
                raise Sticks(cause, error) from error

    async def _undo(self, record: StepRecord) -> None:
        step = self._find(record)
        if step.undo is not None:
            await self._try(step, record)
        elif record.undoable:
            problem = f"step {record.name!r} had an undo when it was begun, and the code has none any more"
            raise CannotContinue(self._journal.id, problem, "put it back, or skip it: `redrive saga skip`")

    async def _try(self, step: Step[Any, Any, Any], record: StepRecord) -> None:
        undo = record.undo = record.undo or Undo()
        if (why := await self._bodies.closed(step)) is not None:
            raise why
        if (undo.due_at_ms or 0) > self._bodies.now_ms():
            raise Later(undo.due_at_ms or 0)
        self._bodies.take_time(step.settings.timeout)
        self._bodies.check_needs(step)
        given = (self._restored(step, record), step.parameters.read(record.arguments))
        await self._bodies.send_first()
        undo.attempts, undo.due_at_ms, record.fence = undo.attempts + 1, None, record.fence + 1
        undo.since_ms = undo.since_ms or self._bodies.now_ms()
        await self._bodies.write(step.settings.timeout)
        ended = await self._bodies.call(step, record, given, undo)
        undo.ended_at_ms = self._bodies.now_ms()
        try:
            self._note(step, record, undo, ended)
        finally:
            self._bodies.record.soon()

    def _note(self, step: Step[Any, Any, Any], record: StepRecord, undo: Undo, ended: Ended) -> None:
        """What the end of a try means.

        Raises:
            Leave: If it is not done.
        """
        outcome, bodies = ended.outcome, self._bodies
        pause = step.settings.undo_backoff.delay(undo.attempts, random=bodies.draw())
        match outcome.happening:
            case Happening.HANDLED:
                keep(self._journal, ended.unsent, f"the undo of {step.name!r}")
                undo.state, undo.error = UndoState.DONE, None
            case Happening.UNAVAILABLE if outcome.circuit_open:
                undo.attempts -= 1
                raise Parks(outcome.dependency or "", outcome.reason)
            case Happening.LATER:
                undo.attempts -= 1
                raise bodies.again(undo, outcome.after, pause)
            case _:
                undo.error = bodies.problem(ended.error)
                if outcome.happening is Happening.REJECTED or self._is_out_of_patience(step, undo):
                    self._stick(record, undo, ended.error)
                raise bodies.again(undo, None, pause)

    def _restored(self, step: Step[Any, Any, Any], record: StepRecord) -> Any:  # noqa: ANN401
        return step.parameters.result.read(record.result) if record.state is StepState.DONE else None

    def _is_out_of_patience(self, step: Step[Any, Any, Any], undo: Undo) -> bool:
        return self._bodies.now_ms() - undo.since_ms - undo.parked_ms >= step.settings.undo_for * 1000

    def _stick(self, record: StepRecord, undo: Undo, error: BaseException | None) -> NoReturn:
        undo.state = UndoState.FAILED
        key = self._journal.key_of(record)
        text = "" if undo.error is None else f": {undo.error.type}: {undo.error.text}"
        reason = f"the undo of {key} failed for good{text}"
        raise Sticks(Cause(reason=reason, at_ms=self._bodies.now_ms(), step=key, error=undo.error), error)
