"""The waker: whatever is due and has no wake-up gets one, and only that."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redrive import Saga
from redrive.broker import Acknowledge
from redrive.sagas.journal import State
from redrive.store import ABSENT, SAGAS
from redrive.testing import FaultyBroker, PlainBroker
from tests.sagas.counting import CountingStore, Kept
from tests.sagas.cutting import Fate, Killed, mortal
from tests.sagas.running import DAY, HOUR, Shop
from tests.sagas.services import Services, charge, confirm


async def sleeping(saga: Saga[Services], order: str) -> None:
    """Charge, sleep, confirm."""
    await saga.run(charge, order)
    await saga.sleep(HOUR)
    await saga.run(confirm, order)


@pytest.mark.parametrize("broker", [None, PlainBroker], ids=["embedded", "plain"])
async def test_many_that_are_due_at_once_are_all_woken(broker: Any) -> None:
    """More than fit into one look."""
    shop = Shop(sleeping, concurrency=50)
    async with shop.test(broker=broker) as t:
        ids = [f"o{number}" for number in range(250)]
        await shop.started(t, *ids, seconds=HOUR + 1)
        for _ in range(3):
            await t.advance(0.5)  # at each instant the waker looks once
        for one in ids:
            assert (await shop.journal(one)).state is State.COMPLETED
        assert len(shop.services.calls) == len(set(shop.services.calls)) == 500


async def test_an_instance_whose_worker_died_and_whose_message_somebody_deleted_goes_on() -> None:
    """When its owner has not been heard of for longer than he asked for."""
    fate = Fate()
    shop = Shop(sleeping)
    shop.services.before["charge"] = fate.die
    async with shop.test(**mortal(fate)) as t:
        await shop.orders.send("o")
        with pytest.raises(Killed):
            await t.drain()
        fate.dead = False
        shop.services.before.clear()
        t.clock.advance(31)
        (delivery,) = await t.runtime.broker.receive("orders", limit=1, lease=30)
        await t.runtime.broker.settle([Acknowledge(delivery=delivery)])
        await t.advance(60 + HOUR)
        assert (await shop.journal()).state is State.COMPLETED


async def test_a_wake_up_that_was_not_sent_is_sent_again_half_a_minute_later() -> None:
    """The journal says that one was sent, and nothing came."""
    brokers = Kept(FaultyBroker)
    shop = Shop(sleeping)
    async with shop.test(broker=brokers) as t:
        await shop.started(t, seconds=HOUR - 1)
        brokers.one.lose_requests("send")
        await t.advance(20)
        assert (await shop.journal()).state is State.WAITING
        brokers.one.recover()
        await t.advance(30)
        assert (await shop.journal()).state is State.COMPLETED


async def test_what_only_waits_costs_nothing() -> None:
    """A day of waiting is no write at all."""
    stores = Kept(CountingStore)

    async def waiting(saga: Saga[Services], order: str) -> None:
        await saga.run(charge, order)
        await saga.wait_for("approved")

    shop = Shop(waiting)
    async with shop.test(store=stores) as t:
        await shop.started(t, *[f"o{number}" for number in range(20)])
        before = stores.one.puts
        await t.advance(DAY)
        assert stores.one.puts == before


async def test_journals_of_a_later_format_do_not_stand_in_the_way_of_others() -> None:
    """However many of them are due: they are a newer worker's, and this one goes on to its own."""
    shop = Shop(sleeping)
    async with shop.test() as t:
        journal = await shop.started(t)
        later = {**json.loads(journal.to_json()), "v": 2}
        for number in range(150):
            value = json.dumps(later).encode()
            due = t.clock.now_ms() + number
            await t.runtime.store.put(SAGAS, f"orders/later{number}", value, if_version=ABSENT, due_at_ms=due)
        t.clock.advance(HOUR + 1)
        for _ in range(3):
            await t._waker.step()
        await t.drain()
        assert (await shop.journal()).state is State.COMPLETED
