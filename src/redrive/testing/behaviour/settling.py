# ruff: noqa: S101, PLR2004 - tests: assert is how they speak, and their numbers are the test
"""Settling: acknowledge and return, by the holder alone."""

from __future__ import annotations

import secrets
from dataclasses import replace

from redrive.broker import Acknowledge, Broker, Forward, Return, Settlement
from redrive.errors import QueueNotFound, StaleReceipt
from redrive.message import NOTHING, Notes
from redrive.testing.behaviour.ground import NOTED, Ground, assert_stale, message, new_queue, promises, send, settle


class Settling(Ground):
    """How messages leave somebody's hands."""

    async def test_an_acknowledged_message_is_gone(self, broker: Broker) -> None:
        """It leaves at once and never comes back."""
        queue = await new_queue(broker)
        await send(broker, queue, message(), message())
        (first, second) = await self._take_all(broker, queue, 2)
        assert await broker.settle([Acknowledge(delivery=first)]) == [None]
        assert (await broker.depth(queue)).total == 1
        await self.let_pass(self.lease * 1.5)
        assert [one.message.id for one in await self._take(broker, queue)] == [second.message.id]

    async def test_acknowledging_twice_is_stale(self, broker: Broker) -> None:
        """The second one says so, in the same call too, and touches nothing else."""
        queue = await new_queue(broker)
        await send(broker, queue, message(), message())
        (first, second) = await self._take_all(broker, queue, 2)
        assert await broker.settle([Acknowledge(delivery=first)]) == [None]
        assert_stale(await broker.settle([Acknowledge(delivery=first)]), first)
        done, stale = await broker.settle([Acknowledge(delivery=second), Acknowledge(delivery=second)])
        assert done is None
        assert_stale([stale], second)

    async def test_a_receipt_is_stale_once_the_message_was_received_again(self, broker: Broker) -> None:
        """The former holder can settle nothing; the holder of today can."""
        queue, other = await new_queue(broker), await new_queue(broker)
        await send(broker, queue, message(b"kept"))
        (former,) = await self._take(broker, queue)
        await self.let_pass(self.lease * 1.1)
        (today,) = await self._take(broker, queue)
        assert today.receipt != former.receipt
        attempts: list[Settlement] = [
            Acknowledge(delivery=former),
            Return(delivery=former),
            Return(delivery=former, notes=NOTED),
            Forward(delivery=former, queue=other, message=former.message),
        ]
        for attempt in attempts:
            assert_stale(await broker.settle([attempt]), former)
        assert_stale(await broker.extend([former], lease=self.lease * 5), former)
        assert await self._take(broker, queue) == []
        if broker.capabilities.atomic_forward:
            assert (await broker.depth(other)).total == 0
        assert today.message.body == b"kept"
        assert today.message.notes == NOTHING
        assert await broker.settle([Acknowledge(delivery=today)]) == [None]

    async def test_a_receipt_that_nobody_gave_is_stale(self, broker: Broker) -> None:
        """Made-up receipts settle nothing, and say so."""
        queue = await new_queue(broker)
        await send(broker, queue, message())
        (delivery,) = await self._take(broker, queue)
        for receipt in ("", "nonsense", "1.", ".", "1.zz", f"{10**30}.00", "-1.00", "1.00", delivery.receipt + "00"):
            assert_stale(await broker.settle([Acknowledge(delivery=replace(delivery, receipt=receipt))]))
        assert await broker.settle([Acknowledge(delivery=delivery)]) == [None]

    async def test_a_returned_message_is_ready_at_once(self, broker: Broker) -> None:
        """Unchanged, and its count goes on; the receipt it was returned with is stale."""
        queue = await new_queue(broker)
        sent = message(b"body", attributes={"a": "b"}, group="g")
        await send(broker, queue, sent)
        (first,) = await self._take(broker, queue)
        assert await broker.settle([Return(delivery=first)]) == [None]
        assert_stale(await broker.settle([Return(delivery=first)]), first)
        assert (await broker.depth(queue)).ready == 1
        (second,) = await self._take(broker, queue)
        assert second.message == sent
        assert second.receive_count == 2

    async def test_an_uncounted_return_counts_no_more_than_once(self, broker: Broker) -> None:
        """It is ready at once; a broker that can take back the count does so, and no more than this one."""
        queue = await new_queue(broker)
        await send(broker, queue, message())
        (first,) = await self._take(broker, queue)
        await settle(broker, Return(delivery=first))
        (second,) = await self._take(broker, queue)
        await settle(broker, Return(delivery=second, uncounted=True))
        (third,) = await self._take(broker, queue)
        assert second.receive_count <= third.receive_count <= second.receive_count + 1

    async def test_a_message_returned_with_a_delay_waits(self, broker: Broker) -> None:
        """It is received when the delay is over, not when the lease would have been."""
        queue = await new_queue(broker)
        await send(broker, queue, message(), message())
        (longer, shorter) = await self._take_all(broker, queue, 2)
        await settle(
            broker,
            Return(delivery=longer, delay=self.lease * 2),
            Return(delivery=shorter, delay=self.lease * 0.5),
        )
        assert await self._take(broker, queue) == []
        await self.let_pass(self.lease * 0.7)
        assert [one.message.id for one in await self._take(broker, queue)] == [shorter.message.id]
        await self.let_pass(self.lease * 0.7)
        assert longer.message.id not in [one.message.id for one in await self._take(broker, queue)]
        await self.let_pass(self.lease * 0.8)
        assert longer.message.id in [one.message.id for one in await self._take(broker, queue)]

    async def test_notes_are_written_with_a_return(self, broker: Broker) -> None:
        """Counters and record travel in the message, whole, until others are written; None leaves them."""
        promises(broker, "annotates_retry")
        queue = await new_queue(broker)
        sent = message(b"body", attributes={"a": "b"})
        await send(broker, queue, sent)
        noted = replace(NOTED, forwards=sent.notes.forwards)
        for notes, expected in ((noted, noted), (None, noted), (Notes(attempts=3), Notes(attempts=3))):
            (delivery,) = await self._take(broker, queue)
            await settle(broker, Return(delivery=delivery, notes=notes))
            (delivery,) = await self._take(broker, queue)
            assert delivery.message == replace(sent, notes=expected)
            await settle(broker, Return(delivery=delivery))

    async def test_settlements_of_one_call_succeed_or_fail_one_by_one(self, broker: Broker) -> None:
        """Answers stand in the order asked, and what could be done was done."""
        queue, other = await new_queue(broker), await new_queue(broker)
        await send(broker, queue, *(message(b"%d" % number) for number in range(4)))
        one, two, three, four = await self._take_all(broker, queue, 4)
        results = await broker.settle(
            [
                Acknowledge(delivery=replace(one, receipt="nonsense")),
                Acknowledge(delivery=one),
                Forward(delivery=two, queue=f"suite-{secrets.token_hex(8)}", message=two.message),
                Return(delivery=three),
                Acknowledge(delivery=one),
                Forward(delivery=four, queue=other, message=four.message),
            ]
        )
        expected = [StaleReceipt, type(None), QueueNotFound, type(None), StaleReceipt, type(None)]
        assert [type(result) for result in results] == expected
        assert [found.message.id for found in await self._take(broker, queue)] == [three.message.id]
        assert [found.message.id for found in await self._take(broker, other)] == [four.message.id]

    async def test_settling_nothing_is_answered_with_nothing(self, broker: Broker) -> None:
        """Empty calls are fine."""
        queue = await new_queue(broker)
        assert await broker.settle([]) == []
        assert await broker.send(queue, []) == []
        assert await broker.extend([], lease=self.lease) == []
