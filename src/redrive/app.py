"""The application: what is declared, and how it is opened."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import timedelta
from pathlib import Path
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast, overload

from redrive.annotations import annotated
from redrive.backoff import seconds
from redrive.board import Board
from redrive.broker import Broker, QueueSpec
from redrive.circuit import CircuitPolicy
from redrive.circuits import CircuitChange, SharedCircuit
from redrive.clock import Clock, SteadyClock, SystemClock
from redrive.connections import absolute, connect
from redrive.consumer import Consumer, dead_queue, parked_queue
from redrive.dependency import Dependency, Faults
from redrive.errors import DeclarationError, NotConfigured, NotOpen
from redrive.gate import Gate
from redrive.idempotency import once
from redrive.manifest import leave_manifest, manifest
from redrive.message import Message
from redrive.outbox.writing import AsyncConnection, AsyncOutbox, Connection, Outbox, outbox
from redrive.payload import Unwrap
from redrive.queue import Queue
from redrive.runtime import GRACE, Observers, Runtime
from redrive.store import Store
from redrive.timekeeper import Schedule

if TYPE_CHECKING:
    from redrive.harness import Harness

T = TypeVar("T")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

Resources = Callable[[], AbstractAsyncContextManager[R]]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")
_PERIOD = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(second|minute|hour|day)s?\s*")
_UNITS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}


class App(Generic[R]):
    """Queues, consumers, dependencies and schedules under one name, on one broker.

    Declaring does no I/O and reads no environment. `async with app:` opens it for sending; `redrive worker` runs it.
    """

    @overload
    def __init__(
        self: App[None],
        name: str,
        *,
        broker: str | None = None,
        code_version: str = "",
        redact: Callable[[str], str] | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        name: str,
        *,
        broker: str | None = None,
        resources: Resources[R],
        code_version: str = "",
        redact: Callable[[str], str] | None = None,
    ) -> None: ...

    def __init__(
        self,
        name: str,
        *,
        broker: str | None = None,
        resources: Resources[Any] | None = None,
        code_version: str = "",
        redact: Callable[[str], str] | None = None,
    ) -> None:
        """Begin to declare an application.

        Args:
            name: `[A-Za-z0-9_-]`, at most 60 characters.
            broker: its address, `sqlite:coffee.db`; a relative file belongs beside the module that makes the App.
                REDRIVE_BROKER overrides it when the application is opened.
            resources: an async context manager, opened once for each worker on its loop; handlers get what it yields.
            code_version: written into failure records.
            redact: applied to every text of a failure before it is written.

        Raises:
            DeclarationError: If the name cannot be one.
        """
        self.name = _checked_name("application", name)
        self._broker_address = broker
        self._folder = Path(sys._getframe(1).f_globals.get("__file__", ".")).resolve().parent  # noqa: SLF001
        self._resources = resources
        self._code_version, self._redact = code_version, redact
        self.queues: dict[str, Queue[Any]] = {}
        self.dependencies: dict[str, Dependency[R]] = {}
        self.schedules: dict[str, Schedule] = {}
        self.relays: list[str | Callable[[], str]] = []
        self._recover_within: dict[str, float] = {}
        self._observers = Observers()
        self._runtime: Runtime | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._blocking_lock = threading.Lock()
        self._process: int | None = None

    def __repr__(self) -> str:
        return f"App({self.name!r})"

    # What is declared

    @overload
    def queue(
        self,
        name: str,
        type_: type[T],
        *,
        decode: Unwrap | None = None,
        fifo: bool = False,
        content_deduplication: bool = False,
    ) -> Queue[T]: ...

    @overload
    def queue(
        self,
        name: str,
        type_: Any,  # noqa: ANN401
        *,
        decode: Unwrap | None = None,
        fifo: bool = False,
        content_deduplication: bool = False,
    ) -> Queue[Any]: ...

    def queue(
        self,
        name: str,
        type_: Any,
        *,
        decode: Unwrap | None = None,
        fifo: bool = False,
        content_deduplication: bool = False,
    ) -> Queue[Any]:
        """Declare a typed queue.

        Args:
            name: `[A-Za-z0-9_-]`, at most 60 characters, not ending in `-dead` nor holding `-parked-`.
            type_: whatever pydantic's TypeAdapter takes.
            decode: takes the body out of a foreign envelope; raises ValueError where it does not fit.
            fifo: the messages of each group are handled in the order in which they were sent, one at a time, and what
                is sent twice within five minutes is sent once.
            content_deduplication: on a FIFO queue, the same body within five minutes is the same message.

        Raises:
            DeclarationError: If the name is taken or cannot be one.
        """
        if name.endswith("-dead") or "-parked-" in name:
            raise DeclarationError(f"queue {name!r}", "has a reserved name", "leave out -dead and -parked-")
        if name in self.queues:
            raise DeclarationError(f"queue {name!r}", "is declared twice", "keep one and import it")
        if content_deduplication and not fifo:
            raise DeclarationError(f"queue {name!r}", "is a standard queue: it deduplicates nothing", "add fifo=True")
        queue: Queue[Any] = Queue(
            self,
            _checked_name("queue", name),
            type_,
            decode,
            fifo=fifo,
            content_deduplication=content_deduplication,
        )
        self.queues[name] = queue
        return queue

    def dependency(
        self,
        name: str,
        *,
        timeout: float | timedelta = 10.0,
        concurrency: int = 10,
        canary: Callable[[R], Awaitable[object]] | Callable[[], Awaitable[object]] | None = None,
        canary_every: float | timedelta | None = None,
        recover_within: float | timedelta | None = None,
        trip_after: int = 5,
        faults: Faults | None = None,
        max_rate: float = 50.0,
    ) -> Dependency[R]:
        """Declare something outside that handlers need and that can be down.

        Args:
            name: `[A-Za-z0-9_-]`, at most 60 characters.
            timeout: seconds that one try may take.
            concurrency: calls under way at once in one worker: the most that an outage can waste.
            canary: asks it something harmless, and raises when it is not healthy; takes the resources, or nothing.
            canary_every: the longest time between two canaries during an outage, in seconds; 60 unless
                `recover_within` says otherwise.
            recover_within: how soon after the dependency is healthy everything parked should be handled, in seconds;
                sets the canary's period to a tenth, and a forecast that is longer is a warning.
            trip_after: failures in a row, of different messages, that trip the circuit; half of ten calls or more in
                30 s trip it too.
            faults: which errors are its faults: types, or a predicate. Unless given: every Exception but bugs
                (TypeError, AttributeError, NameError, LookupError, AssertionError, ValidationError), `Reject` and
                `RetryLater`.
            max_rate: the fastest redrive, in messages a second.

        Raises:
            DeclarationError: If the name is taken, or a setting is out of range.
        """
        if name in self.dependencies:
            raise DeclarationError(f"dependency {name!r}", "is declared twice", "keep one and import it")
        within = None if recover_within is None else seconds(recover_within)
        period = seconds(canary_every) if canary_every is not None else (within / 10 if within is not None else 60.0)
        dependency: Dependency[R] = Dependency(
            _checked_name("dependency", name),
            timeout=seconds(timeout),
            concurrency=concurrency,
            canary=canary,
            circuit=CircuitPolicy(trip_after=trip_after, probe_every=period),
            faults=faults,
            max_rate=max_rate,
        )
        self.dependencies[name] = dependency
        if within is not None:
            self._recover_within[name] = within
        return dependency

    def every(self, period: str | float | timedelta, *, name: str | None = None) -> Callable[[F], F]:
        """Run a function every so often, once for all workers: `@app.every("5 minutes")`.

        The function takes the resources, or nothing. A tick that a crash cuts off is left to the next one.

        Raises:
            DeclarationError: If the period is not like "5 minutes", or the name is taken.
        """
        length = _period(period)

        def register(function: F) -> F:
            title = str(name or getattr(function, "__name__", "schedule"))
            if title in self.schedules:
                raise DeclarationError(f"schedule {title!r}", "is declared twice", "give one of them name=...")
            self.schedules[title] = Schedule(name=title, every=length, function=function)
            return function

        return register

    @overload
    def outbox(self, connection: Connection) -> Outbox: ...

    @overload
    def outbox(self, connection: AsyncConnection) -> AsyncOutbox: ...

    def outbox(self, connection: Connection | AsyncConnection) -> Outbox | AsyncOutbox:
        """Send in your own transaction: `app.outbox(connection).send(orders, order)` writes a row; a relay sends it.

        The application need not be open, nor its broker reachable.

        Args:
            connection: of sqlite3, psycopg or SQLAlchemy, or a session of SQLAlchemy; those of psycopg and SQLAlchemy
                that are awaited, and aiosqlite's, give an outbox to await.
        """
        clock = SystemClock() if self._runtime is None else self._runtime.clock
        return outbox(self, connection, clock)

    def relay(self, address: str | Callable[[], str]) -> None:
        """Let the workers send what is committed in the outbox of a database; one of them at a time does it.

        Args:
            address: `sqlite:FILE` or `postgresql://...`, or a function that gives it whenever a connection is made. A
                relative file belongs beside the module that makes the App.
        """
        self.relays.append(address)

    def once(
        self,
        *,
        key: Callable[..., object],
        name: str | None = None,
        compare: Callable[..., object] | None = None,
        lease: float | timedelta = 30.0,
        wait: float | timedelta = 30.0,
    ) -> Callable[[F], F]:
        """Let any function take effect once for each key: `redrive.once` on this application, which says the rest."""
        return once(self, key=key, name=name, compare=compare, lease=lease, wait=wait)

    def on_dead(self, function: Callable[[Message, str], Any]) -> Callable[[Message, str], Any]:
        """Be told of every death: the message and the reason. At most 60 calls a minute; it cannot change anything."""
        self._observers.on_dead.append(function)
        return function

    def on_circuit(self, function: Callable[[CircuitChange], Any]) -> Callable[[CircuitChange], Any]:
        """Be told of every change of a circuit that this worker sees."""
        self._observers.on_circuit.append(function)
        return function

    @property
    def consumers(self) -> list[Consumer[Any]]:
        """The consumers declared so far."""
        return [queue.bound_consumer for queue in self.queues.values() if queue.bound_consumer is not None]

    # How it is opened

    def address(self) -> str:
        """The broker's address in full, by REDRIVE_BROKER or else by the code.

        Raises:
            NotConfigured: If there is none.
        """
        if from_environment := os.environ.get("REDRIVE_BROKER"):
            return absolute(from_environment, Path.cwd())
        if self._broker_address is None:
            raise NotConfigured(self.name)
        return absolute(self._broker_address, self._folder)

    @property
    def runtime(self) -> Runtime:
        """What is open.

        Raises:
            NotOpen: If the application is not.
        """
        if self._runtime is None:
            raise NotOpen(self.name)
        return self._runtime

    async def __aenter__(self) -> Self:
        clock = SteadyClock(SystemClock())
        broker, store = await asyncio.to_thread(connect, self.address(), clock)
        try:
            await self.open_on(broker, store, clock=clock, random=Random())  # noqa: S311 - jitter and ids, no secrets
        except BaseException:
            await broker.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open_on(self, broker: Broker, store: Store, *, clock: Clock, random: Random) -> Runtime:
        """Open on a broker and a store that are open already: for tests, and for adapters of your own."""
        if self._runtime is not None:
            raise DeclarationError(f"application {self.name!r}", "is open already", "open it once in a process")
        for consumer in self.consumers:
            consumer.prepare()
        broker = annotated(broker, store, clock)
        runtime = Runtime(
            app=self.name,
            broker=broker,
            store=store,
            clock=clock,
            random=random,
            worker=f"{socket.gethostname()}-{os.getpid()}-{os.urandom(2).hex()}",
            code_version=self._code_version,
            redact=self._redact,
            observers=self._observers,
        )
        await broker.declare(self.queue_specs(uncounts=broker.capabilities.uncounts))
        self._runtime, self._loop = runtime, asyncio.get_running_loop()
        for dependency in self.dependencies.values():
            dependency.gate = self._gate(dependency, runtime)
        return runtime

    async def close(self) -> None:
        """Let go of the broker and the store."""
        runtime, self._runtime, self._loop = self._runtime, None, None
        for dependency in self.dependencies.values():
            dependency.gate = None
        if runtime is not None:
            await runtime.broker.close()
            await runtime.store.close()

    def queue_specs(self, *, uncounts: bool = True) -> list[QueueSpec]:
        """Every queue that the broker has to have: each with its dead-letter queue, and one for each need.

        Args:
            uncounts: whether the broker can take back a count.
        """
        specs: list[QueueSpec] = []
        for queue in self.queues.values():
            consumer = queue.bound_consumer
            backstop = consumer.backstop(uncounts=uncounts) if consumer else None
            dead = dead_queue(queue.name) if backstop else None
            specs.append(
                QueueSpec(
                    name=queue.name,
                    fifo=queue.fifo,
                    content_deduplication=queue.content_deduplication,
                    dead_letter_queue=dead,
                    max_receives=backstop,
                )
            )
            waiting = [dead_queue(queue.name)]
            waiting += [parked_queue(queue.name, need) for need in (consumer.needs if consumer else ())]
            specs += [QueueSpec(name=name, fifo=queue.fifo) for name in waiting]
        return specs

    async def work(
        self,
        *,
        stop: asyncio.Event,
        board: Board | None = None,
        isolated_by: Sequence[str] | None = None,
        grace: float = GRACE,
    ) -> bool:
        """Run a worker on this open application until `stop` is set; True when its process has to be replaced."""
        from redrive.isolation import Isolation  # noqa: PLC0415 - whoever only sends need not import what works
        from redrive.outbox.relaying import relays  # noqa: PLC0415 - whoever only sends need not import what works
        from redrive.worker import Worker  # noqa: PLC0415 - likewise

        runtime = self.runtime
        async with AsyncExitStack() as stack:
            if self._resources is not None:
                runtime.resources = await stack.enter_async_context(self._resources())
            consumers, dependencies = self.consumers, list(self.dependencies.values())
            await leave_manifest(runtime.store, manifest(self.name, consumers, dependencies))
            worker = Worker(
                runtime,
                consumers=consumers,
                dependencies=dependencies,
                schedules=list(self.schedules.values()),
                relays=relays(runtime, self.relays, self._folder),
                recover_within=self._recover_within,
                existing=await runtime.broker.queues(),
                board=board,
                isolation=None if isolated_by is None else Isolation(runtime, consumers, isolated_by),
                grace=grace,
            )
            stopping = asyncio.create_task(_when(stop, worker.stop))
            try:
                await worker.run()
            finally:
                stopping.cancel()
                runtime.resources = None
            return worker.stuck

    @property
    def resources(self) -> Resources[Any] | None:
        """What opens the resources of a worker."""
        return self._resources

    def blocking(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function from code without an event loop; the application is opened for it if need be."""
        if self._process not in {None, os.getpid()}:
            problem = "was opened before this process was forked, and its thread is not in it"
            raise DeclarationError(f"application {self.name!r}", problem, "send the first time after the fork")
        with self._blocking_lock:
            if self._loop is None:
                self._open_on_thread()
            loop = self._loop
        try:
            inside = asyncio.get_running_loop() is loop
        except RuntimeError:
            inside = False
        if inside or loop is None:
            raise DeclarationError("a blocking call", "was made on the application's own event loop", "use `await`")
        return asyncio.run_coroutine_threadsafe(call(), loop).result()

    def test(
        self,
        *,
        resources: R | None = None,
        seed: int = 0,
        broker: Callable[[Broker], Broker] | None = None,
        store: Callable[[Store], Store] | None = None,
        replay: bool = True,
    ) -> Harness[R]:
        """The application in memory and in virtual time, for tests: `async with app.test(resources=fake) as t:`.

        Args:
            resources: what handlers get.
            seed: of jitter and ids.
            broker: puts a broker in front of the one in memory: `PlainBroker`, `FaultyBroker`.
            store: puts a store in front of the one in memory: `FaultyStore`.
            replay: run the function of each saga that has ended once more, against its journal.
        """
        from redrive.harness import Harness  # noqa: PLC0415 - for tests alone

        return Harness(self, resources=cast("R", resources), seed=seed, broker=broker, store=store, replay=replay)

    def _open_on_thread(self) -> None:
        self._process = os.getpid()
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, name=f"redrive-{self.name}", daemon=True).start()
        asyncio.run_coroutine_threadsafe(self.__aenter__(), loop).result()

    def _gate(self, dependency: Dependency[R], runtime: Runtime) -> Gate:
        shared = SharedCircuit(
            dependency.name,
            runtime.store,
            runtime.clock,
            lambda change: runtime.observers.circuit(change, runtime.clock.now_ms()),
        )
        gate = Gate(
            dependency.name,
            policy=dependency.circuit,
            concurrency=dependency.concurrency,
            timeout=dependency.timeout,
            has_canary=dependency.canary is not None,
            shared=shared,
            clock=runtime.clock,
            random=runtime.random,
            worker=runtime.worker,
            counters=runtime.counters,
            faults=runtime.faults,
        )
        gate.loop = self._loop
        gate.redacted = runtime.redacted
        return gate


async def _when(event: asyncio.Event, then: Callable[[], None]) -> None:
    await event.wait()
    then()


def _checked_name(what: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise DeclarationError(f"{what} {name!r}", "has a name that brokers refuse", "use 1 to 60 of A-Z a-z 0-9 _ -")
    return name


def _period(period: str | float | timedelta) -> float:
    if not isinstance(period, str):
        length = seconds(period)
    elif match := _PERIOD.fullmatch(period):
        length = float(match[1]) * _UNITS[match[2]]
    else:
        raise DeclarationError(f"period {period!r}", "cannot be read", 'write it like "5 minutes" or timedelta(...)')
    if length < 1:
        raise DeclarationError(f"period {period!r}", "is too short", "use 1 second or more")
    return length
