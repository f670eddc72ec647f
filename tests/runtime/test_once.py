"""`once_by`: one effect for each idempotency key, whatever is delivered twice."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel, Field

from redrive import App, Context, Reject, RetryLater
from redrive.broker import Acknowledge, Depth, Return
from redrive.calling import Held
from redrive.claims import Claim, Claims, Done, InProgress
from redrive.errors import ClaimLost
from redrive.harness import Harness
from redrive.operations import Operations
from redrive.store import CLAIMS, CONTROLS, Namespace
from redrive.turn import Turns
from tests.runtime.fakes import FailingStore, Order, opened, put, until, within, working

pytestmark = pytest.mark.usefixtures("any_broker")


def an_app(**settings: Any) -> tuple[App[None], Any, list[str]]:
    """An application that handles each order id once."""
    app = App("test")
    queue = app.queue("orders", Order)
    ran: list[str] = []

    @queue.consumer(once_by=lambda order: order.id, **settings)
    async def handle(_ctx: Context[None], order: Order) -> None:
        ran.append(f"{order.id}/{order.drink}")

    return app, queue, ran


async def test_the_same_payload_is_acknowledged_without_running() -> None:
    """A second message with the same key and payload takes no effect and leaves."""
    app, queue, ran = an_app()
    async with app.test() as t:
        await queue.send_many([Order(id="1"), Order(id="1"), Order(id="2")])
        await t.advance(5)
        await queue.send(Order(id="1"))
        await t.drain()
        assert sorted(ran) == ["1/tea", "2/tea"]
        assert not await t.waiting(queue)
        assert not await t.dead(queue)


async def test_a_payload_is_the_same_however_its_json_is_written() -> None:
    """Spaces and the order of keys make no other payload."""
    app, queue, ran = an_app()
    async with app.test() as t:
        await put(t, queue, b'{"id": "1", "drink": "tea"}')
        await put(t, queue, b'{"drink":"tea","id":"1"}')
        await t.advance(5)
        assert ran == ["1/tea"]
        assert not await t.dead(queue)


async def test_another_payload_under_the_same_key_is_dead_and_says_so() -> None:
    """A key that was used for another payload is a producer's mistake: dead at once, with the key in the reason."""
    app, queue, ran = an_app()
    async with app.test() as t:
        await queue.send(Order(id="1"))
        await t.drain()
        await queue.send(Order(id="1", drink="mocha"))
        await t.drain()
        (dead,) = await t.dead(queue)
        assert dead.notes.failure is not None
        assert dead.notes.failure.reason == "its idempotency key was used for another payload: key 'orders:1'"
        assert ran == ["1/tea"]


async def test_a_key_is_known_for_14_days() -> None:
    """The same message comes 13 days later and is known; after 15 days it is new."""
    app, queue, ran = an_app()
    async with app.test() as t:
        await queue.send(Order(id="1"))
        await t.drain()
        await t.advance(13 * 24 * 3600)
        await queue.send(Order(id="1"))
        await t.drain()
        assert len(ran) == 1
        t.clock.advance(2 * 24 * 3600)
        await queue.send(Order(id="1"))
        await t.drain()
        assert len(ran) == 2


class Slow:
    """An application whose handler waits until it is told to go on, and a way to receive and run turns by hand."""

    def __init__(self, **settings: Any) -> None:
        self.app = App("test")
        self.queue = self.app.queue("orders", Order)
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.ran: list[str] = []
        self.raises: BaseException | None = None

        @self.queue.consumer(once_by=lambda order: order.id, **settings)
        async def handle(order: Order) -> None:
            self.ran.append(order.id)
            self.begun.set()
            await self.go_on.wait()
            if self.raises is not None:
                raise self.raises

    async def receive(self, t: Harness[None]) -> Held:
        (delivery,) = await t.runtime.broker.receive("orders", limit=1, lease=30.0)
        return Held(delivery)

    def turns(self, t: Harness[None]) -> Turns:
        (consumer,) = self.app.consumers
        return Turns(t.runtime, consumer)


async def test_in_progress_elsewhere_comes_later_and_counts_nothing() -> None:
    """A copy of what is being handled elsewhere comes back later, soon and uncounted; once that is done, it leaves."""
    shop = Slow(max_attempts=1)
    async with shop.app.test() as t:
        turns = shop.turns(t)
        await shop.queue.send_many([Order(id="1"), Order(id="1")])
        first, second = await shop.receive(t), await shop.receive(t)
        running = asyncio.create_task(turns.turn(first))
        await within(shop.begun.wait())
        settlement = await turns.turn(second)
        assert isinstance(settlement, Return)
        assert 0 < settlement.delay <= 2.0
        assert settlement.notes is None
        shop.go_on.set()
        assert isinstance(await within(running), Acknowledge)
        assert isinstance(await turns.turn(second), Acknowledge)
        assert shop.ran == ["1"]


