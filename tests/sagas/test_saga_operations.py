"""What an operator sees of sagas and does to them, on a broker that can do all and on one that can do less."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from functools import partialmethod
from typing import Any

import pytest
from pydantic import BaseModel

from redrive import App, Context, PayloadError, Reject, Saga, Unavailable, step
from redrive.catalogue import DISCARDED
from redrive.errors import NotFound, OperationRefused, QueueNotFound
from redrive.harness import Harness
from redrive.operations import Operations
from redrive.operations.sagas import SagaOperations
from redrive.sagas.journal import Journal
from redrive.sagas.record import key_of
from redrive.store import SAGAS
from redrive.testing import PlainBroker


@pytest.fixture(params=["embedded", "plain"], autouse=True)
def any_broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Applications get the embedded broker, then one that can do less."""
    if request.param == "plain":
        monkeypatch.setattr(App, "test", partialmethod(App.test, broker=PlainBroker))


class Order(BaseModel):
    """A payload."""

    id: str
    drink: str = "tea"
    approved: bool = True


class Shop:
    """A saga of two steps; `wrong` holds what is broken now."""

    def __init__(self) -> None:
        self.wrong: set[str] = set()
        self.done: list[str] = []
        self.during: Callable[[], Awaitable[object]] | None = None
        """Called once, in the body of `reserve`."""
        self.app: App[None] = App("shop")
        self.payments = self.app.dependency("payments", trip_after=1)
        self.queue = self.app.queue("fulfilments", Order)
        shop = self

        async def refund(_: Context[None], paid: str | None, order: Order) -> None:
            if "refund" in shop.wrong:
                raise Reject("the till is locked")
            if "refund later" in shop.wrong:
                raise RuntimeError("busy")
            shop.done.append(f"refund {order.id} {paid}")

        @step(undo=refund)
        async def charge(ctx: Context[None], order: Order) -> str:
            shop.done.append(f"charge {order.id}")
            return ctx.key

        @step(needs=[self.payments])
        async def reserve(_: Context[None], drink: str) -> None:
            during, shop.during = shop.during, None
            if during is not None:
                await during()
            async with shop.payments:
                shop.done.append(f"reserve {drink}")
            shop.raise_what_is_wrong()

        @self.queue.saga(id=lambda order: order.id, steps=[charge, reserve])
        async def fulfil(saga: Saga[None], order: Order) -> str:
            await saga.run(charge, order)
            if order.drink == "bug":
                raise TypeError("a bug")
            if not order.approved:
                await saga.wait_for("approved")
            await saga.run(reserve, order.drink)
            return order.drink

        self.saga = fulfil

    def raise_what_is_wrong(self) -> None:
        if "beans" in self.wrong:
            raise Reject("no beans")
        if "reserve later" in self.wrong:
            raise RuntimeError("again, please")

    def sagas(self) -> SagaOperations:
        return Operations.of(self.app, who="ada").sagas

    async def started(self, t: Harness[Any], *orders: Order) -> None:
        await self.queue.send_many(orders)
        await t.drain()

    async def stuck_at_undo(self, t: Harness[Any]) -> None:
        self.wrong = {"beans", "refund"}
        await self.started(t, Order(id="7"))
        assert (await self.sagas().instance("fulfilments", "7")).summary.state == "stuck"
        self.wrong = set()


async def letters(shop: Shop, state: str = "dead") -> list[str]:
    """The ids of the letters in a state."""
    return [one.id async for one in Operations.of(shop.app).letters(state=state)]


