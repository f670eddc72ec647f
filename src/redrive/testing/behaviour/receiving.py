# ruff: noqa: S101, PLR2004 - tests: assert is how they speak, and their numbers are the test
"""Receiving: under a lease, by one at a time."""

from __future__ import annotations

import asyncio

import pytest

from redrive.broker import LONGEST_LEASE, Acknowledge, Broker, Outgoing
from redrive.errors import LimitExceeded
from redrive.testing.behaviour.ground import (
    NOTED,
    Ground,
    message,
    new_queue,
    promises,
    receive,
    send,
    settle,
    settle_down,
)


class Receiving(Ground):
    """How messages come into somebody's hands."""

    async def test_an_empty_queue_answers_at_once(self, broker: Broker) -> None:
        """Without a wait there is none."""
        queue = await new_queue(broker)
        async with asyncio.timeout(self.deadline):
            assert await self._take(broker, queue) == []

    async def test_a_receive_takes_no_more_than_its_limit(self, broker: Broker) -> None:
        """What is over the limit stays ready."""
        queue = await new_queue(broker)
        await send(broker, queue, *(message() for _ in range(5)))
        assert 1 <= len(await self._take(broker, queue, limit=2)) <= 2
        assert (await broker.depth(queue)).ready >= 3

    async def test_a_lease_hides_a_message_until_it_ends(self, broker: Broker) -> None:
        """During the lease nobody receives it; after it somebody does, and the count has risen by one."""
        queue = await new_queue(broker)
        await send(broker, queue, message())
        for count in (1, 2, 3):
            (delivery,) = await self._take(broker, queue)
            assert delivery.receive_count == count
            assert await self._take(broker, queue) == []
            await self.let_pass(self.lease * 0.5)
            assert await self._take(broker, queue) == []
            await self.let_pass(self.lease * 0.6)

    async def test_two_receivers_never_hold_the_same_message(self, broker: Broker) -> None:
        """However many receive at the same time, each message is in one pair of hands, with a receipt of its own."""
        queue = await new_queue(broker)
        await send(broker, queue, *(message() for _ in range(min(40, broker.capabilities.max_batch))))
        rounds = await asyncio.gather(*(self._take(broker, queue, limit=5) for _ in range(16)))
        ids = [one.message.id for taken in rounds for one in taken]
        receipts = [one.receipt for taken in rounds for one in taken]
        assert len(ids) == len(set(ids))
        assert len(receipts) == len(set(receipts))

    async def test_an_impossible_lease_is_refused(self, broker: Broker) -> None:
        """No lease, or one over twelve hours: an error, and nothing is received."""
        queue = await new_queue(broker)
        await send(broker, queue, message())
        for lease in (0.0, -1.0, LONGEST_LEASE + 1):
            with pytest.raises(LimitExceeded):
                await receive(broker, queue, lease=lease)
        (delivery,) = await self._take(broker, queue)
        assert delivery.receive_count == 1

    async def test_a_waiting_receive_wakes_on_a_send(self, broker: Broker) -> None:
        """Who waits for the first message has it long before the wait is over."""
        queue = await new_queue(broker)
        waiting = asyncio.create_task(broker.receive(queue, limit=1, lease=self.lease, wait=self.deadline * 2))
        await settle_down(broker, queue)
        sent = message()
        await send(broker, queue, sent)
        async with asyncio.timeout(self.deadline / 2):
            (delivery,) = await waiting
        assert delivery.message.id == sent.id

    async def test_a_waiting_receive_ends_with_its_wait(self, broker: Broker) -> None:
        """Nothing came: it answers with nothing."""
        queue = await new_queue(broker)
        async with asyncio.timeout(self.deadline):
            assert await broker.receive(queue, limit=1, lease=self.lease, wait=0.05) == []

    async def test_a_cancelled_receive_loses_nothing(self, broker: Broker) -> None:
        """Cancelled while it waits, or just as its message comes: the message is received later, by somebody."""
        queue = await new_queue(broker)
        for yields in range(12):
            waiting = asyncio.create_task(broker.receive(queue, limit=1, lease=self.lease, wait=self.deadline))
            await settle_down(broker, queue)
            sent = message()
            sending = asyncio.create_task(broker.send(queue, [Outgoing(message=sent)]))
            for _ in range(yields):
                await asyncio.sleep(0)
            waiting.cancel()
            (taken,) = await asyncio.gather(waiting, return_exceptions=True)
            assert await sending == [None]
            if isinstance(taken, BaseException):
                assert isinstance(taken, asyncio.CancelledError)
                await settle_down(broker, queue)
                taken = await self._take(broker, queue)
                if not taken:  # it may be held until its lease ends, but no longer
                    await self.let_pass(self.lease * 1.1)
                    taken = await self._take(broker, queue)
            assert [one.message.id for one in taken] == [sent.id], f"cancelled after {yields} turns of the loop"
            await settle(broker, Acknowledge(delivery=taken[0]))

    async def test_messages_are_received_by_their_ids(self, broker: Broker) -> None:
        """What was asked for and nothing else, delayed too, but not what somebody holds; no more than the limit."""
        promises(broker, "selects")
        queue = await new_queue(broker)
        sent = [message(notes=NOTED) for _ in range(6)]
        await send(broker, queue, *sent[:4])
        await send(broker, queue, *sent[4:], delay=self.lease)
        held, wanted, late = sent[0].id, sent[2].id, sent[5].id
        assert len(await receive(broker, queue, lease=self.lease, ids=[held])) == 1
        asked = [late, held, "no such id", wanted]
        taken = await receive(broker, queue, lease=self.lease, ids=asked)
        assert {one.message.id for one in taken} == {wanted, late}
        assert await receive(broker, queue, lease=self.lease, ids=[]) == []
        both = [sent[1].id, sent[3].id]
        assert len(await broker.receive(queue, limit=1, lease=self.lease, ids=both)) == 1
