# ruff: noqa: S101, PLR2004 - tests: assert is how they speak, and their numbers are the test
"""FIFO queues: while a message of a group is in flight, nothing of that group is received."""

from __future__ import annotations

import asyncio

from redrive.broker import Acknowledge, Broker, Forward, Return
from redrive.message import Message
from redrive.testing.behaviour.ground import NOTED, Ground, message, new_queue, promises, receive, send_in_line, settle


class Locked(Ground):
    """When a group is locked, and when it is not any more."""

    async def test_a_group_is_locked_while_one_of_it_is_in_flight(self, broker: Broker) -> None:
        """Nobody receives the next one, nor what is sent meanwhile; not even after half of the lease."""
        promises(broker, "ordered")
        queue = await self._line(broker, b"1", b"2")
        (taken,) = await receive(broker, queue, limit=1, lease=self.lease)
        await self._assert_locked(broker, queue)
        await send_in_line(broker, queue, message(b"3", group="a"))
        await self.let_pass(self.lease * 0.5)
        await self._assert_locked(broker, queue)
        assert taken.message.body == b"1"

    async def test_another_group_is_not_locked(self, broker: Broker) -> None:
        """What one holds up does not wait for the others."""
        promises(broker, "ordered")
        queue = await self._line(broker, b"1", b"2")
        before, after = message(b"3", group="b"), message(b"4", group="c")
        await send_in_line(broker, queue, before)
        (first,) = await receive(broker, queue, limit=1, lease=self.lease)
        await send_in_line(broker, queue, after)
        following = [*await self._take(broker, queue, 1), *await self._take(broker, queue, 1)]
        assert {one.message.group for one in (first, *following)} == {"a", "b", "c"}

    async def test_two_receivers_never_hold_the_same_group(self, broker: Broker) -> None:
        """However many receive at the same time, each group is in one pair of hands."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        groups = [f"g{number}" for number in range(8)]
        await send_in_line(broker, queue, *(message(b"%d" % n, group=group) for n in range(3) for group in groups))
        rounds = await asyncio.gather(*(self._take(broker, queue, limit=4) for _ in range(12)))
        holders = [{one.message.group for one in taken} for taken in rounds]
        assert sum(len(held) for held in holders) == len(set().union(*holders))
        assert set().union(*holders) == set(groups)

    async def test_acknowledging_ends_the_lock(self, broker: Broker) -> None:
        """The next one is there at once."""
        promises(broker, "ordered")
        queue = await self._line(broker, b"1", b"2")
        (taken,) = await receive(broker, queue, limit=1, lease=self.lease)
        await settle(broker, Acknowledge(delivery=taken))
        assert await self._bodies(broker, queue) == [b"2"]

    async def test_returning_ends_the_lock(self, broker: Broker) -> None:
        """The same one is there at once."""
        promises(broker, "ordered")
        queue = await self._line(broker, b"1", b"2")
        (taken,) = await receive(broker, queue, limit=1, lease=self.lease)
        await settle(broker, Return(delivery=taken))
        assert (await self._bodies(broker, queue))[0] == b"1"

    async def test_the_end_of_the_lease_ends_the_lock(self, broker: Broker) -> None:
        """The same one is there then."""
        promises(broker, "ordered")
        queue = await self._line(broker, b"1", b"2")
        await receive(broker, queue, limit=1, lease=self.lease)
        await self.let_pass(self.lease * 1.1)
        assert (await self._bodies(broker, queue))[0] == b"1"

    async def test_forwarding_ends_the_lock(self, broker: Broker) -> None:
        """The next one is there at once."""
        promises(broker, "ordered")
        queue, other = await self._line(broker, b"1", b"2"), await new_queue(broker, fifo=True)
        (taken,) = await receive(broker, queue, limit=1, lease=self.lease)
        key = f"{taken.message.id}/1"
        await settle(broker, Forward(delivery=taken, queue=other, message=taken.message, deduplication_id=key))
        assert await self._bodies(broker, queue) == [b"2"]

    async def test_a_group_is_locked_until_the_last_one_is_settled(self, broker: Broker) -> None:
        """Of several that were received together, each one left holds the group."""
        promises(broker, "ordered")
        queue = await self._line(broker, b"1", b"2", b"3", b"4")
        taken = await receive(broker, queue, limit=3, lease=self.lease)
        for one in taken:
            await self._assert_locked(broker, queue)
            await settle(broker, Acknowledge(delivery=one))
        assert (await self._bodies(broker, queue))[0] == b"%d" % (len(taken) + 1)

    async def test_one_that_is_returned_waits_for_those_in_flight(self, broker: Broker) -> None:
        """The first of two goes back while the second is in flight: nothing is received before that is settled."""
        promises(broker, "ordered")
        queue = await self._line(broker, b"1", b"2", b"3")
        taken = await receive(broker, queue, limit=2, lease=self.lease)
        await settle(broker, Return(delivery=taken[0]))
        for one in taken[1:]:
            await self._assert_locked(broker, queue)
            await settle(broker, Return(delivery=one))
        assert (await self._bodies(broker, queue))[0] == b"1"

    async def test_an_extended_lease_keeps_the_lock(self, broker: Broker) -> None:
        """As long as it holds, and no longer."""
        promises(broker, "ordered")
        queue = await self._line(broker, b"1", b"2")
        (taken,) = await receive(broker, queue, limit=1, lease=self.lease)
        assert await broker.extend([taken], lease=self.lease * 2) == [None]
        await self.let_pass(self.lease * 1.5)
        await self._assert_locked(broker, queue)
        await self.let_pass(self.lease * 0.6)
        assert (await self._bodies(broker, queue))[0] == b"1"

    async def test_a_shortened_lease_ends_the_lock_early(self, broker: Broker) -> None:
        """The lock is the lease's, not that of the receive."""
        promises(broker, "ordered")
        queue = await self._line(broker, b"1", b"2")
        (taken,) = await receive(broker, queue, limit=1, lease=self.lease * 4)
        assert await broker.extend([taken], lease=self.lease * 0.5) == [None]
        await self.let_pass(self.lease * 0.6)
        assert (await self._bodies(broker, queue))[0] == b"1"

    async def test_a_waiting_receive_wakes_when_a_lock_ends(self, broker: Broker) -> None:
        """Who waits behind a message in flight has the next one once that is acknowledged."""
        promises(broker, "ordered")
        queue = await self._line(broker, b"1", b"2")
        (taken,) = await receive(broker, queue, limit=1, lease=self.lease)
        waiting = asyncio.create_task(broker.receive(queue, limit=1, lease=self.lease, wait=self.deadline * 2))
        await asyncio.sleep(0)
        await broker.depth(queue)
        await settle(broker, Acknowledge(delivery=taken))
        async with asyncio.timeout(self.deadline / 2):
            (following,) = await waiting
        assert following.message.body == b"2"

    async def test_a_locked_group_gives_nothing_by_id(self, broker: Broker) -> None:
        """Where messages are received by their ids, the lock holds too."""
        promises(broker, "ordered")
        promises(broker, "selects")
        queue = await new_queue(broker, fifo=True)
        sent = [message(b"%d" % number, group="a", notes=NOTED) for number in range(2)]
        await send_in_line(broker, queue, *sent)
        (taken,) = await receive(broker, queue, limit=1, lease=self.lease)
        assert await receive(broker, queue, lease=self.lease, ids=[sent[1].id]) == []
        await settle(broker, Acknowledge(delivery=taken))
        assert len(await receive(broker, queue, lease=self.lease, ids=[sent[1].id])) == 1
        assert await self._take(broker, queue) == []

    async def test_a_purge_ends_all_locks(self, broker: Broker) -> None:
        """What is sent afterwards does not wait for what is no more."""
        promises(broker, "ordered")
        queue = await self._line(broker, b"1", b"2")
        await receive(broker, queue, limit=1, lease=self.lease)
        assert await broker.purge(queue) == 2
        await send_in_line(broker, queue, message(b"3", group="a"))
        assert await self._bodies(broker, queue) == [b"3"]

    async def test_a_lock_survives_a_restart(self, broker: Broker) -> None:
        """What is in flight stays in flight, its group locked, and its holder may settle it at the new broker."""
        promises(broker, "ordered")
        queue = await self._line(broker, b"1", b"2")
        (taken,) = await receive(broker, queue, limit=1, lease=self.lease)
        again = await self.reopened(broker)
        await self._assert_locked(again, queue)
        await settle(again, Acknowledge(delivery=taken))
        assert await self._bodies(again, queue) == [b"2"]

    async def _line(self, broker: Broker, *bodies: bytes) -> str:
        """A queue with one group in it."""
        queue = await new_queue(broker, fifo=True)
        sent: list[Message] = [message(body, group="a") for body in bodies]
        await send_in_line(broker, queue, *sent)
        return queue

    async def _assert_locked(self, broker: Broker, queue: str) -> None:
        """Nothing is received, whether one message is asked for or many."""
        for limit in (1, 10):
            assert await self._take(broker, queue, limit) == []

    async def _bodies(self, broker: Broker, queue: str) -> list[bytes]:
        return [one.message.body for one in await self._take(broker, queue)]
