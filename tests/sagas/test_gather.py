"""Steps beside one another."""

from __future__ import annotations

import asyncio

import pytest

from redrive import Context, Reject, RetryLater, Saga, step
from redrive.sagas.journal import State, StepState
from tests.sagas.counting import CountingStore, Kept
from tests.sagas.running import DAY, Shop
from tests.sagas.services import Services, book, charge, confirm, reserve

pytestmark = pytest.mark.usefixtures("any_broker")


async def three(saga: Saga[Services], order: str) -> list[str]:
    """All beside one another."""
    return list(await saga.gather(charge(order), reserve(order), book(order)))


async def test_the_intents_of_all_are_one_write() -> None:
    """And none of the bodies runs before it."""
    shop, seen = Shop(three), list[int]()
    stores = Kept(CountingStore)
    async with shop.test(store=stores) as t:
        for name in ("charge", "reserve", "book"):
            shop.services.before[name] = lambda: seen.append(stores.one.puts)
        journal = await shop.started(t)
        assert journal.result == ["receipt of o/charge/1", "receipt of o/reserve/1", "receipt of o/book/1"]
        assert seen == [1, 1, 1]


async def test_siblings_settle_before_anything_is_undone() -> None:
    """The one that is on its way ends first; what it did is undone too."""
    order_of_events: list[str] = []
    ends = asyncio.Event()

    async def undo_slow(_ctx: Context[Services], result: str | None) -> None:
        order_of_events.append(f"undo {result}")

    @step(undo=undo_slow)
    async def slow(_ctx: Context[Services]) -> str:
        await ends.wait()
        order_of_events.append("slow ends")
        return "done"

    async def fulfil(saga: Saga[Services], order: str) -> None:
        await saga.gather(charge(order), slow())

    shop = Shop(fulfil, steps=[slow])
    shop.services.fail("charge", Reject("no"))
    shop.services.before["charge"] = lambda: asyncio.get_running_loop().call_later(0.01, ends.set)
    async with shop.test() as t:
        assert (await shop.started(t)).state is State.UNDONE
        assert order_of_events == ["slow ends", "undo done"]


async def test_a_sibling_that_would_be_tried_again_is_not_when_one_was_rejected() -> None:
    """Its outcome is unknown: it is undone without a result."""
    shop = Shop(three)
    shop.services.fail("charge", ValueError)
    shop.services.fail("reserve", Reject("none"))
    async with shop.test() as t:
        journal = await shop.started(t, seconds=DAY)
        assert journal.state is State.UNDONE
        assert shop.services.did("charge/1") == 1
        assert {one.name: one.state for one in journal.steps} == {
            "charge": StepState.UNKNOWN,
            "reserve": StepState.REJECTED,
            "book": StepState.DONE,
        }
        assert shop.services.undone == ["o/book/1", "o/charge/1"]
        assert shop.services.given == {"o/charge/1": None, "o/book/1": "receipt of o/book/1"}


async def test_one_that_is_tried_again_does_not_repeat_its_siblings() -> None:
    """They have their results."""
    shop = Shop(three)
    shop.services.fail("reserve", OSError, RetryLater(after=100), OSError)
    async with shop.test() as t:
        assert (await shop.started(t, seconds=DAY)).state is State.COMPLETED
        assert (shop.services.did("charge/1"), shop.services.did("reserve/1"), shop.services.did("book/1")) == (1, 4, 1)


async def test_the_same_step_may_stand_beside_itself() -> None:
    """Each call is one of its own."""

    async def fulfil(saga: Saga[Services], order: str) -> tuple[str, ...]:
        return tuple(await saga.gather(*[confirm(f"{order}{number}") for number in range(7)]))

    shop = Shop(fulfil)
    async with shop.test() as t:
        assert len((await shop.started(t)).result) == 7
        assert sorted(shop.services.names()) == [f"confirm/{number}" for number in range(1, 8)]


async def test_gathering_nothing_is_nothing() -> None:
    """An empty list of calls is no error."""

    async def fulfil(saga: Saga[Services], _order: str) -> int:
        return len(await saga.gather())

    shop = Shop(fulfil)
    async with shop.test() as t:
        assert (await shop.started(t)).result == 0


async def test_a_gather_that_all_fail_past_the_point_of_no_return_is_tried_anew_as_a_whole() -> None:
    """Whoever redrives its letter need not do so once for each of them."""

    async def fulfil(saga: Saga[Services], order: str) -> None:
        saga.point_of_no_return()
        await saga.gather(charge(order), reserve(order))

    shop = Shop(fulfil)
    shop.services.fail("charge", Reject("no"))
    shop.services.fail("reserve", Reject("no"))
    async with shop.test() as t:
        assert (await shop.started(t)).state is State.STUCK
        await shop.redrive(t)
        await t.advance(1)
        assert (await shop.journal()).state is State.COMPLETED


async def test_steps_that_a_function_runs_in_tasks_of_its_own_make_it_stuck_and_say_what_to_use() -> None:
    """The next time they would be asked for in another order; the second one's body never runs."""

    @step
    async def slow(_ctx: Context[Services]) -> None:
        await asyncio.sleep(0)

    async def fulfil(saga: Saga[Services], order: str) -> None:
        await asyncio.gather(saga.run(slow), saga.run(reserve, order))

    shop = Shop(fulfil, steps=[slow])
    async with shop.test() as t:
        journal = await shop.started(t)
        assert journal.state is State.STUCK
        assert journal.stuck is not None
        assert "saga.gather" in journal.stuck.reason
        assert shop.services.did("reserve/1") == 0
