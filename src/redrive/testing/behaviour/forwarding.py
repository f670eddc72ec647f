# ruff: noqa: S101 - tests: assert is how they speak, and their numbers are the test
"""Forwarding: from one queue into another."""

from __future__ import annotations

import secrets
from dataclasses import replace

from redrive.broker import Acknowledge, Broker, Forward, Return
from redrive.errors import LimitExceeded, QueueNotFound
from redrive.message import MAX_BODY, NOTHING
from redrive.testing.behaviour.ground import NOTED, Ground, assert_stale, message, new_queue, promises, send, settle


class Forwarding(Ground):
    """How messages move."""

    async def test_a_forward_moves_the_message(self, broker: Broker) -> None:
        """It leaves the one queue and enters the other as it was, with its new notes, and is counted anew."""
        queue, other = await new_queue(broker), await new_queue(broker)
        sent = message(b"body", attributes={"a": "☕"}, group="g")
        await send(broker, queue, sent)
        (first,) = await self._take(broker, queue)
        await settle(broker, Return(delivery=first))
        (second,) = await self._take(broker, queue)
        notes = NOTED if broker.capabilities.annotates_retry else NOTHING
        await settle(broker, Forward(delivery=second, queue=other, message=replace(second.message, notes=notes)))
        assert (await broker.depth(queue)).total == 0
        assert_stale(await broker.settle([Acknowledge(delivery=second)]))
        (moved,) = await self._take(broker, other)
        assert moved.message == replace(sent, notes=notes)
        assert (moved.queue, moved.receive_count) == (other, 1)
        await self.let_pass(self.lease * 1.1)
        assert await self._take(broker, queue) == []

    async def test_a_forward_may_change_the_body(self, broker: Broker) -> None:
        """An edited message enters the other queue with its new body, under its own id."""
        queue, other = await new_queue(broker), await new_queue(broker)
        await send(broker, queue, message(b"before"))
        (taken,) = await self._take(broker, queue)
        await settle(broker, Forward(delivery=taken, queue=other, message=replace(taken.message, body=b"after")))
        (moved,) = await self._take(broker, other)
        assert moved.message == replace(taken.message, body=b"after")

    async def test_a_forward_may_be_delayed(self, broker: Broker) -> None:
        """The other queue holds it back until the delay is over."""
        queue, other = await new_queue(broker), await new_queue(broker)
        await send(broker, queue, message())
        (taken,) = await self._take(broker, queue)
        await settle(broker, Forward(delivery=taken, queue=other, message=taken.message, delay=self.lease))
        assert await self._take(broker, other) == []
        await self.let_pass(self.lease * 1.1)
        assert [one.message.id for one in await self._take(broker, other)] == [taken.message.id]

    async def test_a_stale_forward_copies_nothing(self, broker: Broker) -> None:
        """Where forwards are atomic, a stale receipt leaves the other queue empty."""
        promises(broker, "atomic_forward")
        queue, other = await new_queue(broker), await new_queue(broker)
        await send(broker, queue, message())
        (taken,) = await self._take(broker, queue)
        forward = Forward(delivery=taken, queue=other, message=taken.message)
        done, stale = await broker.settle([forward, forward])
        assert done is None
        assert_stale([stale], taken)
        assert (await broker.depth(other)).total == 1

    async def test_a_forward_that_cannot_be_done_loses_nothing(self, broker: Broker) -> None:
        """To no such queue, or with a body too large: the message stays in the same hands, and comes back later."""
        queue, other = await new_queue(broker), await new_queue(broker)
        unknown = f"suite-{secrets.token_hex(8)}"
        await send(broker, queue, message(b"precious"))
        (taken,) = await self._take(broker, queue)
        large = replace(taken.message, body=b"x" * (MAX_BODY + 1))
        results = await broker.settle(
            [
                Forward(delivery=taken, queue=unknown, message=taken.message),
                Forward(delivery=taken, queue=other, message=large),
            ]
        )
        assert [type(one) for one in results] == [QueueNotFound, LimitExceeded]
        assert unknown in str(results[0])
        assert await self._take(broker, queue) == []
        await self.let_pass(self.lease * 1.1)
        (again,) = await self._take(broker, queue)
        assert again.message.body == b"precious"
        assert (await broker.depth(other)).total == 0
