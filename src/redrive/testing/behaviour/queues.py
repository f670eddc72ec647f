# ruff: noqa: S101, PLR2004 - tests: assert is how they speak, and their numbers are the test
"""Queues: made once, listed, counted, emptied."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from redrive.broker import Acknowledge, Broker, Outgoing, QueueSpec, Return
from redrive.errors import QueueNotFound
from redrive.testing.behaviour.ground import Ground, assert_stale, message, new_queue, receive, send, settle


class Queues(Ground):
    """What a queue is and holds."""

    async def test_declaring_twice_changes_nothing(self, broker: Broker) -> None:
        """A queue that is declared again keeps what it holds."""
        queue = await new_queue(broker)
        await send(broker, queue, message())
        await broker.declare([QueueSpec(name=queue)])
        assert (await broker.depth(queue)).total == 1

    async def test_queues_are_listed(self, broker: Broker) -> None:
        """Every declared queue is listed, once, by name."""
        made = [await new_queue(broker) for _ in range(3)]
        await broker.declare([QueueSpec(name=made[0])])
        names = await broker.queues()
        assert names == sorted(set(names))
        assert set(made) <= set(names)

    async def test_an_unknown_queue_is_named(self, broker: Broker) -> None:
        """Whatever is asked of a queue that does not exist is answered with its name."""
        unknown = f"suite-{secrets.token_hex(8)}"
        asked: list[Any] = [
            broker.send(unknown, [Outgoing(message=message())]),
            broker.receive(unknown, limit=1, lease=self.lease),
            broker.depth(unknown),
            broker.purge(unknown),
        ]
        if broker.capabilities.browses:
            asked.append(broker.browse(unknown))
        for one in asked:
            with pytest.raises(QueueNotFound, match=unknown):
                await one
        assert unknown not in await broker.queues()

    async def test_depth_tells_ready_from_in_flight_from_delayed(self, broker: Broker) -> None:
        """Each message is counted once, as what it is."""
        queue = await new_queue(broker)
        await send(broker, queue, message(), message(), message(), message(), message())
        await send(broker, queue, message(), delay=self.lease)
        taken = [*await receive(broker, queue, limit=1, lease=self.lease), *await self._take(broker, queue, limit=1)]
        await settle(broker, Return(delivery=taken[0], delay=self.lease))
        depth = await broker.depth(queue)
        assert (depth.ready, depth.in_flight, depth.delayed, depth.total) == (3, 1, 2, 6)

    async def test_purge_leaves_nothing(self, broker: Broker) -> None:
        """Ready, in flight and delayed: all of it is deleted, and counted."""
        queue, other = await new_queue(broker), await new_queue(broker)
        await send(broker, queue, message(), message())
        await send(broker, queue, message(), delay=self.lease)
        await send(broker, other, message())
        (taken,) = await self._take(broker, queue, limit=1)
        assert await broker.purge(queue) == 3
        assert (await broker.depth(queue)).total == 0
        assert_stale(await broker.settle([Acknowledge(delivery=taken)]))
        await self.let_pass(self.lease * 1.5)
        assert await self._take(broker, queue) == []
        assert (await broker.depth(other)).total == 1
