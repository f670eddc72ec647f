"""Notes of messages that their broker cannot rewrite: in the store, for as long as the message is in its queue."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from redrive.annotations import KEPT_MS, NOTES, AnnotatingBroker, Annotations, annotated
from redrive.broker import Acknowledge, Forward, Outgoing, QueueSpec, Return
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import ManualClock
from redrive.errors import BrokerError, BrokerUnavailable, StaleReceipt
from redrive.message import NOTHING, Delivery, Message, Notes
from redrive.sqlite.writer import InlineDatabase
from redrive.stores.sqlite import SqliteStore
from redrive.testing import FaultyBroker, FaultyStore, PlainBroker
from tests.runtime.fakes import until

LEASE = 30.0


@dataclass(kw_only=True)
class Ground:
    """A broker without notes, a store, and the one in front of both."""

    clock: ManualClock
    faulty: FaultyBroker
    store: FaultyStore
    broker: AnnotatingBroker
    calls: Counter[str]

    async def send(self, *bodies: bytes, queue: str = "q") -> None:
        messages = [Message(id=one.decode(), body=one, sent_at_ms=1, group="g") for one in bodies]
        await self.broker.send(queue, [Outgoing(message=one, deduplication_id=one.id) for one in messages])

    async def take(self, queue: str = "q", limit: int = 10) -> list[Delivery]:
        return await self.broker.receive(queue, limit=limit, lease=LEASE)

    async def take_one(self, queue: str = "q") -> Delivery:
        (delivery,) = await self.take(queue)
        return delivery

    async def noted(self, message: Message, queue: str = "q") -> Notes | None:
        return await Annotations(self.store, self.clock).read(queue, message)


class Counting(SqliteStore):
    """Counts the calls that reach the notes."""

    calls: Counter[str]

    async def get(self, namespace: Any, key: str) -> Any:
        self.calls["get"] += namespace == NOTES
        return await super().get(namespace, key)

    async def put(self, namespace: Any, key: str, value: bytes, **conditions: Any) -> int:
        self.calls["put"] += namespace == NOTES
        return await super().put(namespace, key, value, **conditions)


async def refused(broker: AnnotatingBroker, settlement: Return) -> bool:
    """Whether a settlement fails, by its answer or by an error of the whole call."""
    try:
        (error,) = await broker.settle([settlement])
    except BrokerError:
        return True
    return error is not None


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    clock = ManualClock()
    database = InlineDatabase(clock)
    real = Counting(database)
    real.calls = Counter()
    faulty, store = FaultyBroker(SqliteBroker(database)), FaultyStore(real)
    broker = annotated(PlainBroker(faulty), store, clock)
    assert isinstance(broker, AnnotatingBroker)
    await broker.declare([QueueSpec(name="q"), QueueSpec(name="other"), QueueSpec(name="line", fifo=True)])
    yield Ground(clock=clock, faulty=faulty, store=store, broker=broker, calls=real.calls)
    await broker.close()


def test_a_broker_that_rewrites_messages_needs_no_other_in_front() -> None:
    """It is used as it is."""
    clock = ManualClock()
    database = InlineDatabase(clock)
    broker = SqliteBroker(database)
    assert annotated(broker, SqliteStore(database), clock) is broker


async def test_what_goes_through_at_once_costs_the_store_nothing(ground: Ground) -> None:
    """Ten messages, received once and acknowledged: the notes are neither read nor written."""
    await ground.send(*(b"%d" % number for number in range(10)))
    await ground.broker.settle([Acknowledge(delivery=one) for one in await ground.take()])
    assert not ground.calls.total()


async def test_notes_last_from_return_to_return_and_are_forgotten_with_the_message(ground: Ground) -> None:
    """Each receive brings those of the last return; None leaves them; afterwards nothing is left in the store."""
    await ground.send(b"1")
    for notes, expected in ((Notes(attempts=1), 1), (None, 1), (Notes(attempts=2), 2)):
        await ground.broker.settle([Return(delivery=await ground.take_one(), notes=notes)])
        assert (await ground.take_one()).message.notes.attempts == expected
        ground.clock.advance(LEASE + 1)
    delivery = await ground.take_one()
    assert await ground.broker.settle([Acknowledge(delivery=delivery)]) == [None]
    assert await ground.noted(delivery.message) is None


async def test_a_forward_carries_the_notes_and_leaves_none(ground: Ground) -> None:
    """In the other queue they travel in the message, received once or again; the store has none."""
    await ground.send(b"1")
    await ground.broker.settle([Return(delivery=await ground.take_one(), notes=Notes(bounces=1))])
    delivery = await ground.take_one()
    message = replace(delivery.message, notes=replace(delivery.message.notes, bounces=2).forwarded())
    assert await ground.broker.settle([Forward(delivery=delivery, queue="other", message=message)]) == [None]
    for _ in range(2):
        assert (await ground.take_one("other")).message.notes == Notes(bounces=2, forwards=1)
        ground.clock.advance(LEASE + 1)
    assert await ground.noted(delivery.message) is None


async def test_notes_that_an_earlier_stay_left_behind_are_not_todays(ground: Ground) -> None:
    """The store is away when they should be forgotten: a message that comes back to the queue has those it carries."""
    await ground.send(b"1")
    await ground.broker.settle([Return(delivery=await ground.take_one(), notes=Notes(attempts=2))])
    delivery = await ground.take_one()
    ground.store.refuse("delete")
    fresh = replace(delivery.message, notes=Notes(forwards=1))
    assert await ground.broker.settle([Forward(delivery=delivery, queue="q", message=fresh)]) == [None]
    ground.store.recover()
    assert await ground.noted(delivery.message) == Notes(attempts=2)
    await ground.broker.settle([Return(delivery=await ground.take_one())])
    assert (await ground.take_one()).message.notes == Notes(forwards=1)


async def test_what_was_left_behind_expires_when_the_message_cannot_be_there_any_more(ground: Ground) -> None:
    """Not within 14 days, the longest that a broker keeps a message, and soon after."""
    await ground.send(b"1")
    delivery = await ground.take_one()
    await ground.broker.settle([Return(delivery=delivery, notes=Notes(attempts=1))])
    ground.clock.advance(14 * 24 * 3600)
    assert await ground.noted(delivery.message) == Notes(attempts=1)
    ground.clock.advance(KEPT_MS / 1000 - 14 * 24 * 3600 + 1)
    assert await ground.noted(delivery.message) is None


@pytest.mark.parametrize("queue", ["q", "line"])
async def test_without_the_store_nothing_is_run_with_wrong_counters(ground: Ground, queue: str) -> None:
    """All that was received goes back, what needs no notes too: on a FIFO queue it must not overtake."""
    await ground.send(b"1", b"2", queue=queue)
    first = (await ground.take(queue, limit=1))[0]
    await ground.broker.settle([Return(delivery=first, notes=Notes(attempts=1))])
    ground.store.refuse("get")
    with pytest.raises(BrokerUnavailable, match="notes cannot be read"):
        await ground.take(queue)
    ground.store.recover()
    ground.clock.advance(2)
    again = sorted(await ground.take(queue), key=lambda one: one.message.id)
    assert [(one.message.id, one.message.notes.attempts) for one in again] == [("1", 1), ("2", 0)]


async def test_a_receive_that_is_cut_off_while_it_reads_holds_nothing(ground: Ground) -> None:
    """Cancelled with messages in nobody's hands yet: they are handed back, not left to their leases."""
    await ground.send(b"1")
    await ground.broker.settle([Return(delivery=await ground.take_one(), notes=Notes(attempts=1))])
    ground.store.delay(60.0, "get")
    receiving = asyncio.create_task(ground.take())
    await until(lambda: ground.store.injected)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    ground.store.recover()
    ground.clock.advance(2)
    assert (await ground.take_one()).message.notes.attempts == 1


