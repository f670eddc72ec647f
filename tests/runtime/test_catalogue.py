"""The catalogue: every dead letter has an entry, written before it is dead, also when the broker killed it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redrive import App, Queue, Reject
from redrive.broker import Forward, QueueSpec
from redrive.calling import Held
from redrive.catalogue import DEAD, DISCARDED, REDRIVEN, Catalogue
from redrive.harness import Harness
from redrive.operations import Operations
from redrive.store import BODIES, LETTERS
from redrive.turn import Turns
from tests.runtime.fakes import FailingStore, Order

pytestmark = pytest.mark.usefixtures("any_broker")


class Shop:
    """An application whose handler raises what it is told to."""

    def __init__(self) -> None:
        self.app: App[None] = App("test")
        self.queue: Queue[Order] = self.app.queue("orders", Order)
        self.raises: list[Exception] = [Reject("no")]

        @self.queue.consumer(max_attempts=2)
        async def handle(_order: Order) -> None:
            if self.raises:
                raise self.raises[0]

        self.handle = handle

    def operations(self) -> Operations:
        return Operations.of(self.app, who="me")

    async def letters(self, state: str | None = DEAD) -> list[Any]:
        return [one async for one in self.operations().letters(state=state)]


async def test_the_entry_is_there_before_the_letter_is() -> None:
    """After the turn and before its settlement the catalogue knows the letter, its record and its body."""
    shop = Shop()
    async with shop.app.test() as t:
        identity = await shop.queue.send(Order(id="1"), attributes={"a": "b"})
        (delivery,) = await t.runtime.broker.receive("orders", limit=1, lease=30.0)
        settlement = await Turns(t.runtime, shop.handle).turn(Held(delivery))
        assert isinstance(settlement, Forward)
        assert await t.dead(shop.queue) == []
        (letter,) = await shop.letters()
        assert (letter.id, letter.queue, letter.attributes) == (identity, "orders", {"a": "b"})
        assert letter.record == settlement.message.notes.failure
        assert await shop.operations().body(letter) == delivery.message.body


async def test_a_crash_before_the_forward_repeats_into_the_same_entry() -> None:
    """Killed between entry and forward: the message comes back, dies again, and there is one letter and one entry."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.queue.send(Order(id="1"))
        (delivery,) = await t.runtime.broker.receive("orders", limit=1, lease=30.0)
        await Turns(t.runtime, shop.handle).turn(Held(delivery))
        await t.advance(31)
        assert len(await t.dead(shop.queue)) == 1
        assert len(await shop.letters(state=None)) == 1


@pytest.mark.usefixtures("failing_store")
async def test_a_store_that_is_away_delays_the_death() -> None:
    """Without its entry nothing is dead: the message comes back until the catalogue can be written."""
    shop = Shop()
    async with shop.app.test() as t:
        store: Any = t.runtime.store
        assert isinstance(store, FailingStore)
        store.fails = lambda _call, namespace, _key, _value: namespace in {LETTERS, BODIES}
        await shop.queue.send(Order(id="1"))
        await t.advance(60)
        assert (await t.runtime.broker.depth("orders-dead")).total == 0
        store.back()
        await t.advance(10)
        assert len(await t.dead(shop.queue)) == 1
        assert len(await shop.letters()) == 1


async def by_the_backstop(t: Harness[None], shop: Shop, *, attempts: int = 0) -> str:
    """A message that is received and never settled until the broker gives up."""
    identity = await shop.queue.send(Order(id="1"))
    await t.runtime.broker.declare([QueueSpec(name="orders", dead_letter_queue="orders-dead", max_receives=3)])
    shop.raises = [ValueError("first")] if attempts else []
    if attempts:
        await t.drain()
        t.clock.advance(10)
    for _ in range(4 - attempts):
        await t.runtime.broker.receive("orders", limit=1, lease=1.0)
        t.clock.advance(2)
    assert (await t.runtime.broker.depth("orders-dead")).total == 1
    return identity


@pytest.mark.parametrize("attempts", [0, 1])
async def test_a_letter_of_the_brokers_backstop_gets_an_entry_and_a_record(attempts: int) -> None:
    """The intake finds what died without a worker's word, and says what happened; what was known before is kept."""
    shop = Shop()
    async with shop.app.test() as t:
        identity = await by_the_backstop(t, shop, attempts=attempts)
        await t.advance(5)
        (letter,) = await shop.letters()
        assert letter.id == identity
        assert "received too often" in letter.record.reason
        assert letter.record.last.kind == "crashed"
        assert letter.record.total == attempts + 1
        assert letter.record.first.kind == ("raised" if attempts else "crashed")
        assert await shop.operations().body(letter) == b'{"id":"1","drink":"tea"}'
        await t.advance(300)
        assert len(await shop.letters(state=None)) == 1
        await shop.operations().redrive(letter)
        shop.raises = []
        await t.drain()
        assert t.runtime.counters.outcomes["handled"] == 1


