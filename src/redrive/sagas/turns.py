"""One turn of a saga: a wake-up goes in, the instance goes on as far as it can, a settlement comes out.

    settled, or another's       acknowledged: this wake-up says nothing new
    ended                       the journal has it, then the wake-up is acknowledged
    waits                       the journal says until when, then it is acknowledged: the waker sends the next one
    goes on in a moment         the journal says when, then the wake-up is handed back delayed
    a dependency is down        the journal says so, then the wake-up is parked; the healer brings it back
    stuck                       the journal says why, then the catalogue, then the wake-up is dead

A crash between the journal and the settlement repeats the turn, which finds the journal as it was written.
"""

from __future__ import annotations

import json
import logging
from concurrent.futures import Executor
from typing import Any

from redrive.broker import Acknowledge, Forward, Settlement
from redrive.calling import Held
from redrive.claims import payload_hash
from redrive.consumer import Consumer
from redrive.errors import (
    BrokerError,
    JournalLost,
    NewerRecord,
    PayloadError,
    ValueTooLarge,
)
from redrive.fingerprint import text_of
from redrive.raised import outcome_of
from redrive.runtime import Runtime
from redrive.sagas.bodies import Bodies
from redrive.sagas.deeds import RESUME, note
from redrive.sagas.definition import SagaConsumer
from redrive.sagas.departing import depart
from redrive.sagas.journal import Cause, Deed, Journal, Owner, State
from redrive.sagas.leaving import Later, Leave, Parks, Sticks, Undoes, Waits
from redrive.sagas.record import Record
from redrive.sagas.running import Running
from redrive.sagas.undoing import Undoing
from redrive.sagas.waking import INSTANCE
from redrive.sagas.work import Work
from redrive.turn import Turns
from redrive.turn import _Run as Run
from redrive.unsent import PASSING
from redrive.verdict import Happening, Outcome

_log = logging.getLogger("redrive.saga")
_LONGEST_RETURN = 600.0
"""Seconds for which a wake-up is handed back; for longer the journal alone knows. Source: SQS delays end at 900."""
_NEWER_DELAY = 30.0


