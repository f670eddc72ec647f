"""FIFO from the handler's side: each group in order, whatever fails, and nothing leaves its place during an outage."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import redrive.consumer
from redrive import App, Backoff, Context, DeclarationError, LimitExceeded, Reject, RetryLater
from redrive.broker import Depth
from redrive.operations import Operations
from tests.runtime.fakes import Down, Order, opened, until, working

pytestmark = pytest.mark.usefixtures("any_broker")


class Tables:
    """Orders by table, handled in the order in which each table gave them."""

    def __init__(self, *, canary: bool = True, trip_after: int = 1, **settings: Any) -> None:
        self.app: App[None] = App("test")
        self.payments = self.app.dependency("payments", trip_after=trip_after, canary=self.ask if canary else None)
        self.queue = self.app.queue("orders", Order, fifo=True)
        self.handled: list[tuple[str, str]] = []
        self.running: dict[str, int] = {}
        self.most_at_once = 0
        self.fails: dict[str, list[BaseException]] = {}

        @self.queue.consumer(needs=[self.payments], **settings)
        async def handle(ctx: Context[None], order: Order) -> None:
            group = ctx.group or ""
            self.running[group] = self.running.get(group, 0) + 1
            self.most_at_once = max(self.most_at_once, len([one for one in self.running.values() if one]))
            try:
                assert self.running[group] == 1, "two of one group at once"
                await asyncio.sleep(0)
                if self.fails.get(order.id):
                    raise self.fails[order.id].pop()
                async with self.payments:
                    self.handled.append((group, order.id))
            finally:
                self.running[group] -= 1

    async def ask(self) -> None:
        """The canary: payments are as the harness says."""

    async def send(self, *ids: str) -> None:
        for one in ids:
            await self.queue.send(Order(id=one), group=one[0])

    def of(self, group: str) -> list[str]:
        return [one for its, one in self.handled if its == group]


async def test_each_group_is_handled_in_order() -> None:
    """And different groups at the same time."""
    tables = Tables()
    async with tables.app.test(resources=None) as t:
        await tables.send("a1", "a2", "b1", "a3", "b2", "c1")
        await t.drain()
        assert (tables.of("a"), tables.of("b"), tables.of("c")) == (["a1", "a2", "a3"], ["b1", "b2"], ["c1"])
        assert tables.most_at_once == 3


async def test_a_message_that_comes_back_holds_its_group() -> None:
    """Until its backoff is over; other groups go on."""
    tables = Tables(backoff=Backoff(first=10.0, maximum=10.0))
    tables.fails["a1"] = [ValueError("once")]
    async with tables.app.test(resources=None) as t:
        await tables.send("a1", "a2", "b1", "b2")
        await t.drain()
        assert tables.handled == [("b", "b1"), ("b", "b2")]
        await t.advance(11)
        assert tables.of("a") == ["a1", "a2"]
        assert [one.notes.attempts for one in await t.waiting(tables.queue)] == []


async def test_a_dead_letter_leaves_the_line() -> None:
    """What stands behind it goes on, and the dead-letter queue keeps the group."""
    tables = Tables()
    tables.fails["a1"] = [Reject("never")]
    async with tables.app.test(resources=None) as t:
        await tables.send("a1", "a2")
        await t.drain()
        assert tables.of("a") == ["a2"]
        assert [one.group for one in await t.dead(tables.queue)] == ["a"]


async def test_during_an_outage_everything_waits_in_its_place() -> None:
    """Nothing is parked, nothing is counted, and after the outage each group goes on in order."""
    tables = Tables()
    async with tables.app.test(resources=None) as t:
        t.down(tables.payments)
        await tables.send("a1", "a2", "b1")
        await t.advance(600)
        assert (tables.handled, await t.parked(tables.queue), await t.dead(tables.queue)) == ([], [], [])
        assert t.runtime.counters.calls["payments"] == 1
        assert [one.notes.attempts for one in await t.waiting(tables.queue)] == [0, 0, 0]
        t.heal(tables.payments)
        await t.advance(120)
        assert (tables.of("a"), tables.of("b")) == (["a1", "a2"], ["b1"])


async def test_without_a_canary_the_message_in_front_is_the_probe() -> None:
    """One call each time, however many wait, and it costs the message nothing."""
    tables = Tables(canary=False, max_bounces=3)
    async with tables.app.test(resources=None) as t:
        t.down(tables.payments)
        await tables.send("a1", "a2", "b1", "c1")
        await t.advance(1_800)
        calls = t.runtime.counters.calls["payments"]
        assert 20 <= calls <= 60
        assert await t.dead(tables.queue) == []
        t.heal(tables.payments)
        await t.advance(120)
        assert (tables.of("a"), tables.of("b"), tables.of("c")) == (["a1", "a2"], ["b1"], ["c1"])


async def test_a_long_outage_kills_nothing() -> None:
    """Each probe is a receive that is not counted: the broker's own limit, 26 receives here, stays far away."""
    tables = Tables(canary=False)
    async with tables.app.test(resources=None) as t:
        t.down(tables.payments)
        await tables.send("a1")
        await t.advance(3 * 3_600)
        t.heal(tables.payments)
        await t.advance(120)
        assert tables.of("a") == ["a1"]