async def test_waiting_for_a_long_handler_elsewhere_never_makes_a_message_dead() -> None:
    """Two hours in progress elsewhere, its claim extended all the time: the copy still waits, nothing counted."""
    shop = Slow(max_attempts=1)
    async with shop.app.test() as t:
        turns, claims = shop.turns(t), Claims(t.runtime.store, t.clock)
        await shop.queue.send(Order(id="1"))
        first = await shop.receive(t)
        running = asyncio.create_task(turns.turn(first))
        await within(shop.begun.wait())
        await shop.queue.send(Order(id="1"))
        for _ in range(720):
            await t.runtime.broker.extend([first.delivery], lease=30.0)
            assert first.claim is not None
            await claims.extend(first.claim)
            await t.advance(10)
        assert not await t.dead(shop.queue)
        shop.go_on.set()
        await within(running)
        await t.advance(10)
        assert shop.ran == ["1"]
        assert await t.runtime.broker.depth("orders") == Depth(in_flight=1)  # the first one, which nobody settled


async def test_the_handlers_exception_frees_the_key() -> None:
    """After an attempt that failed, the same message and any other with its key may run at once."""
    shop = Slow()
    shop.go_on.set()
    shop.raises = ValueError("no")
    async with shop.app.test() as t:
        turns = shop.turns(t)
        await shop.queue.send(Order(id="1"))
        assert isinstance(await turns.turn(await shop.receive(t)), Return)
        shop.raises = None
        await shop.queue.send(Order(id="1", drink="mocha"))
        assert isinstance(await turns.turn(await shop.receive(t)), Acknowledge)


@pytest.mark.parametrize("error", [RetryLater(after=5), Reject("never"), KeyboardInterrupt()])
async def test_every_end_of_a_turn_frees_the_key(error: BaseException) -> None:
    """RetryLater and Reject leave the key free for another message."""
    shop = Slow()
    shop.go_on.set()
    shop.raises = error
    async with shop.app.test() as t:
        turns = shop.turns(t)
        await shop.queue.send(Order(id="1"))
        held = await shop.receive(t)
        if isinstance(error, KeyboardInterrupt):
            with pytest.raises(KeyboardInterrupt):
                await turns.turn(held)
            return
        await turns.turn(held)
        shop.raises = None
        await shop.queue.send(Order(id="1"))
        assert isinstance(await turns.turn(await shop.receive(t)), Acknowledge)


async def test_a_late_finisher_writes_nothing_and_does_not_settle() -> None:
    """Whose claim was taken over after its lease has no say any more: not in the store, and not to the broker."""
    shop = Slow()
    async with shop.app.test() as t:
        turns = shop.turns(t)
        await shop.queue.send(Order(id="1"))
        late = await shop.receive(t)
        running = asyncio.create_task(turns.turn(late))
        await within(shop.begun.wait())
        t.clock.advance(31)
        shop.begun.clear()
        heir = await shop.receive(t)
        taking_over = asyncio.create_task(turns.turn(heir))
        await within(shop.begun.wait())
        assert heir.claim is not None
        assert late.claim is not None
        assert heir.claim.fence == late.claim.fence + 1
        shop.go_on.set()
        assert await within(running) is None
        assert isinstance(await within(taking_over), Acknowledge)


@pytest.mark.parametrize("error", [ValueError("no"), Reject("never")])
async def test_a_late_loser_writes_nothing_either(error: Exception) -> None:
    """A handler that fails after its claim was taken over neither retries nor kills the message."""
    shop = Slow()
    async with shop.app.test() as t:
        turns, claims = shop.turns(t), Claims(t.runtime.store, t.clock)
        await shop.queue.send(Order(id="1"))
        late = await shop.receive(t)
        running = asyncio.create_task(turns.turn(late))
        await within(shop.begun.wait())
        t.clock.advance(31)
        assert late.claim is not None
        await claims.take("orders:1", payload_hash="x", message_id="other", lease=30.0)
        shop.raises = error
        shop.go_on.set()
        assert await within(running) is None


async def test_claims_extended_in_time_are_not_taken_over() -> None:
    """A claim is in progress as long as it is extended; its lease ended, the next one takes it with a higher fence."""
    async with App("test").test() as t:
        claims = Claims(t.runtime.store, t.clock)
        mine = await claims.take("k", payload_hash="p", message_id="1", lease=30.0)
        assert isinstance(mine, Claim)
        for _ in range(5):
            t.clock.advance(20)
            assert isinstance(await claims.take("k", payload_hash="p", message_id="2", lease=30.0), InProgress)
            await claims.extend(mine)
        t.clock.advance(30)
        theirs = await claims.take("k", payload_hash="p", message_id="2", lease=30.0)
        assert isinstance(theirs, Claim)
        assert theirs.fence > mine.fence
        for late in (claims.extend(mine), claims.finish(mine), claims.release(mine, hold=True)):
            if not mine.ended:
                with pytest.raises(ClaimLost):
                    await late
            else:
                await late
        await claims.finish(theirs, result={"cups": 1})
        done = await claims.take("k", payload_hash="q", message_id="3", lease=30.0)
        assert done == Done(same_payload=False, result={"cups": 1})


