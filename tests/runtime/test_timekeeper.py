"""The timekeeper: what is due is done, once for all workers, and nothing that goes wrong holds up the rest."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from typing_extensions import override

from redrive import App
from redrive.broker import Outgoing, Sends
from redrive.errors import BrokerUnavailable
from redrive.leadership import Leadership
from redrive.message import Message
from redrive.relay import Relay
from redrive.store import TIMERS
from redrive.timekeeper import Schedule, Timekeeper, set_timer
from tests.runtime.fakes import Order, until


def an_app() -> tuple[App[None], Any, list[str]]:
    app: App[None] = App("test")
    queue = app.queue("orders", Order)
    ran: list[str] = []

    @queue.consumer()
    async def handle(order: Order) -> None:
        ran.append(order.id)

    return app, queue, ran


async def test_a_delay_over_the_brokers_limit_is_kept_and_sent_when_due() -> None:
    """Two hours and a day: not a second early, under its own id and send time."""
    app, queue, ran = an_app()
    async with app.test() as t:
        sent_at = t.clock.now_ms()
        identity = await queue.send(Order(id="1"), delay=timedelta(hours=2))
        await queue.send(Order(id="2"), delay=86_400.0)
        await queue.send(Order(id="3"), delay=900.0)
        await t.advance(7199)
        assert ran == ["3"]
        await t.advance(2)
        assert ran == ["3", "1"]
        (message,) = [one for one in t.sent(queue) if one.id == identity]
        assert message.sent_at_ms == sent_at
        await t.advance(86_400)
        assert ran == ["3", "1", "2"]


async def test_a_timer_for_a_queue_that_is_gone_holds_nobody_up() -> None:
    """What cannot be sent stays, and says so; what is due after it is sent, and schedules run."""
    app, queue, ran = an_app()
    ticks: list[int] = []

    @app.every("5 minutes")
    async def tick() -> None:
        ticks.append(1)

    async with app.test() as t:
        lost = Message(id="lost", body=b"{}", sent_at_ms=t.clock.now_ms())
        await set_timer(t.runtime.store, "gone", lost, due_at_ms=t.clock.now_ms() + 500_000)
        await queue.send(Order(id="1"), delay=1000.0)
        await t.advance(1500)
        assert ran == ["1"]
        assert len(ticks) == 5
        assert await t.runtime.store.due(TIMERS, before_ms=t.clock.now_ms() + 10_000_000, limit=10)


def two(t: Any, schedules: list[Schedule]) -> list[Timekeeper]:
    """Two workers' timekeepers."""
    return [
        Timekeeper(
            t.runtime,
            schedules,
            leadership=Leadership(t.runtime.store, t.clock, task="timekeeper", holder=str(number)),
        )
        for number in range(2)
    ]


async def test_a_schedule_ticks_once_for_two_workers_and_goes_on_after_it_raised() -> None:
    """Two workers, one tick each period; one that raises, by whatever, ticks again."""
    app, _, _ = an_app()
    ticks: list[int] = []

    async def tick() -> None:
        ticks.append(1)
        if len(ticks) == 2:
            raise ValueError("no")
        if len(ticks) == 3:
            raise SystemExit(1)

    async with app.test() as t:
        keepers = two(t, [Schedule(name="tick", every=60.0, function=tick)])
        for _ in range(600):
            for keeper in keepers:
                await keeper.step()
            t.clock.advance(1)
        assert len(ticks) == 9


async def test_a_schedule_missed_for_a_while_ticks_once_and_keeps_its_beat() -> None:
    """After an hour without a worker there is one tick, not sixty, and the next one when it would have been."""
    app, _, _ = an_app()
    ticks: list[float] = []

    async with app.test() as t:
        (keeper, _) = two(t, [Schedule(name="tick", every=60.0, function=lambda: ticks.append(t.clock.monotonic()))])
        await keeper.step()
        t.clock.advance(3630)
        for _ in range(60):
            await keeper.step()
            t.clock.advance(1)
        assert ticks == [3630.0, 3660.0]


