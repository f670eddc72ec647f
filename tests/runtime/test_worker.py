"""A worker on a real file: what it takes, what it holds, what it survives, and how it stops."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from redrive import App, BrokerUnavailable, Context, Outage
from redrive.broker import Depth
from redrive.healer import Healer
from redrive.intake import Intake
from redrive.message import NOTHING
from redrive.operations import Operations
from redrive.store import CONTROLS
from redrive.timekeeper import Timekeeper
from redrive.worker import Worker
from tests.runtime.fakes import Order, opened, until, within, working

pytestmark = pytest.mark.usefixtures("any_broker")


class Shop:
    """An application whose handlers wait to be let go."""

    def __init__(self, *, holds: bool = True, **settings: Any) -> None:
        self.app: App[None] = App("test")
        self.payments = self.app.dependency("payments")
        self.queue = self.app.queue("orders", Order)
        self.contexts: list[Context[None]] = []
        self.done: list[str] = []
        self.go_on = asyncio.Event()
        if not holds:
            self.go_on.set()

        @self.queue.consumer(**{"needs": [self.payments], "lease": 1.0, **settings})
        async def handle(ctx: Context[None], order: Order) -> None:
            self.contexts.append(ctx)
            await self.go_on.wait()
            self.done.append(order.id)

    async def send(self, count: int) -> list[str]:
        return await self.queue.send_many([Order(id=str(number)) for number in range(count)])

    async def depth(self) -> Depth:
        return await self.app.runtime.broker.depth("orders")

    async def empty(self) -> bool:
        return (await self.depth()).total == 0


async def test_a_worker_holds_no_more_than_can_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred messages a worker with three lanes takes three; the rest stays for others."""
    shop = Shop(concurrency=3)
    async with opened(shop.app, tmp_path, monkeypatch), working(shop.app, grace=0.1):
        await shop.send(100)
        await until(lambda: len(shop.contexts) == 3)
        assert await shop.depth() == Depth(ready=97, in_flight=3)


async def test_what_became_slow_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fast handlers are prefetched for; when they hang, what cannot start any more goes back to others."""
    shop = Shop(concurrency=2, holds=False, lease=1.0)
    async with opened(shop.app, tmp_path, monkeypatch), working(shop.app, grace=0.1):
        await shop.send(200)
        await until(lambda: len(shop.done) == 200)
        shop.go_on.clear()
        await shop.send(100)
        await until(lambda: len(shop.contexts) == 202)

        async def given_back() -> bool:
            return (await shop.depth()).in_flight <= 4

        await until(given_back)


async def test_the_lease_of_a_long_handler_is_extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that takes three leases has its message to itself: nobody else receives it, it runs once."""
    shop = Shop(once_by=lambda order: order.id)
    async with opened(shop.app, tmp_path, monkeypatch), working(shop.app):
        await shop.send(1)
        await until(lambda: shop.contexts)
        watched_until = asyncio.get_running_loop().time() + 3.2

        async def watched() -> bool:
            assert await shop.app.runtime.broker.receive("orders", limit=1, lease=1.0) == []
            return asyncio.get_running_loop().time() > watched_until

        await until(watched)
        shop.go_on.set()
        await until(shop.empty)
        assert len(shop.contexts) == 1


async def test_stopping_finishes_what_runs_and_hands_the_rest_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs may end within the grace; what waits in hand is ready again at once, with nothing counted."""
    shop = Shop(concurrency=2, holds=False)
    async with opened(shop.app, tmp_path, monkeypatch):
        async with working(shop.app, grace=5.0) as stop:
            await shop.send(100)
            await until(lambda: len(shop.done) == 100)
            await until(shop.empty)
            shop.go_on.clear()
            await shop.send(10)
            await until(lambda: len(shop.contexts) == 102)
            stop.set()

            async def handed_back() -> bool:
                return (await shop.depth()) == Depth(ready=8, in_flight=2)

            await until(handed_back, 3)
            shop.go_on.set()
        assert len(shop.done) == 102
        assert await shop.depth() == Depth(ready=8)
        taken = await shop.app.runtime.broker.receive("orders", limit=10, lease=1.0)
        assert [one.message.notes for one in taken] == [NOTHING] * 8
        assert {one.receive_count for one in taken} <= {1, 2}


async def test_what_does_not_end_within_the_grace_is_handed_back_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off, its key freed, ready for others, and nothing counted."""
    shop = Shop(once_by=lambda order: order.id, lease=30.0)
    async with opened(shop.app, tmp_path, monkeypatch):
        async with working(shop.app, grace=0.1):
            await shop.send(1)
            await until(lambda: shop.contexts)
        assert await shop.depth() == Depth(ready=1)
        shop.go_on.set()
        async with working(shop.app):
            await until(shop.empty, 3)
        assert shop.done == ["0"]
        assert shop.contexts[-1].receive_count == 2
        assert shop.contexts[-1].attempt == 1


