"""The function is run again from its beginning: what it asked for is the same, and its code must still fit."""

from __future__ import annotations

from typing import Any

import pytest

from redrive import App, Context, Reject, Saga, step
from redrive.harness import Harness
from redrive.sagas.journal import State
from tests.sagas.running import DAY, Shop
from tests.sagas.services import Services, book, charge, confirm, reserve

pytestmark = pytest.mark.usefixtures("any_broker")


class Deploys:
    """A saga whose function is another one from the next turn on."""

    def __init__(self, first: Any) -> None:
        self.function = first

        async def fulfil(saga: Saga[Services], order: str) -> Any:
            return await self.function(saga, order)

        self.shop = Shop(fulfil)


async def charge_then_sleep(saga: Saga[Services], order: str) -> None:
    """What runs before the deploy."""
    await saga.run(charge, order)
    await saga.sleep(10)
    await saga.run(confirm, order)


async def deployed(t: Harness[Any], deploys: Deploys, then: Any) -> None:
    """Sleep in the first code, wake up in the second."""
    await deploys.shop.started(t)
    deploys.function = then
    await t.advance(DAY)


async def stuck_because(t: Harness[Any], shop: Shop) -> str:
    """The reason of a stuck instance, which its letter gives too."""
    journal = await shop.journal()
    assert (journal.state, shop.services.undone) == (State.STUCK, [])
    assert journal.stuck is not None
    (letter,) = await t.dead(shop.orders)
    assert letter.notes.failure is not None
    assert journal.stuck.reason in letter.notes.failure.reason
    return journal.stuck.reason


async def test_what_would_be_another_thing_each_time_is_the_same_in_every_replay() -> None:
    """Times, numbers, UUIDs, each in the order of its calls."""
    seen: list[list[Any]] = []

    async def fulfil(saga: Saga[Services], order: str) -> None:
        drawn: list[Any] = []
        seen.append(drawn)
        for _ in range(3):
            drawn += [saga.now(), saga.random(), saga.uuid(), saga.random()]
            await saga.run(charge, order)
            await saga.sleep(60)

    shop = Shop(fulfil)
    async with shop.test() as t:
        assert (await shop.started(t, seconds=300)).state is State.COMPLETED
        assert len(seen) >= 4
        assert all(seen[-1][: len(one)] == one for one in seen)
        assert len(set(map(str, seen[-1]))) == 12
        assert seen[-1][2].version == 4


async def test_results_come_back_as_what_they_were_annotated_as() -> None:
    """The first time as well: a function is never given what a replay could not give it."""
    kinds: list[type[Any]] = []

    @step
    async def bytes_of(_ctx: Context[Any], text: bytes) -> dict[int, tuple[bytes, ...]]:
        return {1: (text, text)}

    async def fulfil(saga: Saga[Any], order: str) -> None:
        found = await saga.run(bytes_of, order.encode())
        kinds.append(type(found[1]))
        await saga.sleep(1)

    shop = Shop(fulfil, steps=[bytes_of])
    async with shop.test() as t:
        assert (await shop.started(t, seconds=5)).state is State.COMPLETED
        assert set(kinds) == {tuple}


async def test_a_step_that_its_code_passes_over_makes_it_stuck_before_anything_new_is_done() -> None:
    """With the name of what was passed over."""

    async def another(saga: Saga[Services], order: str) -> None:
        await saga.run(reserve, order)

    deploys = Deploys(charge_then_sleep)
    async with deploys.shop.test() as t:
        await deployed(t, deploys, another)
        reason = await stuck_because(t, deploys.shop)
        assert "'reserve' is new" in reason
        assert "o/charge/1" in reason
        assert deploys.shop.services.names() == ["charge/1"]


async def test_code_that_hides_the_error_of_a_passed_over_step_is_stuck_all_the_same() -> None:
    """An `except Exception` of the user's does not make another saga of it."""

    async def another(saga: Saga[Services], order: str) -> None:
        try:
            await saga.run(reserve, order)
        except Exception:  # noqa: BLE001 - as users do
            await saga.run(charge, order)
        await saga.sleep(10)

    deploys = Deploys(charge_then_sleep)
    async with deploys.shop.test() as t:
        await deployed(t, deploys, another)
        assert "'reserve' is new" in await stuck_because(t, deploys.shop)
        assert deploys.shop.services.names() == ["charge/1"]