async def test_what_comes_back_for_ever_is_dead_with_a_reason_before_the_broker_gives_up(
    any_broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no receive can be taken back, `RetryLater` without end has one; elsewhere it has none."""
    monkeypatch.setattr(redrive.consumer, "LARGEST_BACKSTOP", 50)  # 1,000 takes long, also in virtual time
    tables = Tables()
    tables.fails["a1"] = [RetryLater(after=10.0) for _ in range(60)]
    async with tables.app.test(resources=None) as t:
        await tables.send("a1", "a2", "b1")
        await t.advance(700)
        dead = await t.dead(tables.queue)
        if any_broker == "embedded":
            assert (dead, tables.of("a")) == ([], ["a1", "a2"])
            return
        (letter,) = dead
        assert letter.notes.failure is not None
        assert "received 40 times, and the broker itself gives up at 50" in letter.notes.failure.reason
        assert [one.id async for one in Operations.of(tables.app).letters("orders")] == [letter.id]
        assert (tables.of("a"), tables.of("b")) == (["a2"], ["b1"])


async def test_order_may_be_given_up_for_speed() -> None:
    """A consumer that says so parks what it cannot handle, also from a FIFO queue."""
    tables = Tables(when_open="park")
    async with tables.app.test(resources=None) as t:
        t.down(tables.payments)
        await tables.send("a1", "a2", "b1")
        await t.advance(5)
        assert len(await t.parked(tables.queue)) == 3
        t.heal(tables.payments)
        await t.advance(120)
        assert sorted(tables.handled) == [("a", "a1"), ("a", "a2"), ("b", "b1")]


async def test_a_standard_queue_may_pause_too() -> None:
    """Its messages stay in their queue during an outage."""
    app: App[None] = App("test")
    payments = app.dependency("payments", trip_after=1, canary=lambda: asyncio.sleep(0))
    queue = app.queue("orders", Order)
    handled: list[str] = []

    @queue.consumer(needs=[payments], when_open="pause")
    async def handle(order: Order) -> None:
        async with payments:
            handled.append(order.id)

    async with app.test(resources=None) as t:
        t.down(payments)
        await queue.send_many([Order(id=str(number)) for number in range(30)])
        await t.advance(60)
        assert len(await t.waiting(queue)) == 30
        t.heal(payments)
        await t.advance(120)
        assert len(handled) == 30


async def test_what_is_sent_twice_is_handled_once() -> None:
    """By its deduplication id, for five minutes; the sender gets the first one's message id."""
    tables = Tables()
    async with tables.app.test(resources=None) as t:
        first = await tables.queue.send(Order(id="a1"), group="a", deduplication_id="order-1")
        assert await tables.queue.send(Order(id="a1"), group="a", deduplication_id="order-1") == first
        await t.advance(301)
        assert await tables.queue.send(Order(id="a1"), group="a", deduplication_id="order-1") != first
        await t.drain()
        assert tables.of("a") == ["a1", "a1"]


async def test_the_same_content_is_the_same_message_where_a_queue_says_so() -> None:
    """And only there."""
    app: App[None] = App("test")
    queue = app.queue("orders", Order, fifo=True, content_deduplication=True)
    async with app.test(resources=None) as t:
        first = await queue.send(Order(id="1"), group="a")
        assert await queue.send_many([Order(id="1"), Order(id="2")], group="a") == [first, t.sent(queue)[-1].id]
        assert len(t.sent(queue)) == 2


async def test_what_a_fifo_queue_needs_is_said() -> None:
    """A group, no delay; and content can be compared on FIFO queues only."""
    tables = Tables()
    async with tables.app.test(resources=None):
        with pytest.raises(LimitExceeded, match=r"group is None; it must be 1 to 128 .* on a FIFO queue"):
            await tables.queue.send(Order(id="a1"))
        with pytest.raises(LimitExceeded, match="0 on a FIFO queue"):
            await tables.queue.send(Order(id="a1"), group="a", delay=1.0)
    with pytest.raises(DeclarationError, match="add fifo=True"):
        tables.app.queue("more", Order, content_deduplication=True)
    with pytest.raises(DeclarationError, match="'park' or 'pause'"):
        Tables(when_open="wait")


async def test_a_worker_keeps_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers on one real file, groups that fail now and then: each group in order, each message once."""
    tables = Tables(trip_after=1_000, backoff=Backoff(first=0.01, maximum=0.02), max_attempts=10, lease=2.0)
    groups = "abcdefg"
    tables.fails = {f"{group}{number:03d}": [Down("no")] for group in groups for number in range(0, 60, 7)}
    async with opened(tables.app, tmp_path, monkeypatch), working(tables.app), working(tables.app):
        await tables.send(*(f"{group}{number:03d}" for number in range(60) for group in groups))
        await until(lambda: len(tables.handled) >= 60 * len(groups))
        await until(_depth_is(tables.app, Depth()))
    assert {group: tables.of(group) for group in groups} == {
        group: [f"{group}{number:03d}" for number in range(60)] for group in groups
    }


async def test_a_worker_that_stops_hands_back_what_waits_in_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs is finished, what stands behind it is free for the next worker at once, uncounted."""
    app: App[None] = App("test")
    queue = app.queue("orders", Order, fifo=True)
    began, go_on = asyncio.Event(), asyncio.Event()
    counts: list[int] = []

    @queue.consumer(concurrency=5)
    async def handle(ctx: Context[None], order: Order) -> None:
        assert order.id
        counts.append(ctx.receive_count)
        began.set()
        await go_on.wait()

    async with opened(app, tmp_path, monkeypatch):
        await queue.send_many([Order(id=str(number)) for number in range(5)], group="a")
        async with working(app) as stop:
            await began.wait()
            stop.set()
            await until(_depth_is(app, Depth(ready=4, in_flight=1)))
            go_on.set()
        assert await app.runtime.broker.depth("orders") == Depth(ready=4)
        async with working(app):
            await until(lambda: len(counts) == 5)
    assert counts[0] == 1


def _depth_is(app: App[None], depth: Depth) -> Any:
    async def look() -> bool:
        return await app.runtime.broker.depth("orders") == depth

    return look
