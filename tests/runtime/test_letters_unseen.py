"""Dead letters on a broker that shows none: found by receiving, the others handed back, the catalogue kept right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from redrive import App, Context, Queue, Reject
from redrive.broker import Depth, Forward, QueueSpec
from redrive.catalogue import DEAD, DISCARDED, GONE, REDRIVEN, Letter
from redrive.errors import BrokerUnavailable, OperationRefused
from redrive.harness import Harness
from redrive.intake import Intake
from redrive.operations import Operations
from redrive.store import CLAIMS
from redrive.testing import FaultyBroker, PlainBroker
from tests.runtime.fakes import Order

DAY = 24 * 3600.0


class Shop:
    """An application whose orders die, on a broker that can do less, which can be made to fail."""

    def __init__(self, *, fifo: bool = False) -> None:
        self.app: App[None] = App("test")
        self.queue: Queue[Order] = self.app.queue("orders", Order, fifo=fifo)
        self.works = False
        self.handled: list[str] = []
        self.contexts: list[Context[None]] = []
        self.faulty: FaultyBroker
        self.t: Harness[None]

        @self.queue.consumer(once_by=lambda order: order.id)
        async def handle(ctx: Context[None], order: Order) -> None:
            if not self.works:
                raise Reject("no")
            self.contexts.append(ctx)
            self.handled.append(order.id)

    @asynccontextmanager
    async def dead(self, *ids: str) -> AsyncIterator[Operations]:
        """With so many dead letters; their group is the first character of their order's id."""

        def less(real: Any) -> PlainBroker:
            self.faulty = FaultyBroker(real)
            return PlainBroker(self.faulty)

        async with self.app.test(broker=less) as self.t:
            for one in ids:
                await self.queue.send(Order(id=one), group=one[0])
                self.t.clock.advance(0.001)  # letters are listed by the time of sending
            await self.t.drain()
            assert len(await self.t.dead(self.queue)) == len(ids)
            yield Operations.of(self.app, who="me")

    async def depth(self) -> Depth:
        return await self.t.runtime.broker.depth("orders-dead")


async def letters(operations: Operations, state: str | None = DEAD) -> list[Letter]:
    return [one async for one in operations.letters(state=state)]


def numbered(count: int) -> list[str]:
    return [f"o{number:03d}" for number in range(count)]


async def test_one_letter_among_many_is_redriven_and_the_others_are_back_at_once() -> None:
    """The last of thirty-five, found in the fourth page: nothing else is in flight or missing afterwards."""
    shop = Shop()
    async with shop.dead(*numbered(35)) as operations:
        shop.works = True
        wanted = (await letters(operations))[-1]
        await operations.redrive(wanted)
        assert await shop.depth() == Depth(ready=34)
        await shop.t.drain()
        assert shop.handled == ["o034"]
        assert shop.contexts[0].message_id == wanted.id
        assert [one.id for one in await letters(operations, REDRIVEN)] == [wanted.id]


async def test_an_edited_letter_is_sent_with_its_new_body() -> None:
    """Checked, taken out and sent under its own id, as on any broker."""
    shop = Shop()
    async with shop.dead(*numbered(12)) as operations:
        shop.works = True
        await operations.redrive((await letters(operations))[7], b'{"id":"edited","drink":"mocha"}')
        await shop.t.drain()
        assert shop.handled == ["edited"]


async def test_many_letters_are_redriven_in_one_go_with_progress() -> None:
    """Each is told when it is done; every third stays where it was."""
    shop = Shop()
    async with shop.dead(*numbered(45)) as operations:
        shop.works = True
        wanted = [one for number, one in enumerate(await letters(operations)) if number % 3]
        done = [letter.id async for letter, error in operations.redrive_each(wanted) if error is None]
        assert sorted(done) == sorted(one.id for one in wanted)
        assert await shop.depth() == Depth(ready=15)
        await shop.t.drain()
        assert len(shop.handled) == 30


async def test_discarded_letters_are_gone_with_their_keys() -> None:
    """What is deleted is written down, and its idempotency key may be forgotten."""
    shop = Shop()
    async with shop.dead(*numbered(11)) as operations:
        assert [error async for _, error in operations.discard_each(await letters(operations))] == [None] * 11
        assert await shop.depth() == Depth()
        assert len(await letters(operations, DISCARDED)) == 11
        kept = "SELECT count(*) FROM entry WHERE namespace = ? AND expires_at_ms IS NULL"
        assert shop.t._database.tables.connection.execute(kept, (CLAIMS.name,)).get == 0


