"""How often a step and its undo are tried, and when: by the journal, whoever carries it out."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from redrive import Backoff, Reject, RetryLater, Saga
from redrive.harness import Harness
from redrive.sagas.journal import State, StepState, UndoState
from tests.sagas.running import DAY, HOUR, Shop
from tests.sagas.services import Services, a_step, charge, reserve


async def two(saga: Saga[Services], order: str) -> None:
    """Charge, then reserve."""
    await saga.run(charge, order)
    await saga.run(reserve, order)


def times_of(t: Harness[Any], shop: Shop, what: str) -> list[float]:
    """When the bodies of this begin, in seconds from now."""
    began, times = t.clock.now_ms(), list[float]()
    shop.services.before[what] = lambda: times.append((t.clock.now_ms() - began) / 1000)
    return times


async def test_a_step_is_tried_five_times_with_pauses_that_double_up_to_thirty_seconds() -> None:
    """Full jitter: each pause is under its ceiling."""
    shop = Shop(two)
    shop.services.fail_always("charge", OSError)
    async with shop.test() as t:
        times = times_of(t, shop, "charge")
        journal = await shop.started(t, seconds=HOUR)
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert len(times) == 5
        assert all(0 <= pause <= ceiling for pause, ceiling in zip(pauses, (0.5, 1.0, 2.0, 4.0), strict=True))
        assert journal.steps[0].attempts == 5
        assert journal.state is State.UNDONE


async def test_the_attempts_of_a_step_are_its_own_setting() -> None:
    """One try is one try."""
    once = a_step("once", attempts=1, backoff=Backoff(first=1.0))

    async def fulfil(saga: Saga[Services], order: str) -> None:
        await saga.run(once, order)

    shop = Shop(fulfil, steps=[once])
    shop.services.fail_always("once", OSError)
    async with shop.test() as t:
        await shop.started(t, seconds=HOUR)
        assert shop.services.did("once/1") == 1


async def test_a_step_that_asks_to_come_back_later_spends_no_attempt() -> None:
    """However often it asks, and it comes back when it asked to."""
    shop = Shop(two)
    shop.services.fail("charge", *[RetryLater(after=60)] * 20)
    async with shop.test() as t:
        times = times_of(t, shop, "charge")
        journal = await shop.started(t, seconds=HOUR)
        assert times == [60.0 * number for number in range(21)]
        assert journal.steps[0].attempts == 1
        assert journal.state is State.COMPLETED


async def test_a_long_pause_is_slept_in_the_journal_and_not_by_a_message() -> None:
    """No broker delays a message by hours."""
    shop = Shop(two)
    shop.services.fail("charge", RetryLater(after=timedelta(hours=5)))  # type: ignore[arg-type]
    async with shop.test() as t:
        times = times_of(t, shop, "charge")
        await shop.started(t, seconds=HOUR)
        assert await t.waiting(shop.orders) == []
        await t.advance(5 * HOUR)
        assert times == [0.0, 5 * HOUR]
        assert (await shop.journal()).state is State.COMPLETED


@pytest.mark.parametrize("after", [float("nan"), float("inf"), -5.0])
async def test_a_pause_that_is_no_length_of_time_does_not_wedge_an_instance(after: float) -> None:
    """It is a bug of the step; the instance still goes on or is seen."""
    shop = Shop(two)
    shop.services.fail("charge", RetryLater(after=after))
    async with shop.test() as t:
        assert (await shop.started(t, seconds=HOUR)).state in {State.COMPLETED, State.STUCK, State.RUNNING}
        assert await t.drain() == 0


@pytest.mark.parametrize("after", [5, timedelta(seconds=5), None])
async def test_a_function_may_ask_to_come_back_later_itself(after: float | timedelta | None) -> None:
    """Its steps are not run again."""
    asked: list[int] = []

    async def fulfil(saga: Saga[Services], order: str) -> None:
        await saga.run(charge, order)
        if not asked:
            asked.append(1)
            raise RetryLater(after=after)  # type: ignore[arg-type]

    shop = Shop(fulfil)
    async with shop.test() as t:
        assert (await shop.started(t, seconds=10)).state is State.COMPLETED
        assert shop.services.did("charge/1") == 1


async def test_an_undo_is_tried_for_a_day_and_its_pauses_end_at_five_minutes() -> None:
    """Then it is stuck: the policy of undo is its own, and patient."""
    shop = Shop(two)
    shop.services.fail("reserve", Reject("none"))
    shop.services.fail_always("undo charge", OSError("refused"))
    async with shop.test() as t:
        times = times_of(t, shop, "undo charge")
        journal = await shop.started(t, seconds=DAY - 1)
        assert journal.state is State.UNDOING
        await t.advance(400)
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert 280 < max(pauses) <= 300
        assert times[-1] >= DAY - 300
        journal = await shop.journal()
        assert journal.state is State.STUCK
        assert journal.steps[0].undo is not None
        assert journal.steps[0].undo.state is UndoState.FAILED


async def test_an_undo_that_works_on_the_last_day_is_an_undo() -> None:
    """Nothing is given up on before."""
    shop = Shop(two, deadline=5)
    shop.services.fail("reserve", Reject("none"))
    shop.services.fail_always("undo charge", OSError("refused"))
    async with shop.test() as t:
        await shop.started(t, seconds=23.9 * HOUR)
        shop.services.mend()
        await t.advance(600)
        assert (await shop.journal()).state is State.UNDONE


async def test_the_attempt_that_the_service_sees_is_the_journals() -> None:
    """It rises with each try, and so does the fence."""
    seen: list[tuple[int, int | None]] = []
    counted = a_step("counted")
    original = counted.function

    async def noting(ctx: Any, what: str) -> Any:
        seen.append((ctx.attempt, ctx.fence))
        return await original(ctx, what)

    counted.function = noting

    async def fulfil(saga: Saga[Services], order: str) -> None:
        await saga.run(counted, order)

    shop = Shop(fulfil, steps=[counted])
    shop.services.fail("counted", OSError, OSError)
    async with shop.test() as t:
        journal = await shop.started(t, seconds=60)
        assert seen == [(1, 1), (2, 2), (3, 3)]
        assert (journal.steps[0].state, journal.steps[0].error) == (StepState.DONE, None)
