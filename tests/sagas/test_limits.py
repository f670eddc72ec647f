"""What is too large for a journal, and a store that is away, or does not answer."""

from __future__ import annotations

from typing import Any

import pytest

from redrive import Context, Saga, step
from redrive.errors import ValueTooLarge
from redrive.sagas import record
from redrive.sagas.journal import Journal, State, StepState
from redrive.sagas.record import key_of
from redrive.store import SAGAS
from redrive.testing.faulty import FaultyStore
from tests.sagas.counting import Kept, StoreInFront
from tests.sagas.running import HOUR, Shop
from tests.sagas.services import Services, book, charge, confirm


class SmallStore(StoreInFront):
    """Keeps less than most."""

    limit = 120_000

    @property
    def max_value(self) -> int:
        return self.limit

    async def put(self, namespace: Any, key: str, value: bytes, *, if_version: int, **times: Any) -> int:
        if len(value) > self.limit:
            raise ValueTooLarge(namespace.name, key, len(value), self.limit)
        return await super().put(namespace, key, value, if_version=if_version, **times)


undone: list[Any] = []


async def unload(_ctx: Context[Any], result: str | None, size: int) -> None:
    """Undo of `load`."""
    assert size
    undone.append(None if result is None else len(result))


@step(undo=unload)
async def load(_ctx: Context[Any], size: int) -> str:
    """Give so many characters."""
    return "x" * size


@pytest.mark.parametrize(("size", "state"), [(32 * 1024 - 2, State.COMPLETED), (32 * 1024 - 1, State.UNDONE)])
async def test_a_result_of_over_32_kb_is_refused_and_its_step_undone_without_it(size: int, state: State) -> None:
    """It took effect, and nobody can say what came of it: it is not tried again."""
    undone.clear()

    async def fulfil(saga: Saga[Any], _order: str) -> None:
        await saga.run(load, size)

    shop = Shop(fulfil, steps=[load])
    async with shop.test() as t:
        journal = await shop.started(t, seconds=HOUR)
        assert journal.state is state
        assert journal.steps[0].attempts == 1
        assert undone == ([] if state is State.COMPLETED else [None])
        if state is State.UNDONE:
            assert journal.steps[0].state is StepState.UNKNOWN
            assert "over the limit of 32768" in str(journal.cause)


@pytest.mark.parametrize("sleeps", [False, True])
async def test_a_journal_that_is_full_makes_it_stuck_before_a_step_whose_result_could_not_be_kept(
    *, sleeps: bool
) -> None:
    """Whether the turn wrote it itself, or found it so."""
    undone.clear()
    ran: list[int] = []

    async def fulfil(saga: Saga[Any], _order: str) -> None:
        for number in range(20):
            await saga.run(load, 20_000)
            ran.append(number)
            if sleeps:
                await saga.sleep(1)

    shop = Shop(fulfil, steps=[load])
    async with shop.test(store=SmallStore) as t:
        journal = await shop.started(t, seconds=HOUR)
        assert journal.state is State.STUCK
        assert journal.stuck is not None
        assert "journal is full" in journal.stuck.reason
        for one in journal.steps:
            assert one.state is StepState.DONE or not one.began_at_ms, "no step began that could not be kept"
        assert len(await t.dead(shop.orders)) == 1


async def test_signals_that_fill_a_journal_make_it_stuck_and_not_lost() -> None:
    """It does not come back for ever."""

    async def fulfil(saga: Saga[Any], order: str) -> None:
        await saga.run(charge, order)
        for _ in range(20):
            await saga.wait_for("news")

    shop = Shop(fulfil)
    async with shop.test(store=SmallStore) as t:
        await shop.started(t)
        for _ in range(20):
            await shop.saga.signal("o", "news", "x" * 30_000)
            await t.advance(1)
        journal = await shop.journal()
        assert journal.state is State.STUCK
        assert len(await t.dead(shop.orders)) == 1


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_FIRST_PAUSE", 0.0)


async def charge_book_confirm(saga: Saga[Services], order: str) -> None:
    """One after the other."""
    await saga.run(charge, order)
    await saga.run(book, order)
    await saga.run(confirm, order)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("failures", [1, 4, 5, 6, 9, 10, 11, 15, 20, 40])
@pytest.mark.parametrize("fault", ["refuse", "lose_answers"])
async def test_a_store_that_is_away_for_a_while_undoes_nothing(fault: str, failures: int) -> None:
    """However many of its calls fail: the wake-up comes back, and what the journal has counts."""
    stores = Kept(FaultyStore)
    shop = Shop(charge_book_confirm)

    def away() -> None:
        for number in range(failures):
            getattr(stores.one, fault)("put", nth=number + 1)

    shop.services.before["charge"] = away
    async with shop.test(store=stores) as t:
        await shop.orders.send("o")
        await t.drain()
        shop.services.before.clear()
        stores.one.recover()
        await t.advance(600)
        assert (await shop.journal()).state is State.COMPLETED
        assert shop.services.undone == []
        assert shop.services.did("book/1") == shop.services.did("confirm/1") == 1
        assert shop.services.did("charge/1") <= 2


@pytest.mark.usefixtures("_impatient")
async def test_a_function_that_hides_the_stores_error_does_nothing_else_because_of_it() -> None:
    """It looks like a failed step to an `except Exception`, and is none."""
    stores = Kept(FaultyStore)

    async def fulfil(saga: Saga[Services], order: str) -> str:
        await saga.run(charge, order)
        try:
            return await saga.run(book, order)
        except Exception:  # noqa: BLE001 - as users do
            return await saga.run(confirm, order)

    shop = Shop(fulfil)

    def away() -> None:
        for number in range(5):
            stores.one.refuse("put", nth=number + 1)

    shop.services.before["charge"] = away
    async with shop.test(store=stores) as t:
        await shop.orders.send("o")
        await t.drain()
        shop.services.before.clear()
        await t.advance(600)
        assert (await shop.journal()).result == "receipt of o/book/1"
        assert shop.services.did("confirm/1") == 0


async def test_a_worker_whose_instance_was_taken_over_writes_nothing_and_does_not_go_on() -> None:
    """Its message is settled by nobody but the one that took over."""
    shop = Shop(charge_book_confirm)
    async with shop.test() as t:

        async def take_over() -> None:
            entry = await t.runtime.store.get(SAGAS, key_of("orders", "o"))
            assert entry is not None
            journal = Journal.from_json(entry.value)
            assert journal.owner is not None
            journal.owner.token = shop.saga.queue
            await t.runtime.store.put(SAGAS, entry.key, journal.to_json(), if_version=entry.version)

        original = book.function

        async def in_the_middle(ctx: Any, what: str) -> Any:
            await take_over()
            return await original(ctx, what)

        book.function = in_the_middle
        try:
            await shop.orders.send("o")
            await t.drain()
        finally:
            book.function = original
        journal = await shop.journal()
        assert journal.owner is not None
        assert journal.owner.token == shop.saga.queue
        assert shop.services.did("confirm/1") == 0
        assert journal.steps[1].state is StepState.STARTED
