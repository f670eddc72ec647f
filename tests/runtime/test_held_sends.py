"""What a handler sends leaves when the handler has succeeded, and not otherwise, whatever crashes in between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest
from pydantic import BaseModel
from typing_extensions import override

from redrive import App, Outage, PayloadError, Queue, Unavailable
from redrive.broker import Broker, Outgoing, Sends, Settlement
from redrive.calling import Held
from redrive.errors import BrokerUnavailable, HandlerEnded, LimitExceeded, QueueNotFound
from redrive.finishing import _IN_THE_CLAIM
from redrive.harness import Harness
from redrive.holding import MOST_HELD
from redrive.relay import Relay
from redrive.store import UNSENT, Namespace
from redrive.turn import Turns
from tests.runtime.fakes import FailingStore, Order, opened, put, until, working


class Receipt(BaseModel):
    """What the handlers send."""

    order: str
    text: str = ""


class Shop:
    """An application whose consumer of orders sends receipts."""

    def __init__(self, *, once: bool = False, **settings: Any) -> None:
        self.app = App("shop")
        self.orders = self.app.queue("orders", Order)
        self.receipts = self.app.queue("receipts", Receipt)
        self.lines = self.app.queue("lines", Receipt, fifo=True)
        self.ran: list[str] = []
        self.then: Callable[[Order], Any] = lambda order: self.receipts.send(Receipt(order=order.id))
        key = (lambda order: order.id) if once else None

        @self.orders.consumer(once_by=key, **settings)
        async def handle(order: Order) -> None:
            self.ran.append(order.id)
            await self.then(order)


class Stubborn(Relay):
    """A broker that refuses sends to the queues that it was told to refuse."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.refuses: dict[str, Exception] = {}
        self.tried: list[str] = []

    @override
    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        self.tried.append(queue)
        if queue in self.refuses:
            raise self.refuses[queue]
        return await super().send(queue, messages)


class Killed(BaseException):
    """A crash: nothing of redrive's catches it."""


async def take(harness: Harness[Any], shop: Shop, *, settle: bool = True) -> Settlement | None:
    """One turn of the message that is ready, as a worker makes it; without settling, the worker died then."""
    consumer = shop.orders.bound_consumer
    assert consumer is not None
    (delivery,) = await harness.runtime.broker.receive("orders", limit=1, lease=consumer.lease)
    settlement = await Turns(harness.runtime, consumer).turn(Held(delivery))
    if settle and settlement is not None:
        await harness.runtime.broker.settle([settlement])
    return settlement


# While it runs, and when it succeeds


@pytest.mark.usefixtures("any_broker")
@pytest.mark.parametrize("once", [False, True])
async def test_what_is_sent_leaves_when_the_handler_has_returned(once: bool) -> None:  # noqa: FBT001 - a parameter
    """Not before; the id that the send gave is the message's."""
    shop = Shop(once=once)
    ids: list[str] = []

    async def then(order: Order) -> None:
        ids.append(await shop.receipts.send(Receipt(order=order.id)))
        ids.extend(await shop.receipts.send_many([Receipt(order="2"), Receipt(order="3")]))
        assert not await t.waiting(shop.receipts)

    shop.then = then
    async with shop.app.test() as t:
        await shop.orders.send(Order(id="1"))
        await t.drain()
        assert [one.id for one in t.sent(shop.receipts)] == ids
        assert t.sent(shop.receipts)[0].body == b'{"order":"1","text":""}'
        assert len(await t.waiting(shop.receipts)) == 3
        assert not await t.waiting(shop.orders)


