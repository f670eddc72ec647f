"""Closing: whoever asks a closed broker is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from redrive.broker import Acknowledge, Broker, Outgoing, QueueSpec
from redrive.errors import BrokerUnavailable
from redrive.testing.behaviour.ground import Ground, message, new_queue, send, settle_down


class Closing(Ground):
    """How it ends."""

    async def test_a_closed_broker_says_so(self, broker: Broker) -> None:
        """After `close` every call is answered with BrokerUnavailable; closing again is fine."""
        queue = await new_queue(broker)
        await send(broker, queue, message())
        (taken,) = await self._take(broker, queue)
        await broker.close()
        await broker.close()
        asked: list[Callable[[], Awaitable[object]]] = [
            lambda: broker.declare([QueueSpec(name=queue)]),
            lambda: broker.send(queue, [Outgoing(message=message())]),
            lambda: broker.receive(queue, limit=1, lease=self.lease),
            lambda: broker.settle([Acknowledge(delivery=taken)]),
            lambda: broker.extend([taken], lease=self.lease),
            lambda: broker.browse(queue),
            lambda: broker.depth(queue),
            broker.queues,
            lambda: broker.purge(queue),
        ]
        for call in asked:
            with pytest.raises(BrokerUnavailable):
                await call()

    async def test_closing_ends_a_waiting_receive(self, broker: Broker) -> None:
        """Who waits is told, and does not wait on."""
        queue = await new_queue(broker)
        waiting = asyncio.create_task(broker.receive(queue, limit=1, lease=self.lease, wait=self.deadline * 2))
        await settle_down(broker, queue)
        await broker.close()
        async with asyncio.timeout(self.deadline / 2):
            with pytest.raises(BrokerUnavailable):
                await waiting