async def test_sagas_are_listed_by_queue_state_and_text() -> None:
    """With what each does now; a page at a time."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.started(t, Order(id="1"), Order(id="2", approved=False), Order(id="3", drink="bug"))
        found = {one.id: one async for one in shop.sagas().instances()}
        assert {one.id: one.state for one in found.values()} == {"1": "completed", "2": "waiting", "3": "stuck"}
        assert found["2"].doing == "waits for signal 'approved'"
        assert found["3"].doing == "TypeError: a bug"
        assert [one.id async for one in shop.sagas().instances("fulfilments", state="stuck")] == ["3"]
        assert [one.id async for one in shop.sagas().instances(text="A BUG")] == ["3"]
        assert [one.id async for one in shop.sagas().instances("others")] == []
        page = await shop.sagas().page(limit=2)
        assert [one.id for one in page.sagas] == ["1", "2"]
        page = await shop.sagas().page(limit=2, cursor=page.cursor)
        assert [one.id for one in page.sagas] == ["3"]
        assert await shop.sagas().counts() == {"fulfilments": {"completed": 1, "waiting": 1, "stuck": 1}}


async def test_a_saga_is_found_by_the_beginning_of_its_id() -> None:
    """If that says which; an id that is the beginning of another is itself."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.started(t, Order(id="a/1"), Order(id="a/12"), Order(id="b"))
        assert (await shop.sagas().named("a/1")).id == "a/1"
        assert (await shop.sagas().named("a/12", "fulfilments")).id == "a/12"
        with pytest.raises(OperationRefused, match="could be any of several"):
            await shop.sagas().named("a")
        with pytest.raises(NotFound):
            await shop.sagas().named("c")
        with pytest.raises(QueueNotFound):
            await shop.sagas().named("b", "nothing")


async def test_a_saga_is_shown_as_it_went() -> None:
    """Steps with keys, arguments, results and undos; what it waited for in its place; and the causes."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.started(t, Order(id="7", approved=False))
        await shop.saga.signal("7", "approved", {"by": "bob"})
        shop.wrong = {"beans"}
        await t.drain()
        view = await shop.sagas().instance("fulfilments", "7")
        charge, reserve = view.steps
        assert (charge.key, charge.state, charge.result) == ("7/charge/1", "done", "7/charge/1")
        assert charge.arguments == {"order": {"id": "7", "drink": "tea", "approved": False}}
        assert charge.undo is not None
        assert (charge.undo.state, charge.undo.attempts, charge.undoable) == ("done", 1, True)
        assert reserve.error is not None
        assert (reserve.state, reserve.error.text, reserve.undoable) == ("rejected", "no beans", False)
        (waited,) = view.facts
        assert (waited.kind, waited.name, waited.value, waited.after) == ("wait", "approved", {"by": "bob"}, 1)
        assert waited.over_at_ms is not None
        assert view.cause is not None
        assert view.cause.step == "7/reserve/1"
        assert view.summary.state == "undone"


async def test_a_signal_that_nobody_took_is_shown() -> None:
    """By its name."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.started(t, Order(id="7", approved=False))
        await shop.saga.signal("7", "something else")
        assert (await shop.sagas().instance("fulfilments", "7")).signals == ("something else",)


async def test_a_stuck_saga_goes_on_and_its_letter_is_gone() -> None:
    """Nobody redrives later what has gone on; who did it is written down."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.stuck_at_undo(t)
        (letter,) = await letters(shop)
        foreseen = await shop.sagas().retry("fulfilments", "7", dry_run=True)
        assert (foreseen.letter, await letters(shop)) == (letter, [letter])
        done = await shop.sagas().retry("fulfilments", "7", reason="the till is open")
        assert (done.letter, done.letter_left, done.woken) == (letter, None, True)
        assert await t.dead(shop.queue) == []
        assert await letters(shop, DISCARDED) == [letter]
        await t.drain()
        view = await shop.sagas().instance("fulfilments", "7")
        assert (view.summary.state, view.stuck) == ("undone", None)
        assert [(one.what, one.by, one.note) for one in view.deeds] == [("retry", "ada", "the till is open")]
        assert shop.done[-1] == "refund 7 7/charge/1"


async def test_the_letter_of_another_saga_is_left_alone() -> None:
    """Each has its own, whether it says so in an attribute or is what the instance began with."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.wrong = {"beans", "refund"}
        await shop.started(t, Order(id="7"), Order(id="70"))
        done = await shop.sagas().retry("fulfilments", "70")
        (left,) = await letters(shop)
        assert done.letter not in {left, None}
        assert (await shop.sagas().retry("fulfilments", "7")).letter == left


