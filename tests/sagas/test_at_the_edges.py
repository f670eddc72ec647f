"""Where two things meet: a send and a broker that is away, an operator and the last step, a deploy and a journal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel, model_validator
from typing_extensions import override

from redrive import App, Context, Reject, Saga, step
from redrive.broker import Broker, Outgoing, Sends
from redrive.errors import BrokerUnavailable
from redrive.operations import Operations
from redrive.relay import Relay
from redrive.sagas.continuing import hindrances
from redrive.sagas.definition import SagaConsumer
from redrive.sagas.journal import Journal, State


async def journal_of(saga: SagaConsumer[Any], instance: str = "o") -> Journal:
    journal = await saga.journal(instance)
    assert journal is not None
    return journal


class _Away(Relay):
    """Nothing goes to the news while it is away."""

    def __init__(self, broker: Broker, away: list[bool]) -> None:
        super().__init__(broker)
        self._away = away

    @override
    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        if queue == "news" and self._away:
            raise BrokerUnavailable("news", "away")
        return await super().send(queue, messages)


@pytest.mark.parametrize("catches", [False, True])
async def test_a_broker_that_is_away_after_a_step_has_sent_costs_the_next_one_nothing(*, catches: bool) -> None:
    """The turn ends, whatever the function catches: no attempt is counted, nothing is undone, nothing is left out."""
    app, log, away = App("shop"), list[str](), [True]
    orders, news = app.queue("orders", str), app.queue("news", str)

    async def undo(_ctx: Context[None], _result: int | None) -> None:
        log.append("undone")

    @step(undo=undo)
    async def says(_ctx: Context[None]) -> int:
        await news.send("hello")
        return 1

    @step(attempts=1)
    async def follows(_ctx: Context[None]) -> int:
        log.append("followed")
        return 2

    @orders.saga(id=str)
    async def fulfil(saga: Saga[None], _order: str) -> int:
        await saga.run(says)
        try:
            return await saga.run(follows)
        except Exception:
            if not catches:
                raise
            return 0

    async with app.test(broker=lambda broker: _Away(broker, away)) as t:
        await orders.send("o")
        await t.drain()
        assert log == []
        away.clear()
        await t.advance(100)
        journal = await journal_of(fulfil)
        assert (journal.state, journal.result, log) == (State.COMPLETED, 2, ["followed"])
        assert len(t.sent(news)) == 1


async def test_who_cancels_during_the_last_step_is_heard() -> None:
    """It is undone, and what the function sent itself does not leave."""
    app, log = App("shop"), list[str]()
    orders, news = app.queue("orders", str), app.queue("news", str)

    async def undo(_ctx: Context[None], result: int | None) -> None:
        log.append(f"undone {result}")

    @step(undo=undo)
    async def last(_ctx: Context[None]) -> int:
        await Operations.of(app).sagas.cancel("orders", "o", reason="the customer left")
        return 1

    @orders.saga(id=str)
    async def fulfil(saga: Saga[None], _order: str) -> int:
        await news.send("done")
        return await saga.run(last)

    async with app.test() as t:
        await orders.send("o")
        await t.advance(100)
        journal = await journal_of(fulfil)
        assert journal.state is State.UNDONE
        assert journal.cause is not None
        assert "the customer left" in journal.cause.reason
        assert log == ["undone 1"]
        assert t.sent(news) == []


class _Shop:
    """An application whose types grow stricter."""

    def __init__(self) -> None:
        shop = self
        self.is_strict = False
        self.undone = 0

        class Order(BaseModel):
            id: str

            @model_validator(mode="after")
            def _check(self) -> Order:
                if shop.is_strict:
                    message = "a size is required by now"
                    raise ValueError(message)
                return self

        class Receipt(BaseModel):
            id: str

            @model_validator(mode="after")
            def _check(self) -> Receipt:
                if shop.is_strict:
                    raise LookupError(self.id)
                return self

        async def undo(_ctx: Context[None], _receipt: Receipt | None) -> None:
            self.undone += 1

        @step(undo=undo)
        async def pay(_ctx: Context[None]) -> Receipt:
            return Receipt(id="1")

        async def fulfil(saga: Saga[None], order: Order) -> None:
            await saga.run(pay)
            await saga.sleep(10)
            if order.id == "bad":
                raise Reject("no")

        pay.function.__annotations__["return"] = Receipt  # known to this function alone
        self.app = App("shop")
        self.orders = self.app.queue("orders", Order)
        self.order = Order
        self.saga: SagaConsumer[Any] = self.orders.saga(id=lambda order: order.id, steps=[pay])(fulfil)


async def test_an_input_that_a_deploy_no_longer_reads_makes_it_stuck_and_undoes_nothing() -> None:
    """The check before the deploy says so."""
    shop = _Shop()
    async with shop.app.test(replay=False) as t:
        await shop.orders.send(shop.order(id="o"))
        await t.drain()
        shop.is_strict = True
        assert any("does not fit" in one for one in await hindrances(shop.saga, await journal_of(shop.saga)))
        await t.advance(100)
        assert (await journal_of(shop.saga)).state is State.STUCK
        assert shop.undone == 0


async def test_a_result_that_a_deploy_no_longer_reads_makes_its_undo_stuck_with_no_attempt_counted() -> None:
    """Whatever the user's validator raises."""
    shop = _Shop()
    async with shop.app.test(replay=False) as t:
        await shop.orders.send(shop.order(id="o"))
        await t.drain()
        await Operations.of(shop.app).sagas.cancel("orders", "o", reason="r")
        shop.is_strict = True
        await t.advance(100)
        journal = await journal_of(shop.saga)
        assert journal.state is State.STUCK
        assert journal.steps[0].undo is None or journal.steps[0].undo.attempts == 0


