# ruff: noqa: S101 - tests: assert is how they speak, and their numbers are the test
"""Giving up: what is received too often is moved to the dead-letter queue."""

from __future__ import annotations

from redrive.broker import Acknowledge, Broker, Return
from redrive.testing.behaviour.ground import Ground, message, new_queue, promises, receive, send, send_in_line, settle


class GivingUp(Ground):
    """When the broker itself moves a message."""

    async def test_what_is_received_too_often_is_moved(self, broker: Broker) -> None:
        """It is handed out exactly `max_receives` times; the next receive finds it in the dead-letter queue instead."""
        dead = await new_queue(broker)
        queue = await new_queue(broker, dead_letter_queue=dead, max_receives=3)
        sent, fresh = message(b"poison", attributes={"a": "b"}), message(b"fresh")
        await send(broker, queue, sent)
        for count in (1, 2, 3):
            (delivery,) = await self._take(broker, queue)
            assert delivery.receive_count == count
            assert (await broker.depth(dead)).total == 0
            await self.let_pass(self.lease * 1.1)
        await send(broker, queue, fresh)
        received = [one.message.id for one in await self._take_all(broker, queue, 1)]
        assert received == [fresh.id]
        assert await self._take(broker, queue) == []
        (letter,) = await self._take(broker, dead)
        assert (letter.message.id, letter.message.body) == (sent.id, sent.body)
        assert letter.message.attributes == sent.attributes
        assert letter.message.sent_at_ms == sent.sent_at_ms
        assert letter.receive_count == 1

    async def test_handing_back_counts_towards_giving_up(self, broker: Broker) -> None:
        """A receive is a receive, however it ended."""
        dead = await new_queue(broker)
        queue = await new_queue(broker, dead_letter_queue=dead, max_receives=2)
        await send(broker, queue, message())
        for _ in range(2):
            (taken,) = await self._take(broker, queue)
            await settle(broker, Return(delivery=taken))
        assert await self._take(broker, queue) == []
        assert (await broker.depth(dead)).total == 1

    async def test_a_line_gives_up_after_exactly_as_many_receives(self, broker: Broker) -> None:
        """What stands behind it is received with that very receive, and is not charged."""
        promises(broker, "ordered")
        dead = await new_queue(broker, fifo=True)
        queue = await new_queue(broker, fifo=True, dead_letter_queue=dead, max_receives=2)
        poison, behind = message(b"poison", group="a"), message(b"behind", group="a")
        await send_in_line(broker, queue, poison, behind)
        for count in (1, 2):
            (taken,) = await self._take(broker, queue, limit=1)
            assert (taken.message.id, taken.receive_count) == (poison.id, count)
            assert (await broker.depth(dead)).total == 0
            await self.let_pass(self.lease * 1.1)
        (taken,) = [one for one in await self._take_all(broker, queue, 1) if one.message.group == "a"]
        assert (taken.message.id, taken.receive_count) == (behind.id, 1)
        (letter,) = await self._take(broker, dead)
        assert (letter.message.id, letter.message.body, letter.message.group) == (poison.id, b"poison", "a")
        assert letter.receive_count == 1

    async def test_dead_letters_of_a_line_keep_order_and_lock(self, broker: Broker) -> None:
        """They stand in the FIFO dead-letter queue as they died, one in flight at a time."""
        promises(broker, "ordered")
        dead = await new_queue(broker, fifo=True)
        queue = await new_queue(broker, fifo=True, dead_letter_queue=dead, max_receives=1)
        sent = [message(b"%d" % number, group="a") for number in range(3)]
        await send_in_line(broker, queue, *sent)
        for _ in sent:
            assert len(await receive(broker, queue, limit=1, lease=self.lease)) == 1
            await self.let_pass(self.lease * 1.1)
        assert await self._take(broker, queue) == []
        assert (await broker.depth(queue)).total == 0
        for one in sent:
            (letter,) = await receive(broker, dead, limit=1, lease=self.lease)
            assert letter.message.id == one.id
            assert await self._take(broker, dead) == []
            await settle(broker, Acknowledge(delivery=letter))
