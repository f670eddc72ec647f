"""A broker in front of a broker: every call of the port passes through one place.

What watches a broker, or makes it fail, is a subclass with one method of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from redrive.broker import Broker, Capabilities, Depth, Outgoing, Page, QueueSpec, Results, Sends, Settlement
from redrive.message import Delivery

T = TypeVar("T")


class Relay:
    """Passes every call on to another broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def _pass(self, call: str, work: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002 - for subclasses
        """Make one call. `close` does not come through here."""
        return await work()

    @property
    def address(self) -> str:
        """Where the broker is."""
        return self._broker.address

    @property
    def capabilities(self) -> Capabilities:
        """What the broker promises."""
        return self._broker.capabilities

    async def declare(self, queues: Sequence[QueueSpec]) -> None:
        """Make the queues exist as described."""
        await self._pass("declare", lambda: self._broker.declare(queues))

    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        """Put messages into a queue."""
        return await self._pass("send", lambda: self._broker.send(queue, messages))

    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Sequence[str] | None = None
    ) -> list[Delivery]:
        """Take up to `limit` ready messages under a lease."""
        return await self._pass(
            "receive", lambda: self._broker.receive(queue, limit=limit, lease=lease, wait=wait, ids=ids)
        )

    async def settle(self, settlements: Sequence[Settlement]) -> Results:
        """Say what became of deliveries."""
        return await self._pass("settle", lambda: self._broker.settle(settlements))

    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Results:
        """Let the leases end `lease` seconds from now."""
        return await self._pass("extend", lambda: self._broker.extend(deliveries, lease=lease))

    async def browse(self, queue: str, *, cursor: str | None = None, limit: int = 100) -> Page:
        """Look at messages without receiving them."""
        return await self._pass("browse", lambda: self._broker.browse(queue, cursor=cursor, limit=limit))

    async def depth(self, queue: str) -> Depth:
        """Count a queue's messages."""
        return await self._pass("depth", lambda: self._broker.depth(queue))

    async def queues(self) -> list[str]:
        """The names of all queues, sorted."""
        return await self._pass("queues", self._broker.queues)

    async def purge(self, queue: str) -> int:
        """Delete everything in a queue."""
        return await self._pass("purge", lambda: self._broker.purge(queue))

    async def close(self) -> None:
        """Close the broker."""
        await self._broker.close()
