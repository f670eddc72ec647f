"""Starting an instance: once, however often and by however many it is asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from redrive import App, Saga
from redrive.sagas.journal import State
from redrive.sagas.waking import wake
from redrive.testing import PlainBroker
from tests.sagas.running import DAY, Shop
from tests.sagas.services import Services, charge, confirm

pytestmark = pytest.mark.parametrize("broker", [None, PlainBroker], ids=["embedded", "plain"])


class Order(BaseModel):
    number: int
    what: str = "latte"


async def one_step(saga: Saga[Services], order: str) -> None:
    """Charge, wait, confirm."""
    await saga.run(charge, order)
    await saga.sleep(10)
    await saga.run(confirm, order)


async def test_fifty_starts_of_one_id_take_effect_once(broker: Any) -> None:
    """Sent beside one another, handled beside one another."""
    shop = Shop(one_step, concurrency=50)
    async with shop.test(broker=broker) as t:
        await asyncio.gather(*[shop.orders.send("o") for _ in range(50)])
        await t.advance(60)
        assert (await shop.journal()).state is State.COMPLETED
        assert shop.services.calls == ["o/charge/1", "o/confirm/1"]
        assert await t.waiting(shop.orders) == []
        assert await t.dead(shop.orders) == []


async def test_a_start_of_what_waits_or_has_ended_begins_nothing(broker: Any) -> None:
    """For as long as it is remembered: fourteen days after its end."""
    shop = Shop(one_step)
    async with shop.test(broker=broker) as t:
        await shop.started(t)
        assert (await shop.started(t, seconds=60)).state is State.COMPLETED
        await t.advance(13 * DAY)
        await shop.started(t)
        assert shop.services.calls == ["o/charge/1", "o/confirm/1"]


async def test_another_payload_under_the_same_id_is_a_dead_letter_and_leaves_the_instance_alone(broker: Any) -> None:
    """A person has to look: one of the two is wrong."""
    app: App[Any] = App("shop")
    orders, services = app.queue("orders", Order), Services()

    async def fulfil(saga: Saga[Services], order: Order) -> None:
        await saga.run(charge, order.what)

    saga = orders.saga(id=lambda order: order.number)(fulfil)
    async with app.test(resources=services, broker=broker) as t:
        await orders.send(Order(number=7))
        await orders.send(Order(number=7, what="tea"))
        await orders.send(Order(number=7, what="latte"))
        await t.drain()
        journal = await saga.journal("7")
        assert journal is not None
        assert journal.state is State.COMPLETED
        (letter,) = await t.dead(orders)
        assert b"tea" in letter.body
        assert letter.notes.failure is not None
        assert "saga '7'" in letter.notes.failure.reason
        assert services.calls == ["7/charge/1"]


async def test_wake_ups_that_nobody_needs_do_nothing(broker: Any) -> None:
    """Of what sleeps, of what has ended, and several at once."""
    shop = Shop(one_step)
    async with shop.test(broker=broker) as t:
        await shop.started(t)
        for _ in range(3):
            await wake(t.runtime, await shop.journal())
        await t.advance(1)
        assert shop.services.calls == ["o/charge/1"]
        await t.advance(30)
        await wake(t.runtime, await shop.journal())
        await t.advance(30)
        assert shop.services.calls == ["o/charge/1", "o/confirm/1"]
        assert await t.waiting(shop.orders) == []


async def test_a_wake_up_that_comes_when_its_instance_is_forgotten_begins_nothing(broker: Any) -> None:
    """One may have been parked for weeks; what it woke ended long ago."""
    shop = Shop(one_step)
    async with shop.test(broker=broker) as t:
        journal = await shop.started(t, seconds=60)
        await t.advance(15 * DAY)
        assert await shop.saga.journal("o") is None
        await wake(t.runtime, journal)
        await t.advance(60)
        assert shop.services.calls == ["o/charge/1", "o/confirm/1"]


@pytest.mark.parametrize("id_", ["", "x" * 201, "a\nb", None, 1.5])
async def test_an_id_that_cannot_be_one_is_a_dead_letter_and_begins_nothing(broker: Any, id_: Any) -> None:
    """The function that gives it has a bug."""
    app: App[Any] = App("shop")
    orders, services = app.queue("orders", str), Services()
    orders.saga(id=lambda _order: id_)(one_step)
    async with app.test(resources=services, broker=broker) as t:
        await orders.send("o")
        await t.advance(3600)
        assert len(await t.dead(orders)) == 1
        assert services.calls == []


async def test_ids_that_look_like_parts_of_keys_are_ids(broker: Any) -> None:
    """A slash or a percent sign ends nothing."""
    shop = Shop(one_step)
    ids = ["a/b", "a%2Fb", "a", "a/", "%", "//", "orders/a"]
    async with shop.test(broker=broker) as t:
        await shop.started(t, *ids)
        await t.advance(60)
        for one in ids:
            assert (await shop.journal(one)).state is State.COMPLETED
        assert len(set(shop.services.calls)) == len(shop.services.calls) == 2 * len(ids)
