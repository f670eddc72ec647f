"""A finished saga is run again against its journal; and a deploy is held against those that have not finished."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from redrive import App, Context, Reject, Saga, step
from redrive.errors import NonDeterministic, NotFound
from redrive.harness import Harness
from redrive.operations import Hindered, Operations
from redrive.sagas.definition import SagaConsumer
from redrive.sagas.journal import Journal, State
from redrive.sagas.replay import replayed

Function = Callable[[Saga[None], str], Awaitable[object]]
ran: list[str] = []
"""The bodies that ran."""


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


async def undo(_: Context[None], _result: Any, item: str) -> None:
    """Undo a step."""
    ran.append(f"undo {item}")


@step(undo=undo)
async def buy(_: Context[None], item: str) -> str:
    """A step with an undo."""
    ran.append(f"buy {item}")
    return f"receipt for {item}"


@step
async def wrap(_: Context[None], item: str) -> str:
    """A step without one."""
    ran.append(f"wrap {item}")
    if item == "nothing":
        raise Reject("there is nothing")
    return item


def application(function: Function | None, *, version: int = 1, **settings: Any) -> App[None]:
    """An application with one saga, if any."""
    app: App[None] = App("shop")
    queue = app.queue("sagas", str)
    if function is not None:

        async def saga(saga: Saga[None], item: str) -> Any:
            return await function(saga, item)

        queue.saga(version=version, id=lambda item: item, steps=[buy, wrap], **settings)(saga)
    return app


def saga_of(app: App[None]) -> SagaConsumer[str]:
    """Its saga."""
    consumer = app.queues["sagas"].bound_consumer
    assert isinstance(consumer, SagaConsumer)
    return consumer


async def begun(t: Harness[None], app: App[None], item: str = "tea") -> Journal:
    """An instance, as far as it comes by itself."""
    await app.queues["sagas"].send(item)
    await t.drain()
    journal = await saga_of(app).journal(item)
    assert journal is not None
    return journal


async def everything(saga: Saga[None], item: str) -> str:
    """A function that does all that it may, and always the same."""
    await saga.run(buy, item)
    await saga.gather(wrap(item), buy(f"more {item}"))
    saga.now(), saga.random(), saga.uuid()
    await saga.sleep(5)
    await saga.wait_for("go", timeout=timedelta(days=1))
    saga.point_of_no_return()
    return await saga.run(wrap, "paper")


async def waits(saga: Saga[None], item: str) -> str:
    """A function that stops in the middle."""
    bought = await saga.run(buy, item)
    await saga.wait_for("go")
    return await saga.run(wrap, bought)


async def test_what_always_does_the_same_passes() -> None:
    """At every point where it stops, and when it has ended; no step body runs for it."""
    app = application(everything)
    async with app.test() as t:
        assert await replayed(saga_of(app), await begun(t, app)) == []
        await t.advance(6)
        await saga_of(app).signal("tea", "go")
        await t.drain()
        journal = await saga_of(app).journal("tea")
        assert journal is not None
        assert journal.state is State.COMPLETED
        before = list(ran)
        assert await replayed(saga_of(app), journal) == []
        assert ran == before


async def test_a_saga_that_was_undone_is_replayed_too() -> None:
    """It fails again in the same way; one that was cancelled ends where it was."""

    async def fails(saga: Saga[None], item: str) -> None:
        await saga.run(buy, item)
        await saga.run(wrap, "nothing")

    app = application(fails)
    async with app.test() as t:
        journal = await begun(t, app)
        assert journal.state is State.UNDONE
        assert await replayed(saga_of(app), journal) == []
    app = application(waits)
    async with app.test() as t:
        await begun(t, app)
        await Operations.of(app).sagas.cancel("sagas", "tea")
        await t.drain()
        found = await saga_of(app).journal("tea")
        assert found is not None
        assert (found.state, await replayed(saga_of(app), found)) == (State.UNDONE, [])


async def chance_in_an_argument(saga: Saga[None], item: str) -> None:
    await saga.run(buy, f"{item} {random.random()}")  # noqa: S311 - what must not be done


async def chance_in_the_way(saga: Saga[None], item: str) -> None:
    ran.append("turn")
    await saga.run(buy if ran.count("turn") == 1 else wrap, item)


async def chance_in_the_result(saga: Saga[None], item: str) -> float:
    await saga.run(buy, item)
    return random.random()  # noqa: S311 - what must not be done


async def fails_later(saga: Saga[None], item: str) -> None:
    ran.append("turn")
    await saga.run(buy, item)
    if ran.count("turn") > 1:
        raise RuntimeError("at last")


async def one_step_more(saga: Saga[None], item: str) -> None:
    ran.append("turn")
    await saga.run(buy, item)
    if ran.count("turn") > 1:
        await saga.run(wrap, item)


async def no_return_once(saga: Saga[None], item: str) -> None:
    ran.append("turn")
    if ran.count("turn") == 1:
        saga.point_of_no_return()
    await saga.run(buy, item)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (chance_in_an_argument, "for argument 'item' in its journal, and now"),
        (chance_in_the_way, "its journal has tea/buy/1, which its code passed over"),
        (chance_in_the_result, "and its journal says"),
        (fails_later, "it raised RuntimeError: at last"),
        (one_step_more, "step 'wrap' (call 1) is new"),
        (no_return_once, "passed a point of no return, and its code does not"),
    ],
)
async def test_hidden_chance_is_found_in_a_test(function: Function, problem: str) -> None:
    """`drain` says what differed; without replay nobody sees it before a crash does."""
    app = application(function)
    async with app.test() as t:
        with pytest.raises(NonDeterministic) as caught:
            await begun(t, app)
        assert problem in str(caught.value)
        await t.drain()  # said once
    ran.clear()
    app = application(function)
    async with app.test(replay=False) as t:
        assert (await begun(t, app)).state is State.COMPLETED


async def hindered(t: Harness[None], old: App[None], new: App[None], queue: str | None = None) -> list[Hindered]:
    """What the new code cannot continue of what the old one began."""
    before = list(ran)
    found = [one async for one in Operations.of(old).sagas.hindered(new, queue)]
    assert ran == before
    assert t.runtime.app == old.name
    return found


async def test_the_same_code_continues_everything() -> None:
    """Whatever waits, is parked, or has ended."""
    app = application(waits)
    async with app.test() as t:
        await begun(t, app)
        assert await hindered(t, app, app) == []
        assert await hindered(t, app, application(waits)) == []


async def test_a_version_that_is_gone_strands_its_instances() -> None:
    """Until it is kept beside the new one."""
    app = application(waits)
    async with app.test() as t:
        await begun(t, app)
        (found,) = await hindered(t, app, application(waits, version=2))
        assert (found.queue, found.id, found.state, found.version) == ("sagas", "tea", "waiting", 1)
        assert found.problems == ("it began with version 1, and the code has [2]",)


async def test_a_saga_that_is_gone_strands_all_of_its_instances() -> None:
    """Its queue may still be there, or be known from the manifest alone."""
    app = application(waits)
    async with app.test() as t:
        await begun(t, app)
        (found,) = await hindered(t, app, application(None))
        assert found.problems == ("the code has no saga of queue 'sagas' any more",)
        with pytest.raises(NotFound, match="it has: sagas"):
            await hindered(t, app, application(waits), "others")


async def test_another_way_through_the_steps_strands_who_is_on_the_way() -> None:
    """What was done and is passed over, what was given otherwise, and what would be a bug."""

    async def without_buying(saga: Saga[None], item: str) -> None:
        await saga.run(wrap, item)

    async def buys_other(saga: Saga[None], item: str) -> None:
        await saga.run(buy, f"green {item}")

    async def breaks(saga: Saga[None], item: str) -> None:
        await saga.run(buy, item)
        raise KeyError("oops")

    app = application(waits)
    async with app.test() as t:
        await begun(t, app)
        for function, problem in (
            (without_buying, "its journal has tea/buy/1, wait go, which its code passed over"),
            (buys_other, "step 'tea/buy/1' has \"tea\" for argument 'item' in its journal, and now \"green tea\""),
            (breaks, "it would be stuck: KeyError: 'oops'"),
        ):
            (found,) = await hindered(t, app, application(function))
            assert problem in "; ".join(found.problems)


class Receipt(BaseModel):
    """What a later version gives."""

    number: int


def with_step(one: Any, *arguments: Any) -> App[None]:
    """An application whose saga runs one step, and waits."""
    app: App[None] = App("shop")

    async def saga(saga: Saga[None], item: str) -> None:
        await saga.run(one, item, *arguments)
        await saga.wait_for("go")

    app.queue("sagas", str).saga(id=lambda item: item, steps=[one])(saga)
    return app


async def undo_two(_: Context[None], _result: Any, item: str, count: int) -> None:
    """The undo of a step with a second parameter."""


async def test_a_step_that_reads_its_journal_no_more_strands_who_needs_it() -> None:
    """Its parameters, its result, or its undo."""

    @step(name="brew", undo=undo)
    async def before(_: Context[None], item: str) -> str:
        return item

    @step(name="brew", undo=undo_two)
    async def takes_more(_: Context[None], item: str, count: int) -> str:
        return item * count

    @step(name="brew", undo=undo)
    async def gives_other(_: Context[None], item: str) -> Receipt:
        return Receipt(number=len(item))

    @step(name="brew")
    async def no_undo(_: Context[None], item: str) -> str:
        return item

    app = with_step(before)
    async with app.test() as t:
        await begun(t, app)
        for new, problem in (
            (with_step(takes_more, 1), "was journaled with arguments ['item'], and takes ['count', 'item']"),
            (with_step(gives_other), "as journaled does not fit its annotation any more"),
            (with_step(no_undo), "step 'tea/brew/1' had an undo when it was begun, and the code has none any more"),
        ):
            (found,) = await hindered(t, app, new)
            assert problem in "; ".join(found.problems)


async def test_a_saga_that_is_being_undone_does_not_need_its_function() -> None:
    """Nor the version: its steps are found by name."""

    async def fails(saga: Saga[None], item: str) -> None:
        await saga.run(stubborn, item)
        raise RuntimeError("no")

    async def never(_: Context[None], _result: Any, item: str) -> None:
        raise RuntimeError(item)

    @step(undo=never)
    async def stubborn(_: Context[None], item: str) -> str:
        return item

    def with_stubborn(function: Function, version: int) -> App[None]:
        app: App[None] = App("shop")

        async def saga(saga: Saga[None], item: str) -> Any:
            return await function(saga, item)

        app.queue("sagas", str).saga(id=lambda item: item, version=version, steps=[stubborn])(saga)
        return app

    app = with_stubborn(fails, 1)
    async with app.test() as t:
        assert (await begun(t, app)).state is State.UNDOING
        assert await hindered(t, app, with_stubborn(waits, 2)) == []


async def test_an_undo_that_the_code_has_no_more_makes_it_stuck() -> None:
    """It is not passed over in silence; a person skips it, or puts it back."""

    async def fails(saga: Saga[None], item: str) -> None:
        await saga.run(buy, item)
        await saga.wait_for("go")
        raise RuntimeError("no")

    app = application(fails)
    async with app.test(replay=False) as t:
        await begun(t, app)
        kept, buy.undo = buy.undo, None
        try:
            await saga_of(app).signal("tea", "go")
            await t.drain()
            journal = await saga_of(app).journal("tea")
            assert journal is not None
            assert journal.stuck is not None
            assert "had an undo when it was begun" in journal.stuck.reason
            await Operations.of(app).sagas.skip("sagas", "tea", "buy", reason="sent back by hand")
            await t.drain()
        finally:
            buy.undo = kept
        found = await saga_of(app).journal("tea")
        assert found is not None
        assert found.state is State.UNDONE