async def test_who_stops_in_the_middle_has_lost_nothing() -> None:
    """Cut off after five of thirty: five are sent, all others are ready at once, and the rest can be done later."""
    shop = Shop()
    async with shop.dead(*numbered(30)) as operations:
        shop.works = True
        wanted = await letters(operations)
        async with aclosing(operations.redrive_each(wanted[::2])) as each:
            for _ in range(5):
                await anext(each)
        assert await shop.depth() == Depth(ready=25)
        assert len(await letters(operations)) == 25
        rest = [error async for _, error in operations.redrive_each(await letters(operations))]
        assert rest == [None] * 25
        await shop.t.drain()
        assert sorted(shop.handled) == numbered(30)


async def test_a_crash_in_the_middle_hides_letters_for_a_lease_and_loses_none() -> None:
    """The broker is gone before anything is handed back: half a minute later all is as before."""
    shop = Shop()
    async with shop.dead(*numbered(20)) as operations:
        wanted = (await letters(operations))[-1]
        shop.faulty.refuse("settle")
        with pytest.raises(BrokerUnavailable):
            await operations.redrive(wanted)
        shop.faulty.recover()
        assert (await shop.depth()).in_flight == 20
        shop.t.clock.advance(31)
        assert await shop.depth() == Depth(ready=20)
        await operations.redrive(wanted)


async def test_a_letter_that_is_not_there_is_said_so_and_its_entry_put_right() -> None:
    """Purged with other tools: the one is done, the other is said to be gone, which its entry says from now on."""
    shop = Shop()
    async with shop.dead("o1", "o2") as operations:
        first, second = await letters(operations)
        (taken,) = [one for one in await take(shop, 10) if one.message.id == first.id]
        await shop.t.runtime.broker.settle([Forward(delivery=taken, queue="orders", message=taken.message)])
        shop.t.clock.advance(31)
        results = {letter.id: error async for letter, error in operations.redrive_each([first, second])}
        assert results[second.id] is None
        assert "is not dead any more" in str(results[first.id])
        assert [one.id for one in await letters(operations, GONE)] == [first.id]


async def test_what_somebody_holds_is_not_taken_for_gone() -> None:
    """It is looked for several times; then it is refused, and stays dead."""
    shop = Shop()
    async with shop.dead("o1") as operations:
        await take(shop, 1)
        with pytest.raises(OperationRefused, match="in somebody else's hands"):
            await operations.discard((await letters(operations))[0])
        assert len(await letters(operations)) == 1


async def test_two_operators_find_their_letters_although_each_hides_the_queue_from_the_other() -> None:
    """At the same moment in the same queue: both are done, each once."""
    shop = Shop()
    async with shop.dead(*numbered(25)) as operations:
        wanted = await letters(operations)
        await asyncio.gather(operations.redrive(wanted[3]), operations.discard(wanted[20]))
        assert await shop.depth() == Depth(ready=23)


async def test_letters_of_a_fifo_queue_keep_their_order_when_others_are_handed_back() -> None:
    """Looked through twice and one taken out of each group: the rest comes back in its order, group by group."""
    shop = Shop(fifo=True)
    ids = [f"{group}{number}" for number in range(4) for group in "ab"]
    async with shop.dead(*ids) as operations:
        before = await letters(operations)
        await operations.take_in("orders")
        await operations.discard(before[2])
        await operations.discard(before[3])
        shop.works = True
        assert [error async for _, error in operations.redrive_each(await letters(operations))] == [None] * 6
        await shop.t.drain()
        assert [one for one in shop.handled if one[0] == "a"] == ["a0", "a2", "a3"]
        assert [one for one in shop.handled if one[0] == "b"] == ["b0", "b2", "b3"]


async def test_a_letter_far_behind_in_its_group_is_refused_until_what_is_before_it_is_done() -> None:
    """A FIFO queue gives one page of a group while that is held; redriving all goes through it in order."""
    shop = Shop(fifo=True)
    async with shop.dead(*(f"a{number:02d}" for number in range(14))) as operations:
        shop.works = True
        everything = await letters(operations)
        with pytest.raises(OperationRefused, match="behind too many others"):
            await operations.redrive(everything[-1])
        assert [error async for _, error in operations.redrive_each(everything)] == [None] * 14
        await shop.t.drain()
        assert shop.handled == [f"a{number:02d}" for number in range(14)]


# The intake


async def take(shop: Shop, limit: int, queue: str = "orders-dead") -> Sequence[Any]:
    return await shop.t.runtime.broker.receive(queue, limit=limit, lease=30.0)


async def test_the_intake_hides_letters_for_no_longer_than_it_looks() -> None:
    """After each look everything is ready, and in an hour there are few looks."""
    shop = Shop()
    async with shop.dead(*numbered(25)) as operations:
        receives = 0
        receive = shop.faulty._broker.receive

        async def counting(queue: str, **settings: Any) -> Any:
            nonlocal receives
            receives += queue == "orders-dead"
            return await receive(queue, **settings)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shop.faulty._broker, "receive", counting)
            for _ in range(120):
                await shop.t.advance(30)
                assert await shop.depth() == Depth(ready=25)
        assert 4 * 5 <= receives <= 8 * 5
        assert len(await letters(operations)) == 25