@pytest.mark.parametrize("once", [False, True])
async def test_a_handler_that_raises_sends_nothing(once: bool) -> None:  # noqa: FBT001 - a parameter
    """Neither what it sent before, nor on later attempts what it sent on earlier ones."""
    shop = Shop(once=once, max_attempts=3)

    async def then(order: Order) -> None:
        await shop.receipts.send(Receipt(order=order.id, text=str(len(shop.ran))))
        if len(shop.ran) < 3:
            raise RuntimeError

    shop.then = then
    async with shop.app.test() as t:
        await shop.orders.send(Order(id="1"))
        await t.advance(600)
        assert len(shop.ran) == 3
        assert [one.body for one in t.sent(shop.receipts)] == [b'{"order":"1","text":"3"}']


async def test_what_is_wrong_is_said_at_once() -> None:
    """A payload that does not fit, a group that is missing: the handler hears of it, where it can do something."""
    shop = Shop()
    heard: list[type[Exception]] = []

    async def then(_order: Order) -> None:
        sends: list[Callable[[], Awaitable[str]]] = [
            lambda: shop.receipts.send(cast("Receipt", "no receipt")),
            lambda: shop.lines.send(Receipt(order="1")),
            lambda: shop.lines.send(Receipt(order="1"), group="a b"),
            lambda: shop.lines.send(Receipt(order="1"), group="a", deduplication_id="d d"),
            lambda: shop.lines.send(Receipt(order="1"), group="a", delay=1),
            lambda: shop.receipts.send(Receipt(order="1"), deduplication_id="d"),
            lambda: shop.receipts.send(Receipt(order="1"), attributes={"a": "x" * 1_100_000}),
        ]
        for send in sends:
            with pytest.raises((PayloadError, LimitExceeded)) as raised:
                await send()
            heard.append(raised.type)

    shop.then = then
    async with shop.app.test() as t:
        await shop.orders.send(Order(id="1"))
        await t.drain()
        assert len(heard) == 7
        assert not t.sent(shop.receipts)
        assert not t.sent(shop.lines)


async def test_now_sends_at_once() -> None:
    """Whatever becomes of the handler."""
    shop = Shop(max_attempts=1)

    async def then(order: Order) -> None:
        await shop.receipts.send(Receipt(order=order.id), now=True)
        assert len(await t.waiting(shop.receipts)) == 1
        raise RuntimeError

    shop.then = then
    async with shop.app.test() as t:
        await shop.orders.send(Order(id="1"))
        await t.drain()
        assert len(await t.dead(shop.orders)) == 1
        assert len(t.sent(shop.receipts)) == 1


@pytest.mark.parametrize(("delay", "timed"), [(60.0, False), (3600.0, True)])
async def test_a_delay_counts_from_the_send(delay: float, timed: bool) -> None:  # noqa: FBT001 - a parameter
    """Within what the broker can, and beyond, where the timekeeper has it."""
    shop = Shop()

    async def then(order: Order) -> None:
        await shop.receipts.send(Receipt(order=order.id), delay=delay)
        t.clock.advance(10)

    shop.then = then
    got: list[int] = []

    @shop.receipts.consumer()
    async def receive(_receipt: Receipt) -> None:
        got.append(t.clock.now_ms())

    async with shop.app.test() as t:
        began = t.clock.now_ms()
        await shop.orders.send(Order(id="1"))
        await t.drain()
        assert (not t.sent(shop.receipts)) is timed
        await t.advance(delay + 60)
        (at,) = got
        assert at - began == pytest.approx(delay * 1000, abs=1_100)


async def test_a_plain_handler_sends_with_send_blocking() -> None:
    """From its thread, held all the same; and so does a task and a thread that a handler starts."""
    app = App("shop")
    orders, receipts = app.queue("orders", Order), app.queue("receipts", Receipt)

    @orders.consumer(max_attempts=2)
    def handle(order: Order) -> None:
        receipts.send_blocking(Receipt(order=order.id))
        if order.id == "bad":
            raise RuntimeError

    async with app.test() as t:
        await orders.send_many([Order(id="good"), Order(id="bad")])
        await t.advance(600)
        assert [one.body for one in t.sent(receipts)] == [b'{"order":"good","text":""}']


