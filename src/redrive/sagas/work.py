"""One turn's work on an instance: runs steps, each of them in the journal before its body runs.

begun      the attempt is counted in the journal, in one write with the result before it; then the body runs
a result   noted; written with the next step's beginning, or as soon as the loop turns
rejected   noted as a certain no; the saga is told
failed     again after a pause, as often as the step says; then given up on, its outcome unknown
no answer  its dependency is down: nothing is counted, and the wake-up waits where the healer finds it
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from redrive.errors import BrokerError, CannotContinue, JournalLost, NotKept, StepFailed, StepRejected, StoreError
from redrive.sagas.bodies import Bodies
from redrive.sagas.departing import keep
from redrive.sagas.journal import LARGEST_RESULT, Cause, Fact, Problem, StepRecord, StepState
from redrive.sagas.leaving import Later, Leave, Parks, Sticks, Undoes, Waits
from redrive.sagas.signals import Signals
from redrive.sagas.steps import Call, Step
from redrive.unsent import Unsent
from redrive.verdict import Happening

_ANY_STEP = Step[Any, Any, Any]
_ENDS = (Leave, asyncio.CancelledError, BrokerError, StoreError, JournalLost, CannotContinue)
"""What ends a turn, whatever the function makes of it: nothing can be done after that, and nothing is."""


@dataclass(slots=True)
class _Begun:
    """One call of a step, in this turn."""

    step: Step[Any, Any, Any]
    record: StepRecord
    values: dict[str, Any]
    result: Any = None
    has_result: bool = False


class Work:
    """What one turn does of one instance, as its function asks for it."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self._record, self._journal = bodies, bodies.record, bodies.record.journal
        self._seen: set[int] = set()
        self._running = 0
        """How many attempts have not ended."""
        self._task = asyncio.current_task()
        """The one that the function runs in."""
        self.ended: BaseException | None = None
        """What ended the turn. A function may catch it, or come past a `finally`: it gets the same again."""
        self.calls: dict[str, int] = {}
        self.signals = Signals(bodies.runtime.store, self._journal)

    @property
    def id(self) -> str:
        """The instance's."""
        return self._journal.id

    @property
    def version(self) -> int:
        """Of the function that the instance began with."""
        return self._journal.version

    def now_ms(self) -> int:
        """The clock's."""
        return self._bodies.now_ms()

    def draw(self) -> float:
        """A number from [0, 1)."""
        return self._bodies.draw()

    def randomness(self) -> bytes:
        """Sixteen bytes."""
        return self._bodies.runtime.random.randbytes(16)

    # Forward

    async def run(self, calls: list[Call[Any, Any]]) -> list[Any]:
        """Run steps beside one another, those that have not ended; their results.

        Raises:
            StepRejected: If one was rejected; the first of those that failed is told of.
            StepFailed: If one was given up on.
            Leave: If the turn ends here.
        """
        with self._ending():
            begun = [self._called(call) for call in calls]
            if any(one.record.is_open for one in begun):
                await self._settle(begun)
        for one in begun:
            self._raise_failed(one.record)
        return [self._result(one) for one in begun]

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Once the turn has ended, everything that the function asks for ends likewise."""
        if self.ended is not None:
            raise self.ended
        try:
            self._refuse_beside()
            yield
        except _ENDS as error:
            self.ended = error
            raise

    def _refuse_beside(self) -> None:
        """A function that asks for two things at once would be answered in another order the next time."""
        if asyncio.current_task() is not self._task:
            problem = "its function asks for something in a task of its own"
            raise CannotContinue(self.id, problem, "run steps beside one another with saga.gather")

    def _called(self, call: Call[Any, Any]) -> _Begun:
        step, number = call.step, self.calls.get(call.step.name, 0) + 1
        self.calls[step.name] = number
        record = self._journal.step(step.name, number)
        if record is not None:
            self._seen.add(id(record))
            return _Begun(step, record, {} if not record.is_open else step.parameters.read(record.arguments))
        self._refuse_what_is_new(f"step {step.name!r}")
        step.parameters.result.check()
        arguments, values = step.parameters.written(call.args, call.kwargs)
        record = StepRecord(
            name=step.name, call=number, place=step.place, arguments=arguments, undoable=step.undo is not None
        )
        self._journal.steps.append(record)
        self._seen.add(id(record))
        return _Begun(step, record, values)

    def _refuse_what_is_new(self, what: str) -> None:
        """A function that goes another way than its journal says must not do anything new."""
        if passed_over := self.passed_over():
            problem = f"{what} is new, and its journal has {passed_over}, which its code passed over"
            raise CannotContinue(self.id, problem, "put the code back, or give it another version")
        self._journal.goes_on()

    def ends(self) -> None:
        """The function returned.

        Raises:
            CannotContinue: If the journal has what it did not come to.
            BaseException: What had ended the turn before, if the function caught it.
        """
        if self.ended is not None:
            raise self.ended
        if passed_over := self.passed_over():
            problem = f"its journal has {passed_over}, which its code passed over"
            raise CannotContinue(self.id, problem, "put the code back, or give it another version")

    def passed_over(self) -> str:
        """What the journal has and the function has not come to; empty when there is nothing."""
        steps = [self._journal.key_of(one) for one in self._journal.steps if id(one) not in self._seen]
        facts = [f"{one.kind} {one.name}".strip() for one in self._journal.facts if id(one) not in self._seen]
        return ", ".join((*steps, *facts)[:3])

    async def _settle(self, begun: list[_Begun]) -> None:
        self._may_go_forward()
        open_ = [one for one in begun if one.record.is_open]
        now_ms, ready, leaving = self.now_ms(), [], list[Leave]()
        for one in open_:
            if one.record.attempts >= one.step.settings.attempts:
                self._give_up(one, "its last attempt did not end")
            elif (why := await self._bodies.closed(one.step)) is not None:
                leaving.append(why)
            elif (one.record.due_at_ms or 0) > now_ms:
                leaving.append(Later(one.record.due_at_ms or 0))
            else:
                ready.append(one)
        if ready and not self._failed(begun):
            await self._begin(ready)
            self._running = len(ready)
            leaving += [why for why in await self._beside([self._attempt(one) for one in ready]) if why is not None]
            self._record.soon()
        if self._failed(begun):
            for one in begun:
                if one.record.is_open:
                    self._give_up(one, "what ran beside it failed")
        elif leaving:
            raise min(leaving, key=_urgency)

    async def _beside(self, work: list[Coroutine[Any, Any, Leave | None]]) -> list[Leave | None]:
        if len(work) == 1:
            return [await work[0]]
        return await asyncio.gather(*work)

    def _may_go_forward(self) -> None:
        journal, now_ms = self._journal, self.now_ms()
        if not journal.may_be_undone:
            return
        if (deed := journal.cancelled) is not None:
            reason = f"cancelled by {deed.by}" + (f": {deed.note}" if deed.note else "")
            raise Undoes(Cause(reason=reason, at_ms=now_ms))
        if journal.is_over_at(now_ms):
            raise Undoes(Cause(reason="its deadline has passed", at_ms=now_ms))

    async def _begin(self, ready: list[_Begun]) -> None:
        longest = max(one.step.settings.timeout for one in ready)
        self._bodies.take_time(longest)
        if not self._record.has_room(len(ready)):
            reason = "its journal is full: let steps return keys instead of contents, or begin another saga"
            raise Sticks(Cause(reason=reason, at_ms=self.now_ms()))
        await self._bodies.send_first(unless=self._may_go_forward)
        fresh = [one.record for one in ready if not one.record.began_at_ms]
        for one in ready:
            self._bodies.check_needs(one.step)
            self._journal.begin(one.record, self.now_ms())
        try:
            await self._bodies.write(longest, unless=self._may_go_forward)  # an operator is heard first
        except Undoes:  # nothing of it is written, and no body ran
            for record in fresh:
                self._journal.steps.remove(record)
            raise

    async def _attempt(self, one: _Begun) -> Leave | None:
        step, record = one.step, one.record
        outcome, given, error, unsent = await self._bodies.call(step, record, one.values)
        record.ended_at_ms = self.now_ms()
        leave: Leave | None = None
        match outcome.happening:
            case Happening.HANDLED:
                self._keep(one, given, unsent)
            case Happening.REJECTED:
                record.state = StepState.REJECTED
                record.error = self._bodies.problem(error)
            case Happening.UNAVAILABLE if outcome.circuit_open:
                record.attempts -= 1
                leave = Parks(outcome.dependency or "", outcome.reason)
            case Happening.LATER:
                record.attempts -= 1
                leave = self._bodies.again(record, outcome.after, step.settings.backoff.delay(1, random=self.draw()))
            case _:
                record.error = self._bodies.problem(error)
                if record.attempts >= step.settings.attempts:
                    record.state = StepState.UNKNOWN
                else:
                    pause = step.settings.backoff.delay(record.attempts, random=self.draw())
                    leave = self._bodies.again(record, None, pause)
        self._running -= 1
        if self._running:
            self._record.soon()
        else:
            self._record.changed()  # the last one's is written with what comes next
        return leave

    def _keep(self, one: _Begun, given: object, unsent: Sequence[Unsent]) -> None:
        try:
            one.record.result, one.result = one.step.parameters.result.written(given, most=LARGEST_RESULT)
            keep(self._journal, unsent, f"step {one.step.name!r}")
        except NotKept as error:  # what it did is done, and nobody can say what came of it
            one.record.state, one.record.error = StepState.UNKNOWN, self._bodies.problem(error)
            return
        one.record.state, one.has_result = StepState.DONE, True
        one.record.error = None

    def _give_up(self, one: _Begun, why: str) -> None:
        one.record.state, one.record.ended_at_ms = StepState.UNKNOWN, self.now_ms()
        if one.record.error is None:
            one.record.error = Problem(type="", text=why, at_ms=self.now_ms())
        self._record.soon()

    def _failed(self, begun: list[_Begun]) -> bool:
        return any(one.record.has_failed for one in begun)

    def _raise_failed(self, record: StepRecord) -> None:
        reason = "" if record.error is None else record.error.text
        if record.state is StepState.REJECTED:
            raise StepRejected(self._journal.key_of(record), reason)
        if record.state is StepState.UNKNOWN:
            named = "" if record.error is None or not record.error.type else f"{record.error.type}: "
            raise StepFailed(self._journal.key_of(record), f"{named}{reason}")

    def _result(self, one: _Begun) -> Any:  # noqa: ANN401
        return one.result if one.has_result else one.step.parameters.result.read(one.record.result)

    # What is not the same twice

    def known(self, kind: str, name: str, call: int) -> Fact | None:
        """A fact that was noted."""
        fact = self._journal.fact(kind, name, call)
        if fact is not None:
            self._seen.add(id(fact))
        return fact

    def note(self, fact: Fact) -> None:
        """Note a fact; it is written with what comes next, and nothing follows from it before."""
        with self._ending():
            self._refuse_what_is_new(f"{fact.kind} {fact.name}".strip())
        fact.after, fact.at_ms = len(self._journal.steps), self.now_ms()
        self._journal.facts.append(fact)
        self._seen.add(id(fact))
        self._record.changed()

    async def passed(self, fact: Fact) -> None:
        """Go on only when a sleep or a wait is over.

        Raises:
            Leave: If it is not, and the turn ends here.
        """
        if not fact.over:
            with self._ending():
                await self._pass(fact)

    async def _pass(self, fact: Fact) -> None:
        self._may_go_forward()
        now_ms = self.now_ms()
        if fact.kind == "wait" and await self.signals.take(fact):
            fact.over = True
        elif fact.due_at_ms is not None and fact.due_at_ms <= now_ms:
            fact.over, fact.timed_out = True, fact.kind == "wait"
        else:
            self._journal.wake_at_ms = fact.due_at_ms
            raise Waits
        fact.over_at_ms = now_ms
        self._record.soon()

    def beyond_return(self) -> None:
        """Never be undone from here; in the journal before the next body runs."""
        if not self._journal.beyond_return:
            with self._ending():
                self._may_go_forward()
            self._journal.beyond_return = True
            self._record.changed()


def _urgency(leave: Leave) -> tuple[int, int]:
    """Of several reasons to leave: who comes back by himself first, and the soonest; then who is parked."""
    return (0, leave.at_ms) if isinstance(leave, Later) else (1, 0)
