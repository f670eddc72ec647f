"""Deadlines, cancelling, and the point after which neither counts."""

from __future__ import annotations

from typing import Any

import pytest

from redrive import Backoff, RetryLater, Saga
from redrive.sagas.journal import State
from redrive.testing import PlainBroker
from tests.sagas.running import DAY, HOUR, Shop
from tests.sagas.services import Services, a_step, book, charge, confirm

pytestmark = pytest.mark.parametrize("broker", [None, PlainBroker], ids=["embedded", "plain"])


async def waiting(saga: Saga[Services], order: str) -> object:
    """Charge, then wait for a person."""
    await saga.run(charge, order)
    said = await saga.wait_for("approved")
    await saga.run(confirm, order)
    return said


async def test_a_deadline_that_passes_while_it_waits_undoes_it_at_that_moment(broker: type[PlainBroker] | None) -> None:
    """Nothing has to happen for that."""
    shop = Shop(waiting, deadline=2 * HOUR)
    async with shop.test(broker=broker) as t:
        await shop.started(t, seconds=2 * HOUR - 1)
        assert (await shop.journal()).state is State.WAITING
        await t.advance(1.5)
        journal = await shop.journal()
        assert journal.state is State.UNDONE
        assert journal.cause is not None
        assert journal.cause.reason == "its deadline has passed"
        assert shop.services.undone == ["o/charge/1"]


async def test_a_deadline_does_not_wait_for_the_end_of_a_pause(broker: type[PlainBroker] | None) -> None:
    """A step that is to be tried again in some minutes is given up on when the deadline passes."""
    slow = a_step("slow", backoff=Backoff(first=300, maximum=300))

    async def fulfil(saga: Saga[Services], order: str) -> None:
        await saga.run(charge, order)
        await saga.run(slow, order)

    shop = Shop(fulfil, steps=[slow], deadline=60)
    shop.services.fail("slow", RetryLater(after=500))
    async with shop.test(broker=broker) as t:
        await shop.started(t, seconds=61)
        assert (await shop.journal()).state is State.UNDONE
        assert shop.services.undone == ["o/slow/1", "o/charge/1"]


async def test_an_undo_is_never_cut_by_the_deadline_nor_by_cancelling(broker: type[PlainBroker] | None) -> None:
    """What began to be undone is undone, however long it takes."""
    shop = Shop(waiting, deadline=60)
    shop.services.fail_always("undo charge", OSError)
    async with shop.test(broker=broker) as t:
        await shop.started(t, seconds=HOUR)
        await shop.cancel(t)
        await t.advance(HOUR)
        assert (await shop.journal()).state is State.UNDOING
        shop.services.mend()
        await t.advance(HOUR)
        assert (await shop.journal()).state is State.UNDONE


async def test_after_the_point_of_no_return_neither_deadline_nor_cancelling_counts(
    broker: type[PlainBroker] | None,
) -> None:
    """It only goes forward."""

    async def fulfil(saga: Saga[Services], order: str) -> None:
        await saga.run(charge, order)
        saga.point_of_no_return()
        await saga.run(book, order)
        await saga.sleep(2 * HOUR)
        await saga.run(confirm, order)

    shop = Shop(fulfil, deadline=HOUR)
    async with shop.test(broker=broker) as t:
        await shop.started(t, seconds=60)
        await shop.cancel(t)
        await t.advance(3 * HOUR)
        assert (await shop.journal()).state is State.COMPLETED
        assert shop.services.undone == []


async def test_what_fails_after_the_point_of_no_return_is_stuck_and_a_redriven_letter_tries_anew(
    broker: type[PlainBroker] | None,
) -> None:
    """With its attempts anew, and nothing before it is done again."""

    async def fulfil(saga: Saga[Services], order: str) -> None:
        await saga.run(charge, order)
        saga.point_of_no_return()
        await saga.run(confirm, order)

    shop = Shop(fulfil)
    shop.services.fail_always("confirm", OSError)
    async with shop.test(broker=broker) as t:
        await shop.started(t, seconds=HOUR)
        assert (await shop.journal()).state is State.STUCK
        assert shop.services.undone == []
        shop.services.mend()
        shop.services.fail("confirm", OSError)
        await shop.redrive(t)
        await t.advance(HOUR)
        assert (await shop.journal()).state is State.COMPLETED
        assert shop.services.names() == ["charge/1", *["confirm/1"] * 7]