async def test_a_step_that_runs_in_another_task_never_outlives_its_undo() -> None:
    """Also where the first one has ended without waiting."""
    app, log = App("shop"), list[str]()
    orders = app.queue("orders", str)

    async def undo(_ctx: Context[None], _result: int | None, number: int) -> None:
        log.append(f"undone {number}")

    @step(undo=undo)
    async def act(_ctx: Context[None], number: int) -> int:
        if number == 1:
            raise Reject("no")
        await asyncio.sleep(0)
        log.append(f"done {number}")
        return number

    @orders.saga(id=str)
    async def fulfil(saga: Saga[None], _order: str) -> int:
        return sum(await asyncio.gather(saga.run(act, 1), saga.run(act, 2)))

    async with app.test() as t:
        await orders.send("o")
        await t.advance(5)
        assert (await journal_of(fulfil)).state is State.STUCK
        assert log == []


async def test_the_fence_of_a_step_never_falls() -> None:
    """Not when a person has its tries begin anew: what compares it would refuse the step for ever."""
    app, fences, mended = App("shop"), list[int | None](), list[bool]()
    orders = app.queue("orders", str)

    @step(attempts=3)
    async def late(ctx: Context[None]) -> int:
        fences.append(ctx.fence)
        if not mended:
            raise OSError
        return 1

    @orders.saga(id=str)
    async def fulfil(saga: Saga[None], _order: str) -> int:
        saga.point_of_no_return()
        return await saga.run(late)

    async with app.test() as t:
        await orders.send("o")
        await t.advance(100)
        assert (await journal_of(fulfil)).state is State.STUCK
        mended.append(True)
        await Operations.of(app).sagas.retry("orders", "o", reason="mended")
        await t.advance(100)
        assert (await journal_of(fulfil)).state is State.COMPLETED
        assert fences == [1, 2, 3, 4]


async def test_what_is_mended_in_a_dead_letter_is_the_input_from_then_on() -> None:
    """As `saga resume`; it is noted."""
    app, given = App("shop"), list[str]()
    orders = app.queue("orders", str)

    @orders.saga(id=lambda order: order.partition(":")[0])
    async def fulfil(_saga: Saga[None], order: str) -> str:
        given.append(order)
        return {"o:good": "served"}[order]

    async with app.test() as t:
        await orders.send("o:bad")
        await t.drain()
        operations = Operations.of(app)
        (dead,) = await t.dead(orders)
        await operations.redrive(await operations.letter(dead.id), b'"o:good"')
        await t.advance(5)
        journal = await journal_of(fulfil)
        assert (journal.state, journal.result, journal.input) == (State.COMPLETED, "served", "o:good")
        assert [one.what for one in journal.deeds] == ["resume"]


async def test_another_id_function_is_told_before_the_deploy() -> None:
    """The message that an instance began with may come back, and would begin another one."""
    app = App("shop")
    orders = app.queue("orders", str)
    prefix = ["order"]

    @orders.saga(id=lambda order: f"{prefix[0]}-{order}")
    async def fulfil(saga: Saga[None], _order: str) -> None:
        await saga.wait_for("approved")

    async with app.test() as t:
        await orders.send("7")
        await t.drain()
        journal = await journal_of(fulfil, "order-7")
        assert await hindrances(fulfil, journal) == []
        prefix[0] = "fulfil"
        assert any("'fulfil-7'" in one for one in await hindrances(fulfil, journal))
