"""A step, or an undo, whose dependency is down: the wake-up is parked, nothing is spent, the healer brings it back."""

from __future__ import annotations

from typing import Any

import pytest

from redrive import Context, Reject, Saga, step
from redrive.sagas.journal import State
from redrive.testing import PlainBroker
from tests.sagas.running import Shop
from tests.sagas.services import Services, book, charge

pytestmark = pytest.mark.parametrize("broker", [None, PlainBroker], ids=["embedded", "plain"])


class Paying:
    """A shop whose step `pay` needs payments, in its undo too."""

    def __init__(self, **settings: Any) -> None:
        async def refund(ctx: Context[Services], result: str | None, what: str) -> None:  # noqa: ARG001
            async with self.payments:
                await ctx.resources.undo(ctx.key, result)

        async def pay(ctx: Context[Services], what: str) -> str:  # noqa: ARG001
            async with self.payments:
                return await ctx.resources.do(ctx.key)

        async def fulfil(saga: Saga[Services], order: str) -> None:
            await saga.run(charge, order)
            await saga.run(paying, order)
            await saga.run(book, order)

        undo_for = settings.pop("undo_for", 3600)
        self.shop = Shop(fulfil, **settings)
        self.payments = self.shop.payments()
        paying = step(undo=refund, needs=[self.payments], name="pay", undo_for=undo_for)(pay)
        self.shop.saga.prepare()


async def test_an_outage_costs_a_step_no_attempt(broker: Any) -> None:
    """Ten minutes, then it is done at its first attempt that counts."""
    paying = Paying()
    shop = paying.shop
    async with shop.test(broker=broker) as t:
        t.down(paying.payments)
        await shop.started(t, seconds=600)
        journal = await shop.journal()
        assert journal.parked_for == "payments"
        assert len(await t.parked(shop.orders)) == 1
        t.heal(paying.payments)
        await t.advance(600)
        journal = await shop.journal()
        assert journal.state is State.COMPLETED
        assert journal.steps[1].attempts == 1
        assert shop.services.names() == ["charge/1", "pay/1", "book/1"]


async def test_an_outage_costs_an_undo_neither_an_attempt_nor_its_patience(broker: Any) -> None:
    """Parked for longer than its patience: it is undone when the dependency is back."""
    paying = Paying(undo_for=300)
    shop = paying.shop
    shop.services.fail("book", Reject("no courier"))
    shop.services.fail("undo pay", OSError, OSError)
    async with shop.test(broker=broker) as t:
        shop.services.before["book"] = lambda: t.down(paying.payments)
        await shop.started(t, seconds=600)
        journal = await shop.journal()
        assert (journal.state, journal.parked_for) == (State.UNDOING, "payments")
        t.heal(paying.payments)
        await t.advance(300)
        journal = await shop.journal()
        assert journal.state is State.UNDONE
        assert shop.services.undone == ["o/pay/1", "o/charge/1"]


async def test_time_parked_before_the_first_try_of_an_undo_is_not_added_to_its_patience(broker: Any) -> None:
    """An undo has its hour from when it was first tried, whatever came before."""
    paying = Paying(undo_for=300)
    shop = paying.shop
    shop.services.fail("book", Reject("no courier"))
    async with shop.test(broker=broker) as t:
        shop.services.before["book"] = lambda: t.down(paying.payments)
        await shop.started(t, seconds=600)
        t.heal(paying.payments)
        shop.services.fail_always("undo pay", Reject("closed"))
        await t.advance(300)
        undo = (await shop.journal()).steps[1].undo
        assert undo is not None
        assert undo.parked_ms <= t.clock.now_ms() - undo.since_ms


async def test_a_deadline_passes_while_it_is_parked_and_what_needs_no_dependency_is_undone(broker: Any) -> None:
    """It does not wait for the healer; the parked wake-up, when it comes back, says nothing new."""
    paying = Paying(deadline=300)
    shop = paying.shop
    async with shop.test(broker=broker) as t:
        t.down(paying.payments)
        await shop.started(t, seconds=200)
        assert shop.services.undone == []
        await t.advance(150)
        assert (await shop.journal()).state in {State.UNDONE, State.UNDOING}
        t.heal(paying.payments)
        await t.advance(1200)
        assert (await shop.journal()).state is State.UNDONE
        assert shop.services.undone[-1] == "o/charge/1"
        assert await t.parked(shop.orders) == []


async def test_an_operator_cancels_what_is_parked_and_it_does_not_wait_for_the_healer(broker: Any) -> None:
    """Undo now means now."""
    paying = Paying()
    shop = paying.shop
    async with shop.test(broker=broker) as t:
        t.down(paying.payments)
        await shop.started(t)
        charge_only = (await shop.journal()).steps[1].began_at_ms == 0
        await shop.cancel(t)
        await t.advance(1)
        assert (await shop.journal()).state is (State.UNDONE if charge_only else State.UNDOING)


async def test_what_is_cancelled_while_the_circuit_is_open_is_undone_without_the_dependency(broker: Any) -> None:
    """A step that never began has nothing to undo, and so needs nothing."""
    paying = Paying()
    shop = paying.shop
    async with shop.test(broker=broker) as t:
        t.down(paying.payments)
        await shop.started(t, "first")
        await shop.started(t, "o")
        assert (await shop.journal()).parked_for == "payments"
        await shop.cancel(t)
        await t.drain()
        assert (await shop.journal()).state is State.UNDONE
        assert shop.services.undone == ["o/charge/1"]
