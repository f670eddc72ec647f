"""What an operator can do, and what is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from redrive import App, Context, PayloadError, Queue, Reject
from redrive.broker import Depth
from redrive.errors import OperationRefused
from redrive.manifest import leave_manifest, manifest
from redrive.operations import Operations
from tests.runtime.fakes import Down, Order, opened, put, until, working

pytestmark = pytest.mark.usefixtures("any_broker")


class Shop:
    """An application with a bug that can be fixed."""

    def __init__(self) -> None:
        self.app: App[None] = App("test")
        self.payments = self.app.dependency("payments", trip_after=1)
        self.queue: Queue[Order] = self.app.queue("orders", Order)
        self.raises: list[Exception] = []
        self.contexts: list[Context[None]] = []
        self.drinks: list[str] = []

        @self.queue.consumer(needs=[self.payments], max_attempts=3)
        async def handle(ctx: Context[None], order: Order) -> None:
            self.contexts.append(ctx)
            if self.raises:
                raise self.raises[0]
            async with self.payments:
                if order.drink == "down":
                    raise Down
            self.drinks.append(order.drink)

    def operations(self, who: str = "me") -> Operations:
        return Operations.of(self.app, who=who)

    async def letter(self) -> Any:
        (letter,) = [one async for one in self.operations().letters()]
        return letter


async def test_the_overview_counts_what_there_is() -> None:
    """Ready, in flight, delayed, parked and dead, each where it belongs."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.raises = [Reject("no")]
        await shop.queue.send(Order(id="dead"))
        await t.drain()
        shop.raises = []
        await shop.queue.send(Order(id="parked", drink="down"))
        await t.drain()
        await shop.queue.send_many([Order(id="1"), Order(id="2"), Order(id="3")])
        await shop.queue.send(Order(id="later"), delay=100.0)
        await t.runtime.broker.receive("orders", limit=1, lease=30.0)
        overview = await shop.operations().overview()
        view = overview.queues["orders"]
        assert (view.ready, view.in_flight, view.delayed, view.parked, view.dead) == (2, 1, 1, 1, 1)
        assert set(overview.queues) == {"orders"}
        payments = overview.dependencies["payments"]
        assert payments.state == "open"
        assert payments.next_canary_in is not None
        assert not view.paused
        (parked,) = await shop.operations().parked()
        assert (parked.queue, parked.dependency, parked.count) == ("orders", "payments", 1)


async def test_the_overview_shows_what_workers_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handler runs and calls of each dependency, as the workers last said."""
    shop = Shop()
    async with opened(shop.app, tmp_path, monkeypatch), working(shop.app):
        await shop.queue.send_many([Order(id=str(number)) for number in range(3)])

        async def said() -> bool:
            overview = await shop.operations().overview()
            return overview.handler_runs == 3 and overview.dependencies["payments"].calls == 3

        await until(said)
        (worker,) = (await shop.operations().overview()).workers
        assert worker.alive
        assert worker.queues == ["orders"]


async def test_a_redrive_keeps_id_and_time_and_zeroes_the_counters() -> None:
    """A new start: attempts from one, the same id, send time and body; its history stays in its record."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.raises = [ValueError("bug")]
        identity = await shop.queue.send(Order(id="1"))
        sent_at = t.clock.now_ms()
        await t.advance(600)
        letter = await shop.letter()
        assert letter.record.total == 3
        shop.contexts.clear()
        await shop.operations().redrive(letter)
        await t.advance(600)
        assert [one.attempt for one in shop.contexts] == [1, 2, 3]
        assert {(one.message_id, one.sent_at_ms) for one in shop.contexts} == {(identity, sent_at)}
        letter = await shop.letter()
        assert letter.record.total == 6
        assert [(one["who"], one["what"]) for one in letter.audit] == [("me", "redriven")]
        shop.raises = []
        await shop.operations().redrive(letter)
        await t.drain()
        assert shop.drinks == ["tea"]
        with pytest.raises(OperationRefused, match="redriven"):
            await shop.operations().redrive(await shop.operations().letter(identity, "orders"))


async def test_an_edit_that_would_not_fit_is_refused_before_it_is_sent() -> None:
    """Checked by the queue's own type where the code is at hand; the letter stays as it was."""
    shop = Shop()
    async with shop.app.test() as t:
        identity = await put(t, shop.queue, b'{"drink":"tea"}')
        await t.drain()
        letter = await shop.letter()
        for body in (b"{", b'{"id":7}', b'{"drink":"tea"}', b'{"id":"1","id":"2"}', b'{"id":NaN}'):
            with pytest.raises(PayloadError):
                await shop.operations().edit(letter, body)
            with pytest.raises(PayloadError):
                await shop.operations().redrive(letter, body)
        assert len(await t.dead(shop.queue)) == 1
        good = b'{"id":"1","drink":"mocha"}'
        assert await shop.operations().edit(letter, good) == "type"
        await shop.operations().redrive(letter, good)
        await t.drain()
        assert shop.drinks == ["mocha"]
        assert shop.contexts[-1].message_id == identity


