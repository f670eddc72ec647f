"""Moving messages from one queue to another, with their ids, ages and history: the mechanism of every redrive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from redrive.broker import Broker, Forward
from redrive.message import Delivery, Message

_LEASE = 30.0


async def move(broker: Broker, source: str, target: str, *, limit: int, ids: Sequence[str] | None = None) -> int:
    """Move up to `limit` ready messages (or the ones named); how many arrived.

    A crash leaves each message in the source, in the target, or (where forwards are not atomic) in both under one id.

    Raises:
        BrokerError: If the broker cannot do it; what it had taken comes back to the source when its lease ends.
    """
    limit = min(limit, broker.capabilities.max_batch)
    deliveries = await broker.receive(source, limit=limit, lease=_LEASE, ids=ids)
    if not deliveries:
        return 0
    results = await broker.settle([forward(one, target, one.message) for one in deliveries])
    return sum(error is None for error in results)


def forward(delivery: Delivery, target: str, message: Message) -> Forward:
    """The settlement that moves one message, under a deduplication id of its own."""
    notes = message.notes.forwarded()
    return Forward(
        delivery=delivery,
        queue=target,
        message=replace(message, notes=notes),
        deduplication_id=f"{message.id}/redrive/{notes.forwards}",
    )