async def test_a_wake_up_that_is_lost_is_sent_again() -> None:
    """The journal says that the instance is due; the waker sends another half a minute later."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.stuck_at_undo(t)
        await shop.sagas().retry("fulfilments", "7")
        await t.runtime.broker.purge("fulfilments")
        await t.advance(31)
        assert (await shop.sagas().instance("fulfilments", "7")).summary.state == "undone"


async def test_an_undo_that_cannot_be_done_is_skipped() -> None:
    """The others go on; its effect stays, with the reason."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.stuck_at_undo(t)
        done = await shop.sagas().skip("fulfilments", "7", "charge", reason="refunded by hand")
        assert done.step == "7/charge/1"
        await t.drain()
        view = await shop.sagas().instance("fulfilments", "7")
        assert view.summary.state == "undone"
        assert view.steps[0].undo is not None
        assert (view.steps[0].undo.state, view.steps[0].undo.note) == ("skipped", "refunded by hand")
        assert "refund 7 7/charge/1" not in shop.done
        assert view.deeds[0].what == "skip 7/charge/1"


async def test_an_undo_that_pauses_is_skipped_while_its_wake_up_is_delayed() -> None:
    """The wake-up that comes back later changes nothing."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.wrong = {"beans", "refund later"}
        await shop.started(t, Order(id="7"))
        await t.advance(20)
        await shop.sagas().skip("fulfilments", "7", "charge", reason="by hand")
        await t.drain()
        assert (await shop.sagas().instance("fulfilments", "7")).summary.state == "undone"
        shop.wrong = set()
        await t.advance(400)
        assert not [one for one in shop.done if one.startswith("refund")]
        assert await t.waiting(shop.queue) == []


async def test_a_saga_that_waits_is_cancelled_and_undone() -> None:
    """At once, with the reason as its cause."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.started(t, Order(id="7", approved=False))
        done = await shop.sagas().cancel("fulfilments", "7", reason="the customer left")
        assert done.woken
        await t.drain()
        view = await shop.sagas().instance("fulfilments", "7")
        assert view.summary.state == "undone"
        assert view.cause is not None
        assert view.cause.reason == "cancelled by ada: the customer left"
        with pytest.raises(OperationRefused, match="is undone"):
            await shop.sagas().cancel("fulfilments", "7")


async def test_a_parked_saga_is_cancelled_while_its_dependency_is_down() -> None:
    """What it parked comes back later, and changes nothing."""
    shop = Shop()
    async with shop.app.test() as t:
        t.down(shop.payments)
        await shop.started(t, Order(id="7"))
        await t.advance(60)
        (view,) = [one async for one in shop.sagas().instances(state="parked")]
        assert view.doing == "parked for payments"
        await shop.sagas().cancel("fulfilments", "7")
        await t.drain()
        assert (await shop.sagas().instance("fulfilments", "7")).summary.state == "undone"
        t.heal(shop.payments)
        await t.advance(300)
        assert await t.parked(shop.queue) == []
        assert shop.done == ["charge 7", "refund 7 7/charge/1"]


async def test_a_saga_is_cancelled_in_the_middle_of_a_step() -> None:
    """The attempt that runs ends first; then nothing goes forward any more, and all of it is undone."""
    shop = Shop()
    async with shop.app.test() as t:
        woken: list[bool] = []

        async def cancel() -> None:
            woken.append((await shop.sagas().cancel("fulfilments", "7")).woken)
            shop.wrong = {"reserve later"}

        shop.during = cancel
        await shop.started(t, Order(id="7"))
        await t.advance(60)
        assert woken == [False]
        assert (await shop.sagas().instance("fulfilments", "7")).summary.state == "undone"
        assert shop.done == ["charge 7", "reserve tea", "refund 7 7/charge/1"]


