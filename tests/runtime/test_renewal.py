"""Parked messages outlast an outage that is longer than the broker keeps a message."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from redrive import App
from redrive.broker import QueueSpec
from redrive.harness import Harness
from redrive.testing import PlainBroker
from tests.runtime.fakes import Order

DAY = 24 * 3600.0
PARKED = "orders-parked-payments"


class Shop:
    """An application whose payments can be away for weeks, on a broker that deletes what is older than 14 days."""

    def __init__(self, **queue: Any) -> None:
        self.app: App[None] = App("test")
        self.payments = self.app.dependency("payments", trip_after=1, canary=self.ask, canary_every=3600.0)
        self.queue = self.app.queue("orders", Order, **queue)
        self.handled: list[str] = []

        @self.queue.consumer(needs=[self.payments], when_open="park", once_by=lambda order: order.id)
        async def handle(order: Order) -> None:
            async with self.payments:
                self.handled.append(order.id)

    async def ask(self) -> None:
        """Is healthy, as far as it is up."""

    async def park(self, t: Harness[None], count: int, **more: Any) -> list[str]:
        await t.runtime.broker.declare([QueueSpec(name=PARKED, fifo=self.queue.fifo, retention=14 * DAY)])
        t.down(self.payments)
        ids = [await self.queue.send(Order(id=str(number)), **more) for number in range(count)]
        await t.advance(5)
        assert len(await t.parked(self.queue)) == count
        return ids


async def pass_days(t: Harness[None], days: int) -> None:
    """Half a day at a time: second by second it would take long, also in virtual time."""
    for _ in range(2 * days):
        t.clock.advance(DAY / 2)
        await t.advance(1)


async def test_parked_messages_are_there_after_an_outage_of_fifty_days() -> None:
    """Under their ids, once each; when payments come back each is handled once."""
    shop = Shop()
    async with shop.app.test(broker=PlainBroker) as t:
        ids = await shop.park(t, 25)
        await pass_days(t, 50)
        assert sorted(one.id for one in await t.parked(shop.queue)) == sorted(ids)
        t.heal(shop.payments)
        t.clock.advance(3600)
        await t.advance(60)
        assert sorted(shop.handled, key=int) == [str(number) for number in range(25)]
        assert await t.parked(shop.queue) == []


async def test_what_is_parked_in_order_raises_an_alarm_instead(caplog: pytest.LogCaptureFixture) -> None:
    """Sent again it would lose its place: it stays, and a log line says so in time."""
    shop = Shop(fifo=True)
    async with shop.app.test(broker=PlainBroker) as t:
        ids = await shop.park(t, 3, group="a")
        await pass_days(t, 6)
        assert not [one for one in caplog.records if one.levelno == logging.ERROR]
        await pass_days(t, 2)
        assert "3 messages of orders-parked-payments have waited for a week" in caplog.text
        assert [one.id for one in await t.parked(shop.queue)] == ids


async def test_a_short_outage_sends_nothing_again() -> None:
    """Within a week what is parked is looked at and left as it is."""
    shop = Shop()
    async with shop.app.test(broker=PlainBroker) as t:
        await shop.park(t, 12)
        before = await t.parked(shop.queue)
        await pass_days(t, 6)
        assert sorted(await t.parked(shop.queue), key=lambda one: one.id) == sorted(before, key=lambda one: one.id)