async def test_without_the_code_an_edit_is_checked_against_the_schema() -> None:
    """A worker's manifest is enough to refuse what would not fit."""
    pytest.importorskip("jsonschema_rs")
    shop = Shop()
    async with shop.app.test() as t:
        runtime = t.runtime
        await leave_manifest(runtime.store, manifest("test", shop.app.consumers, [shop.payments]))
        await put(t, shop.queue, b'{"drink":"tea"}')
        await t.drain()
        operations = Operations(runtime.broker, runtime.store, clock=t.clock, who="me")
        letter = await shop.letter()
        with pytest.raises(PayloadError):
            await operations.redrive(letter, b'{"id":7}')
        assert await operations.edit(letter, b'{"id":"1"}') == "schema"
        await operations.redrive(letter, b'{"id":"1"}')
        await t.drain()
        assert shop.drinks == ["tea"]


async def test_two_operators_on_one_letter_do_it_once() -> None:
    """Both press at the same moment: one sends it, the other is told; the message is there once."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.raises = [Reject("no")]
        await shop.queue.send(Order(id="1"))
        await t.drain()
        letter = await shop.letter()
        results = await asyncio.gather(
            shop.operations("ann").redrive(letter), shop.operations("bob").discard(letter), return_exceptions=True
        )
        assert [type(one) for one in results if one is not None] == [OperationRefused]
        total = (await t.runtime.broker.depth("orders")).total + (await t.runtime.broker.depth("orders-dead")).total
        assert total == (1 if results[0] is None else 0)
        with pytest.raises(OperationRefused):
            await shop.operations("cy").discard(letter)


async def test_a_letter_in_somebodys_hands_is_refused_and_stays() -> None:
    """While another one holds it nothing is done to it."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.raises = [Reject("no")]
        await shop.queue.send(Order(id="1"))
        await t.drain()
        letter = await shop.letter()
        await t.runtime.broker.receive("orders-dead", limit=1, lease=30.0)
        with pytest.raises(OperationRefused, match="somebody else's hands"):
            await shop.operations().discard(letter)
        t.clock.advance(31)
        await shop.operations().discard(letter)
        assert await t.dead(shop.queue) == []


async def test_a_crash_between_move_and_entry_is_put_right_by_asking_again(any_broker: str) -> None:
    """The message was moved and the catalogue not told: the next one who asks is told, and the entry is right.

    Where letters also expire, or are purged by others, nobody can say that it was redriven.
    """
    shop = Shop()
    async with shop.app.test() as t:
        shop.raises = [Reject("no")]
        identity = await shop.queue.send(Order(id="1"))
        await t.drain()
        letter = await shop.letter()
        with pytest.MonkeyPatch.context() as patch:

            async def killed(*_: Any, **__: Any) -> None: ...

            patch.setattr(Operations, "_settle", killed)
            await shop.operations().redrive(letter)
        shop.raises = []
        await t.drain()
        assert shop.drinks == ["tea"]
        with pytest.raises(OperationRefused, match="not dead any more"):
            await shop.operations().redrive(await shop.letter())
        state = (await shop.operations().letter(identity, "orders")).state
        assert state == ("redriven" if any_broker == "embedded" else "gone")


async def test_discard_deletes_for_good_and_is_written_down() -> None:
    """The letter is gone, its entry says who did it."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.raises = [Reject("no")]
        identity = await shop.queue.send(Order(id="1"))
        await t.drain()
        await shop.operations("ann").discard(await shop.letter())
        assert await t.dead(shop.queue) == []
        letter = await shop.operations().letter(identity, "orders")
        assert (letter.state, letter.audit[-1]["who"]) == ("discarded", "ann")


async def test_purge_empties_a_queue_and_refuses_dead_letters() -> None:
    """Dead letters are discarded one by one, which is written down."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.queue.send_many([Order(id="1"), Order(id="2")])
        assert await shop.operations().purge("orders") == 2
        assert await t.runtime.broker.depth("orders") == Depth()
        with pytest.raises(OperationRefused, match="dead letters"):
            await shop.operations().purge("orders-dead")


async def test_parked_messages_can_be_brought_back_by_hand() -> None:
    """At most what is there, at most the limit, and with a rate not faster than that."""
    shop = Shop()
    async with shop.app.test() as t:
        await shop.queue.send_many([Order(id=str(number), drink="down") for number in range(5)])
        await t.drain()
        assert len(await t.parked(shop.queue)) == 5
        assert await shop.operations().redrive_parked("payments", limit=2) == 2
        assert len(await t.parked(shop.queue)) == 3
        began = asyncio.get_running_loop().time()
        assert await shop.operations().redrive_parked("payments", "orders", rate=20.0) == 3
        assert asyncio.get_running_loop().time() - began < 2
        assert await shop.operations().redrive_parked("nothing") == 0
