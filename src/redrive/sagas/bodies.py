"""Calling the bodies of steps and undos, within one turn of one instance: never before their intent is in the journal.

send_first  what earlier bodies have sent is on its way, before an attempt is counted
write       the intent is durable
call        the body runs, within its time; what it sends is held
the end     says what it means for the step; what was held leaves with a result, and is dropped with a failure
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

from redrive.calling import Caller, Held
from redrive.circuit import State as Circuit
from redrive.consumer import Consumer
from redrive.context import Context
from redrive.errors import CannotContinue
from redrive.fingerprint import text_of, type_name
from redrive.holding import holding
from redrive.raised import outcome_of
from redrive.runtime import Runtime
from redrive.sagas.departing import depart
from redrive.sagas.journal import Problem, StepRecord, Undo
from redrive.sagas.leaving import Later, Parks
from redrive.sagas.record import Record
from redrive.sagas.steps import Step
from redrive.unsent import Unsent
from redrive.verdict import Happening, Outcome

LONGEST_PAUSE = 366 * 86_400.0
"""Seconds after which a step that asked to come back later does: infinity is a year."""


class Ended(NamedTuple):
    """How one call of a body ended."""

    outcome: Outcome
    given: Any = None
    error: BaseException | None = None
    unsent: Sequence[Unsent] = ()
    """What it has sent, and what leaves if it was handled."""


class Bodies:
    """The bodies of one turn."""

    def __init__(
        self, runtime: Runtime, consumer: Consumer[Any], record: Record, held: Held, threads: Executor | None
    ) -> None:
        self.runtime, self.record = runtime, record
        self._consumer, self._held, self._threads = consumer, held, threads
        self._journal = record.journal
        self._ends_at = runtime.clock.monotonic() + consumer.timeout
        self._moved = False
        """Whether anything was done in this turn."""
        self._begin_by = float("inf")
        """Seconds of the monotonic clock: counted from before the write of their intent."""

    def now_ms(self) -> int:
        """The clock's."""
        return self.runtime.clock.now_ms()

    def draw(self) -> float:
        """A number from [0, 1)."""
        return self.runtime.random.random()

    async def closed(self, step: Step[Any, Any, Any]) -> Parks | None:
        """Whether one of its dependencies is known to be down: then nothing is begun. Asks for what others know."""
        for need in step.needs.values():
            if need.gate is not None and await need.gate.state() is Circuit.OPEN:
                return Parks(need.name, "its circuit is open")
        return None

    def take_time(self, longest: float) -> None:
        """A turn has an end: what does not fit goes into the next one, which begins at once.

        Raises:
            Later: If so many seconds do not fit.
        """
        if self._moved and self.runtime.clock.monotonic() + longest > self._ends_at:
            raise Later(self.now_ms())
        self._moved = True

    def check_needs(self, step: Step[Any, Any, Any]) -> None:
        """That it can be parked for whatever it needs.

        Raises:
            CannotContinue: If the application was opened without knowing the step.
        """
        if unknown := set(step.needs) - set(self._consumer.needs):
            problem = f"step {step.name!r} needs {sorted(unknown)}, and was not known when the application was opened"
            raise CannotContinue(self._journal.id, problem, f"name it: saga(steps=[..., {step.name}])")

    async def send_first(self, *, unless: Callable[[], None] | None = None) -> None:
        """What was sent before leaves before an attempt is counted: a broker that is away spends none.

        Raises:
            BrokerError: If it cannot leave; it stays in the journal.
        """
        if self._journal.unsent:
            self.record.changed()
            await self.record.write(unless=unless)
            await depart(self.runtime, self.record)

    async def write(self, longest: float, *, unless: Callable[[], None] | None = None) -> None:
        """Write the intents of bodies that may take so many seconds.

        Raises:
            JournalLost: If another turn took over.
            StoreError: If nobody knows; no body may run.
        """
        self._begin_by = self.runtime.clock.monotonic() + self._consumer.lease
        if self._journal.owner is not None:
            self._journal.owner.until_ms = self.now_ms() + int((longest + self._consumer.lease) * 1000)
        self.record.changed()
        await self.record.write(unless=unless)

    async def call(
        self, step: Step[Any, Any, Any], record: StepRecord, given: object, undo: Undo | None = None
    ) -> Ended:
        """Call a body, unless others may have taken over since its intent; what its end means."""
        if self.runtime.clock.monotonic() >= self._begin_by:
            return Ended(Outcome(happening=Happening.LATER, after=0.0))
        caller = Caller(self.runtime.clock, timeout=step.settings.timeout, threads=self._threads)
        self.runtime.counters.runs += 1
        context = self._context(step, record, undo)
        body = step.forward if undo is None else step.backward
        with holding(self.runtime, f"{self._journal.saga}/{context.key}", at_ms=self._journal.began_at_ms) as held:
            value, error = await caller.call(self._held, body, context, given)
        if error is None:
            return Ended(Outcome(happening=Happening.HANDLED), value, None, held.unsent)
        return Ended(outcome_of(error, self._consumer, self.runtime.redacted), None, error)

    def again(self, record: StepRecord | Undo, asked: float | None, pause: float) -> Later:
        """Note when the next attempt may begin: as was asked for, or after the pause."""
        wanted = pause if asked is None else min(max(0.0, asked), LONGEST_PAUSE)
        record.due_at_ms = self.now_ms() + int(wanted * 1000)
        return Later(record.due_at_ms)

    def problem(self, error: BaseException | None) -> Problem:
        """An error, as it is kept."""
        if error is None:
            return Problem(type="", text="", at_ms=self.now_ms())
        text = self.runtime.redacted(text_of(error))[:1000]
        return Problem(type=type_name(error), text=text, at_ms=self.now_ms())

    def _context(self, step: Step[Any, Any, Any], record: StepRecord, undo: Undo | None) -> Context[Any]:
        message, clock = self._held.delivery.message, self.runtime.clock
        key = self._journal.key_of(record)
        return Context(
            message_id=message.id,
            key=key if undo is None else f"{key}/undo",
            queue=self._held.delivery.queue,
            resources=self.runtime.resources,
            attempt=record.attempts if undo is None else undo.attempts,
            receive_count=self._held.delivery.receive_count,
            bounces=message.notes.bounces,
            sent_at_ms=self._journal.sent_at_ms,
            attributes=message.attributes,
            group=message.group,
            deadline=clock.monotonic() + step.settings.timeout,
            needs=frozenset(step.needs),
            fence=record.fence,
            clock=clock,
        )