@pytest.mark.usefixtures("failing_store")
async def test_what_is_received_while_it_stops_is_handed_back_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between a receive and a look at whether the queue is paused: nothing is left to its lease."""
    shop = Shop(lease=30.0, holds=False)
    async with opened(shop.app, tmp_path, monkeypatch):
        async with working(shop.app, grace=1.0) as stop:
            await until(lambda: True)
            store: Any = shop.app.runtime.store
            looking, get = asyncio.Event(), store._store.get
            received = asyncio.Event()

            async def slow(namespace: Any, key: str) -> Any:
                if namespace is CONTROLS and received.is_set():
                    looking.set()
                    await asyncio.Event().wait()
                return await get(namespace, key)

            receive = shop.app.runtime.broker.receive

            async def receiving(*arguments: Any, **settings: Any) -> Any:
                taken = await receive(*arguments, **settings)
                if taken and arguments[0] == "orders":
                    received.set()
                return taken

            monkeypatch.setattr(shop.app.runtime.broker, "receive", receiving)
            store._store.get = slow
            await asyncio.wait({asyncio.ensure_future(asyncio.Event().wait())}, timeout=1.1)  # its last look gets old
            await shop.send(1)
            await within(looking.wait())
            stop.set()
        assert await shop.depth() == Depth(ready=1)


async def test_pause_and_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A paused queue gives nothing out, also to a worker that was waiting already; resumed, it goes on."""
    shop = Shop(holds=False)
    async with opened(shop.app, tmp_path, monkeypatch), working(shop.app):
        operations = Operations.of(shop.app, who="me")
        await shop.send(1)
        await until(lambda: len(shop.done) == 1)
        await operations.pause("orders")
        assert (await operations.queue("orders")).paused
        await asyncio.wait({asyncio.ensure_future(asyncio.Event().wait())}, timeout=1.1)  # "within a second"
        await shop.send(3)
        await asyncio.wait({asyncio.ensure_future(asyncio.Event().wait())}, timeout=1.0)
        assert len(shop.done) == 1
        await operations.resume("orders")
        await until(lambda: len(shop.done) == 4)


# Nothing takes a worker down


LOOPS = [
    (Worker, "_beat"),
    (Worker, "_take_in"),
    (Healer, "step"),
    (Timekeeper, "step"),
    (Intake, "step"),
]