async def test_a_key_is_known_as_long_as_its_message_is_dead() -> None:
    """A dead letter that is sent back after months finds that its key has been used, and takes no second effect."""
    shop = Slow()
    shop.go_on.set()
    shop.raises = Reject("not today")
    async with shop.app.test() as t:
        await shop.queue.send(Order(id="1"))
        await t.drain()
        shop.raises = None
        await shop.queue.send(Order(id="1"))  # sent once more by its producer, and handled
        await t.drain()
        assert shop.ran == ["1", "1"]
        t.clock.advance(100 * 24 * 3600)
        operations = Operations.of(shop.app, who="me")
        (letter,) = [one async for one in operations.letters()]
        await operations.redrive(letter)
        await t.drain()
        assert shop.ran == ["1", "1"]
        assert not await t.dead(shop.queue)
        t.clock.advance(15 * 24 * 3600)
        await shop.queue.send(Order(id="1"))
        await t.drain()
        assert len(shop.ran) == 3


@pytest.mark.parametrize("key", ["", None, 1.5, b"x"])
async def test_a_key_that_is_none_is_an_attempt_that_says_so(key: object) -> None:
    """`once_by` has to give a text or a whole number; anything else is a bug of the application."""
    app = App("test")
    queue = app.queue("orders", Order)

    @queue.consumer(once_by=lambda _: key, max_attempts=1)
    async def handle(_order: Order) -> None:
        pytest.fail("ran unguarded")

    async with app.test() as t:
        await queue.send(Order(id="1"))
        await t.drain()
        (dead,) = await t.dead(queue)
        assert dead.notes.failure is not None
        assert "once_by gave" in dead.notes.failure.last.text


class Aliased(BaseModel):
    """Is read under another name than it is written with."""

    order_id: str = Field(alias="orderId")


@pytest.mark.parametrize("decode", [None, lambda body: json.dumps(json.loads(body)["detail"]).encode()])
async def test_payloads_that_do_not_read_back_alike_are_guarded_too(decode: Any) -> None:
    """A type with aliases, and bodies in an envelope: handled once, as any other."""
    app = App("test")
    queue = app.queue("orders", Aliased, decode=decode)
    ran: list[str] = []

    @queue.consumer(once_by=lambda order: order.order_id)
    async def handle(order: Aliased) -> None:
        ran.append(order.order_id)

    async with app.test() as t:
        body = b'{"orderId":"1"}' if decode is None else b'{"detail":{"orderId":"1"}}'
        await put(t, queue, body)
        await put(t, queue, body.replace(b":", b": "))
        await t.advance(10)
        assert ran == ["1"]
        assert not await t.waiting(queue)
        assert not await t.dead(queue)


# The store fails


@pytest.mark.usefixtures("failing_store")
async def test_with_the_store_away_no_guarded_handler_runs() -> None:
    """Without its store a consumer with `once_by` waits, uncounted; with it, everything is handled once."""
    app, queue, ran = an_app(max_attempts=1)
    async with app.test() as t:
        store: Any = t.runtime.store
        assert isinstance(store, FailingStore)
        await queue.send_many([Order(id=str(number)) for number in range(20)])
        store.fails = lambda _call, namespace, _key, _value: namespace is CLAIMS
        await t.advance(300)
        assert ran == []
        assert not await t.dead(queue)
        store.back()
        await t.advance(5)
        assert len(ran) == 20
        assert t.runtime.counters.runs == 20


@pytest.mark.usefixtures("failing_store")
async def test_a_store_that_fails_when_the_work_is_done_does_not_let_it_be_done_twice() -> None:
    """A claim that could not be finished at once is finished a moment later; the handler does not run again."""
    app, queue, ran = an_app()
    async with app.test() as t:
        store: Any = t.runtime.store
        store.fails = lambda call, _space, _key, value: call == "put" and b'"done"' in value and store.failed < 2
        await queue.send(Order(id="1"))
        await t.advance(120)
        assert ran == ["1/tea"]
        assert store.failed == 2
        assert not await t.waiting(queue)


@pytest.mark.usefixtures("failing_store")
async def test_a_worker_whose_store_is_away_does_not_receive(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot ask its store whether it may run takes nothing, so that no receive is wasted."""
    app, queue, ran = an_app()
    async with opened(app, tmp_path, monkeypatch), working(app):
        store: Any = app.runtime.store
        asked = received = 0

        def fails(_call: str, namespace: Namespace, _key: str, _value: bytes) -> bool:
            nonlocal asked
            asked += namespace is CONTROLS
            return True

        receive = app.runtime.broker.receive

        async def receiving(*arguments: Any, **settings: Any) -> Any:
            nonlocal received
            received += asked > 0
            return await receive(*arguments, **settings)

        monkeypatch.setattr(app.runtime.broker, "receive", receiving)
        await queue.send(Order(id="first"))
        await until(lambda: ran)
        store.fails = fails
        await queue.send_many([Order(id=str(number)) for number in range(10)])
        await until(lambda: asked >= 4)
        assert received == 0
        assert len(ran) == 1
        store.back()
        await until(lambda: len(ran) == 11)