async def test_notes_that_cannot_be_written_hold_the_message_and_no_other(ground: Ground) -> None:
    """Its settlement fails, and may be made again; what needs no notes is settled."""
    await ground.send(b"1", b"2")
    one, two = sorted(await ground.take(), key=lambda one: one.message.id)
    returned = Return(delivery=one, notes=Notes(attempts=1))
    ground.store.refuse("put")
    results = await ground.broker.settle([returned, Acknowledge(delivery=two)])
    assert [type(error) for error in results] == [BrokerUnavailable, type(None)]
    assert (await ground.broker.depth("q")).in_flight == 1
    ground.store.recover()
    assert await ground.broker.settle([returned]) == [None]
    assert (await ground.take_one()).message.notes.attempts == 1


@pytest.mark.parametrize("lost", ["lose_requests", "lose_answers"])
@pytest.mark.parametrize("side", ["store", "faulty"])
async def test_a_return_that_is_cut_off_and_made_again_counts_once(ground: Ground, side: str, lost: str) -> None:
    """Between notes and return, before or after either: the notes are written as a whole, not added to."""
    await ground.send(b"1")
    returned = Return(delivery=await ground.take_one(), notes=Notes(attempts=1))
    getattr(getattr(ground, side), lost)("put" if side == "store" else "settle", nth=1)
    assert await refused(ground.broker, returned)
    ground.store.recover()
    ground.faulty.recover()
    await ground.broker.settle([returned])
    assert (await ground.take_one()).message.notes == Notes(attempts=1)


async def test_who_lost_the_lease_writes_nothing_over_later_notes(ground: Ground) -> None:
    """Two receives later the first holder says what it thinks: the counters stay those of today."""
    await ground.send(b"1")
    late = await ground.take_one()
    ground.clock.advance(LEASE + 1)
    await ground.broker.settle([Return(delivery=await ground.take_one(), notes=Notes(attempts=1))])
    await ground.broker.settle([Return(delivery=await ground.take_one(), notes=Notes(attempts=2))])
    (error,) = await ground.broker.settle([Return(delivery=late, notes=Notes(attempts=1))])
    assert isinstance(error, StaleReceipt)
    assert (await ground.take_one()).message.notes.attempts == 2


async def test_notes_of_a_later_version_are_kept_as_they_are(ground: Ground) -> None:
    """Whoever reads them is told so, and hands the message back."""
    await ground.send(b"1")
    delivery = await ground.take_one()
    await ground.broker.settle([Return(delivery=delivery, notes=Notes(attempts=1))])
    entry = await ground.store.get(NOTES, f"q/0/{delivery.message.id}")
    assert entry is not None
    await ground.store.put(NOTES, entry.key, b'{"v":99,"receive_count":1}', if_version=entry.version)
    again = await ground.take_one()
    assert again.message.notes.newer is not None
    assert again.message.notes != NOTHING


async def test_many_notes_are_read_at_once(ground: Ground) -> None:
    """Ten messages received again wait for the store once, not ten times."""
    await ground.send(*(b"%d" % number for number in range(10)))
    returns: Sequence[Return] = [Return(delivery=one, notes=Notes(attempts=1)) for one in await ground.take()]
    await ground.broker.settle(returns)
    ground.store.delay(0.2, "get")
    began = asyncio.get_running_loop().time()
    assert [one.message.notes.attempts for one in await ground.take()] == [1] * 10
    assert asyncio.get_running_loop().time() - began < 1.0
