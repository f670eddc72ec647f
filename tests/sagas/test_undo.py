"""Undo: the last thing first, from the journal, and what becomes of an undo that cannot be done."""

from __future__ import annotations

import pytest

from redrive import Reject, Saga
from redrive.calling import Held
from redrive.sagas.journal import State
from tests.sagas.cutting import Cut, Fate, Killed, live, mortal
from tests.sagas.running import DAY, HOUR, Shop
from tests.sagas.services import Services, a_step, book, charge, confirm, reserve

pytestmark = pytest.mark.usefixtures("any_broker")


async def four(saga: Saga[Services], order: str) -> None:
    """One after the other."""
    await saga.run(charge, order)
    await saga.run(reserve, order)
    await saga.run(book, order)
    await saga.run(confirm, order)


def refused() -> Shop:
    """A shop whose last step is rejected."""
    shop = Shop(four)
    shop.services.fail("confirm", Reject("closed"))
    return shop


async def test_what_was_done_last_is_undone_first() -> None:
    """In reverse order of start."""
    shop = refused()
    async with shop.test() as t:
        assert (await shop.started(t)).state is State.UNDONE
        assert shop.services.undone == ["o/book/1", "o/reserve/1", "o/charge/1"]


async def test_an_undo_that_fails_is_tried_again_before_the_ones_that_follow_it() -> None:
    """The order holds."""
    shop = refused()
    shop.services.fail("undo reserve", OSError, OSError, OSError)
    async with shop.test() as t:
        assert (await shop.started(t, seconds=60)).state is State.UNDONE
        assert shop.services.names()[4:] == ["book/1/undo", *["reserve/1/undo"] * 4, "charge/1/undo"]


async def test_an_undo_runs_without_the_function() -> None:
    """From the journal: a function that is broken by now is not asked."""
    ran: list[str] = []

    async def fulfil(saga: Saga[Services], order: str) -> None:
        ran.append(order)
        await four(saga, order)

    def begins() -> None:
        assert ran == ["o"]

    shop = Shop(fulfil)
    shop.services.fail("confirm", Reject("closed"))
    shop.services.fail("undo charge", OSError, OSError)
    shop.services.before["undo charge"] = begins
    async with shop.test() as t:
        assert (await shop.started(t, seconds=60)).state is State.UNDONE
        assert shop.services.did("charge/1/undo") == 3


async def test_an_undo_that_is_rejected_makes_it_stuck_and_the_letter_says_all() -> None:
    """Saga, step, key, arguments, result and both errors; the undos that remain wait."""
    shop = refused()
    shop.services.fail("undo reserve", Reject("the shelf is gone"))
    async with shop.test() as t:
        journal = await shop.started(t, seconds=HOUR)
        assert journal.state is State.STUCK
        assert shop.services.undone == ["o/book/1"]
        (letter,) = await t.dead(shop.orders)
        assert letter.notes.failure is not None
        reason = letter.notes.failure.reason
        for part in ("o", "step reserve", "o/reserve/1", '"what": "o"', "receipt of", "the shelf is gone", "closed"):
            assert part in reason, reason
        await t.advance(3 * DAY)
        assert shop.services.undone == ["o/book/1"]


async def test_a_letter_that_is_redriven_goes_on_where_it_was_stuck() -> None:
    """With the undo's patience anew; what was undone is not undone again."""
    shelf = a_step("shelf", undo_for=600)

    async def fulfil(saga: Saga[Services], order: str) -> None:
        await saga.run(charge, order)
        await saga.run(shelf, order)
        await saga.run(book, order)
        await saga.run(confirm, order)

    shop = Shop(fulfil, steps=[shelf])
    shop.services.fail("confirm", Reject("closed"))
    shop.services.fail_always("undo shelf", OSError)
    async with shop.test() as t:
        await shop.started(t, seconds=HOUR)
        assert (await shop.journal()).state is State.STUCK
        await shop.redrive(t)
        await t.advance(300)
        assert (await shop.journal()).state is State.UNDOING, "it has its time once more"
        shop.services.mend()
        await t.advance(HOUR)
        assert (await shop.journal()).state is State.UNDONE
        assert shop.services.undone == ["o/book/1", "o/shelf/1", "o/charge/1"]
        assert await t.dead(shop.orders) == []