async def test_tasks_and_threads_of_a_handler_are_the_handler() -> None:
    """What they send is held for it."""
    shop = Shop()

    async def then(order: Order) -> None:
        await asyncio.gather(*(shop.receipts.send(Receipt(order=order.id, text=str(n))) for n in range(3)))
        await asyncio.to_thread(shop.receipts.send_blocking, Receipt(order=order.id, text="thread"))
        assert not await t.waiting(shop.receipts)

    shop.then = then
    async with shop.app.test() as t:
        await shop.orders.send(Order(id="1"))
        await t.drain()
        assert len(t.sent(shop.receipts)) == 4


async def test_a_task_that_outlives_its_handler_is_told() -> None:
    """Nothing decides any more whether its message leaves, so it is refused rather than lost; `now` sends it."""
    shop = Shop()
    ended = asyncio.Event()
    stray: list[asyncio.Task[str]] = []

    async def later(**options: Any) -> str:
        await ended.wait()
        return await shop.receipts.send(Receipt(order="1"), **options)

    async def then(_order: Order) -> None:
        stray.extend([asyncio.create_task(later()), asyncio.create_task(later(now=True))])

    shop.then = then
    async with shop.app.test() as t:
        await shop.orders.send(Order(id="1"))
        await t.drain()
        ended.set()
        refused, sent = await asyncio.gather(*stray, return_exceptions=True)
        assert isinstance(refused, HandlerEnded)
        assert [one.id for one in t.sent(shop.receipts)] == [sent]


async def test_a_handler_cannot_hold_more_than_there_is_room_for() -> None:
    """The limit is said, with the remedy."""
    shop = Shop(max_attempts=1)

    async def then(order: Order) -> None:
        while True:
            await shop.receipts.send(Receipt(order=order.id, text="x" * 900_000))

    shop.then = then
    async with shop.app.test() as t:
        await shop.orders.send(Order(id="1"))
        await t.drain()
        (dead,) = await t.dead(shop.orders)
        assert dead.notes.failure is not None
        assert str(MOST_HELD) in dead.notes.failure.last.text
        assert "now=True" in dead.notes.failure.last.text
        assert not t.sent(shop.receipts)


async def test_another_application_s_queue_is_not_held() -> None:
    """The handler's success says nothing to another broker: what is sent there leaves at once."""
    shop, other = Shop(max_attempts=1), App("other")
    letters = other.queue("letters", Receipt)

    async def then(order: Order) -> None:
        await letters.send(Receipt(order=order.id))
        raise RuntimeError

    shop.then = then
    async with other.test() as elsewhere, shop.app.test() as t:
        await shop.orders.send(Order(id="1"))
        await t.drain()
        assert len(elsewhere.sent(letters)) == 1


async def test_a_degraded_handler_s_messages_leave_when_it_succeeds() -> None:
    """They are its own: the handler, which failed, sends nothing; and when it runs later, its own leave."""
    app = App("shop")
    payments = app.dependency("payments")
    orders, receipts = app.queue("orders", Order), app.queue("receipts", Receipt)
    down = True

    @orders.consumer(needs=[payments])
    async def handle(order: Order) -> None:
        await receipts.send(Receipt(order=order.id))
        if down:
            raise Unavailable("payments", "down")

    @handle.degraded(payments)
    async def pending(_outage: Outage[None], order: Order) -> None:
        await receipts.send(Receipt(order=order.id, text="pending"))

    async with app.test() as t:
        await orders.send(Order(id="1"))
        await t.drain()
        assert [one.body for one in t.sent(receipts)] == [b'{"order":"1","text":"pending"}']
        down = False
        await t.advance(120)
        assert [one.body for one in t.sent(receipts)][1:] == [b'{"order":"1","text":""}']


# Crashes and refusals


