"""A typed queue: what cannot be handled cannot be sent."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

from redrive.backoff import Backoff
from redrive.broker import Outgoing
from redrive.consumer import Consumer, ConsumerSettings, WhenOpen
from redrive.dependency import Dependency
from redrive.errors import BrokerError, DeclarationError, NotOpen
from redrive.holding import Holding, holding_here
from redrive.payload import Payload, Unwrap
from redrive.runtime import Runtime
from redrive.sagas.definition import SagaConsumer, versioned
from redrive.sagas.saga import Saga
from redrive.sagas.steps import Step
from redrive.sending import SendOptions, at_random, prepared
from redrive.timekeeper import check_timer, set_timers
from redrive.unsent import Unsent

T = TypeVar("T")
R = TypeVar("R")


class Sender(Protocol):
    """The application, as its queues need it."""

    @property
    def runtime(self) -> Runtime:
        """What is open; NotOpen if nothing is."""
        ...

    def blocking(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function from code without an event loop."""
        ...


class Queue(Generic[T]):
    """A queue of payloads of one type."""

    def __init__(
        self,
        app: Sender,
        name: str,
        type_: Any,  # noqa: ANN401 - whatever pydantic takes
        decode: Unwrap | None,
        *,
        fifo: bool = False,
        content_deduplication: bool = False,
    ) -> None:
        self.name = name
        self.fifo, self.content_deduplication = fifo, content_deduplication
        self.payload: Payload[T] = Payload(name, type_, decode)
        self.bound_consumer: Consumer[T] | None = None
        self._app = app

    def __repr__(self) -> str:
        return f"Queue({self.name!r})"

    async def send(
        self,
        payload: T,
        *,
        delay: float | timedelta = 0.0,
        group: str | None = None,
        attributes: Mapping[str, str] | None = None,
        deduplication_id: str | None = None,
        now: bool = False,
    ) -> str:
        """Put one payload into the queue; its message id. What returned is on disk.

        Inside a handler it is held, and leaves when the handler has succeeded and not otherwise: what returned is
        checked, and in memory.

        Args:
            payload: checked by reading back what is sent.
            delay: seconds until it may be handled; beyond the broker's limit the timekeeper sends it. Not on a FIFO
                queue, where it would hold up the others.
            group: on a FIFO queue, required: the messages of one group are handled in order. On a standard queue, a
                tenant: those of one do not make those of another wait.
            attributes: your own, beside the body; at most 9.
            deduplication_id: on a FIFO queue, what is sent under the same id within five minutes is sent once, and
                answered with the first one's message id.
            now: send at once, inside a handler too, whatever becomes of it.

        Raises:
            PayloadError: If it does not fit the queue's type, or is over the limit.
            LimitExceeded: If the group, the delay or the deduplication id cannot be, or the body with so long a delay.
            BrokerUnavailable: If nothing was sent.
            OutcomeUnknown: If it may have been sent.
            NotOpen: If the application is not open.
            HandlerEnded: If the handler that holds it has ended.
        """
        options = SendOptions(delay, group, attributes, deduplication_id)
        (sent,) = await self._send_all([payload], options, now=now)
        return sent

    async def send_many(
        self,
        payloads: Iterable[T],
        *,
        delay: float | timedelta = 0.0,
        group: str | None = None,
        attributes: Mapping[str, str] | None = None,
        now: bool = False,
    ) -> list[str]:
        """Put payloads into the queue, in as few commits as the broker allows; their message ids, in order.

        All are checked before the first is sent. Raises as `send` does; what a broken call had sent before stays sent.
        """
        return await self._send_all(payloads, SendOptions(delay, group, attributes), now=now)

    async def _send_all(self, payloads: Iterable[T], options: SendOptions, *, now: bool) -> list[str]:
        runtime = self._app.runtime
        if not now and (holding := holding_here(runtime)) is not None:
            return self._hold(holding, payloads, options)
        now_ms = runtime.clock.now_ms()
        identify = at_random(now_ms, runtime.random.randbytes)
        unsent = prepared(self, payloads, options, now_ms=now_ms, identify=identify)
        if options.later > runtime.broker.capabilities.max_delay:
            messages = [one.message for one in unsent]
            await set_timers(runtime.store, self.name, messages, due_at_ms=now_ms + int(options.later * 1000))
            return [one.message.id for one in unsent]
        return await self._send(unsent, options.later)

    def _holding(self) -> Holding | None:
        """What holds sends here, on a thread too; None: nothing does, or the application is not open."""
        try:
            return holding_here(self._app.runtime)
        except NotOpen:
            return None

    def _hold(self, holding: Holding, payloads: Iterable[T], options: SendOptions) -> list[str]:
        """Leave it to whoever holds what is sent here; the message ids."""
        runtime = self._app.runtime
        unsent = prepared(self, payloads, options, now_ms=runtime.clock.now_ms(), identify=holding.identify)
        if options.later > runtime.broker.capabilities.max_delay:
            for one in unsent:
                check_timer(runtime.store, self.name, one.message)
        holding.hold(unsent)
        return [one.message.id for one in unsent]

    def send_blocking(
        self,
        payload: T,
        *,
        delay: float | timedelta = 0.0,
        group: str | None = None,
        attributes: Mapping[str, str] | None = None,
        deduplication_id: str | None = None,
        now: bool = False,
    ) -> str:
        """`send` for code without an event loop: Django views, scripts. Blocks until it is on disk.

        The application is opened on a thread of its own at the first call, and stays open until the process ends.
        Inside a handler it is held, as `send` says, and nothing blocks.
        """
        options = SendOptions(delay, group, attributes, deduplication_id)
        if not now and (holding := self._holding()) is not None:
            return self._hold(holding, [payload], options)[0]
        return self._app.blocking(lambda: self._send_all([payload], options, now=now))[0]

    def consumer(
        self,
        *,
        needs: Sequence[Dependency[Any]] = (),
        once_by: Callable[[T], object] | None = None,
        dead_on: Sequence[type[BaseException]] = (),
        max_attempts: int = 3,
        max_bounces: int = 20,
        max_crashes: int = 3,
        max_age: float | timedelta | None = None,
        backoff: Backoff = Backoff(),  # noqa: B008 - a frozen value, safe to share
        timeout: float | timedelta = 300.0,
        lease: float | timedelta = 30.0,
        concurrency: int = 10,
        when_open: WhenOpen | None = None,
    ) -> Callable[[Callable[..., Any]], Consumer[T]]:
        """Make a function the one consumer of this queue: `handler(payload)` or `handler(ctx, payload)`.

        Args:
            needs: the dependencies that the handler uses; each gets a queue of its own to park in.
            once_by: the idempotency key of a payload; the same key takes effect once, for 14 days.
            dead_on: error types that mean: this message can never succeed.
            max_attempts: turns that may end in the handler's own exception.
            max_bounces: turns that may end because a dependency failed while its circuit was closed.
            max_crashes: turns that may take their worker down.
            max_age: seconds from the original send after which it is dead rather than handled.
            backoff: between turns.
            timeout: seconds that a turn may take.
            lease: seconds that a message is ours without being extended; how long a crash holds it up.
            concurrency: handlers at once in one worker; no more than any dependency in `needs` lets through. On a FIFO
                queue each of them has another group.
            when_open: while the circuit of a dependency in `needs` is open, messages are either moved to a queue of
                their own ("park", for standard queues) or left where they are, in order ("pause", for FIFO queues).

        Raises:
            DeclarationError: If the queue has a consumer, or a setting is out of range.
        """
        settings = ConsumerSettings(
            max_attempts=max_attempts,
            max_bounces=max_bounces,
            max_crashes=max_crashes,
            max_age=max_age,
            backoff=backoff,
            timeout=timeout,
            lease=lease,
            concurrency=concurrency,
            when_open=when_open,
        )

        def register(handler: Callable[..., Any]) -> Consumer[T]:
            if self.bound_consumer is not None:
                raise DeclarationError(f"queue {self.name!r}", "has a consumer already", "use a queue for each")
            self.bound_consumer = Consumer(
                self.name,
                self.payload,
                handler,
                needs=needs,
                once_by=once_by,
                dead_on=dead_on,
                settings=settings,
                fifo=self.fifo,
            )
            return self.bound_consumer

        return register

    def saga(
        self,
        *,
        version: int = 1,
        id: Callable[[T], object],  # noqa: A002 - what it is called everywhere
        deadline: float | timedelta | None = None,
        steps: Sequence[Step[Any, Any, Any]] = (),
        lease: float | timedelta = 30.0,
        concurrency: int = 10,
        max_crashes: int = 3,
    ) -> Callable[[Callable[[Saga[R], T], Coroutine[Any, Any, Any]]], SagaConsumer[T]]:
        """Make a function the saga of this queue: `async def function(saga, payload)`. Each message begins an instance.

        A queue may have several versions of its saga: new instances begin with the highest, and a running one keeps
        its own.

        Args:
            version: of the function, 1 or more; a change that a running instance cannot follow needs a higher one.
            id: what the instance of a payload is known by, at most 200 characters; a second message with the same id
                and payload begins nothing.
            deadline: seconds from its beginning after which what is left is given up, and what was done is undone.
            steps: those that cannot be found by the names that the function uses.
            lease: seconds that a wake-up is ours without being extended; how long a crash holds an instance up.
            concurrency: instances that go on at once in one worker.
            max_crashes: turns that may take their worker down, before the instance is stuck.

        Raises:
            DeclarationError: If the queue has a consumer or is a FIFO queue, or a setting is out of range.
        """
        if self.fifo:
            raise DeclarationError(f"the saga of {self.name!r}", "is on a FIFO queue", "use a standard queue for sagas")

        def register(function: Callable[[Saga[R], T], Coroutine[Any, Any, Any]]) -> SagaConsumer[T]:
            one = versioned(function, self.name, version=version, id_=id, deadline=deadline)
            if isinstance(self.bound_consumer, SagaConsumer):
                self.bound_consumer.add(one, steps)
                return self.bound_consumer
            if self.bound_consumer is not None:
                raise DeclarationError(f"queue {self.name!r}", "has a consumer already", "use a queue for each")
            saga = SagaConsumer(
                self._app,
                self.name,
                self.payload,
                one,
                steps=steps,
                lease=lease,
                concurrency=concurrency,
                max_crashes=max_crashes,
            )
            self.bound_consumer = saga
            return saga

        return register

    async def _send(self, unsent: Sequence[Unsent], delay: float) -> list[str]:
        broker = self._app.runtime.broker
        size = broker.capabilities.max_batch
        ids: list[str] = []
        for start in range(0, len(unsent), size):
            part = unsent[start : start + size]
            outgoing = [
                Outgoing(message=one.message, delay=delay or None, deduplication_id=one.deduplication_id)
                for one in part
            ]
            for one, sent in zip(part, await broker.send(self.name, outgoing), strict=True):
                if isinstance(sent, BrokerError):
                    raise sent
                ids.append(one.message.id if sent is None else sent.id)
        return ids
