"""The fault injector: what it does to calls, and a worker that loses nothing by it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

import pytest

from redrive import App, BrokerUnavailable, OutcomeUnknown, Queue
from redrive.broker import Acknowledge, Broker, Depth, Outgoing, QueueSpec
from redrive.clock import ManualClock, SteadyClock, SystemClock
from redrive.connections import connect
from redrive.errors import StoreUnavailable, VersionConflict
from redrive.message import Message
from redrive.operations import Operations
from redrive.sqlite.writer import InlineDatabase
from redrive.store import ABSENT, CLAIMS, CONTROLS, Store
from redrive.stores.sqlite import SqliteStore
from redrive.testing import FaultyBroker, FaultyStore
from tests.runtime.fakes import Order, until, working


def one(identity: str = "1") -> Outgoing:
    return Outgoing(message=Message(id=identity, body=b"{}", sent_at_ms=0))


@asynccontextmanager
async def faulty(folder: Path, *, seed: int = 0) -> AsyncIterator[FaultyBroker]:
    broker, store = connect(f"sqlite:{folder / 'test.db'}", SystemClock())
    await broker.declare([QueueSpec(name="orders")])
    yield FaultyBroker(broker, seed=seed)
    await broker.close()
    await store.close()


async def test_what_is_refused_did_not_happen(tmp_path: Path) -> None:
    """The error says so, as the port's own."""
    async with faulty(tmp_path) as broker:
        broker.refuse("send")
        with pytest.raises(BrokerUnavailable, match="on purpose"):
            await broker.send("orders", [one()])
        assert await broker.depth("orders") == Depth()


async def test_of_what_was_lost_nobody_knows_whether_it_happened(tmp_path: Path) -> None:
    """A request that was lost did not, an answer that was lost did; the error is the same."""
    async with faulty(tmp_path) as broker:
        broker.lose_requests("send", nth=1)
        broker.lose_answers("send", nth=2)
        with pytest.raises(OutcomeUnknown):
            await broker.send("orders", [one("1")])
        assert await broker.depth("orders") == Depth()
        with pytest.raises(OutcomeUnknown):
            await broker.send("orders", [one("2")])
        assert await broker.depth("orders") == Depth(ready=1)
        assert broker.injected == {("send", "request lost"): 1, ("send", "answer lost"): 1}


async def test_a_message_whose_receive_was_lost_comes_back_after_its_lease(tmp_path: Path) -> None:
    """It is in flight, and in nobody's hand."""
    async with faulty(tmp_path) as broker:
        await broker.send("orders", [one()])
        broker.lose_answers("receive", nth=1)
        with pytest.raises(OutcomeUnknown):
            await broker.receive("orders", limit=1, lease=0.2)
        assert (await broker.depth("orders")).in_flight == 1
        (delivery,) = await broker.receive("orders", limit=1, lease=30, wait=10)
        assert delivery.receive_count == 2
        broker.lose_answers("settle", nth=1)
        with pytest.raises(OutcomeUnknown):
            await broker.settle([Acknowledge(delivery=delivery)])
        assert await broker.depth("orders") == Depth()


async def test_a_read_cannot_be_unknown(tmp_path: Path) -> None:
    """Reads change nothing: whatever is lost, they are unavailable."""
    async with faulty(tmp_path) as broker:
        broker.lose_answers("depth", "queues")
        broker.lose_requests("browse")
        for read in (broker.depth("orders"), broker.queues(), broker.browse("orders")):
            with pytest.raises(BrokerUnavailable):
                await read


async def test_the_nth_call_of_a_kind_fails_and_no_other(tmp_path: Path) -> None:
    """Counted from when it was told; other calls do not count."""
    async with faulty(tmp_path) as broker:
        await broker.depth("orders")
        broker.refuse("depth", nth=2)
        answers = []
        for _ in range(4):
            await broker.queues()
            answers.append(await failed(broker))
        assert answers == [False, True, False, False]


async def test_a_share_of_calls_fails_by_its_seed(tmp_path: Path) -> None:
    """The same seed, the same calls; another seed, others; after it recovered, none."""
    async with faulty(tmp_path) as real:

        async def run(seed: int) -> list[bool]:
            broker = FaultyBroker(real, seed=seed)
            broker.refuse(share=0.3)
            return [await failed(broker) for _ in range(200)]

        first, again, other = await run(1), await run(1), await run(2)
        assert first == again != other
        assert 30 < sum(first) < 90
        real.refuse()
        assert await failed(real)
        real.recover()
        assert not await failed(real)


async def test_a_late_call_happens(tmp_path: Path) -> None:
    """After its delay, and on top of another fault."""
    async with faulty(tmp_path) as broker:
        broker.delay(0.05, "send")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await broker.send("orders", [one("1")])
        assert loop.time() - began >= 0.05
        broker.lose_answers("send")
        with pytest.raises(OutcomeUnknown):
            await broker.send("orders", [one("2")])
        assert await broker.depth("orders") == Depth(ready=2)
        assert broker.injected["send", "late"] == 2


