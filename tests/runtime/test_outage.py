"""An outage from the message's side: parked or delayed, served degraded meanwhile, and handled when it is over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redrive import App, Context, Dependency, Outage, Queue, Reject, Unavailable
from redrive.broker import Forward, Return
from redrive.calling import Held
from redrive.circuit import State
from redrive.claims import Claims, Done, InProgress
from redrive.harness import Harness, outage
from redrive.operations import Operations
from redrive.store import CLAIMS
from redrive.turn import Turns
from tests.runtime.fakes import Down, Order, put, until, within

pytestmark = pytest.mark.usefixtures("any_broker")


class Shop:
    """An application that charges each order once, and serves it degraded while payments are down."""

    def __init__(self, *, canary: bool = True, degraded: bool = True, trip_after: int = 1, **settings: Any) -> None:
        self.app: App[None] = App("test")
        self.canaries = 0
        self.payments: Dependency[None] = self.app.dependency(
            "payments", trip_after=trip_after, canary=self.ask if canary else None, canary_every=60.0
        )
        self.queue: Queue[Order] = self.app.queue("orders", Order)
        self.runs: list[Context[None]] = []
        self.outages: list[Outage[None]] = []
        self.charged: list[str] = []
        self.raises: list[BaseException] = []
        self.poison: set[str] = set()

        @self.queue.consumer(needs=[self.payments], once_by=lambda order: order.id, **settings)
        async def handle(ctx: Context[None], order: Order) -> None:
            self.runs.append(ctx)
            async with self.payments:
                if order.id in self.poison:
                    raise Down(order.id)
            self.charged.append(order.id)

        self.handle = handle
        if degraded:

            @handle.degraded(self.payments)
            async def serve(outage: Outage[None], order: Order) -> None:
                assert order.id
                self.outages.append(outage)
                if self.raises:
                    raise self.raises[0]

    async def ask(self) -> None:
        self.canaries += 1

    def state(self) -> State:
        assert self.payments.gate is not None
        return self.payments.gate.shared.view.state

    async def turn(self, t: Harness[None]) -> tuple[Turns, Held]:
        (delivery,) = await t.runtime.broker.receive("orders", limit=1, lease=30.0)
        return Turns(t.runtime, self.handle), Held(delivery)


async def test_a_failure_with_the_circuit_closed_delays_the_message_and_counts_a_bounce() -> None:
    """One failed call is no outage: the message comes back by itself, not parked, and it is not an attempt."""
    shop = Shop(trip_after=5)
    async with shop.app.test() as t:
        t.down(shop.payments)
        await shop.queue.send(Order(id="1"))
        await t.drain()
        (waiting,) = await t.waiting(shop.queue)
        assert (waiting.notes.bounces, waiting.notes.attempts) == (1, 0)
        assert shop.outages[0].circuit_open is False
        t.heal(shop.payments)
        await t.advance(60)
        assert shop.charged == ["1"]
        assert shop.runs[-1].degraded_at_ms is not None


async def test_an_open_circuit_parks_the_message_and_counts_nothing() -> None:
    """While the circuit is open no call is made; messages wait in the queue of their need, uncounted."""
    shop = Shop()
    async with shop.app.test() as t:
        t.down(shop.payments)
        await shop.queue.send_many([Order(id=str(number)) for number in range(10)])
        await t.drain()
        parked = await t.parked(shop.queue)
        assert len(parked) == 10
        calls = t.runtime.counters.calls["payments"]
        assert 1 <= calls <= 10
        assert shop.state() is State.OPEN
        await shop.queue.send_many([Order(id=f"late-{number}") for number in range(10)])
        await t.drain()
        assert t.runtime.counters.calls["payments"] == calls
        late = [one for one in await t.parked(shop.queue) if b"late" in one.body]
        assert len(late) == 10
        assert all((one.notes.bounces, one.notes.attempts) == (0, 0) for one in late)
        assert not await t.dead(shop.queue)


async def test_ids_times_bodies_and_attributes_survive_the_outage() -> None:
    """What was first sent is what is handled in the end, byte for byte; parked messages carry a failure record."""
    shop = Shop(degraded=False)
    async with shop.app.test() as t:
        body = b'{"drink": "tea",  "id": "1"}'
        identity = await put(t, shop.queue, body, attributes={"trace": "abc"}, group="g")
        sent_at_ms = t.clock.now_ms()
        async with outage(shop.payments, minutes=10):
            await t.advance(60)
            (parked,) = await t.parked(shop.queue)
            assert (parked.id, parked.body, parked.sent_at_ms) == (identity, body, sent_at_ms)
            assert (parked.attributes, parked.group) == ({"trace": "abc"}, "g")
            record = parked.notes.failure
            assert record is not None
            assert record.reason == "waits for payments"
            assert (record.first.kind, record.first.dependency) == ("unavailable", "payments")
        await t.advance(120)
        assert shop.charged == ["1"]
        last = shop.runs[-1]
        assert (last.message_id, last.sent_at_ms, dict(last.attributes), last.group) == (
            identity, sent_at_ms, {"trace": "abc"}, "g",
        )  # fmt: skip
        assert last.attempt == 1
        assert not await t.parked(shop.queue)


async def test_the_degraded_handler_runs_once_across_parks_and_the_handler_sees_when() -> None:
    """However often the message is parked again, it is served once; `degraded_at_ms` stays that time."""
    shop = Shop()
    async with shop.app.test() as t:
        t.down(shop.payments)
        await shop.queue.send(Order(id="1"))
        await t.drain()
        served_at = t.clock.now_ms()
        for _ in range(5):
            t.clock.advance(2)
            assert await Operations.of(shop.app, who="me").redrive_parked("payments") == 1
            await t.drain()
        assert len(shop.outages) == 1
        t.heal(shop.payments)
        await t.advance(120)
        assert shop.charged == ["1"]
        assert [run.degraded_at_ms for run in shop.runs[1:]] == [served_at] * (len(shop.runs) - 1)
        assert shop.outages[0].key == shop.runs[0].key == "orders:1"
        assert shop.outages[0].dependency == "payments"


async def test_a_degraded_handler_that_raises_is_an_attempt_and_then_the_message_is_parked_and_flagged() -> None:
    """Its failures are attempts, with backoff; when there are none left the message waits undegraded, not dead."""
    shop = Shop(max_attempts=3)
    shop.raises.append(ValueError("no cups"))
    async with shop.app.test() as t:
        t.down(shop.payments)
        await shop.queue.send(Order(id="1"))
        await t.advance(20)
        assert len(shop.outages) == 3
        (parked,) = await t.parked(shop.queue)
        assert parked.notes.undegraded
        assert parked.notes.degraded_at_ms is None
        record = parked.notes.failure
        assert record is not None
        assert [one.kind for one in record.recent].count("raised") == 2
        assert any("no cups" in one.text for one in record.recent)
        shop.raises.clear()
        t.heal(shop.payments)
        await t.advance(120)
        assert shop.charged == ["1"]
        assert not await t.dead(shop.queue)
        assert len(shop.outages) == 3


async def test_a_degraded_handler_may_reject() -> None:
    """`Reject` of the degraded handler makes the message dead."""
    shop = Shop()
    shop.raises.append(Reject("sold out"))
    async with shop.app.test() as t:
        t.down(shop.payments)
        await shop.queue.send(Order(id="1"))
        await t.drain()
        (dead,) = await t.dead(shop.queue)
        assert dead.notes.failure is not None
        assert dead.notes.failure.reason == "rejected by the handler: sold out"


async def test_the_steps_on_unavailable_come_in_order() -> None:
    """The claim is in progress while the degraded handler runs; then it is released, never done; then it is settled."""
    shop = Shop()
    seen: list[object] = []
    async with shop.app.test() as t:
        claims = Claims(t.runtime.store, t.clock)

        async def look() -> object:
            return await claims.take("orders:1", payload_hash="?", message_id="?", lease=1.0)

        original = shop.handle.degraded_handlers["payments"].call

        async def serve(outage: Outage[None], order: Order) -> None:
            seen.append(await look())
            await original(outage, order)

        shop.handle.degraded_handlers["payments"].call = serve
        t.down(shop.payments)
        await shop.queue.send(Order(id="1"))
        turns, held = await shop.turn(t)
        settlement = await turns.turn(held)
        assert isinstance(settlement, Forward)
        assert settlement.queue == "orders-parked-payments"
        assert settlement.deduplication_id == f"{held.delivery.message.id}/park/1"
        assert isinstance(seen[0], InProgress)
        assert held.claim is None
        entries = t.runtime.store._database.tables.connection.execute(  # type: ignore[attr-defined]
            "SELECT value FROM entry WHERE namespace = ?", (CLAIMS.name,)
        ).fetchall()
        assert sum(b'"state": "free"' in value for (value,) in entries) == 1
        assert (await t.runtime.broker.depth("orders")).in_flight == 1


async def test_a_crash_after_the_degraded_handler_does_not_serve_twice() -> None:
    """Killed between serving and parking: the message comes back, is parked, and is not served again."""
    shop = Shop()
    async with shop.app.test() as t:
        t.down(shop.payments)
        await shop.queue.send(Order(id="1"))
        turns, held = await shop.turn(t)
        assert isinstance(await turns.turn(held), Forward)
        assert len(shop.outages) == 1
        await t.advance(31)  # nobody settled: the lease ended
        assert len(shop.outages) == 1
        (parked,) = await t.parked(shop.queue)
        assert parked.notes.degraded_at_ms is not None


async def test_a_crash_inside_the_degraded_handler_serves_again_later() -> None:
    """Killed while serving: after its claim has run out the degraded handler runs once more, nothing counted."""
    shop = Shop()
    hang = asyncio.Event()
    async with shop.app.test() as t:
        original = shop.handle.degraded_handlers["payments"].call

        async def serve(outage: Outage[None], order: Order) -> None:
            if not shop.outages:
                shop.outages.append(outage)
                await hang.wait()
            await original(outage, order)

        shop.handle.degraded_handlers["payments"].call = serve
        t.down(shop.payments)
        await shop.queue.send(Order(id="1"))
        turns, held = await shop.turn(t)
        killed = asyncio.create_task(turns.turn(held))
        await until(lambda: shop.outages)
        await t.advance(120)
        assert len(shop.outages) == 2
        (parked,) = await t.parked(shop.queue)
        assert (parked.notes.attempts, parked.notes.crashes) == (0, 0)
        killed.cancel()
        await asyncio.gather(killed, return_exceptions=True)


async def test_a_worker_that_stops_inside_the_degraded_handler_keeps_nobody_waiting() -> None:
    """A turn that is cancelled while it serves frees the claim for it: the next worker serves at once."""
    shop = Shop()
    async with shop.app.test() as t:
        original = shop.handle.degraded_handlers["payments"].call
        begun = asyncio.Event()

        async def serve(outage: Outage[None], order: Order) -> None:
            if not begun.is_set():
                begun.set()
                await asyncio.Event().wait()
            await original(outage, order)

        shop.handle.degraded_handlers["payments"].call = serve
        t.down(shop.payments)
        await shop.queue.send(Order(id="1"))
        turns, held = await shop.turn(t)
        stopped = asyncio.create_task(turns.turn(held))
        await within(begun.wait())
        stopped.cancel()
        await asyncio.gather(stopped, return_exceptions=True)
        if held.claim is not None:  # as the pump does
            await Claims(t.runtime.store, t.clock).release(held.claim, hold=False)
        settlement = await turns.turn(Held(held.delivery))
        assert isinstance(settlement, Forward)
        assert len(shop.outages) == 1


async def test_a_second_turn_of_the_same_message_does_not_serve_at_the_same_time() -> None:
    """Served elsewhere at this moment: the copy comes back later, and finds it served."""
    shop = Shop()
    async with shop.app.test() as t:
        claims = Claims(t.runtime.store, t.clock)
        t.down(shop.payments)
        identity = await shop.queue.send(Order(id="1"))
        key = f"degraded:orders:{identity}"
        elsewhere = await claims.take(key, payload_hash="", message_id=identity, lease=60.0)
        assert not isinstance(elsewhere, (InProgress, Done))
        turns, held = await shop.turn(t)
        settlement = await turns.turn(held)
        assert isinstance(settlement, Return)
        assert settlement.notes is None
        await claims.finish(elsewhere)
        settlement = await turns.turn(held)
        assert isinstance(settlement, Forward)
        assert settlement.message.notes.degraded_at_ms is not None
        assert shop.outages == []


async def test_unavailable_raised_by_hand_in_an_outage_is_parked() -> None:
    """A handler that notices by itself what the circuit knows already: the message waits with the others."""
    app: App[None] = App("test")
    payments = app.dependency("payments", trip_after=1)
    queue = app.queue("orders", Order)

    @queue.consumer(needs=[payments])
    async def handle(order: Order) -> None:
        if order.drink == "hand":
            raise Unavailable("payments", "the client says so")
        async with payments:
            pass

    async with app.test() as t:
        t.down(payments)
        await queue.send(Order(id="1"))
        await t.drain()
        await queue.send(Order(id="2", drink="hand"))
        await t.drain()
        assert len(await t.parked(queue)) == 2


async def test_two_needs_park_where_the_trouble_is() -> None:
    """A message waits for the one that is down, and then for the other one, and is handled when both are well."""
    app: App[None] = App("test")
    payments, fraud = app.dependency("payments", trip_after=1), app.dependency("fraud", trip_after=1)
    queue = app.queue("orders", Order)
    done: list[str] = []

    @queue.consumer(needs=[payments, fraud])
    async def handle(order: Order) -> None:
        async with fraud:
            pass
        async with payments:
            done.append(order.id)

    async with app.test() as t:
        t.down(payments)
        t.down(fraud)
        await queue.send(Order(id="1"))
        await t.drain()
        broker = t.runtime.broker
        assert (await broker.depth("orders-parked-fraud")).total == 1
        t.heal(fraud)
        await t.advance(120)
        assert (await broker.depth("orders-parked-payments")).total == 1
        t.heal(payments)
        await t.advance(300)
        assert done == ["1"]


async def test_the_whole_story_in_virtual_time() -> None:
    """Ten orders in an outage of ten minutes: all served degraded, all parked, all charged once, none counted dead."""
    shop = Shop(trip_after=2)
    async with shop.app.test() as t:
        async with outage(shop.payments, minutes=10):
            ids = await shop.queue.send_many([Order(id=str(number)) for number in range(10)])
            await t.advance(30)
            assert len(shop.outages) == 10
            assert len(await t.parked(shop.queue)) == 10
            assert shop.canaries == 0  # taken down for tests: it is not even asked
        await t.advance(70)
        assert sorted(shop.charged) == sorted(str(number) for number in range(10))
        assert len(shop.outages) == 10
        assert not await t.parked(shop.queue)
        assert not await t.dead(shop.queue)
        assert {run.message_id for run in shop.runs} == set(ids)
        assert all(run.attempt == 1 for run in shop.runs)
