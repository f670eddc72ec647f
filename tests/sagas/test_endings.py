"""The three endings of a step: a result, a certain no, and nobody knows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redrive import Context, Reject, RetryLater, Saga, StepFailed, StepRejected, step
from redrive.sagas.journal import State, StepState
from tests.sagas.running import DAY, Shop
from tests.sagas.services import Services, a_step, book, charge, confirm, reserve

pytestmark = pytest.mark.usefixtures("any_broker")


async def all_four(saga: Saga[Services], order: str) -> list[str]:
    """Charge, then reserve and book, then confirm."""
    paid = await saga.run(charge, order)
    beans, courier = await saga.gather(reserve(order), book(order))
    return [paid, beans, courier, await saga.run(confirm, order)]


async def test_a_saga_whose_steps_all_succeed_completes_with_what_its_function_returns() -> None:
    """Each step once, each with the key of its instance, name and call."""
    shop = Shop(all_four)
    async with shop.test() as t:
        journal = await shop.started(t)
        assert journal.state is State.COMPLETED
        assert shop.services.calls == ["o/charge/1", "o/reserve/1", "o/book/1", "o/confirm/1"]
        assert journal.result == [f"receipt of {one}" for one in shop.services.calls]
        assert await t.waiting(shop.orders) == []


async def test_a_rejected_step_is_not_tried_again_nor_undone_and_those_before_it_are() -> None:
    """A certain no has no effect: there is nothing to undo of it."""
    shop = Shop(all_four)
    shop.services.fail("confirm", Reject("out of oat milk"))
    async with shop.test() as t:
        journal = await shop.started(t, seconds=DAY)
        assert journal.state is State.UNDONE
        assert shop.services.did("confirm/1") == 1
        assert shop.services.undone == ["o/book/1", "o/reserve/1", "o/charge/1"]
        assert journal.cause is not None
        assert journal.cause.step == "o/confirm/1"
        assert "out of oat milk" in journal.cause.reason
        assert await t.dead(shop.orders) == [], "undone is not failed"


async def test_a_step_that_is_given_up_on_is_undone_too_without_a_result() -> None:
    """Nobody knows whether it took effect."""
    shop = Shop(all_four)
    shop.services.fail_always("confirm", ValueError("no answer"))
    async with shop.test() as t:
        journal = await shop.started(t, seconds=DAY)
        assert journal.state is State.UNDONE
        assert shop.services.did("confirm/1") == 5
        assert shop.services.undone[0] == "o/confirm/1"
        assert shop.services.given["o/confirm/1"] is None
        assert shop.services.given["o/charge/1"] == "receipt of o/charge/1"


async def test_a_step_that_takes_too_long_is_unknown() -> None:
    """Its time ran out: it may have taken effect, and its undo is told nothing."""
    undone: list[Any] = []

    async def undo(_ctx: Context[Any], result: str | None) -> None:
        undone.append(result)

    @step(undo=undo, attempts=1, timeout=0.01)
    async def slow(_ctx: Context[Any]) -> str:
        await asyncio.Event().wait()
        return "never"

    async def fulfil(saga: Saga[Any], _order: str) -> str:
        return await saga.run(slow)

    shop = Shop(fulfil, steps=[slow])
    async with shop.test() as t:
        journal = await shop.started(t)
        assert (journal.state, journal.steps[0].state) == (State.UNDONE, StepState.UNKNOWN)
        assert undone == [None]


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError(), GeneratorExit()])
async def test_whatever_a_step_raises_is_one_failed_attempt(error: BaseException) -> None:
    """Also what would end a program."""
    shop = Shop(all_four)
    shop.services.fail("charge", error)
    async with shop.test() as t:
        journal = await shop.started(t, seconds=60)
        assert journal.state is State.COMPLETED
        assert shop.services.did("charge/1") == 2


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError(), AssertionError()])
async def test_a_function_that_raises_what_only_a_bug_raises_is_stuck_and_its_worker_goes_on(
    error: BaseException,
) -> None:
    """Nothing is undone because of a bug, and the next instance is not held up."""

    async def fulfil(saga: Saga[Services], order: str) -> str:
        await saga.run(charge, order)
        if order == "o":
            raise error
        return "fine"

    shop = Shop(fulfil)
    async with shop.test() as t:
        journal = await shop.started(t, "o", "p")
        assert journal.state is State.STUCK
        assert (await shop.journal("p")).state is State.COMPLETED
        assert len(await t.dead(shop.orders)) == 1
        assert shop.services.undone == []


async def test_any_other_error_of_the_function_has_it_undone() -> None:
    """It says that it cannot be done."""

    async def fulfil(saga: Saga[Services], order: str) -> None:
        await saga.run(charge, order)
        raise ValueError("too far away")

    shop = Shop(fulfil)
    async with shop.test() as t:
        journal = await shop.started(t)
        assert journal.state is State.UNDONE
        assert shop.services.undone == ["o/charge/1"]
        assert journal.cause is not None
        assert journal.cause.reason == "ValueError: too far away"


async def test_a_function_may_catch_a_rejection_and_a_failure_and_do_something_else() -> None:
    """They are ordinary errors, the same whenever it runs again; what was caught is not undone when it completes."""
    seen: list[str] = []

    async def fulfil(saga: Saga[Services], order: str) -> str:
        try:
            await saga.run(reserve, order)
        except StepRejected as error:
            seen.append(f"{error.key} {error.reason}")
        try:
            await saga.run(book, order)
        except StepFailed as error:
            seen.append(error.key)
        await saga.sleep(10)
        return await saga.run(charge, order)

    shop = Shop(fulfil)
    shop.services.fail("reserve", Reject("none left"))
    shop.services.fail_always("book", OSError)
    async with shop.test() as t:
        journal = await shop.started(t, seconds=DAY)
        assert journal.state is State.COMPLETED
        assert set(seen) == {"o/reserve/1 none left", "o/book/1"}
        assert shop.services.undone == []


@pytest.mark.parametrize("caught", ["except", "except BaseException", "finally"])
async def test_nothing_that_a_function_catches_lets_it_go_on_past_the_end_of_its_turn(caught: str) -> None:
    """A step that will be tried again has not failed yet: what comes after it waits, in a `finally` too."""

    async def fulfil(saga: Saga[Services], order: str) -> str:
        try:
            return await saga.run(charge, order)
        except Exception:
            if caught == "except":
                return await saga.run(book, order)
            raise
        except BaseException:
            if caught == "except BaseException":
                return await saga.run(book, order)
            raise
        finally:
            if caught == "finally":
                await saga.run(confirm, order)

    shop = Shop(fulfil)
    shop.services.fail("charge", RetryLater(after=5), ValueError)
    async with shop.test() as t:
        assert (await shop.started(t, seconds=60)).state is State.COMPLETED
        wanted = ["charge/1"] * 3 + (["confirm/1"] if caught == "finally" else [])
        assert shop.services.names() == wanted


async def test_a_plain_function_is_a_step_and_an_undo_too() -> None:
    """They run in threads."""
    done: list[str] = []

    def undo(ctx: Context[Any], result: int | None, what: str) -> None:
        done.append(f"undo {ctx.key} {result} {what}")

    @step(undo=undo)
    def plain(ctx: Context[Any], what: str) -> int:
        done.append(ctx.key)
        return len(what)

    async def fulfil(saga: Saga[Any], order: str) -> None:
        assert await saga.run(plain, order) == 1
        await saga.run(charge, order)

    shop = Shop(fulfil, steps=[plain])
    shop.services.fail("charge", Reject("no"))
    async with shop.test() as t:
        assert (await shop.started(t, seconds=1)).state is State.UNDONE
        assert done == ["o/plain/1", "undo o/plain/1/undo 1 o"]


async def test_the_second_call_of_a_step_has_a_key_of_its_own() -> None:
    """The n-th call of a name is the same in every replay."""

    async def fulfil(saga: Saga[Services], order: str) -> None:
        for _ in range(3):
            await saga.run(charge, order)
            await saga.sleep(1)

    shop = Shop(fulfil)
    async with shop.test() as t:
        assert (await shop.started(t, seconds=10)).state is State.COMPLETED
        assert shop.services.names() == ["charge/1", "charge/2", "charge/3"]


async def test_a_step_without_an_undo_is_passed_over_on_the_way_back() -> None:
    """There is nothing to call."""

    @step
    async def look(_ctx: Context[Any]) -> int:
        return 7

    async def fulfil(saga: Saga[Any], order: str) -> None:
        await saga.run(charge, order)
        assert await saga.run(look) == 7
        await saga.run(book, order)

    shop = Shop(fulfil, steps=[look, a_step("unused")])
    shop.services.fail("book", Reject("no"))
    async with shop.test() as t:
        assert (await shop.started(t)).state is State.UNDONE
        assert shop.services.undone == ["o/charge/1"]