async def test_a_letter_that_is_redriven_too_early_is_dead_again() -> None:
    """And says so again."""
    shop = refused()
    shop.services.fail_always("undo reserve", Reject("no"))
    async with shop.test() as t:
        await shop.started(t)
        for _ in range(3):
            await shop.redrive(t)
            await t.advance(1)
            assert len(await t.dead(shop.orders)) == 1
        assert shop.services.did("reserve/1/undo") == 4


async def test_a_second_start_of_a_stuck_instance_leaves_it_stuck() -> None:
    """Only a person lets it go on."""
    shop = refused()
    shop.services.fail_always("undo reserve", Reject("no"))
    async with shop.test() as t:
        await shop.started(t)
        assert (await shop.started(t)).state is State.STUCK
        assert len(await t.dead(shop.orders)) == 1
        assert shop.services.did("reserve/1/undo") == 1


async def test_a_death_between_the_journal_that_says_stuck_and_the_letter_leaves_no_instance_without_one() -> None:
    """Wherever it comes: a person sees each stuck instance among the dead letters."""
    whole = Fate()
    assert await letters_after(whole) == 1
    for cut in (Cut.BEFORE, Cut.AFTER):
        for number in range(1, whole.written + 1):
            assert await letters_after(Fate(writes={number: cut})) == 1, (cut, number)


async def letters_after(fate: Fate) -> int:
    """How many letters there are of an instance that is stuck, some hours after."""
    shop = refused()
    shop.services.fail_always("confirm", Reject("closed"))
    shop.services.fail_always("undo reserve", Reject("no"))
    async with shop.test(**mortal(fate)) as t:
        await shop.orders.send("o")
        await live(t, fate, HOUR)
        assert (await shop.journal()).state is State.STUCK
        return len(await t.dead(shop.orders))


async def test_an_instance_whose_turns_take_their_worker_down_is_stuck_and_goes_on_when_redriven() -> None:
    """Given up on as any message is; its journal says so, and what was begun is tried again."""
    shop = Shop(four, max_crashes=1)
    fate = Fate()
    shop.services.before["reserve"] = fate.die
    async with shop.test(**mortal(fate)) as t:
        await shop.orders.send("o")
        with pytest.raises(Killed):
            await t.drain()
        fate.dead = False
        shop.services.before.clear()
        t.clock.advance(31)
        (delivery,) = await t.runtime.broker.receive("orders", limit=1, lease=30)
        settlement = await t._turns["orders"][1].crashed(Held(delivery), "signal 11")
        assert settlement is not None
        await t.runtime.broker.settle([settlement])
        journal = await shop.journal()
        assert journal.state is State.STUCK
        assert "signal 11" in str(journal.stuck)
        await shop.redrive(t)
        await t.advance(HOUR)
        assert (await shop.journal()).state is State.COMPLETED
        assert shop.services.did("reserve/1") == 2


async def test_an_undo_is_tried_once_more_after_days_without_workers() -> None:
    """Its patience has passed meanwhile, and nobody had tried."""
    shop = Shop(four)
    shop.services.fail("confirm", Reject("closed"))
    shop.services.fail("undo charge", OSError("away"))
    async with shop.test() as t:
        await shop.orders.send("o")
        await t.drain()
        assert (await shop.journal()).state is State.UNDOING
        t.clock.advance(3 * 24 * HOUR)
        await t.advance(1)
        assert (await shop.journal()).state is State.UNDONE
        assert shop.services.did("charge/1/undo") == 2