@pytest.mark.parametrize(("owner", "name"), LOOPS)
async def test_an_exception_in_a_loop_is_logged_and_survived(
    owner: type, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of the loops may raise anything: it is logged, counted, and the loop goes on; messages are handled."""
    original = getattr(owner, name)
    raised = 0
    recovered = asyncio.Event()

    async def failing(*arguments: Any) -> Any:
        nonlocal raised
        if raised < 2:
            raised += 1
            raise ZeroDivisionError("injected")
        recovered.set()
        return await original(*arguments)

    monkeypatch.setattr(owner, name, failing)
    shop = Shop(holds=False)
    async with opened(shop.app, tmp_path, monkeypatch), working(shop.app):
        await shop.send(1)
        await until(lambda: shop.done)
        await within(recovered.wait())
        assert shop.app.runtime.counters.loop_errors >= 2
    assert [one for one in caplog.records if one.exc_info and one.exc_info[0] is ZeroDivisionError]


@pytest.mark.parametrize("error", [BrokerUnavailable("x", "injected"), ZeroDivisionError("injected")])
@pytest.mark.parametrize("call", ["receive", "settle", "extend"])
async def test_a_broker_that_fails_for_a_moment_loses_nothing(
    call: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Receiving, settling and extending may fail: every message is handled, and leaves."""
    shop = Shop(holds=False)
    async with opened(shop.app, tmp_path, monkeypatch), working(shop.app):
        broker = shop.app.runtime.broker
        original = getattr(broker, call)
        raised = 0

        async def failing(*arguments: Any, **settings: Any) -> Any:
            nonlocal raised
            if raised < 2:
                raised += 1
                raise error
            return await original(*arguments, **settings)

        monkeypatch.setattr(broker, call, failing)
        if call == "extend":
            shop.go_on.clear()
        await shop.send(5)
        if call == "extend":
            await until(lambda: raised == 2)
            shop.go_on.set()
        await until(shop.empty)
        assert set(shop.done) == {"0", "1", "2", "3", "4"}
        assert shop.app.runtime.counters.loop_errors >= 1


async def test_one_settlement_that_cannot_be_made_does_not_cost_its_neighbours_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that fails as a whole is settled one by one; only what is to blame comes back."""
    shop = Shop(lease=30.0)
    async with opened(shop.app, tmp_path, monkeypatch), working(shop.app):
        broker = shop.app.runtime.broker
        settle = broker.settle
        ids = await shop.send(5)

        async def failing(settlements: Any) -> Any:
            if any(one.delivery.message.id == ids[2] for one in settlements):
                raise ZeroDivisionError("injected")
            return await settle(settlements)

        monkeypatch.setattr(broker, "settle", failing)
        await until(lambda: len(shop.contexts) == 5)
        shop.go_on.set()

        async def one_left() -> bool:
            return (await shop.depth()).total == 1

        await until(one_left)


async def test_one_settlement_that_cannot_be_made_now_is_made_later_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker does the others and says of this one that it cannot: it is tried again, and the handler is not."""
    shop = Shop(lease=30.0, holds=False)
    async with opened(shop.app, tmp_path, monkeypatch), working(shop.app):
        broker = shop.app.runtime.broker
        settle = broker.settle
        away = True
        ids: list[str] = []

        async def failing(settlements: Any) -> Any:
            held = [one for one in settlements if away and one.delivery.message.id == ids[2]]
            done = iter(await settle([one for one in settlements if one not in held]))
            return [BrokerUnavailable("x", "injected") if one in held else next(done) for one in settlements]

        monkeypatch.setattr(broker, "settle", failing)
        ids += await shop.send(5)

        async def one_left() -> bool:
            return (await shop.depth()).total == 1

        await until(one_left)
        ids += await shop.send(5)
        await until(lambda: len(shop.contexts) == 10)
        await until(one_left)
        away = False
        await until(shop.empty)
        assert len(shop.contexts) == 10


@pytest.mark.long
async def test_a_broker_away_for_some_seconds_does_not_let_handled_messages_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settlements are kept as long as the lease lasts: a broker that comes back within it hears them."""
    shop = Shop(lease=30.0, holds=False)
    async with opened(shop.app, tmp_path, monkeypatch), working(shop.app):
        broker = shop.app.runtime.broker
        settle, until_then = broker.settle, asyncio.get_running_loop().time() + 5.0

        async def failing(settlements: Any) -> Any:
            if asyncio.get_running_loop().time() < until_then:
                raise BrokerUnavailable("x", "injected")
            return await settle(settlements)

        monkeypatch.setattr(broker, "settle", failing)
        await shop.send(5)
        await until(shop.empty, 15)
        assert len(shop.contexts) == 5


async def test_extending_what_was_just_settled_warns_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that leaves while its lease is being extended is no reason for a warning."""
    shop = Shop()
    async with opened(shop.app, tmp_path, monkeypatch), working(shop.app):
        broker = shop.app.runtime.broker
        extend = broker.extend
        extended = asyncio.Event()

        async def slow(*arguments: Any, **settings: Any) -> Any:
            shop.go_on.set()
            await until(shop.empty)
            results = await extend(*arguments, **settings)
            extended.set()
            return results

        monkeypatch.setattr(broker, "extend", slow)
        await shop.send(1)
        await within(extended.wait())
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


# Handlers in threads


async def test_a_plain_handler_runs_in_threads_as_many_at_once_as_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three lanes are three threads."""
    app: App[None] = App("test")
    queue = app.queue("orders", Order)
    together = threading.Barrier(3, timeout=10)
    names: set[str] = set()

    @queue.consumer(concurrency=3)
    def handle(_order: Order) -> None:
        together.wait()
        names.add(threading.current_thread().name)

    async with opened(app, tmp_path, monkeypatch), working(app):
        await queue.send_many([Order(id=str(number)) for number in range(3)])
        await until(lambda: len(names) == 3)


async def test_a_plain_degraded_handler_of_an_async_handler_has_threads_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Degraded handlers in threads do not wait for one another either."""
    app: App[None] = App("test")
    payments = app.dependency("payments", trip_after=1)
    queue = app.queue("orders", Order)
    together = threading.Barrier(3, timeout=5)
    served: list[str] = []

    @queue.consumer(needs=[payments], concurrency=3)
    async def handle(_order: Order) -> None:
        async with payments:
            raise ConnectionError

    @handle.degraded(payments)
    def serve(_outage: Outage[None], order: Order) -> None:
        together.wait()
        served.append(order.id)

    async with opened(app, tmp_path, monkeypatch), working(app):
        await queue.send_many([Order(id=str(number)) for number in range(3)])
        await until(lambda: len(served) == 3)


async def test_a_stuck_thread_counts_an_attempt_and_asks_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its attempt is counted once, its message handed back only when the worker goes."""
    app: App[None] = App("test")
    queue = app.queue("orders", Order)
    go_on = threading.Event()
    runs: list[str] = []

    @queue.consumer(timeout=0.2, lease=1.0)
    def handle(order: Order) -> None:
        runs.append(order.id)
        if order.id == "stuck":
            go_on.wait(20)

    async with opened(app, tmp_path, monkeypatch):
        await queue.send_many([Order(id="stuck"), Order(id="1"), Order(id="2")])
        assert await within(app.work(stop=asyncio.Event(), grace=1.0))
        go_on.set()
        (delivery,) = await app.runtime.broker.receive("orders", limit=10, lease=1.0, wait=10.0)
        assert b"stuck" in delivery.message.body
        assert delivery.message.notes.attempts == 1
        assert sorted(runs) == ["1", "2", "stuck"]


async def test_two_workers_share_a_queue_and_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message is handled once, by one of the two; both are seen by operators."""
    first, second = Shop(holds=False), Shop(holds=False)
    async with opened(first.app, tmp_path, monkeypatch), second.app, working(first.app), working(second.app):
        await first.send(500)
        await until(first.empty)
        assert sorted(first.done + second.done) == sorted(str(number) for number in range(500))
        workers = await Operations.of(first.app, who="me").workers()
        assert sum(one.alive for one in workers) == 2