async def test_a_saga_that_is_cancelled_as_it_parks_does_not_wait_for_its_dependency() -> None:
    """The cancellation came while the call that found the outage was under way."""
    shop = Shop()
    async with shop.app.test() as t:
        t.down(shop.payments)

        async def cancel() -> None:
            await shop.sagas().cancel("fulfilments", "7")
            with contextlib.suppress(Unavailable):
                async with shop.payments:
                    pass  # which opens the circuit: the next call parks the wake-up

        shop.during = cancel
        await shop.started(t, Order(id="7"))
        await t.advance(1)
        assert (await shop.sagas().instance("fulfilments", "7")).summary.state == "undone"


async def test_a_saga_stuck_by_a_bug_is_cancelled_without_its_function() -> None:
    """And without its letter."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.started(t, Order(id="7", drink="bug"))
        assert (await shop.sagas().cancel("fulfilments", "7")).letter is not None
        await t.drain()
        assert (await shop.sagas().instance("fulfilments", "7")).summary.state == "undone"


async def test_a_saga_resumes_with_another_input() -> None:
    """Checked as an edited letter is; the input before is kept."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.started(t, Order(id="7", drink="bug", approved=False))
        with pytest.raises(PayloadError, match="drink"):
            await shop.sagas().resume("fulfilments", "7", b'{"id":"7","drink":1}')
        body = b'{"id":"7","drink":"tea","approved":true}'
        assert (await shop.sagas().resume("fulfilments", "7", body, dry_run=True)).checked == "type"
        done = await shop.sagas().resume("fulfilments", "7", body)
        assert done.letter is not None
        await t.drain()
        view = await shop.sagas().instance("fulfilments", "7")
        assert (view.summary.state, view.input["drink"]) == ("completed", "tea")
        assert '"bug"' in view.deeds[0].note
        await shop.started(t, Order(id="7", drink="bug", approved=False))
        assert await t.dead(shop.queue) == []


async def test_a_signal_wakes_the_saga_that_waits() -> None:
    """Once, and with who sent it; nothing takes a signal that has ended or does not exist."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.started(t, Order(id="7", approved=False))
        assert (await shop.sagas().signal("fulfilments", "7", "approved", dry_run=True)).woken
        assert (await shop.sagas().signal("fulfilments", "7", "approved", {"by": "bob"})).woken
        await t.drain()
        view = await shop.sagas().instance("fulfilments", "7")
        assert (view.summary.state, view.facts[0].value) == ("completed", {"by": "bob"})
        assert [one.what for one in view.deeds] == ["signal approved"]
        with pytest.raises(OperationRefused, match="is completed"):
            await shop.sagas().signal("fulfilments", "7", "approved")
        with pytest.raises(NotFound):
            await shop.sagas().signal("fulfilments", "8", "approved")


async def test_a_change_is_made_on_what_stands() -> None:
    """Somebody else wrote in between: the change is made on what he wrote."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.stuck_at_undo(t)
        store = t.runtime.store
        entry = await store.get(SAGAS, key_of("fulfilments", "7"))
        assert entry is not None
        sagas, get, calls = shop.sagas(), store.get, list[str]()

        async def late(namespace: Any, key: str) -> Any:
            found = await get(namespace, key)
            if found is not None and namespace is SAGAS and not calls:
                calls.append(key)
                theirs = Journal.from_json(found.value)
                theirs.group = "theirs"
                await store.put(SAGAS, key, theirs.to_json(), if_version=found.version)
            return found

        sagas._store = _Late(store, late)
        await sagas.retry("fulfilments", "7")
        assert (await shop.sagas().instance("fulfilments", "7")).group == "theirs"
        assert calls


class _Late:
    """A store whose first reader is slow."""

    def __init__(self, store: Any, get: Any) -> None:
        self._store, self.get = store, get

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