async def test_a_function_that_returns_without_coming_to_what_was_done_is_stuck() -> None:
    """It is not completed, for nobody knows what the rest was for."""

    async def another(_saga: Saga[Services], _order: str) -> None:
        return

    deploys = Deploys(charge_then_sleep)
    async with deploys.shop.test() as t:
        await deployed(t, deploys, another)
        assert "passed over" in await stuck_because(t, deploys.shop)


async def test_a_deploy_that_puts_the_code_back_lets_the_letter_go_on() -> None:
    """Where it was."""

    async def another(_saga: Saga[Services], _order: str) -> None:
        raise AttributeError

    deploys = Deploys(charge_then_sleep)
    async with deploys.shop.test() as t:
        await deployed(t, deploys, another)
        await stuck_because(t, deploys.shop)
        deploys.function = charge_then_sleep
        await deploys.shop.redrive(t)
        await t.advance(1)
        assert (await deploys.shop.journal()).state is State.COMPLETED
        assert deploys.shop.services.names() == ["charge/1", "confirm/1"]


async def test_new_steps_at_the_end_are_no_other_way() -> None:
    """What is appended is done."""

    async def more(saga: Saga[Services], order: str) -> None:
        await charge_then_sleep(saga, order)
        await saga.run(book, order)

    deploys = Deploys(charge_then_sleep)
    async with deploys.shop.test() as t:
        await deployed(t, deploys, more)
        assert deploys.shop.services.names() == ["charge/1", "confirm/1", "book/1"]


async def test_a_running_instance_keeps_its_version_and_a_new_one_begins_with_the_highest() -> None:
    """Both at once."""
    shop = Shop(charge_then_sleep)

    async def second(saga: Saga[Services], order: str) -> None:
        await saga.run(reserve, order)

    async with shop.test() as t:
        await shop.started(t)
        shop.orders.saga(version=2, id=lambda order: order)(second)
        await shop.started(t, "p", seconds=60)
        assert (await shop.journal("o")).version == 1
        assert (await shop.journal("p")).version == 2
        assert shop.services.calls == ["o/charge/1", "p/reserve/1", "o/confirm/1"]


async def test_a_version_that_the_code_has_no_more_makes_it_stuck_at_once() -> None:
    """Nothing is undone, and nothing guessed."""
    shop = Shop(charge_then_sleep)
    async with shop.test() as t:
        await shop.started(t)
        shop.orders.saga(version=2, id=lambda order: order)(charge_then_sleep)
        del shop.saga.versions[1]
        await t.advance(60)
        assert "it began with version 1, and the code has [2]" in await stuck_because(t, shop)


async def test_a_step_that_the_code_has_no_more_when_it_is_to_be_undone_makes_it_stuck_with_its_key() -> None:
    """A person reads which step it is, and goes on when the code has it again."""
    shop = Shop(charge_then_sleep)
    shop.services.fail("confirm", Reject("no"))
    async with shop.test() as t:
        await shop.started(t)
        found = shop.saga.steps.pop("charge")
        await t.advance(60)
        journal = await shop.journal()
        assert journal.state is State.STUCK
        assert journal.stuck is not None
        assert "no step 'charge' any more" in journal.stuck.reason
        assert journal.stuck.step == "o/charge/1"
        shop.saga.steps["charge"] = found
        await shop.redrive(t)
        await t.advance(1)
        assert (await shop.journal()).state is State.UNDONE


async def test_parameters_that_do_not_fit_what_was_journaled_make_an_undo_stuck_and_not_wrong() -> None:
    """It is not called with something else."""
    shop = Shop(charge_then_sleep)
    shop.services.fail("confirm", Reject("no"))
    async with shop.test() as t:
        await shop.started(t)
        kept = charge.parameters
        charge.parameters = book_of_two().parameters
        try:
            await t.advance(60)
        finally:
            charge.parameters = kept
        assert (await shop.journal()).state is State.STUCK
        assert shop.services.undone == []


def book_of_two() -> Any:
    """A step of other parameters."""

    @step
    async def two(_ctx: Context[Any], first: int, second: int) -> None: ...

    return two


async def test_a_function_can_be_declared_before_what_it_names() -> None:
    """As in any Python: a name is looked up when the application is opened."""
    app: App[Any] = App("shop")
    orders, services = app.queue("orders", str), Services()

    @orders.saga(id=lambda order: order)
    async def fulfil(saga: Saga[Services], order: str) -> None:
        await saga.run(later, order)

    later = charge
    async with app.test(resources=services) as t:
        await orders.send("o")
        await t.drain()
        assert services.calls == ["o/charge/1"]
