"""One turn: a delivery goes in, a settlement comes out, and whatever has to be written before it is written.

The order of steps is what makes a crash harmless after any of them:

    handled      the claim is done, then what the handler sent is sent, then the message is acknowledged
    unavailable  the claim stays in progress; the degraded handler runs; the claim is released, never done; the message
                 is forwarded to parked, or handed back delayed
    dead         the catalogue has the letter, then the claim is released, then the message is forwarded to dead
    raised       the claim is released, then the message is handed back delayed

A crash in between repeats the turn: the lease runs out and another worker receives the message. A claim that is still
in progress is waited for; a claim that is done means: send what is left unsent, acknowledge. (The claim is released
before the forward, not after: where a forward is one atomic step there is no moment in which two copies exist, and a
copy that comes back at once finds the key free.)

What a handler sends is held until it has succeeded. Without a claim it is sent before the message is acknowledged; a
crash in between repeats the turn, whose messages have the same ids if they say the same.
"""

from __future__ import annotations

import asyncio
import json
import logging
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any

from redrive.broker import Acknowledge, Forward, Return, Settlement
from redrive.calling import Caller, Held
from redrive.catalogue import Catalogue
from redrive.claims import Claim, Claims, Done, InProgress, payload_hash
from redrive.consumer import Consumer, Function
from redrive.context import Context, Outage
from redrive.errors import (
    BrokerError,
    ClaimLost,
    NewerRecord,
    PayloadError,
    UnsentLost,
    VersionConflict,
)
from redrive.fingerprint import fingerprint, innermost, one_line, place_of, text_of, type_name
from redrive.finishing import Finishing
from redrive.holding import holding
from redrive.message import MAX_RECORD, Delivery, Failure, Message, Notes
from redrive.raised import outcome_of, traceback_of
from redrive.runtime import Runtime
from redrive.unsent import PASSING, Unsent, leave
from redrive.verdict import Ack, Dead, Happening, Outcome, Park, Retry, Verdict, decide

_log = logging.getLogger("redrive.consumer")
_NEWER_DELAY = 30.0
_LONGEST_LOOK_AGAIN = 2.0
_DEGRADED_CLAIM = 60.0
_BACKSTOP_MARGIN = 10


@dataclass(frozen=True, slots=True)
class _Run:
    """What came of running the handler."""

    outcome: Outcome
    error: BaseException | None = None
    payload: Any = None
    result: Any = None
    unsent: list[Unsent] = field(default_factory=list)
    """What it sent."""
    done: Done | None = None
    """The work was done before, and may have left something unsent."""


