"""One turn: a delivery goes in, a settlement comes out, and whatever has to be written before it is written.

The order of steps is what makes a crash harmless after any of them:

    handled      the claim is done, then the message is acknowledged
    unavailable  the claim stays in progress; the degraded handler runs; the claim is released, never done; the message
                 is forwarded to parked, or handed back delayed
    dead         the catalogue has the letter, then the claim is released, then the message is forwarded to dead
    raised       the claim is released, then the message is handed back delayed

A crash in between repeats the turn: the lease runs out and another worker receives the message. A claim that is still
in progress is waited for; a claim that is done means: acknowledge. (The claim is released before the forward, not
after: where a forward is one atomic step there is no moment in which two copies exist, and a copy that comes back at
once finds the key free.)
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

from redrive.backoff import seconds
from redrive.broker import Acknowledge, Forward, Return, Settlement
from redrive.catalogue import Catalogue
from redrive.consumer import Consumer, Function
from redrive.context import Context, Outage, entering, leaving
from redrive.errors import (
    BrokerError,
    ClaimLost,
    NewerRecord,
    PayloadError,
    Reject,
    RetryLater,
    StoreError,
    Unavailable,
    VersionConflict,
)
from redrive.fingerprint import fingerprint, innermost, one_line, place_of, text_of, type_name
from redrive.message import Delivery, Failure, Message, Notes
from redrive.once import Claim, Claims, Done, InProgress, payload_hash
from redrive.runtime import Runtime
from redrive.verdict import Ack, Dead, Happening, Outcome, Park, Retry, Verdict, decide

_log = logging.getLogger("redrive.consumer")
_NEWER_DELAY = 30.0
_LONGEST_LOOK_AGAIN = 2.0
_DEGRADED_CLAIM = 60.0
_BACKSTOP_MARGIN = 10
_FINISH_TRIES = 5


_Answer = asyncio.Future[tuple[Any, BaseException | None] | None]
"""What a function in a thread gave and raised; None: it did not end in time."""


@dataclass(slots=True)
class Held:
    """What this worker holds of one message while its turn runs; the lease keeper extends it."""

    delivery: Delivery
    claim: Claim | None = None
    extend_until: float = float("inf")
    """Seconds of the monotonic clock after which the lease is no longer extended."""
    began: float | None = None
    """When its turn began, in seconds of the monotonic clock; None: it waits in hand."""
    stuck: bool = False
    """Whether its handler's thread outlived the timeout and still runs."""


@dataclass(frozen=True, slots=True)
class _Run:
    """What came of running the handler."""

    outcome: Outcome
    error: BaseException | None = None
    payload: Any = None


