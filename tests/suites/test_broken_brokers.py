"""A suite is worth what it catches: brokers that are broken on purpose, and the test that has to notice each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from typing_extensions import override

from redrive.broker import Acknowledge, Capabilities, Depth, Forward, Outgoing, Page, QueueSpec, Results, Return, Sends
from redrive.broker import Settlement as Settlement_
from redrive.brokers.sqlite import SqliteBroker
from redrive.errors import QueueNotFound, StaleReceipt
from redrive.message import Delivery
from redrive.testing.broker_suite import BrokerSuite
from tests.suites.embedded import InMemory
from tests.suites.running import fails, names_of

Ids = Sequence[str] | None


class IgnoresTheLease(SqliteBroker):
    @override
    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Ids = None
    ) -> list[Delivery]:
        return await super().receive(queue, limit=limit, lease=min(lease, 0.0001), wait=wait, ids=ids)


class HoldsHalfTheLease(SqliteBroker):
    @override
    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Ids = None
    ) -> list[Delivery]:
        return await super().receive(queue, limit=limit, lease=lease / 2.5, wait=wait, ids=ids)


class DeletesOnReceive(SqliteBroker):
    @override
    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Ids = None
    ) -> list[Delivery]:
        taken = await super().receive(queue, limit=limit, lease=lease, wait=wait, ids=ids)
        await super().settle([Acknowledge(delivery=one) for one in taken])
        return taken


class DeliversTwice(SqliteBroker):
    @override
    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Ids = None
    ) -> list[Delivery]:
        taken = await super().receive(queue, limit=limit, lease=lease, wait=wait, ids=ids)
        return [*taken, *taken[:1]]


class MiscountsReceives(SqliteBroker):
    @override
    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Ids = None
    ) -> list[Delivery]:
        taken = await super().receive(queue, limit=limit, lease=lease, wait=wait, ids=ids)
        return [replace(one, receive_count=one.receive_count - 1) for one in taken]


class IgnoresTheLimit(SqliteBroker):
    @override
    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Ids = None
    ) -> list[Delivery]:
        return await super().receive(queue, limit=limit + 1, lease=lease, wait=wait, ids=ids)


class SleepsThroughSends(SqliteBroker):
    @override
    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Ids = None
    ) -> list[Delivery]:
        taken = await super().receive(queue, limit=limit, lease=lease, ids=ids)
        if not taken and wait:
            await asyncio.sleep(wait)
        return taken


class LosesWhenCancelled(SqliteBroker):
    @override
    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Ids = None
    ) -> list[Delivery]:
        taken = await super().receive(queue, limit=limit, lease=lease, wait=wait, ids=ids)
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await super().settle([Acknowledge(delivery=one) for one in taken])
            raise
        return taken


class ForgetsBeyondText(SqliteBroker):
    @override
    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Ids = None
    ) -> list[Delivery]:
        taken = await super().receive(queue, limit=limit, lease=lease, wait=wait, ids=ids)
        return [replace(one, message=replace(one.message, body=one.message.body.split(b"\0")[0])) for one in taken]


class LosesWhatIsReturned(SqliteBroker):
    @override
    async def settle(self, settlements: Sequence[Settlement_]) -> Results:
        return await super().settle(
            [Acknowledge(delivery=one.delivery) if isinstance(one, Return) else one for one in settlements]
        )


class ForgetsNotes(SqliteBroker):
    @override
    async def settle(self, settlements: Sequence[Settlement_]) -> Results:
        return await super().settle(
            [replace(one, notes=None) if isinstance(one, Return) else one for one in settlements]
        )


class ForgetsTheDelay(SqliteBroker):
    @override
    async def settle(self, settlements: Sequence[Settlement_]) -> Results:
        return await super().settle(
            [replace(one, delay=0.0) if isinstance(one, Return) else one for one in settlements]
        )


class AnswersStaleReceipts(SqliteBroker):
    @override
    async def settle(self, settlements: Sequence[Settlement_]) -> Results:
        return [None if isinstance(one, StaleReceipt) else one for one in await super().settle(settlements)]


class AcknowledgesWithAnyReceipt(SqliteBroker):
    @override
    async def settle(self, settlements: Sequence[Settlement_]) -> Results:
        results = await super().settle(settlements)
        for number, one in enumerate(settlements):
            if results[number] is not None and isinstance(one, Acknowledge):
                sequence = one.delivery.receipt.partition(".")[0]
                await self._database.run(
                    lambda tables, sequence=sequence: tables.connection.execute(  # type: ignore[misc]
                        "DELETE FROM message WHERE seq = ?", (sequence,)
                    )
                )
        return results


class CopiesInsteadOfMoving(SqliteBroker):
    @override
    async def settle(self, settlements: Sequence[Settlement_]) -> Results:
        results: Results = []
        for one in settlements:
            if isinstance(one, Forward):
                sent = Outgoing(message=one.message, delay=one.delay)
                try:
                    await self.send(one.queue, [sent])
                    results.append(None)
                except QueueNotFound as error:
                    results.append(error)
            else:
                results += await super().settle([one])
        return results


class DropsWhatCannotBeForwarded(SqliteBroker):
    @override
    async def settle(self, settlements: Sequence[Settlement_]) -> Results:
        results = await super().settle(settlements)
        failed = [one for one, error in zip(settlements, results, strict=True) if isinstance(error, QueueNotFound)]
        await super().settle([Acknowledge(delivery=one.delivery) for one in failed])
        return results


class FailsTheWholeBatch(SqliteBroker):
    @override
    async def settle(self, settlements: Sequence[Settlement_]) -> Results:
        results: Results = []
        for one in settlements:
            results += [results[-1]] if results and results[-1] is not None else await super().settle([one])
        return results


class AnswersInDisorder(SqliteBroker):
    @override
    async def settle(self, settlements: Sequence[Settlement_]) -> Results:
        return sorted(await super().settle(settlements), key=repr)


class SendsNothingBesideARefusal(SqliteBroker):
    @override
    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        results = await super().send(queue, messages)
        if any(results):
            await super().purge(queue)
        return results


class SendsWithoutDelay(SqliteBroker):
    @override
    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        most = self.capabilities.max_delay
        prompt = [replace(one, delay=0.0) if 0 < (one.delay or 0) <= most else one for one in messages]
        return await super().send(queue, prompt)


class StampsItsOwnTime(SqliteBroker):
    @override
    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        return await super().send(
            queue, [replace(one, message=replace(one.message, sent_at_ms=1_800_000_000_000)) for one in messages]
        )


class ExtendsNothing(SqliteBroker):
    @override
    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Results:
        return [None] * len(deliveries)


class CountsLooks(SqliteBroker):
    @override
    async def browse(self, queue: str, *, cursor: str | None = None, limit: int = 100) -> Page:
        page = await super().browse(queue, cursor=cursor, limit=limit)
        taken = await super().receive(queue, limit=limit, lease=1)
        await super().settle([Return(delivery=one) for one in taken])
        return page


class ShowsOnePage(SqliteBroker):
    @override
    async def browse(self, queue: str, *, cursor: str | None = None, limit: int = 100) -> Page:
        return replace(await super().browse(queue, cursor=cursor, limit=limit), cursor=None)


class CountsLeasesAsReady(SqliteBroker):
    @override
    async def depth(self, queue: str) -> Depth:
        depth = await super().depth(queue)
        return Depth(ready=depth.ready + depth.in_flight, delayed=depth.delayed)


class PurgesOnlyTheReady(SqliteBroker):
    @override
    async def purge(self, queue: str) -> int:
        taken = await super().receive(queue, limit=1_000, lease=30)
        await super().settle([Acknowledge(delivery=one) for one in taken])
        return len(taken)


class GivesUpLate(SqliteBroker):
    @override
    async def declare(self, queues: Sequence[QueueSpec]) -> None:
        await super().declare(
            [one if one.max_receives is None else replace(one, max_receives=one.max_receives + 1) for one in queues]
        )


class PurgesWhenDeclared(SqliteBroker):
    @override
    async def declare(self, queues: Sequence[QueueSpec]) -> None:
        await super().declare(queues)
        for one in queues:
            await super().purge(one.name)


class PromisesTooMuch(ForgetsNotes):
    """What it promises is not skipped."""

    @property
    @override
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, annotates_retry=True)


CAUGHT_BY: dict[type[SqliteBroker], str] = {
    IgnoresTheLease: "test_a_lease_hides_a_message_until_it_ends",
    HoldsHalfTheLease: "test_a_lease_hides_a_message_until_it_ends",
    DeletesOnReceive: "test_a_lease_hides_a_message_until_it_ends",
    DeliversTwice: "test_two_receivers_never_hold_the_same_message",
    MiscountsReceives: "test_a_message_arrives_as_it_was_sent",
    IgnoresTheLimit: "test_a_receive_takes_no_more_than_its_limit",
    SleepsThroughSends: "test_a_waiting_receive_wakes_on_a_send",
    LosesWhenCancelled: "test_a_cancelled_receive_loses_nothing",
    ForgetsBeyondText: "test_bodies_of_every_kind_arrive_unchanged",
    LosesWhatIsReturned: "test_a_returned_message_is_ready_at_once",
    ForgetsNotes: "test_notes_are_written_with_a_return",
    ForgetsTheDelay: "test_a_message_returned_with_a_delay_waits",
    AnswersStaleReceipts: "test_acknowledging_twice_is_stale",
    AcknowledgesWithAnyReceipt: "test_a_receipt_is_stale_once_the_message_was_received_again",
    CopiesInsteadOfMoving: "test_a_forward_moves_the_message",
    DropsWhatCannotBeForwarded: "test_a_forward_that_cannot_be_done_loses_nothing",
    FailsTheWholeBatch: "test_settlements_of_one_call_succeed_or_fail_one_by_one",
    AnswersInDisorder: "test_settlements_of_one_call_succeed_or_fail_one_by_one",
    SendsNothingBesideARefusal: "test_what_is_out_of_limits_is_refused_singly",
    SendsWithoutDelay: "test_a_delayed_message_waits",
    StampsItsOwnTime: "test_a_message_arrives_as_it_was_sent",
    ExtendsNothing: "test_an_extended_lease_holds_longer",
    CountsLooks: "test_browsing_counts_no_receive",
    ShowsOnePage: "test_browsing_turns_pages",
    CountsLeasesAsReady: "test_depth_tells_ready_from_in_flight_from_delayed",
    PurgesOnlyTheReady: "test_purge_leaves_nothing",
    GivesUpLate: "test_what_is_received_too_often_is_moved",
    PurgesWhenDeclared: "test_declaring_twice_changes_nothing",
    PromisesTooMuch: "test_notes_are_written_with_a_return",
}


class Impatient(InMemory):
    """Nobody here is slow, so nobody has to be waited for."""

    deadline = 0.5


async def _fails(kind: type[SqliteBroker], name: str) -> bool:
    suite = Impatient()
    broker = suite.open(kind)
    failed = await fails(lambda: getattr(suite, name)(broker))
    await broker.close()
    return failed


@pytest.mark.parametrize("kind", CAUGHT_BY, ids=lambda kind: kind.__name__)
async def test_the_suite_catches(kind: type[SqliteBroker]) -> None:
    """Each broken broker fails the test of the promise that it breaks."""
    assert await _fails(kind, CAUGHT_BY[kind])


async def test_the_suite_catches_nothing_else() -> None:
    """The broker that they are made from passes: what is caught is the fault."""
    assert [name for name in names_of(BrokerSuite) if await _fails(SqliteBroker, name)] == []


async def test_what_is_not_promised_is_skipped() -> None:
    """A broker that promises less is not asked for more: what it cannot do is skipped, not failed."""

    class PromisesLess(ForgetsNotes):
        @property
        @override
        def capabilities(self) -> Capabilities:
            return replace(super().capabilities, annotates_retry=False)

    assert not await _fails(PromisesLess, "test_notes_are_written_with_a_return")
