"""An application in memory and in virtual time.

Nothing here is a mock: the engine, the turns, the healer and the timekeeper are the real ones, driven step by step
instead of by loops and clocks. A ten-minute outage takes milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import replace
from random import Random
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from redrive.annotations import Annotations
from redrive.broker import Acknowledge, Broker, Forward, Sent, Settlement
from redrive.brokers.sqlite import SqliteBroker
from redrive.calling import Held
from redrive.clock import Clock, ManualClock
from redrive.consumer import Consumer
from redrive.dependency import Dependency
from redrive.errors import BrokerError, DeclarationError, StoreError
from redrive.healer import Healer
from redrive.intake import Intake
from redrive.leadership import Leadership
from redrive.message import Message
from redrive.order import Order, let_through
from redrive.queue import Queue
from redrive.renewal import Renewal
from redrive.runtime import Runtime
from redrive.sagas.replay import Replays
from redrive.sagas.turns import turns_for
from redrive.sagas.waking import Waker
from redrive.sqlite.writer import InlineDatabase
from redrive.store import SAGAS, SCHEDULES, TIMERS, Store
from redrive.stores.sqlite import SqliteStore
from redrive.timekeeper import Schedule, Timekeeper
from redrive.turn import Turns
from redrive.worker import parked_queues

T = TypeVar("T")
R = TypeVar("R")
_CURRENT: ContextVar[Harness[Any] | None] = ContextVar("redrive_harness", default=None)
_MOST_TURNS = 100_000


class Application(Protocol):
    """The application, as the harness needs it."""

    @property
    def consumers(self) -> list[Consumer[Any]]:
        """Its consumers."""
        ...

    @property
    def dependencies(self) -> Mapping[str, Dependency[Any]]:
        """Its dependencies, by name."""
        ...

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """Its schedules, by name."""
        ...

    async def open_on(self, broker: Broker, store: Store, *, clock: Clock, random: Random) -> Runtime:
        """Open it on these."""
        ...

    async def close(self) -> None:
        """Let go of them."""
        ...


class _AlwaysLeads(Leadership):
    """There is one process."""

    async def held(self) -> bool:
        return True


class Harness(Generic[R]):
    """What `async with app.test(resources=fake) as t:` gives."""

    def __init__(
        self,
        app: Application,
        *,
        resources: R,
        seed: int,
        broker: Callable[[Broker], Broker] | None = None,
        store: Callable[[Store], Store] | None = None,
        replay: bool = True,
    ) -> None:
        self._app, self._resources, self._replay = app, resources, replay
        self._in_front = broker or _nothing, store or _nothing
        self.clock = ManualClock()
        """Virtual time; `advance` moves it."""
        self._random = Random(seed)  # noqa: S311 - repeatable on purpose
        self._sent: dict[str, list[Message]] = {}

    async def __aenter__(self) -> Self:
        self._database = InlineDatabase(self.clock)
        self._broker = _Recording(self._database, self._sent)
        broker, store = self._in_front
        self._runtime = await self._app.open_on(
            broker(self._broker), store(SqliteStore(self._database)), clock=self.clock, random=self._random
        )
        self._runtime.resources = self._resources
        self._threads = ThreadPoolExecutor(thread_name_prefix="redrive-handler")
        self._turns = {one.queue: (one, turns_for(self._runtime, one, self._threads)) for one in self._app.consumers}
        for dependency in self._app.dependencies.values():
            if dependency.gate is not None:
                dependency.gate.sleep = lambda _: asyncio.sleep(0)
        self._set_up_leaders()
        self._token = _CURRENT.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _CURRENT.reset(self._token)
        await self._timekeeper.resign()
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._app.close()

    @property
    def runtime(self) -> Runtime:
        """What is open: broker, store, counters."""
        return self._runtime

    async def drain(self) -> int:
        """Run turns until nothing is ready now; how many ran. Time stands still.

        Each saga that has ended meanwhile is replayed: its function is run once more, against its journal.

        Raises:
            NonDeterministic: If that goes another way than it went.
        """
        turns = 0
        while ran := await self._turn_everything():
            turns += ran
            if turns > _MOST_TURNS:
                message = f"{turns} turns and still something is ready: a message comes back at once, for ever"
                raise RuntimeError(message)
        if turns and self._replay:
            await self._replays.step(SqliteStore(self._database))
        return turns

    async def advance(self, seconds: float) -> int:
        """Let virtual time pass, stopping at everything that becomes due on the way; how many turns ran."""
        end = self.clock.now_ms() + int(seconds * 1000)
        turns = await self._settle_down()
        while self.clock.now_ms() < end:
            due = min([end, *(at for at in self._due() if at > self.clock.now_ms())])
            self.clock.advance((due - self.clock.now_ms()) / 1000)
            turns += await self._settle_down()
        return turns

    def down(self, dependency: Dependency[Any]) -> None:
        """From now on every call and canary of it fails at once."""
        self._runtime.faults.down(dependency.name)

    def heal(self, dependency: Dependency[Any]) -> None:
        """It is healthy again; nobody is told: the canary will find out."""
        self._runtime.faults.heal(dependency.name)

    async def parked(self, queue: Queue[Any]) -> list[Message]:
        """What waits for a healthy dependency."""
        consumer = _consumer(queue)
        return [one for need in consumer.needs for one in await self._browse(consumer.parked_queue(need))]

    async def dead(self, queue: Queue[Any]) -> list[Message]:
        """What waits for a person."""
        return await self._browse(_consumer(queue).dead_queue)

    async def waiting(self, queue: Queue[Any]) -> list[Message]:
        """What is ready or delayed."""
        return await self._browse(queue.name)

    def sent(self, queue: Queue[Any]) -> list[Message]:
        """Everything sent to a queue since the test began."""
        return list(self._sent.get(queue.name, ()))

    def _set_up_leaders(self) -> None:
        leads = _AlwaysLeads(self._runtime.store, self.clock, task="test", holder="test")
        self._healers = [
            Healer(self._runtime, one, parked_queues(self._app.consumers, one.name), leadership=leads)
            for one in self._app.dependencies.values()
        ]
        self._timekeeper = Timekeeper(self._runtime, list(self._app.schedules.values()), leadership=leads)
        self._waker = Waker(self._runtime, leadership=leads)
        self._replays = Replays(self._app.consumers)
        self._intake = Intake(self._runtime.broker, self._runtime.store, self.clock)
        self._renewal = Renewal(self._runtime.broker, self.clock)
        self._healer_due: dict[int, int] = {}

    async def _turn_everything(self) -> int:
        ran = 0
        for consumer, turns in self._turns.values():
            if not (room := await let_through(consumer, consumer.concurrency, in_hand=0)):
                continue
            room = min(room, self._runtime.broker.capabilities.max_batch)
            deliveries = await self._runtime.broker.receive(consumer.queue, limit=room, lease=consumer.lease)
            order = Order(fifo=consumer.fifo)
            first = [held for held in map(Held, deliveries) if order.enter(held)]
            await asyncio.gather(*(self._line(turns, held, order) for held in first))
            ran += len(deliveries)
        return ran

    async def _line(self, turns: Turns, held: Held | None, order: Order) -> None:
        """One message and what is behind it, in order, as the pump does it."""
        while held is not None:
            settlement = await self._turn(turns, held)
            held, back = order.leave(held, gone=isinstance(settlement, (Acknowledge, Forward)))
            await self._runtime.broker.settle([turns.untouched(one.delivery) for one in back])

    async def _turn(self, turns: Turns, held: Held) -> Settlement | None:
        try:
            settlement = await turns.turn(held)
        except (StoreError, BrokerError):
            settlement = turns.back(held.delivery, 1.0)
        if settlement is not None:
            (error,) = await self._runtime.broker.settle([settlement])
            if error is not None:
                raise error
        return settlement

    async def _settle_down(self) -> int:
        """Drain, and let healers, timekeeper and intake do what is due at this instant."""
        turns = await self.drain()
        now = self.clock.now_ms()
        for number, healer in enumerate(self._healers):
            if self._healer_due.get(number, 0) <= now:
                pause = await healer.step()
                self._healer_due[number] = now + max(1, int(pause * 1000))
        await self._timekeeper.step()
        while not await self._waker.step():  # more are due than it takes at a time
            turns += await self.drain()
        for consumer, _ in self._turns.values():
            with contextlib.suppress(StoreError, BrokerError):  # as in a worker: it looks again later
                await self._intake.step(consumer.queue)
                for need in consumer.needs:
                    await self._renewal.step(consumer.parked_queue(need))
        return turns + await self.drain()

    def _due(self) -> list[int]:
        """The instants at which something becomes due."""
        tables = self._database.tables
        found = [tables.engine.next_visible_ms(queue) for queue in self._turns]
        found += [tables.entries.next_due_ms(namespace) for namespace in (TIMERS, SCHEDULES, SAGAS)]
        return [at for at in (*found, *self._healer_due.values()) if at is not None]

    async def _browse(self, queue: str) -> list[Message]:
        messages = (await self._broker.browse(queue, limit=10_000)).messages
        if self._runtime.broker.capabilities.uncounts:
            return messages
        annotations = Annotations(self._runtime.store, self.clock)
        return [replace(one, notes=await annotations.read(queue, one) or one.notes) for one in messages]


class _Recording(SqliteBroker):
    """The embedded broker in memory; remembers what was sent."""

    def __init__(self, database: InlineDatabase, sent: dict[str, list[Message]]) -> None:
        super().__init__(database)
        self._sent = sent

    async def send(self, queue: str, messages: Any) -> Any:  # noqa: ANN401 - as in SqliteBroker
        results = await super().send(queue, messages)
        sent = [
            one.message
            for one, result in zip(messages, results, strict=True)
            if result is None or (isinstance(result, Sent) and not result.duplicate)
        ]
        self._sent.setdefault(queue, []).extend(sent)
        return results


@contextlib.asynccontextmanager
async def outage(dependency: Dependency[Any], minutes: float) -> AsyncIterator[None]:
    """An outage of so many minutes of virtual time.

    It begins here. At the end of the block the rest of it passes, and the dependency is healthy again. What the healer
    then does takes time of its own: `await t.advance(...)`.

    Raises:
        DeclarationError: If it is used outside of `app.test()`.
    """
    harness = _CURRENT.get()
    if harness is None:
        raise DeclarationError(f"outage of {dependency.name!r}", "has no test to happen in", "use it inside app.test()")
    end = harness.clock.now_ms() + int(minutes * 60_000)
    harness.down(dependency)
    yield
    await harness.advance(max(0.0, (end - harness.clock.now_ms()) / 1000))
    harness.heal(dependency)


def _nothing(real: T) -> T:
    """Nothing is in front of it."""
    return real


def _consumer(queue: Queue[Any]) -> Consumer[Any]:
    if queue.bound_consumer is None:
        raise DeclarationError(f"queue {queue.name!r}", "has no consumer", "declare one")
    return queue.bound_consumer