class Turns:
    """Runs the turns of one consumer."""

    def __init__(self, runtime: Runtime, consumer: Consumer[Any], threads: Executor | None = None) -> None:
        self._runtime, self._consumer = runtime, consumer
        self._caller = Caller(runtime.clock, timeout=consumer.timeout, threads=threads)
        self._claims = Claims(runtime.store, runtime.clock)
        self._finishing = Finishing(runtime, self._claims)
        self._catalogue = Catalogue(runtime.store, runtime.clock)

    async def turn(self, held: Held) -> Settlement | None:
        """Run the handler for one delivery; what to do with it, or None where somebody else's word counts.

        Raises:
            StoreError: If the store is away; the message was not touched and should be handed back.
            BrokerError: Likewise, where the store is the broker's own.
        """
        delivery = held.delivery
        if delivery.message.notes.newer is not None:
            return self.back(delivery, _NEWER_DELAY)
        began = self._runtime.clock.monotonic()
        try:
            run = await self._run(held)
            return await self._settlement(held, run, began)
        except ClaimLost as error:
            _log.warning("%s", error, extra=_ids(delivery))
            return None
        except (VersionConflict, NewerRecord) as error:
            _log.warning("message %s is handed back: %s", delivery.message.id, error, extra=_ids(delivery))
            return self.back(delivery, _NEWER_DELAY if isinstance(error, NewerRecord) else 1.0)

    def back(self, delivery: Delivery, delay: float, notes: Notes | None = None) -> Settlement:
        """Ready again after `delay` seconds. Near the broker's own limit of receives it is sent to its queue anew.

        That limit is for what no worker lives to decide. A worker that does decide must not bring a message nearer to
        it: one that is told to come back, however often, never dies of that. (Its receive count begins again, and a
        delay beyond the broker's longest ends early this once.) On a FIFO queue it keeps its place, and the receive is
        not counted; where that cannot be, see `_given_up`.
        """
        capabilities, near = self._runtime.broker.capabilities, self._is_near_the_backstop(delivery)
        if self._consumer.fifo or not near:  # sent anew it would lose its place
            return Return(delivery=delivery, delay=delay, notes=notes, uncounted=near)
        anew = (notes or delivery.message.notes).forwarded()
        return replace(
            self._forward(delivery, delivery.queue, anew, "again"), delay=max(0.0, min(delay, capabilities.max_delay))
        )

    def untouched(self, delivery: Delivery, notes: Notes | None = None) -> Settlement:
        """Ready again at once, as if this receive had not been, or as near to that as the broker can."""
        if self._runtime.broker.capabilities.uncounts:
            return Return(delivery=delivery, notes=notes, uncounted=True)
        return self.back(delivery, 0.0, notes)

    def _is_near_the_backstop(self, delivery: Delivery) -> bool:
        limit = self._consumer.backstop(uncounts=self._runtime.broker.capabilities.uncounts)
        return delivery.receive_count >= limit - _BACKSTOP_MARGIN

    def _given_up(self, delivery: Delivery, verdict: Verdict) -> Verdict:
        """Near the broker's limit on a FIFO queue, where no count can be taken back, what would come back is dead.

        The broker would make it so a few receives later, without a word of why. To send it anew would break its group's
        order, which nobody would see.
        """
        if not self._consumer.fifo or self._runtime.broker.capabilities.uncounts:
            return verdict
        if not isinstance(verdict, (Retry, Park)) or not self._is_near_the_backstop(delivery):
            return verdict
        if isinstance(verdict, Park) and not self._consumer.pauses:
            return verdict
        limit = self._consumer.backstop(uncounts=False)
        reason = f"received {delivery.receive_count} times, and the broker itself gives up at {limit}"
        return Dead(reason=reason, notes=verdict.notes)

    async def crashed(self, held: Held, reason: str) -> Settlement | None:
        """The settlement of a delivery whose turn took its worker down."""
        return await self._settlement(held, _Run(Outcome(happening=Happening.CRASHED, reason=reason)), None)

    async def _run(self, held: Held) -> _Run:
        message, consumer = held.delivery.message, self._consumer
        since = max(message.sent_at_ms, message.notes.redriven_at_ms or 0)
        age = (self._runtime.clock.now_ms() - since) / 1000
        if consumer.policy.max_age is not None and age > consumer.policy.max_age:
            limit = f"{age:.0f} s old, over max_age={consumer.policy.max_age:g}"
            return _Run(Outcome(happening=Happening.EXPIRED, reason=limit))
        try:
            payload = consumer.payload.decode(message.body)
        except PayloadError as error:
            return _Run(Outcome(happening=Happening.PAYLOAD, reason=self._runtime.redacted(str(error))), error)
        except Exception as error:  # noqa: BLE001 - the user's validators and `decode`
            return _Run(outcome_of(error, self._consumer, self._runtime.redacted), error)
        key = message.id
        if consumer.once_by is not None:
            try:
                key = self._once_key(consumer.once_by(payload))
            except Exception as error:  # noqa: BLE001 - the user's function
                return _Run(outcome_of(error, self._consumer, self._runtime.redacted), error)
            if (refused := await self._claim(held, key, consumer.payload.written(payload))) is not None:
                return refused
        return await self._handle(held, key, payload)

    async def _handle(self, held: Held, key: str, payload: object) -> _Run:
        """Run the handler; what it sends is held."""
        message, consumer = held.delivery.message, self._consumer
        context = self._context(held, key)
        self._runtime.counters.runs += 1
        with holding(self._runtime, f"{held.delivery.queue}/{message.id}", at_ms=message.sent_at_ms) as kept:
            given, raised = await self._caller.call(held, consumer.handler, context, payload)
        if raised is None:
            return _Run(Outcome(happening=Happening.HANDLED), None, payload, given, kept.unsent)
        return _Run(outcome_of(raised, self._consumer, self._runtime.redacted), raised, payload)

    async def _claim(self, held: Held, key: str, canonical: bytes) -> _Run | None:
        """Take the claim of an idempotency key; what counts instead of running, or None: run."""
        taken = await self._claims.take(
            key,
            payload_hash=payload_hash(canonical),
            message_id=held.delivery.message.id,
            lease=self._consumer.lease,
        )
        match taken:
            case Claim():
                held.claim = taken
                return None
            case InProgress(left=left):
                return _Run(Outcome(happening=Happening.LATER, after=min(left + 0.05, _LONGEST_LOOK_AGAIN)))
            case Done(same_payload=True):
                return _Run(Outcome(happening=Happening.HANDLED), done=taken)
            case Done():
                return _Run(Outcome(happening=Happening.CONFLICT, reason=self._runtime.redacted(f"key {key!r}")))

    async def _settlement(self, held: Held, run: _Run, began: float | None) -> Settlement | None:
        notes = held.delivery.message.notes
        if run.outcome.happening is Happening.HANDLED and (refused := await self._complete(held, run)) is not None:
            run = _Run(outcome_of(refused, self._consumer, self._runtime.redacted), refused)
        if run.outcome.happening is Happening.UNAVAILABLE:
            run, notes = await self._degrade(held, run, notes)
        verdict = decide(run.outcome, notes, self._consumer.policy, random=self._runtime.random.random())
        verdict = self._given_up(held.delivery, verdict)
        self._runtime.counters.outcomes[run.outcome.happening.value] += 1
        match verdict:
            case Ack():
                return Acknowledge(delivery=held.delivery)
            case Retry(counted=False):
                await self._release(held, hold=False)
                return self.back(held.delivery, verdict.delay)
            case _:
                return await self._failed(held, run, verdict, self._failure(held, run, began))

    async def _failed(self, held: Held, run: _Run, verdict: Verdict, failure: Failure) -> Settlement:
        delivery, message = held.delivery, held.delivery.message
        key = None if held.claim is None else held.claim.key
        match verdict:
            case Retry():
                await self._release(held, hold=False)
                notes = verdict.notes.noting(failure, reason=run.outcome.reason)
                _log.info(
                    "message %s of %s again in %.1f s: %s",
                    message.id,
                    delivery.queue,
                    verdict.delay,
                    one_line(run.outcome.reason),
                    extra=_ids(delivery),
                )
                return self.back(delivery, verdict.delay, notes)
            case Park() if self._consumer.pauses:
                await self._release(held, hold=False)
                changed = verdict.notes if verdict.notes != message.notes else None
                return self.untouched(delivery, changed)
            case Park(dependency=dependency):
                await self._release(held, hold=True)
                notes = verdict.notes.noting(failure, reason=f"waits for {dependency}").forwarded(key)
                return self._forward(delivery, self._consumer.parked_queue(dependency), notes, "park")
            case Dead(reason=reason):
                notes = verdict.notes.noting(failure, reason=reason).forwarded(key)
                await self._bury(held, run, replace(message, notes=notes), reason)
                return self._forward(delivery, self._consumer.dead_queue, notes, "dead")
            case Ack():
                return Acknowledge(delivery=delivery)

    async def _bury(self, held: Held, run: _Run, message: Message, reason: str) -> None:
        cause = None if run.error is None else innermost(run.error)
        mark = fingerprint(
            run.outcome.happening if cause is None else type_name(cause),
            "" if cause is None else place_of(cause.__traceback__),
            reason if cause is None else text_of(cause),
        )
        await self._catalogue.enter(held.delivery.queue, message, mark)
        await self._release(held, hold=True)
        queue, why = held.delivery.queue, one_line(reason)
        _log.error("message %s of %s is dead: %s", message.id, queue, why, extra=_ids(held.delivery))
        self._runtime.observers.dead(message, reason, self._runtime.clock.now_ms())

    async def _complete(self, held: Held, run: _Run) -> BrokerError | UnsentLost | None:
        """The handler has succeeded: write so, and send what it sent; why something can never be sent, or None."""
        try:
            if held.claim is not None:
                await self._finishing.finish(held.claim, _kept(run.result), run.unsent)
            elif run.done is not None:
                await self._finishing.send_left(run.done)
            elif run.unsent:
                await leave(self._runtime, run.unsent)
        except PASSING:
            raise
        except (BrokerError, UnsentLost) as error:
            return error
        return None

    async def _release(self, held: Held, *, hold: bool) -> None:
        if held.claim is not None:
            await self._claims.release(held.claim, hold=hold)
            held.claim = None

    async def _degrade(self, held: Held, run: _Run, notes: Notes) -> tuple[_Run, Notes]:
        """Run the degraded handler, unless it has served this message; the outcome and notes to go on with."""
        function = self._consumer.degraded_handlers.get(run.outcome.dependency or "")
        if function is None or notes.degraded_at_ms is not None or notes.undegraded:
            return run, notes
        message = held.delivery.message
        key = f"degraded:{held.delivery.queue}:{message.id}"
        taken = await self._claims.take(key, payload_hash="", message_id=message.id, lease=_DEGRADED_CLAIM)
        if isinstance(taken, InProgress):
            return _Run(Outcome(happening=Happening.LATER, after=min(taken.left, _LONGEST_LOOK_AGAIN))), notes
        try:
            if isinstance(taken, Done):
                await self._finishing.send_left(taken)
                error: BaseException | None = None
            else:
                error = await self._run_degraded(held, run, function, taken)
        except PASSING:
            raise
        except (BrokerError, UnsentLost) as refused:
            error = refused
        if error is None:
            return run, replace(notes, degraded_at_ms=self._runtime.clock.now_ms())
        return self._undegraded(run, error, notes)

    async def _run_degraded(self, held: Held, run: _Run, function: Function, claim: Claim) -> BaseException | None:
        """Run the degraded handler under its claim, and send what it sent; what it raised, or None."""
        message = held.delivery.message
        origin = f"{held.delivery.queue}/{message.id}/degraded/{run.outcome.dependency}"
        try:
            with holding(self._runtime, origin, at_ms=message.sent_at_ms) as kept:
                _, error = await self._caller.call(held, function, self._outage(held, run.outcome), run.payload)
        except asyncio.CancelledError:  # the worker stops: whoever gets the message next need not wait for this claim
            await self._claims.release(claim, hold=False)
            raise
        if error is None:
            await self._finishing.finish(claim, unsent=kept.unsent)
        else:
            await self._claims.release(claim, hold=False)
        return error

    def _undegraded(self, run: _Run, error: BaseException, notes: Notes) -> tuple[_Run, Notes]:
        """The degraded handler raised: an attempt; when there are none left, the message waits undegraded."""
        outcome = outcome_of(error, self._consumer, self._runtime.redacted)
        if outcome.happening is Happening.REJECTED:
            return _Run(outcome, error), notes
        if notes.attempts + 1 < self._consumer.policy.max_attempts:
            return _Run(
                replace(outcome, happening=Happening.RAISED, reason=f"degraded handler: {outcome.reason}"), error
            ), notes
        _log.error("the degraded handler gave up: %s", outcome.reason)
        return run, replace(notes, undegraded=True, attempts=0)

    def _forward(self, delivery: Delivery, queue: str, notes: Notes, what: str) -> Forward:
        return Forward(
            delivery=delivery,
            queue=queue,
            message=replace(delivery.message, notes=notes),
            deduplication_id=f"{delivery.message.id}/{what}/{notes.forwards}",
        )

    def _failure(self, held: Held, run: _Run, began: float | None) -> Failure:
        runtime, error = self._runtime, run.error
        took = 0.0 if began is None else runtime.clock.monotonic() - began
        return Failure(
            at_ms=runtime.clock.now_ms(),
            kind=run.outcome.happening.value,
            error="" if error is None else type_name(error),
            text=run.outcome.reason if error is None else runtime.redacted(text_of(error)),
            traceback="" if error is None else runtime.redacted(traceback_of(error)),
            queue=held.delivery.queue,
            dependency=run.outcome.dependency,
            worker=runtime.worker,
            code_version=runtime.code_version,
            took_ms=int(took * 1000),
        )

    def _once_key(self, value: object) -> str:
        if not isinstance(value, (str, int)) or value == "":
            message = f"once_by gave {value!r}; give a non-empty str or an int"
            raise TypeError(message)
        return f"{self._consumer.queue}:{value}"

    def _context(self, held: Held, key: str) -> Context[Any]:
        return Context(**self._facts(held, key))

    def _outage(self, held: Held, outcome: Outcome) -> Outage[Any]:
        key = held.claim.key if held.claim is not None else held.delivery.message.id
        return Outage(
            **self._facts(held, key),
            dependency=outcome.dependency or "",
            reason=outcome.reason,
            circuit_open=outcome.circuit_open,
        )

    def _facts(self, held: Held, key: str) -> dict[str, Any]:
        message = held.delivery.message
        return {
            "message_id": message.id,
            "key": key,
            "queue": held.delivery.queue,
            "resources": self._runtime.resources,
            "attempt": message.notes.attempts + 1,
            "receive_count": held.delivery.receive_count,
            "bounces": message.notes.bounces,
            "sent_at_ms": message.sent_at_ms,
            "attributes": message.attributes,
            "group": message.group,
            "degraded_at_ms": message.notes.degraded_at_ms,
            "deadline": self._runtime.clock.monotonic() + self._consumer.timeout,
            "needs": frozenset(self._consumer.needs),
            "dead_on": self._consumer.dead_on,
            "fence": None if held.claim is None else held.claim.fence,
            "clock": self._runtime.clock,
        }


def _kept(result: object) -> object:
    """What a handler gave, as its claim keeps it: JSON of at most 32 KB, or nothing."""
    try:
        return result if result is None or len(json.dumps(result)) <= MAX_RECORD else None
    except (TypeError, ValueError, RecursionError):
        return None


def _ids(delivery: Delivery) -> dict[str, str]:
    return {"message_id": delivery.message.id, "queue": delivery.queue}
