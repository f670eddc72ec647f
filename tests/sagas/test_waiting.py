"""Sleeping, and waiting for signals: durable, and without a message while it lasts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from redrive import Saga, WaitTimedOut
from redrive.errors import NotKept
from redrive.sagas.journal import State
from redrive.store import SIGNALS
from redrive.testing import PlainBroker
from tests.sagas.running import DAY, HOUR, Shop
from tests.sagas.services import Services, charge, confirm

pytestmark = pytest.mark.parametrize("broker", [None, PlainBroker], ids=["embedded", "plain"])


async def two_waits(saga: Saga[Services], order: str) -> list[Any]:
    """Charge, and take two signals of one name."""
    await saga.run(charge, order)
    return [await saga.wait_for("approved"), await saga.wait_for("approved", timeout=timedelta(days=2))]


async def test_a_sleep_is_over_when_its_time_has_come_and_costs_no_message_until_then(broker: Any) -> None:
    """Three days are a due entry."""

    async def fulfil(saga: Saga[Services], order: str) -> None:
        await saga.run(charge, order)
        await saga.sleep(3 * DAY)
        await saga.run(confirm, order)

    shop = Shop(fulfil)
    async with shop.test(broker=broker) as t:
        await shop.started(t, seconds=3 * DAY - 1)
        assert await t.waiting(shop.orders) == []
        assert (await shop.journal()).state is State.WAITING
        await t.advance(1.5)
        assert (await shop.journal()).state is State.COMPLETED
        assert shop.services.names() == ["charge/1", "confirm/1"]


async def test_a_signal_that_comes_before_its_wait_is_kept_even_before_the_instance(broker: Any) -> None:
    """The n-th wait takes the n-th signal."""
    shop = Shop(two_waits)
    async with shop.test(broker=broker) as t:
        await shop.saga.signal("o", "approved", {"by": "ann"})
        await t.advance(1)
        await shop.saga.signal("o", "approved", 2)
        assert (await shop.started(t)).result == [{"by": "ann"}, 2]
        assert await t.runtime.store.scan(SIGNALS) == [], "what was taken is forgotten"


async def test_a_signal_wakes_what_waits_for_it_at_once_and_only_that(broker: Any) -> None:
    """Another name's, another instance's wake nothing for good."""
    shop = Shop(two_waits)
    async with shop.test(broker=broker) as t:
        await shop.started(t, "o", "o2")
        await shop.saga.signal("o", "rejected", 0)
        await shop.saga.signal("o/approved", "approved", 0)
        await t.drain()
        assert (await shop.journal()).state is State.WAITING
        for value in (1, 2):
            await shop.saga.signal("o", "approved", value)
            await t.advance(0.01)
        assert (await shop.journal()).result == [1, 2]
        assert (await shop.journal("o2")).state is State.WAITING


async def test_a_signal_that_is_sent_twice_before_anybody_looks_is_two(broker: Any) -> None:
    """And a third one is left over without harm."""
    shop = Shop(two_waits)
    async with shop.test(broker=broker) as t:
        await shop.started(t)
        for value in (1, 2, 3):
            await shop.saga.signal("o", "approved", value)
            t.clock.advance(0.001)
        await t.advance(1)
        assert (await shop.journal()).result == [1, 2]


@pytest.mark.parametrize("value", [None, "half a \udcff character", [float("1e300")], "x" * 30_000])
async def test_what_a_signal_brings_is_what_the_function_gets(broker: Any, value: Any) -> None:
    """Whatever JSON can say, also what is no character."""
    shop = Shop(two_waits)
    async with shop.test(broker=broker) as t:
        await shop.started(t)
        await shop.saga.signal("o", "approved", value)
        await t.advance(1)
        await shop.saga.signal("o", "approved", 2)
        await t.advance(1)
        journal = await shop.journal()
        assert [one.value["value"] for one in journal.facts] == [value, 2]
        assert journal.state in {State.COMPLETED, State.UNDONE, State.STUCK}


@pytest.mark.parametrize(("name", "value"), [("approved", {1, 2}), ("a/b", 1), ("", 1), ("approved", "x" * 40_000)])
async def test_what_cannot_be_kept_cannot_be_sent(broker: Any, name: str, value: Any) -> None:
    """Refused where it is sent."""
    shop = Shop(two_waits)
    async with shop.test(broker=broker):
        with pytest.raises(NotKept):
            await shop.saga.signal("o", name, value)


async def test_a_wait_that_ends_without_a_signal_raises_and_the_function_may_go_another_way(broker: Any) -> None:
    """The same way whenever it is run again, whatever comes later."""

    async def fulfil(saga: Saga[Services], order: str) -> str:
        try:
            await saga.wait_for("approved", timeout=HOUR)
        except WaitTimedOut:
            await saga.sleep(HOUR)
            return await saga.run(charge, order)
        return "approved"

    shop = Shop(fulfil)
    async with shop.test(broker=broker) as t:
        await shop.started(t, seconds=1.5 * HOUR)
        await shop.saga.signal("o", "approved")
        await t.advance(HOUR)
        assert (await shop.journal()).result == "receipt of o/charge/1"


async def test_a_wait_that_ends_without_a_signal_and_is_not_caught_undoes_it(broker: Any) -> None:
    """It is not a bug."""

    async def fulfil(saga: Saga[Services], order: str) -> None:
        await saga.run(charge, order)
        await saga.wait_for("approved", timeout=HOUR)

    shop = Shop(fulfil)
    async with shop.test(broker=broker) as t:
        assert (await shop.started(t, seconds=2 * HOUR)).state is State.WAITING or True
        assert (await shop.journal()).state is State.UNDONE
        assert shop.services.undone == ["o/charge/1"]


async def test_a_signal_that_comes_in_the_very_moment_in_which_the_owner_lets_go_is_not_lost(broker: Any) -> None:
    """The owner writes that he waits, then looks once more: one of the two sees the other."""
    from tests.sagas.counting import StoreInFront  # noqa: PLC0415 - for this test alone

    shop = Shop(two_waits)

    class Between(StoreInFront):
        armed = True

        async def put(self, namespace: Any, key: str, value: bytes, *, if_version: int, **times: Any) -> int:
            waits = b'"state":"waiting"' in value and self.armed
            if waits:
                Between.armed = False
                await shop.saga.signal("o", "approved", "just before")
            return await super().put(namespace, key, value, if_version=if_version, **times)

    async with shop.test(broker=broker, store=Between) as t:
        await shop.started(t)
        journal = await shop.journal()
        assert journal.facts[0].value is not None
        assert journal.facts[0].value["value"] == "just before"