class Turns:
    """Runs the turns of one consumer."""

    def __init__(self, runtime: Runtime, consumer: Consumer[Any], threads: Executor | None = None) -> None:
        self._runtime, self._consumer, self._threads = runtime, consumer, threads
        self._claims = Claims(runtime.store, runtime.clock)
        self._catalogue = Catalogue(runtime.store, runtime.clock)
        self._ended: deque[tuple[_Answer, tuple[Any, BaseException | None]]] = deque()
        self._telling = False
        self.stuck = False
        """Whether a thread outlived its handler's timeout: this process should take no more messages."""

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
        delay beyond the broker's longest ends early this once.)
        """
        capabilities = self._runtime.broker.capabilities
        if capabilities.ordered or delivery.receive_count < self._consumer.policy.backstop - _BACKSTOP_MARGIN:
            return Return(delivery=delivery, delay=delay, notes=notes)
        anew = (notes or delivery.message.notes).forwarded()
        return replace(
            self._forward(delivery, delivery.queue, anew, "again"), delay=max(0.0, min(delay, capabilities.max_delay))
        )

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
            return _Run(self._outcome(error), error)
        key = message.id
        if consumer.once_by is not None:
            try:
                key = self._once_key(consumer.once_by(payload))
            except Exception as error:  # noqa: BLE001 - the user's function
                return _Run(self._outcome(error), error)
            if (refused := await self._claim(held, key, consumer.payload.written(payload))) is not None:
                return _Run(refused)
        context = self._context(held, key)
        self._runtime.counters.runs += 1
        raised = await self._called(held, consumer.handler, context, payload)
        outcome = Outcome(happening=Happening.HANDLED) if raised is None else self._outcome(raised)
        return _Run(outcome, raised, payload)

    async def _claim(self, held: Held, key: str, canonical: bytes) -> Outcome | None:
        """Take the claim of an idempotency key; what to do instead of running, or None: run."""
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
                return Outcome(happening=Happening.LATER, after=min(left + 0.05, _LONGEST_LOOK_AGAIN))
            case Done(same_payload=True):
                return Outcome(happening=Happening.HANDLED)
            case Done():
                return Outcome(happening=Happening.CONFLICT, reason=self._runtime.redacted(f"key {key!r}"))

    async def _called(
        self, held: Held, function: Function, context: Context[Any], payload: object
    ) -> BaseException | None:
        """Call a user's function within the time limit; what it raised, or None."""
        arguments = (context, payload) if function.takes_context else (payload,)
        token = entering(context)
        try:
            if function.is_async:
                async with asyncio.timeout(self._consumer.timeout):
                    await function.call(*arguments)
            else:
                given = await self._in_thread(held, function.call, arguments)
                if inspect.isawaitable(given):  # a callable that does not look like a coroutine function, and is one
                    async with asyncio.timeout(self._consumer.timeout):
                        await given
        except TimeoutError as error:
            return error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return error
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises decides about its message alone
            return error
        finally:
            leaving(token)
        return None

    async def _in_thread(self, held: Held, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401
        """Call a plain function in a thread; what it gave."""
        loop = asyncio.get_running_loop()
        if self._threads is None:
            return call(*arguments)
        held.extend_until = self._runtime.clock.monotonic() + self._consumer.timeout
        context = contextvars.copy_context()
        ended: _Answer = loop.create_future()
        self._threads.submit(self._ends, loop, ended, context, call, arguments)
        patience = loop.call_later(self._consumer.timeout, _resolve, ended, None)
        try:
            answer = await ended
        finally:
            patience.cancel()
        if answer is None:
            self.stuck = held.stuck = True
            message = f"no end within {self._consumer.timeout:g} s, and a thread cannot be stopped"
            raise TimeoutError(message)
        given, raised = answer
        if raised is not None:
            raise raised
        return given

    def _ends(
        self,
        loop: asyncio.AbstractEventLoop,
        ended: _Answer,
        context: contextvars.Context,
        call: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        """In a thread: call, and tell the loop; of threads that end close together only the first one wakes it."""
        self._ended.append((ended, context.run(_caught, call, arguments)))
        if not self._telling:
            self._telling = True
            with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
                loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._telling = False  # before looking: what comes from now on is either seen here or told anew
        while self._ended:
            _resolve(*self._ended.popleft())

    def _outcome(self, error: BaseException) -> Outcome:
        """What a raised error says: of a group, `Reject` counts first, then any other error, then `Unavailable`."""
        leaves = list(_leaves(error))
        reason = self._text(error)[:500]
        if rejected := [one for one in leaves if isinstance(one, (Reject, *self._consumer.dead_on))]:
            first = rejected[0]
            text = self._runtime.redacted(text_of(first)) if isinstance(first, Reject) else self._text(first)
            return Outcome(happening=Happening.REJECTED, reason=text[:500])
        if any(not isinstance(one, (Unavailable, RetryLater)) for one in leaves):
            timeout = isinstance(error, TimeoutError)
            return Outcome(happening=Happening.TIMEOUT if timeout else Happening.RAISED, reason=reason)
        if unavailable := [one for one in leaves if isinstance(one, Unavailable)]:
            return self._unavailable(unavailable[0])
        return Outcome(happening=Happening.LATER, reason=reason, after=_seconds(getattr(leaves[0], "after", None)))

    def _text(self, error: BaseException) -> str:
        return self._runtime.redacted(f"{type_name(error)}: {text_of(error)}")

    def _unavailable(self, error: Unavailable) -> Outcome:
        dependency = self._consumer.needs.get(error.dependency)
        open_here = dependency is not None and dependency.gate is not None and dependency.gate.open_here
        return Outcome(
            happening=Happening.UNAVAILABLE,
            reason=self._runtime.redacted(text_of(error)),
            dependency=error.dependency,
            circuit_open=open_here or (error.circuit_open and dependency is not None),
            counted=error.counted,
        )

    async def _settlement(self, held: Held, run: _Run, began: float | None) -> Settlement | None:
        notes = held.delivery.message.notes
        if run.outcome.happening is Happening.UNAVAILABLE:
            run, notes = await self._degrade(held, run, notes)
        verdict = decide(run.outcome, notes, self._consumer.policy, random=self._runtime.random.random())
        self._runtime.counters.outcomes[run.outcome.happening.value] += 1
        match verdict:
            case Ack():
                if held.claim is not None:
                    await self._finish(held.claim)
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

    async def _finish(self, claim: Claim) -> None:
        """The work is done; a store that is away for a moment must not let it be done twice."""
        for left in reversed(range(_FINISH_TRIES)):
            try:
                await self._claims.finish(claim)
            except (StoreError, BrokerError):
                if not left:
                    raise
                await asyncio.sleep(0.05 * 2.0 ** (_FINISH_TRIES - left))
            else:
                return

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
        if isinstance(taken, Done):
            return run, replace(notes, degraded_at_ms=self._runtime.clock.now_ms())
        if isinstance(taken, InProgress):
            return _Run(Outcome(happening=Happening.LATER, after=min(taken.left, _LONGEST_LOOK_AGAIN))), notes
        try:
            error = await self._called(held, function, self._outage(held, run.outcome), run.payload)
        except asyncio.CancelledError:  # the worker stops: whoever gets the message next need not wait for this claim
            await self._claims.release(taken, hold=False)
            raise
        if error is None:
            await self._claims.finish(taken)
            return run, replace(notes, degraded_at_ms=self._runtime.clock.now_ms())
        await self._claims.release(taken, hold=False)
        return self._undegraded(run, error, notes)

    def _undegraded(self, run: _Run, error: BaseException, notes: Notes) -> tuple[_Run, Notes]:
        """The degraded handler raised: an attempt; when there are none left, the message waits undegraded."""
        outcome = self._outcome(error)
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
            traceback="" if error is None else runtime.redacted(_traceback(error)),
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
            "clock": self._runtime.clock,
        }


def _resolve(ended: _Answer, answer: tuple[Any, BaseException | None] | None) -> None:
    if not ended.done():
        ended.set_result(answer)


def _caught(call: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    """What a function gave or raised, as a value: a future cannot carry every exception (StopIteration, for one)."""
    try:
        return call(*arguments), None
    except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for it
        return None, error


def _seconds(after: object) -> float | None:
    """What `RetryLater` asked for, also as a timedelta; None where that is no length of time."""
    try:
        asked = seconds(after)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return None if isnan(asked) else asked


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception as problem:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<the traceback cannot be shown: {type(problem).__name__}>"


def _ids(delivery: Delivery) -> dict[str, str]:
    return {"message_id": delivery.message.id, "queue": delivery.queue}
