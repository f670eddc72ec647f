"""The behaviour of every broker, as Amazon SQS can have it: where it tells less, this says what it still tells."""

from __future__ import annotations

from typing_extensions import override

from redrive.broker import Acknowledge, Broker, Forward, Return
from redrive.testing.broker_suite import (
    BrokerSuite,
    message,
    new_queue,
    promises,
    receive,
    send,
    send_in_line,
    send_once,
    settle,
)


class SqsSuite(BrokerSuite):
    """`BrokerSuite`, but for four things that Amazon SQS does not say and one that it does not do."""

    patience = 86_400.0
    """`test_a_queue_without_retention_keeps_for_ever` waits for a month: Amazon SQS keeps for 14 days at most."""

    @override
    async def test_depth_tells_ready_from_in_flight_from_delayed(self, broker: Broker) -> None:
        """Each message is counted once; one that was returned with a delay is in flight until then.

        Source: Amazon SQS, ChangeMessageVisibility: a delay is a visibility timeout.
        """
        queue = await new_queue(broker)
        await send(broker, queue, message(), message(), message(), message(), message())
        await send(broker, queue, message(), delay=self.lease)
        taken = [*await receive(broker, queue, limit=1, lease=self.lease), *await self._take(broker, queue, limit=1)]
        await settle(broker, Return(delivery=taken[0], delay=self.lease))
        depth = await broker.depth(queue)
        assert (depth.ready, depth.in_flight, depth.delayed, depth.total) == (3, 2, 1, 6)

    @override
    async def test_depth_tells_ready_from_in_flight_in_a_line(self, broker: Broker) -> None:
        """The same in a line."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        await send_in_line(
            broker, queue, *(message(b"%d" % number, group=group) for number in range(3) for group in "ab")
        )
        taken = await receive(broker, queue, limit=1, lease=self.lease)
        for delay in (None, self.lease):
            if delay is not None:
                await settle(broker, Return(delivery=taken[0], delay=delay))
            depth = await broker.depth(queue)
            assert (depth.in_flight, depth.delayed, depth.total) == (1, 0, 6)

    @override
    async def test_what_was_settled_is_settled_after_a_crash(self, broker: Broker) -> None:
        """As everywhere; but that its receipt is stale is known only to the process that settled it.

        Source: Amazon SQS, DeleteMessage: deleting what is deleted is answered with success.
        """
        queue, other = await new_queue(broker), await new_queue(broker)
        await send(broker, queue, *(message(b"%d" % number) for number in range(3)))
        gone, back, moved = await self._take_all(broker, queue, 3)
        await settle(
            broker,
            Acknowledge(delivery=gone),
            Return(delivery=back),
            Forward(delivery=moved, queue=other, message=moved.message),
        )
        again = await self.reopened(broker)
        (taken,) = await self._take(again, queue)
        assert (taken.message.id, taken.receive_count) == (back.message.id, 2)
        assert [one.message for one in await self._take(again, other)] == [moved.message]

    @override
    async def test_duplicates_are_known_after_a_restart(self, broker: Broker) -> None:
        """Nothing is sent twice; but only the process that sent the first one tells a duplicate by its answer."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        (sent,) = await send_once(broker, queue, (message(group="a"), "key"))
        again = await self.reopened(broker)
        await send_once(again, queue, (message(group="a"), "key"))
        assert [one.message.id for one in await self._take(again, queue)] == [sent.id]
        assert (await again.depth(queue)).total == 1