@pytest.mark.parametrize(
    ("calls", "settings"), [(["ack"], {}), ([], {"nth": 0}), ([], {"share": 1.5}), (["close"], {})]
)
async def test_what_cannot_be_told_is_refused(tmp_path: Path, calls: list[str], settings: dict[str, float]) -> None:
    """A misspelt call would never fail: the error lists them all."""
    async with faulty(tmp_path) as broker:
        with pytest.raises(ValueError, match="calls are browse, declare, depth"):
            broker.lose_answers(*calls, **settings)  # type: ignore[arg-type]


async def test_a_store_loses_answers_too() -> None:
    """The write stands, and whoever writes again is told that somebody else was first."""
    store = FaultyStore(SqliteStore(InlineDatabase(ManualClock())))
    store.lose_answers("put", nth=1)
    with pytest.raises(StoreUnavailable):
        await store.put(CLAIMS, "key", b"1", if_version=ABSENT)
    with pytest.raises(VersionConflict):
        await store.put(CLAIMS, "key", b"1", if_version=ABSENT)
    store.refuse()
    asked = [
        store.get(CLAIMS, "key"),
        store.delete(CLAIMS, "key", if_version=1),
        store.due(CLAIMS, before_ms=1, limit=1),
        store.scan(CONTROLS),
    ]
    for call in asked:
        with pytest.raises(StoreUnavailable):
            await call
    store.recover()
    entry = await store.get(CLAIMS, "key")
    assert entry is not None
    assert entry.value == b"1"


@asynccontextmanager
async def opened_on(app: App[None], broker: Broker, store: Store) -> AsyncIterator[None]:
    """The application on these, with a worker."""
    await app.open_on(broker, store, clock=SteadyClock(SystemClock()), random=Random(1))  # noqa: S311 - jitter
    try:
        yield
    finally:
        await app.close()


async def test_a_worker_loses_nothing_to_a_broker_that_loses_answers(tmp_path: Path) -> None:
    """A thousand messages, one in five answers lost, and requests and refusals among them: every one is handled."""
    app: App[None] = App("test")
    queue = app.queue("orders", Order)
    handled: Counter[str] = Counter()

    @queue.consumer(lease=1.0)
    async def handle(order: Order) -> None:
        handled[order.id] += 1

    broker, store = connect(f"sqlite:{tmp_path / 'test.db'}", SystemClock())
    faulty = FaultyBroker(broker, seed=1)
    async with opened_on(app, faulty, store):
        for nth in (2, 5):
            faulty.lose_answers("receive", nth=nth)
            faulty.lose_answers("settle", nth=nth)
        faulty.lose_answers("receive", "settle", "extend", share=0.2)
        faulty.lose_requests("receive", "settle", "extend", share=0.1)
        faulty.refuse("receive", "settle", share=0.1)
        async with working(app):
            for end in range(100, 1100, 100):  # so that there are many calls, and not a few large ones
                await queue.send_many([Order(id=str(number)) for number in range(end - 100, end)])
                await until(partial(all_handled, handled, end), 30)
            faulty.recover()
            await until(lambda: is_empty(broker), 20)
        operations = Operations(broker, store, clock=SystemClock(), who="test")
        assert (await operations.queue("orders")).dead == 0
    assert set(handled) == {str(number) for number in range(1000)}
    assert faulty.injected["receive", "answer lost"] > 0
    assert faulty.injected["settle", "answer lost"] > 0


async def test_a_key_is_used_once_whatever_is_lost(tmp_path: Path) -> None:
    """Broker and store lose answers, the producer sends again what it is not sure of: each order is handled once."""
    app: App[None] = App("test")
    queue = app.queue("orders", Order)
    handled: Counter[str] = Counter()

    @queue.consumer(lease=1.0, once_by=lambda order: order.id)
    async def handle(order: Order) -> None:
        handled[order.id] += 1

    broker, store = connect(f"sqlite:{tmp_path / 'test.db'}", SystemClock())
    faulty, faulty_store = FaultyBroker(broker, seed=2), FaultyStore(store, seed=2)
    async with opened_on(app, faulty, faulty_store), working(app):
        faulty.lose_answers("send", "receive", "settle", share=0.2)
        faulty_store.lose_answers("get", "put", share=0.02)
        for number in range(200):
            await send_until_sure(queue, Order(id=str(number)))
        await until(lambda: len(handled) == 200, 40)
        faulty.recover()
        faulty_store.recover()
        await until(lambda: is_empty(broker), 20)
    assert handled == {str(number): 1 for number in range(200)}
    assert faulty.injected["send", "answer lost"] > 0
    assert faulty_store.injected["put", "answer lost"] > 0


def all_handled(handled: Counter[str], count: int) -> bool:
    return len(handled) == count


async def send_until_sure(queue: Queue[Order], order: Order) -> None:
    while True:
        try:
            await queue.send(order)
        except OutcomeUnknown:
            continue
        return


async def is_empty(broker: Broker) -> bool:
    return (await broker.depth("orders")).total == 0


async def failed(broker: Broker) -> bool:
    try:
        await broker.depth("orders")
    except BrokerUnavailable:
        return True
    return False
