# ruff: noqa: S101 - tests: assert is how they speak
"""Durability: what was answered is so after a crash. Run where the suite is told how to open a broker anew."""

from __future__ import annotations

from redrive.broker import Acknowledge, Broker, Depth, Forward, QueueSpec, Return
from redrive.testing.behaviour.ground import NOTED, Ground, assert_stale, message, new_queue, send, settle


class Durable(Ground):
    """What stays."""

    async def test_what_was_sent_is_there_after_a_crash(self, broker: Broker) -> None:
        """All of it, as it was sent, ready or delayed."""
        queue = await new_queue(broker)
        sent = [message(b"%d" % number, attributes={"a": "b"}, group="g") for number in range(5)]
        await send(broker, queue, *sent[:3])
        await send(broker, queue, sent[3])
        await send(broker, queue, sent[4], delay=self.lease)
        again = await self.reopened(broker)
        assert await again.depth(queue) == Depth(ready=4, delayed=1)
        assert [one.message for one in await self._take_all(again, queue, 4)] == sent[:4]

    async def test_what_was_settled_is_settled_after_a_crash(self, broker: Broker) -> None:
        """Acknowledged messages are gone, returned ones back with their notes, forwarded ones where they went."""
        queue, other = await new_queue(broker), await new_queue(broker)
        await send(broker, queue, *(message(b"%d" % number) for number in range(3)))
        gone, back, moved = await self._take_all(broker, queue, 3)
        notes = NOTED if broker.capabilities.annotates_retry else None
        await settle(
            broker,
            Acknowledge(delivery=gone),
            Return(delivery=back, notes=notes),
            Forward(delivery=moved, queue=other, message=moved.message),
        )
        again = await self.reopened(broker)
        (taken,) = await self._take(again, queue)
        assert (taken.message.id, taken.receive_count) == (back.message.id, 2)
        assert taken.message.notes == (notes or back.message.notes)
        assert [one.message for one in await self._take(again, other)] == [moved.message]
        assert_stale(await again.settle([Acknowledge(delivery=gone)]))

    async def test_a_lease_holds_after_a_crash(self, broker: Broker) -> None:
        """Nobody else gets the message, its holder may settle it, and the count goes on after it."""
        queue = await new_queue(broker)
        await send(broker, queue, message(b"1"), message(b"2"))
        first, second = await self._take_all(broker, queue, 2)
        again = await self.reopened(broker)
        assert await self._take(again, queue) == []
        await settle(again, Acknowledge(delivery=first))
        await self.let_pass(self.lease * 1.1)
        (taken,) = await self._take(again, queue)
        assert (taken.message.id, taken.receive_count) == (second.message.id, 2)

    async def test_a_queue_is_what_it_was_after_a_crash(self, broker: Broker) -> None:
        """With its settings, and declaring it again changes nothing."""
        queue = await new_queue(broker, delay=self.lease)
        await send(broker, queue, message())
        again = await self.reopened(broker)
        assert queue in await again.queues()
        await again.declare([QueueSpec(name=queue, delay=self.lease)])
        await send(again, queue, message())
        assert await again.depth(queue) == Depth(delayed=2)