async def test_a_schedule_that_hangs_holds_up_neither_timers_nor_other_schedules() -> None:
    """One function that never ends: delayed messages are sent and other schedules run; it does not run twice."""
    app, queue, ran = an_app()
    hanging, ticks = 0, 0

    @app.every("1 minute")
    async def hang() -> None:
        nonlocal hanging
        hanging += 1
        await asyncio.Event().wait()

    @app.every("1 minute")
    async def tick() -> None:
        nonlocal ticks
        ticks += 1

    async with app.test() as t:
        await queue.send(Order(id="1"), delay=1000.0)
        async with asyncio.timeout(10):
            await t.advance(1200)
        assert ran == ["1"]
        assert hanging == 1
        assert ticks == 20


async def test_a_plain_function_of_a_schedule_does_not_stop_the_loop() -> None:
    """A `def` schedule runs in a thread, as a `def` handler does."""
    app, _, _ = an_app()
    threads: list[str] = []

    @app.every("1 minute")
    def tick() -> None:
        threads.append(threading.current_thread().name)

    async with app.test() as t:
        await t.advance(61)
        await until(lambda: threads)
    assert threads[0] != threading.main_thread().name


async def test_a_new_period_takes_effect_at_once() -> None:
    """From once a day to every five minutes: the next tick is in five minutes, not tomorrow."""
    app, _, _ = an_app()
    ticks: list[int] = []

    async with app.test() as t:
        before, after = two(t, [Schedule(name="tick", every=86_400.0, function=lambda: ticks.append(1))])
        await before.step()
        await before.resign()
        after._schedules = {"test/tick": Schedule(name="tick", every=300.0, function=lambda: ticks.append(1))}
        for _ in range(610):
            await after.step()
            t.clock.advance(1)
        assert len(ticks) == 2


async def test_two_applications_on_one_broker_each_have_their_schedules() -> None:
    """One application's timekeeper leads; the other's schedules run all the same, also under the same name."""
    app, _, _ = an_app()
    ticks: list[str] = []

    async with app.test() as t:
        first, second = two(t, [])
        other = replace(t.runtime, app="other", worker="other-worker")
        first._schedules = {"test/tick": Schedule(name="tick", every=60.0, function=lambda: ticks.append("test"))}
        second = Timekeeper(other, [Schedule(name="tick", every=60.0, function=lambda: ticks.append("other"))])
        for _ in range(130):
            await first.step()
            await second.step()
            t.clock.advance(1)
        assert sorted(ticks) == ["other", "other", "test", "test"]


class _Denied(BrokerUnavailable):
    """As an adapter says it of one queue."""


class _Denies(Relay):
    """A broker that does not let one queue be sent to."""

    @override
    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        if queue == "denied":
            raise _Denied(self.address, "its credentials may not send to it")
        return await super().send(queue, messages)


async def test_a_queue_that_may_not_be_sent_to_holds_up_no_other() -> None:
    """What is due for it is tried again a minute later; what is due for the others is sent."""
    app, queue, ran = an_app()
    async with app.test() as t:
        t.runtime.broker = _Denies(t.runtime.broker)
        for number in range(3):
            denied = Message(id=f"denied-{number}", body=b"{}", sent_at_ms=t.clock.now_ms())
            await set_timer(t.runtime.store, "denied", denied, due_at_ms=t.clock.now_ms() + 950_000)
        await queue.send(Order(id="1"), delay=1000.0)
        await t.advance(1010)
        assert ran == ["1"]
        kept = await t.runtime.store.due(TIMERS, before_ms=t.clock.now_ms() + 10_000_000, limit=10)
        assert len(kept) == 3
        assert await t.runtime.store.due(TIMERS, before_ms=t.clock.now_ms(), limit=10) in ([], kept)