async def test_a_letter_that_dies_of_the_backstop_again_is_dead_again() -> None:
    """Redriven and killed by the broker once more: its entry says dead, and keeps its audit."""
    shop = Shop()
    async with shop.app.test() as t:
        await by_the_backstop(t, shop)
        await t.advance(5)
        (letter,) = await shop.letters()
        await shop.operations().redrive(letter)
        for _ in range(4):
            await t.runtime.broker.receive("orders", limit=1, lease=1.0)
            t.clock.advance(2)
        await t.advance(700)
        (again,) = await shop.letters()
        assert [one["what"] for one in again.audit] == ["redriven"]


async def test_what_was_redriven_or_discarded_is_forgotten_after_14_days_body_and_all() -> None:
    """The entry of a letter that is no more expires, and so does its body; a dead one stays for ever."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.queue.send_many([Order(id=str(number)) for number in range(3)])
        await t.drain()
        first, second, third = await shop.letters()
        body = await shop.operations().body(third)
        shop.raises = []
        await shop.operations().redrive(first)
        await shop.operations().discard(second)
        assert {one.state for one in await shop.letters(state=None)} == {DEAD, REDRIVEN, DISCARDED}
        await t.advance(15 * 24 * 3600)
        assert [one.id for one in await shop.letters(state=None)] == [third.id]
        store = t.runtime.store
        for letter in (first, second):
            assert await store.get(BODIES, f"orders/{letter.id}/0") is None
        t.clock.advance(365 * 24 * 3600)
        assert await shop.operations().body(third) == body != b""


async def test_a_letter_that_dies_again_keeps_its_body_for_ever() -> None:
    """Dead again within the 14 days: nothing of it expires."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.queue.send(Order(id="1"))
        await t.drain()
        (letter,) = await shop.letters()
        await shop.operations().redrive(letter)
        await t.drain()
        t.clock.advance(100 * 24 * 3600)
        (letter,) = await shop.letters()
        assert await shop.operations().body(letter) == b'{"id":"1","drink":"tea"}'


@pytest.mark.usefixtures("failing_store")
async def test_bodies_larger_than_a_value_are_kept_in_parts() -> None:
    """A store of small values keeps a large body whole, also when a shorter one replaces it."""
    shop = Shop()
    async with shop.app.test() as t:
        store: Any = t.runtime.store
        type(store).max_value = property(lambda _self: 1000)
        try:
            await shop.queue.send(Order(id="1", drink="x" * 2500))
            await t.drain()
            (letter,) = await shop.letters()
            assert len(await shop.operations().body(letter)) == letter.size > 2500
            await shop.operations().redrive(letter, b'{"id":"1","drink":"y"}')
            await t.drain()
            (letter,) = await shop.letters()
            assert await shop.operations().body(letter) == b'{"id":"1","drink":"y"}'
        finally:
            type(store).max_value = property(lambda self: self._store.max_value)


async def test_failures_that_are_alike_have_one_fingerprint() -> None:
    """Numbers and ids make no difference; another place or type does."""
    shop = Shop()
    async with shop.app.test() as t:
        for number in range(3):
            shop.raises = [ValueError(f"order {number} of 0x{number:x}ff not found")]
            await shop.queue.send(Order(id=str(number)))
            await t.advance(10)
        shop.raises = [KeyError("order 1 not found")]
        await shop.queue.send(Order(id="x"))
        await t.advance(10)
        marks = [one.fingerprint for one in await shop.letters()]
        assert len(marks) == 4
        assert len(set(marks)) == 2


async def test_many_letters_cost_the_intake_little() -> None:
    """Looked through once, dead letters are not read again each time."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.queue.send_many([Order(id=str(number)) for number in range(300)])
        await t.drain()
        await t.advance(5)
        reads = 0
        find = Catalogue._find

        async def counting(self: Catalogue, queue: str, message_id: str) -> Any:
            nonlocal reads
            reads += 1
            return await find(self, queue, message_id)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Catalogue, "_find", counting)
            for _ in range(20):
                await t.advance(2)
                await asyncio.sleep(0)
        assert reads <= 300