async def test_a_failure_that_was_caught_after_the_point_of_no_return_is_not_tried_again(
    broker: type[PlainBroker] | None,
) -> None:
    """The function went another way because of it; a letter that is redriven goes on at the end of that way."""

    async def fulfil(saga: Saga[Services], order: str) -> None:
        saga.point_of_no_return()
        try:
            await saga.run(charge, order)
        except Exception:  # noqa: BLE001 - as users do
            await saga.run(book, order)
        await saga.run(confirm, order)

    shop = Shop(fulfil)
    shop.services.fail_always("charge", OSError)
    shop.services.fail_always("confirm", OSError)
    async with shop.test(broker=broker) as t:
        await shop.started(t, seconds=HOUR)
        assert (await shop.journal()).state is State.STUCK
        shop.services.mend()
        await shop.redrive(t)
        await t.advance(HOUR)
        assert (await shop.journal()).state is State.COMPLETED
        assert (shop.services.did("charge/1"), shop.services.did("book/1"), shop.services.did("confirm/1")) == (5, 1, 6)


@pytest.mark.parametrize("wakes", [True, False])
async def test_what_waits_and_is_cancelled_is_undone_now(broker: type[PlainBroker] | None, *, wakes: bool) -> None:
    """Also when the operator's program dies before it sends the wake-up: the waker finds it."""
    shop = Shop(waiting)
    async with shop.test(broker=broker) as t:
        await shop.started(t, seconds=DAY)
        await shop.cancel(t, wakes=wakes)
        await t.advance(1)
        journal = await shop.journal()
        assert journal.state is State.UNDONE
        assert journal.cause is not None
        assert journal.cause.reason == "cancelled by ann: not wanted"


async def test_what_is_cancelled_while_a_step_runs_ends_that_attempt_and_is_undone(
    broker: type[PlainBroker] | None,
) -> None:
    """The owner merges what the operator wrote, and its next write goes through."""
    shop = Shop(waiting)
    cancelling: list[object] = []

    async def fulfil(saga: Saga[Services], order: str) -> None:
        await saga.run(cancelled, order)
        await saga.run(confirm, order)

    cancelled = a_step("cancelled")
    original = cancelled.function
    shop = Shop(fulfil, steps=[cancelled])
    async with shop.test(broker=broker) as t:

        async def in_the_middle(ctx: Any, what: str) -> Any:
            await shop.cancel(t)
            cancelling.append(what)
            return await original(ctx, what)

        cancelled.function = in_the_middle
        await shop.started(t, seconds=5)
        journal = await shop.journal()
        assert journal.state is State.UNDONE
        assert journal.cancelled is not None
        assert cancelling == ["o"]
        assert shop.services.names() == ["cancelled/1", "cancelled/1/undo"]


async def test_what_is_cancelled_before_the_point_of_no_return_is_written_is_not_past_it(
    broker: type[PlainBroker] | None,
) -> None:
    """The operator was first: the point is passed when the journal says so, and not when the function does."""
    slow = a_step("slow")
    original = slow.function

    async def fulfil(saga: Saga[Services], order: str) -> None:
        await saga.run(slow, order)
        saga.point_of_no_return()
        await saga.run(confirm, order)

    shop = Shop(fulfil, steps=[slow])
    async with shop.test(broker=broker) as t:

        async def in_the_middle(ctx: Any, what: str) -> Any:
            await shop.cancel(t)
            return await original(ctx, what)

        slow.function = in_the_middle
        await shop.started(t, seconds=5)
        assert (await shop.journal()).state is State.UNDONE
        assert shop.services.did("confirm/1") == 0
