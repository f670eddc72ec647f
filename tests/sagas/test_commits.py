"""What a saga costs: N steps are N+1 writes of its journal, and one acknowledgement."""

from __future__ import annotations

import asyncio

import pytest

from redrive import Context, Reject, Saga, step
from redrive.sagas.journal import State
from tests.sagas.counting import CountingBroker, CountingStore, Kept
from tests.sagas.running import Shop
from tests.sagas.services import Services, book, charge, confirm, reserve


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
async def test_n_steps_are_n_and_two_commits(steps: int) -> None:
    """The result of one step and the intent of the next are one write; the last one settles it."""

    async def fulfil(saga: Saga[Services], order: str) -> None:
        for number in range(steps):
            saga.uuid(), saga.now(), saga.random()
            await saga.run(charge, f"{order} {number}")

    shop, stores, brokers = Shop(fulfil), Kept(CountingStore), Kept(CountingBroker)
    async with shop.test(
        store=stores,
        broker=brokers,
    ) as t:
        assert (await shop.started(t)).state is State.COMPLETED
        assert (stores.one.puts, brokers.one.settled, brokers.one.acknowledged) == (steps + 1, 1, 1)


async def test_a_gather_costs_no_more_than_its_steps_would_alone() -> None:
    """Also when its steps end one after the other."""

    async def pause(ctx: Context[Services], turns: int) -> None:  # noqa: ARG001
        for _ in range(turns):
            await asyncio.sleep(0)

    ending = step(name="ending")(pause)

    async def fulfil(saga: Saga[Services], _order: str) -> None:
        await saga.gather(*[ending(20 * number) for number in range(5)])

    shop, stores = Shop(fulfil, steps=[ending]), Kept(CountingStore)
    async with shop.test(store=stores) as t:
        assert (await shop.started(t)).state is State.COMPLETED
        assert stores.one.puts <= 5 + 1


async def test_n_undos_are_n_and_one_more_writes() -> None:
    """The end of one and the beginning of the next are one write, too."""

    async def fulfil(saga: Saga[Services], order: str) -> None:
        for one in (charge, reserve, book, confirm):
            await saga.run(one, order)

    shop, stores = Shop(fulfil), Kept(CountingStore)
    shop.services.fail("confirm", Reject("no"))
    async with shop.test(store=stores) as t:
        assert (await shop.started(t)).state is State.UNDONE
        assert stores.one.puts <= 4 + 3 + 1
