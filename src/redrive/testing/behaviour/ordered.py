# ruff: noqa: S101, PLR2004 - tests: assert is how they speak, and their numbers are the test
"""FIFO queues: the messages of one group are received in the order in which they were sent."""

from __future__ import annotations

from dataclasses import replace

from redrive.broker import Acknowledge, Broker, Forward, Outgoing, Return
from redrive.errors import LimitExceeded
from redrive.message import Delivery
from redrive.testing.behaviour.ground import (
    NOTED,
    Ground,
    message,
    new_queue,
    promises,
    receive,
    send,
    send_in_line,
    settle,
)


class Ordered(Ground):
    """What comes first, and what behind it."""

    async def test_a_group_is_received_in_order(self, broker: Broker) -> None:
        """One by one, however it was sent: in one call or in several."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        sent = [message(b"%d" % number, group="a") for number in (3, 1, 2, 5, 4, 0)]
        await send_in_line(broker, queue, *sent[:4])
        for one in sent[4:]:
            await send_in_line(broker, queue, one)
        received = []
        for _ in sent:
            (delivery,) = await self._take(broker, queue, limit=1)
            received.append(delivery.message)
            await settle(broker, Acknowledge(delivery=delivery))
        assert received == sent
        assert await self._take(broker, queue) == []

    async def test_several_of_a_group_come_in_order(self, broker: Broker) -> None:
        """One receive may give several of a group: from its front, in order; the others stay behind them."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        sent = [message(b"%d" % number, group=group) for number in range(6) for group in "abc"]
        await send_in_line(broker, queue, *sent)
        received: dict[str | None, list[str]] = {group: [] for group in "abc"}
        for _ in range(len(sent) * 2):
            taken = await self._take(broker, queue, limit=7)
            for one in taken:
                received[one.message.group].append(one.message.id)
            await settle(broker, *(Acknowledge(delivery=one) for one in reversed(taken)))
        assert received == {group: [one.id for one in sent if one.group == group] for group in "abc"}

    async def test_sequences_rise(self, broker: Broker) -> None:
        """Each message stands behind all that was sent before, and arrives with the number that its sender was told."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        messages = [message(group=group) for group in ("a", "b", "a", "c")]
        first = await send_in_line(broker, queue, *messages[:2])
        assert await broker.purge(queue) == 2
        later = await send_in_line(broker, queue, *messages[2:])
        assert [one.id for one in later] == [one.id for one in messages[2:]]
        assert not any(one.duplicate for one in later)
        numbers = [one.sequence for one in [*first, *later]]
        assert numbers == sorted(set(numbers))
        taken = await self._take(broker, queue)
        assert {one.message.id: one.sequence for one in taken} == {one.id: one.sequence for one in later}

    async def test_a_fifo_queue_wants_a_group(self, broker: Broker) -> None:
        """A message without one is refused singly, sent or forwarded; nothing is lost."""
        promises(broker, "ordered")
        queue, plain = await new_queue(broker, fifo=True), await new_queue(broker)
        good = message(group="a")
        results = await broker.send(
            queue,
            [Outgoing(message=one, deduplication_id=one.id) for one in (message(), good, message(group=""))],
        )
        assert [isinstance(one, LimitExceeded) for one in results] == [True, False, True]
        assert [one.message.id for one in await self._take(broker, queue)] == [good.id]
        await send(broker, plain, message())
        (taken,) = await self._take(broker, plain)
        forward = Forward(delivery=taken, queue=queue, message=taken.message, deduplication_id=taken.message.id)
        assert [type(one) for one in await broker.settle([forward])] == [LimitExceeded]
        assert await broker.settle([Acknowledge(delivery=taken)]) == [None]

    async def test_a_returned_message_keeps_its_place(self, broker: Broker) -> None:
        """It comes again before what was sent after it, with its new notes and its count."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        first, second = message(b"1", group="a"), message(b"2", group="a")
        await send_in_line(broker, queue, first, second)
        (taken,) = await self._take(broker, queue, limit=1)
        notes = NOTED if broker.capabilities.annotates_retry else None
        await settle(broker, Return(delivery=taken, notes=notes))
        (again,) = await self._take(broker, queue, limit=1)
        assert again.message == replace(first, notes=notes or first.notes)
        assert again.receive_count == 2
        assert again.sequence == taken.sequence

    async def test_what_its_holder_lost_comes_before_what_is_behind_it(self, broker: Broker) -> None:
        """The lease of the first ends, that of the second was acknowledged: the first comes before the third."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        sent = [message(b"%d" % number, group="a") for number in range(3)]
        await send_in_line(broker, queue, *sent)
        taken = await self._take(broker, queue, limit=2)
        if len(taken) == 2:
            await settle(broker, Acknowledge(delivery=taken[1]))
        await self.let_pass(self.lease * 1.1)
        (again,) = await self._take(broker, queue, limit=1)
        assert (again.message.id, again.receive_count) == (sent[0].id, 2)

    async def test_a_delayed_return_holds_its_group(self, broker: Broker) -> None:
        """Nothing of the group overtakes it until its time has come; other groups go on."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        first, second, other = message(b"1", group="a"), message(b"2", group="a"), message(b"3", group="b")
        await send_in_line(broker, queue, first, second)
        (taken,) = await self._take(broker, queue, limit=1)
        await settle(broker, Return(delivery=taken, delay=self.lease))
        for limit in (1, 10):
            assert await self._take(broker, queue, limit) == []
        await send_in_line(broker, queue, other)
        assert [one.message.id for one in await self._take(broker, queue)] == [other.id]
        await self.let_pass(self.lease * 0.5)
        for limit in (1, 10):
            assert await self._take(broker, queue, limit) == []
        await self.let_pass(self.lease * 0.6)
        received = [one.message for one in await self._take(broker, queue) if one.message.group == "a"]
        assert received == [first, second][: len(received)]
        assert received

    async def test_a_queues_delay_holds_back_what_is_sent(self, broker: Broker) -> None:
        """In order all the same."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True, delay=self.lease)
        sent = [message(b"%d" % number, group="a") for number in range(2)]
        await send_in_line(broker, queue, sent[0])
        await self.let_pass(self.lease * 0.5)
        await send_in_line(broker, queue, sent[1])
        assert await self._take(broker, queue) == []
        await self.let_pass(self.lease * 0.6)
        (first,) = await self._take(broker, queue)
        await settle(broker, Acknowledge(delivery=first))
        assert await self._take(broker, queue) == []
        await self.let_pass(self.lease * 0.5)
        (second,) = await self._take(broker, queue)
        assert [first.message, second.message] == sent

    async def test_a_forward_enters_at_the_end(self, broker: Broker) -> None:
        """It stands behind all of its group that is there, and before all that is sent later."""
        promises(broker, "ordered")
        queue, other = await new_queue(broker, fifo=True), await new_queue(broker, fifo=True)
        moved, before, after = (message(b"%d" % number, group="a") for number in range(3))
        await send_in_line(broker, queue, moved)
        await send_in_line(broker, other, before)
        (taken,) = await self._take(broker, queue)
        await settle(broker, _forward(taken, other, "1"))
        await send_in_line(broker, other, after)
        assert await self._drained(broker, other) == [before.id, moved.id, after.id]
        assert (await broker.depth(queue)).total == 0

    async def test_what_is_moved_back_and_forth_is_not_a_duplicate(self, broker: Broker) -> None:
        """Under a deduplication id of its own, each forward arrives."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True, content_deduplication=True)
        other = await new_queue(broker, fifo=True, content_deduplication=True)
        sent = message(group="a")
        await send_in_line(broker, queue, sent)
        for number, (here, there) in enumerate([(queue, other), (other, queue), (queue, other)]):
            (taken,) = await self._take(broker, here)
            assert taken.message == sent
            await settle(broker, _forward(taken, there, str(number)))
        assert await self._drained(broker, other) == [sent.id]

    async def test_depth_tells_ready_from_in_flight_in_a_line(self, broker: Broker) -> None:
        """What stands behind a message in flight is ready as soon as its turn has come; each is counted once."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        await send_in_line(
            broker, queue, *(message(b"%d" % number, group=group) for number in range(3) for group in "ab")
        )
        taken = await receive(broker, queue, limit=1, lease=self.lease)
        assert len(taken) == 1
        depth = await broker.depth(queue)
        assert (depth.in_flight, depth.total) == (1, 6)
        await settle(broker, Return(delivery=taken[0], delay=self.lease))
        depth = await broker.depth(queue)
        assert (depth.in_flight, depth.delayed, depth.total) == (0, 1, 6)

    async def test_browsing_shows_a_line_in_order(self, broker: Broker) -> None:
        """In flight or not, page by page."""
        promises(broker, "ordered")
        promises(broker, "browses")
        queue = await new_queue(broker, fifo=True)
        sent = [message(b"%d" % number, group="a") for number in range(5)]
        await send_in_line(broker, queue, *sent)
        await self._take(broker, queue, limit=2)
        seen = []
        cursor = None
        for _ in range(3):
            page = await broker.browse(queue, cursor=cursor, limit=2)
            seen += page.messages
            cursor = page.cursor
            if cursor is None:
                break
        assert cursor is None
        assert seen == sent

    async def _drained(self, broker: Broker, queue: str) -> list[str]:
        """Everything that is ready, one by one, in the order received."""
        received: list[str] = []
        while taken := await receive(broker, queue, limit=1, lease=self.lease):
            received += [one.message.id for one in taken]
            await settle(broker, *(Acknowledge(delivery=one) for one in taken))
        return received


def _forward(delivery: Delivery, queue: str, step: str) -> Forward:
    key = f"{delivery.message.id}/{step}"
    return Forward(delivery=delivery, queue=queue, message=delivery.message, deduplication_id=key)