async def test_an_operator_can_have_it_look_at_once() -> None:
    """A letter of the broker's own limit gets its entry when asked for, with what was noted of it before."""
    shop = Shop()
    async with shop.dead("o1") as operations:
        identity = await killed_by_the_broker(shop)
        found = await operations.take_in("orders")
        assert (found.letters, found.entered, found.gone, found.complete) == (2, 1, 0, True)
        (letter,) = [one for one in await letters(operations) if one.id == identity]
        assert "received too often" in letter.record.reason
        shop.works = True
        await operations.redrive(letter)
        await shop.t.drain()
        assert shop.handled == ["x"]


async def killed_by_the_broker(shop: Shop) -> str:
    await shop.t.runtime.broker.declare([QueueSpec(name="orders", dead_letter_queue="orders-dead", max_receives=1)])
    identity = await shop.queue.send(Order(id="x"))
    for _ in range(2):
        await take(shop, 1, "orders")
        shop.t.clock.advance(31)
    return identity


async def test_an_entry_whose_letter_is_gone_says_so_after_two_looks() -> None:
    """Purged with the broker's own tools: nothing is said at once, and within half an hour it is."""
    shop = Shop()
    async with shop.dead(*numbered(3)) as operations:
        await shop.t.advance(60)
        await shop.t.runtime.broker.purge("orders-dead")
        await shop.t.advance(30)
        assert len(await letters(operations)) == 3
        await shop.t.advance(1_800)
        assert await letters(operations) == []
        gone = await letters(operations, GONE)
        assert [one.audit[-1]["who"] for one in gone] == ["intake"] * 3
        await shop.t.advance(15 * DAY)
        assert await letters(operations, None) == []


async def test_a_letter_in_somebodys_hands_is_not_gone() -> None:
    """As long as not everything could be seen, no entry is doubted."""
    shop = Shop()
    async with shop.dead(*numbered(2)) as operations:
        shop.t.clock.advance(120)
        await take(shop, 1)
        found = await operations.take_in("orders")
        assert (found.gone, found.complete) == (0, False)
        assert len(await letters(operations)) == 2


async def test_a_letter_that_just_died_is_not_gone() -> None:
    """Its entry is written before it arrives."""
    shop = Shop()
    async with shop.dead("o1") as operations:
        await shop.t.runtime.broker.purge("orders-dead")
        assert (await operations.take_in("orders")).gone == 0
        shop.t.clock.advance(61)
        assert (await operations.take_in("orders")).gone == 1


async def test_letters_are_sent_again_before_the_broker_would_delete_them() -> None:
    """In a queue that keeps for 14 days they are there after fifty, under their ids, once each."""
    shop = Shop()
    async with shop.dead(*numbered(3)) as operations:
        await shop.t.runtime.broker.declare([QueueSpec(name="orders-dead", retention=14 * DAY)])
        before = await letters(operations)
        for _ in range(100):
            await shop.t.advance(DAY / 2)
        after = await letters(operations)
        assert [(one.id, one.record) for one in after] == [(one.id, one.record) for one in before]
        assert sorted(one.id for one in await shop.t.dead(shop.queue)) == sorted(one.id for one in before)
        assert [len(one.audit) for one in after] == [7] * 3


async def test_what_was_sent_again_still_knows_its_key() -> None:
    """Discarded with the whole queue after a week, its idempotency key may be forgotten."""
    shop = Shop()
    async with shop.dead("o1") as operations:
        for _ in range(16):
            await shop.t.advance(DAY / 2)
        assert [len(one.audit) for one in await letters(operations)] == [1]
        (again,) = await take(shop, 1)
        assert again.message.notes.key is not None


async def test_a_copy_that_is_left_in_the_queue_is_a_letter_again_with_its_own_record() -> None:
    """A redrive that was sent and not settled leaves two: the one that stays is found, and no reason is made up."""
    shop = Shop()
    async with shop.dead("o1") as operations:
        (letter,) = await letters(operations)
        copy = (await take(shop, 1))[0]
        shop.t.clock.advance(31)
        await operations.redrive(letter)
        await shop.t.runtime.broker.settle([Forward(delivery=copy, queue="orders-dead", message=copy.message)])
        assert (await Intake(shop.t.runtime.broker, shop.t.runtime.store, shop.t.clock).look_through("orders")).entered
        (again,) = await letters(operations)
        assert again.record == letter.record
        assert [one["what"] for one in again.audit] == ["redriven"]