@pytest.mark.usefixtures("any_broker", "failing_store")
@pytest.mark.parametrize("size", [10, _IN_THE_CLAIM * 3, 900_000])
async def test_a_duplicate_of_finished_work_sends_what_was_left(size: int) -> None:
    """The worker died between the claim and the send: whoever receives it next sends, and does not run the handler."""
    shop = Shop(once=True)
    shop.then = lambda order: shop.receipts.send(Receipt(order=order.id, text="x" * size))
    stubborn: list[Stubborn] = []

    def between(broker: Broker) -> Broker:
        stubborn.append(Stubborn(broker))
        return stubborn[0]

    async with shop.app.test(broker=between) as t:
        (broker,) = stubborn
        store: FailingStore = t.runtime.store  # type: ignore[assignment]
        pieces: set[str] = set()

        def note(call: str, namespace: Namespace, key: str, _value: bytes) -> bool:
            if call == "put" and namespace is UNSENT:
                pieces.add(key)
            return False

        store.fails = note
        await shop.orders.send(Order(id="1"))
        broker.refuses["receipts"] = Killed()  # type: ignore[assignment]
        with pytest.raises(Killed):
            await take(t, shop)
        assert not t.sent(shop.receipts)
        broker.refuses.clear()
        await t.advance(60)
        assert shop.ran == ["1"]
        assert len(t.sent(shop.receipts)) == 1
        assert not await t.waiting(shop.orders)
        await shop.orders.send(Order(id="1"))
        await t.drain()
        assert len(t.sent(shop.receipts)) == 1
        assert len(pieces) == -(-size // (256 * 1024)) if size > _IN_THE_CLAIM else not pieces
        assert not [key for key in pieces if await store.get(UNSENT, key) is not None]


@pytest.mark.usefixtures("failing_store")
@pytest.mark.parametrize("once", [False, True])
async def test_a_crash_before_the_acknowledgement_repeats_the_same_messages(once: bool) -> None:  # noqa: FBT001
    """The turn, or only the send, is repeated; the ids are the same, so that receivers know them."""
    shop = Shop(once=once)
    fail = False

    async def then(order: Order) -> None:
        sends = [shop.receipts.send(Receipt(order=order.id, text=text)) for text in ("a", "b", "b")]
        await asyncio.gather(*(reversed(sends) if len(shop.ran) > 1 else sends))
        await shop.lines.send(Receipt(order=order.id), group="g")

    shop.then = then
    async with shop.app.test() as t:
        store: FailingStore = t.runtime.store  # type: ignore[assignment]
        store.fails = lambda call, namespace, _key, value: fail_note(call, namespace, value)

        def fail_note(call: str, namespace: Namespace, value: bytes) -> bool:
            """The crash comes before it is noted that everything was sent."""
            return (
                fail and call == "put" and namespace.name == "claims" and b'"done"' in value and b"unsent" not in value
            )

        await shop.orders.send(Order(id="1"))
        fail = True
        await take(t, shop, settle=False)
        fail = False
        first = t.sent(shop.receipts)
        assert len({one.id for one in first}) == 3
        await t.advance(60)
        assert len(shop.ran) == (1 if once else 2)
        again = t.sent(shop.receipts)[3:]
        assert {(one.id, one.body) for one in again} == {(one.id, one.body) for one in first}
        assert len(t.sent(shop.lines)) == 1


async def test_work_that_says_something_else_the_second_time_sends_something_else() -> None:
    """An id belongs to what it says: nothing is taken for a duplicate of what it is not, and lost."""
    shop = Shop()
    shop.then = lambda order: shop.lines.send(Receipt(order=order.id, text=str(len(shop.ran))), group="g")
    async with shop.app.test() as t:
        await shop.orders.send(Order(id="1"))
        await take(t, shop, settle=False)
        await t.advance(60)
        assert [one.body for one in t.sent(shop.lines)] == [b'{"order":"1","text":"1"}', b'{"order":"1","text":"2"}']


@pytest.mark.parametrize("once", [False, True])
async def test_a_broker_that_is_away_for_a_moment_is_asked_again(once: bool) -> None:  # noqa: FBT001 - a parameter
    """Within the turn; the handler does not run again."""
    shop = Shop(once=once)
    stubborn: list[Stubborn] = []

    def between(broker: Broker) -> Broker:
        stubborn.append(Stubborn(broker))
        return stubborn[0]

    async with shop.app.test(broker=between) as t:
        (broker,) = stubborn
        broker.refuses["receipts"] = BrokerUnavailable("test", "it is away")
        await shop.orders.send(Order(id="1"))
        turn = asyncio.create_task(t.drain())
        await until(lambda: broker.tried.count("receipts") == 2)
        broker.refuses.clear()
        await turn
        assert shop.ran == ["1"]
        assert len(t.sent(shop.receipts)) == 1


@pytest.mark.parametrize("once", [False, True])
async def test_what_can_never_be_sent_is_an_attempt_and_then_dead(once: bool) -> None:  # noqa: FBT001 - a parameter
    """Nothing is lost: what was refused is in the failure record, and a redrive sends it without running again."""
    shop = Shop(once=once, max_attempts=2)
    stubborn: list[Stubborn] = []

    def between(broker: Broker) -> Broker:
        stubborn.append(Stubborn(broker))
        return stubborn[0]

    async with shop.app.test(broker=between) as t:
        (broker,) = stubborn
        broker.refuses["receipts"] = QueueNotFound("receipts")
        await shop.orders.send(Order(id="1"))
        await t.advance(600)
        (dead,) = await t.dead(shop.orders)
        assert dead.notes.failure is not None
        assert "queue 'receipts' does not exist" in dead.notes.failure.last.text
        assert len(shop.ran) == (1 if once else 2)
        broker.refuses.clear()
        await put(t, shop.orders, dead.body, id=dead.id)
        await t.drain()
        assert len(t.sent(shop.receipts)) == 1
        assert len(shop.ran) == (1 if once else 3)


@pytest.mark.parametrize("once", [False, True])
async def test_who_lost_the_claim_sends_nothing(once: bool) -> None:  # noqa: FBT001 - a parameter
    """With a claim, a late finisher's messages do not leave: the other's do. Without one, both are at work."""
    shop = Shop(once=once, lease=1)

    async def then(order: Order) -> None:
        if len(shop.ran) == 1:
            t.clock.advance(5)
            await take(t, shop)
        await shop.receipts.send(Receipt(order=order.id))

    shop.then = then
    async with shop.app.test() as t:
        await shop.orders.send(Order(id="1"))
        await take(t, shop)
        assert len(t.sent(shop.receipts)) == (1 if once else 2)
        assert len({one.id for one in t.sent(shop.receipts)}) == 1


# With a worker, on a file


async def test_a_worker_holds_and_sends(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on real loops and threads: a hundred orders, each with a receipt, every tenth failing once."""
    app = App("shop")
    orders, receipts = app.queue("orders", Order), app.queue("receipts", Receipt)
    got: list[str] = []
    failed: set[str] = set()
    lock = threading.Lock()

    @orders.consumer(once_by=lambda order: order.id)
    def handle(order: Order) -> None:
        receipts.send_blocking(Receipt(order=order.id))
        with lock:
            if order.id.endswith("0") and order.id not in failed:
                failed.add(order.id)
                raise RuntimeError

    @receipts.consumer()
    async def receive(receipt: Receipt) -> None:
        got.append(receipt.order)

    async with opened(app, tmp_path, monkeypatch), working(app):
        await orders.send_many([Order(id=str(number)) for number in range(100)])
        await until(lambda: len(got) == 100, 20)
    assert sorted(got, key=int) == [str(number) for number in range(100)]
    assert len(failed) == 10


def test_a_queue_is_a_queue() -> None:
    """Outside of a handler nothing is held: the application has to be open."""
    queue: Queue[Any] = App("shop").queue("orders", Order)
    assert queue._holding() is None