class SagaTurns(Turns):
    """Runs the turns of one queue of sagas."""

    def __init__(self, runtime: Runtime, consumer: SagaConsumer[Any], threads: Executor | None = None) -> None:
        super().__init__(runtime, consumer, threads)
        self._saga, self._saga_threads = consumer, threads

    async def turn(self, held: Held) -> Settlement | None:
        """Let the instance of one wake-up go on.

        Raises:
            StoreError: If the store is away; the wake-up should be handed back.
            BrokerError: Likewise.
        """
        if held.delivery.message.notes.newer is not None:
            return self.back(held.delivery, _NEWER_DELAY)
        try:
            return await self._found(held)
        except JournalLost as error:
            _log.info("%s", error)
            return Acknowledge(delivery=held.delivery)
        except NewerRecord as error:
            _log.warning("message %s is handed back: %s", held.delivery.message.id, error)
            return self.back(held.delivery, _NEWER_DELAY)

    async def crashed(self, held: Held, reason: str) -> Settlement | None:
        """The settlement of a wake-up whose turn took its worker down; given up on, its instance is stuck."""
        settlement = await super().crashed(held, reason)
        if isinstance(settlement, Forward) and settlement.queue == self._saga.dead_queue:
            found = await self._record(held)
            message_id = held.delivery.message.id
            if (
                isinstance(found, Record)
                and not found.journal.is_settled
                and not found.journal.is_anothers(message_id, self._now_ms())
            ):
                self._own(found, held)
                cause = Cause(reason=f"its turns took their worker down: {reason}", at_ms=self._now_ms())
                await self._write_stuck(found, Sticks(cause))
        return settlement

    async def _found(self, held: Held) -> Settlement | None:
        found = await self._record(held)
        if isinstance(found, Record):
            return await self._instance(found, held)
        if found is None:
            return Acknowledge(delivery=held.delivery)
        return await self._settlement(held, found, self._runtime.clock.monotonic())

    async def _instance(self, found: Record, held: Held) -> Settlement | None:
        journal, message = found.journal, held.delivery.message
        if journal.is_settled:
            return await self._departed(found, held, Acknowledge(delivery=held.delivery))
        if journal.is_anothers(message.id, self._now_ms()):
            return Acknowledge(delivery=held.delivery)
        if journal.state is State.STUCK and not self._goes_on(journal, held):
            if journal.letter == message.id:  # a crash came before it was dead
                return await self._letter_of(journal, held, None)
            return Acknowledge(delivery=held.delivery)
        self._own(found, held)
        try:
            await depart(self._runtime, found)  # what a crash left
            return await self._departed(found, held, await self._on(found, held))
        except BrokerError as error:
            return await self._refused(found, held, error)
        finally:
            await found.settle()

    async def _departed(self, record: Record, held: Held, settlement: Settlement | None) -> Settlement | None:
        """The settlement of a turn, once what it had to send is on its way."""
        if record.journal.unsent:
            try:
                await depart(self._runtime, record)
            except BrokerError as error:
                return await self._refused(record, held, error)
            await record.write()
        return settlement

    async def _refused(self, record: Record, held: Held, error: BrokerError) -> Settlement | None:
        """What it sends cannot be sent, ever: a person has to look. What may pass in a moment is raised on."""
        if isinstance(error, PASSING):
            raise error
        reason = f"what saga {record.journal.id!r} sends is refused: {self._runtime.redacted(text_of(error))}"
        if not record.journal.is_settled:
            return await self._sticks(record, held, Sticks(Cause(reason=reason, at_ms=self._now_ms()), error))
        return await self._settlement(held, Run(Outcome(happening=Happening.RAISED, reason=reason), error), None)

    async def _record(self, held: Held) -> Record | Run | None:
        """The instance that a message wakes, or begins; else what is wrong with it. None: it is forgotten by now."""
        message, store, clock = held.delivery.message, self._runtime.store, self._runtime.clock
        named = message.attributes.get(INSTANCE)
        if named is not None:
            return await Record.load(store, clock, self._saga.queue, named)
        try:
            payload = self._saga.payload.decode(message.body)
            instance = self._saga.id_of(payload)
        except PayloadError as error:
            return Run(Outcome(happening=Happening.PAYLOAD, reason=self._runtime.redacted(str(error))), error)
        except Exception as error:  # noqa: BLE001 - the user's validators and `id`
            return Run(outcome_of(error, self._saga, self._runtime.redacted), error)
        canonical = self._saga.payload.written(payload)
        found = await Record.load(store, clock, self._saga.queue, instance)
        if found is None:
            return Record(store, clock, self._begun(held, instance, canonical))
        mended = found.journal.state is State.STUCK and message.notes.redriven_at_ms is not None
        if found.journal.started_with != payload_hash(canonical) and not mended:
            return Run(Outcome(happening=Happening.CONFLICT, reason=self._runtime.redacted(f"saga {instance!r}")))
        return found

    def _begun(self, held: Held, instance: str, canonical: bytes) -> Journal:
        version, message, now_ms = self._saga.newest, held.delivery.message, self._now_ms()
        return Journal(
            saga=self._saga.queue,
            id=instance,
            version=version.number,
            input=json.loads(canonical),
            started_with=payload_hash(canonical),
            group=message.group,
            sent_at_ms=message.sent_at_ms,
            began_at_ms=now_ms,
            deadline_ms=None if version.deadline is None else now_ms + int(version.deadline * 1000),
        )

    def _goes_on(self, journal: Journal, held: Held) -> bool:
        """Whether a person sent the letter of a stuck instance back: it goes on where it was left.

        What he changed in it is its input from now on, unless it is being undone, which needs none.
        """
        message = held.delivery.message
        redriven = message.notes.redriven_at_ms
        if redriven is None or journal.stuck is None or redriven < journal.stuck.at_ms:
            return False
        journal.go_on()
        if journal.state is State.RUNNING:
            given = json.loads(self._saga.payload.written(self._saga.payload.decode(message.body)))
            if given != journal.input:
                note(journal, Deed(what=RESUME, by="the edit of its dead letter", at_ms=redriven))
                journal.input = given
        return True

    def _own(self, record: Record, held: Held) -> None:
        message_id, now_ms = held.delivery.message.id, self._now_ms()
        token = f"{message_id}/{self._runtime.random.randbytes(6).hex()}"
        until = now_ms + int(self._saga.lease * 1000)
        record.journal.unpark(now_ms)
        if record.journal.state is State.WAITING:
            record.journal.state = State.RUNNING
        record.journal.wake_at_ms = None
        record.take(Owner(token=token, message_id=message_id, worker=self._runtime.worker, until_ms=until))

    async def _on(self, record: Record, held: Held) -> Settlement | None:
        """Forward, then backward if need be, until the turn ends."""
        journal = record.journal
        while True:
            bodies = Bodies(self._runtime, self._saga, record, held, self._saga_threads)
            work = Work(bodies)
            try:
                if journal.state is State.RUNNING:
                    await self._go_forward(record, bodies, work)
                if journal.state is State.UNDOING:
                    await self._backward(record, bodies)
            except Waits:
                if await self._waits(record, work):
                    return Acknowledge(delivery=held.delivery)
            except Leave as leave:
                return await self._left(record, held, leave)
            except ValueTooLarge as error:
                return await self._does_not_fit(record, held, error)
            else:
                await work.signals.forget_taken()
                self._runtime.counters.outcomes[Happening.HANDLED.value] += 1
                return Acknowledge(delivery=held.delivery)

    async def _left(self, record: Record, held: Held, leave: Leave) -> Settlement | None:
        match leave:
            case Later():
                return await self._later(record, held, leave.at_ms)
            case Parks():
                return await self._parks(record, held, leave)
            case Sticks():
                return await self._sticks(record, held, leave)
            case _:
                raise leave

    async def _go_forward(self, record: Record, bodies: Bodies, work: Work) -> None:
        running = Running(self._saga, bodies, work)
        try:
            await running.run()
            record.changed()
            await record.write(unless=running.take_back_if_cancelled)
        except Undoes as leave:
            record.journal.undo_from_here(leave.cause)
            record.changed()

    async def _backward(self, record: Record, bodies: Bodies) -> None:
        await Undoing(bodies, self._saga.step_of).run()
        record.journal.state, record.journal.owner = State.UNDONE, None
        record.changed()
        await record.write()

    async def _waits(self, record: Record, work: Work) -> bool:
        """Let go of an instance that waits; False when something came before anybody could know that it waits."""
        journal = record.journal
        journal.state, owner, journal.owner = State.WAITING, journal.owner, None
        record.changed()
        await record.write()
        await work.signals.forget_taken()
        if (journal.cancelled is None or not journal.may_be_undone) and not await work.signals.have_come():
            return True
        journal.state = State.RUNNING
        if owner is not None:
            owner.until_ms = self._now_ms() + int(self._saga.lease * 1000)
            record.take(owner)
        return False

    async def _later(self, record: Record, held: Held, at_ms: int) -> Settlement:
        journal = record.journal
        if journal.may_be_undone and journal.deadline_ms is not None and journal.deadline_ms > self._now_ms():
            at_ms = min(at_ms, journal.deadline_ms)  # which does not wait for the end of a pause
        delay = max(0.0, (at_ms - self._now_ms()) / 1000)
        if delay > _LONGEST_RETURN:
            journal.owner, journal.wake_at_ms = None, at_ms
        elif journal.owner is not None:
            journal.owner.until_ms = self._now_ms() + int((delay + self._saga.lease) * 1000)
        record.changed()
        await record.write()
        if delay > _LONGEST_RETURN:
            return Acknowledge(delivery=held.delivery)
        return self.back(held.delivery, delay)

    async def _parks(self, record: Record, held: Held, leave: Parks) -> Settlement | None:
        journal = record.journal
        journal.parked_for, journal.parked_at_ms = leave.dependency, self._now_ms()
        record.changed()
        await record.write()
        outcome = Outcome(
            happening=Happening.UNAVAILABLE,
            reason=leave.reason,
            dependency=leave.dependency,
            circuit_open=True,
            counted=False,
        )
        return await self._settlement(held, Run(outcome), None)

    async def _sticks(self, record: Record, held: Held, leave: Sticks) -> Settlement | None:
        await self._write_stuck(record, leave)
        return await self._letter_of(record.journal, held, leave.error)

    async def _letter_of(self, journal: Journal, held: Held, error: BaseException | None) -> Settlement | None:
        outcome = Outcome(happening=Happening.STUCK, reason=self._letter(journal))
        return await self._settlement(held, Run(outcome, error), None)

    async def _write_stuck(self, record: Record, leave: Sticks) -> None:
        journal = record.journal
        journal.stick(leave.cause)
        record.changed()
        await record.write()

    async def _does_not_fit(self, record: Record, held: Held, error: ValueTooLarge) -> Settlement | None:
        """Nothing of it was written, so that nothing follows from it: what stands in the store is what counts."""
        journal = record.journal
        found = await Record.load(self._runtime.store, self._runtime.clock, journal.saga, journal.id)
        if found is not None:
            self._own(found, held)
            await self._write_stuck(found, Sticks(Cause(reason=str(error), at_ms=self._now_ms())))
        reason = f"saga {journal.id!r}: {error}"
        return await self._settlement(held, Run(Outcome(happening=Happening.STUCK, reason=reason), error), None)

    def _letter(self, journal: Journal) -> str:
        """What a person has to know, in one text: saga, step, key, arguments, result and both errors."""
        assert journal.stuck is not None  # noqa: S101 - it was just written
        parts = [f"saga {journal.id!r}: {journal.stuck.reason}"]
        step = next((one for one in journal.steps if journal.key_of(one) == journal.stuck.step), None)
        if step is not None:
            parts.append(f"step {step.name}, key {journal.stuck.step}, arguments {json.dumps(step.arguments)}")
            parts.append(f"result {json.dumps(step.result)}")
        if journal.cause is not None:
            parts.append(f"undone because {journal.cause.reason}")
        return self._runtime.redacted("; ".join(parts))

    def _now_ms(self) -> int:
        return self._runtime.clock.now_ms()


def turns_for(runtime: Runtime, consumer: Consumer[Any], threads: Executor | None = None) -> Turns:
    """What runs the turns of a consumer: of handlers, or of sagas."""
    if isinstance(consumer, SagaConsumer):
        return SagaTurns(runtime, consumer, threads)
    return Turns(runtime, consumer, threads)
