"""A message on its way out that has not been sent yet: as a value, as JSON, and how it leaves.

It has its id, and everything that can be checked is checked. Sent twice, it is the same message: the same id, and on a
FIFO queue the same deduplication id.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redrive.broker import Outgoing
from redrive.errors import BrokerError, BrokerUnavailable, OutcomeUnknown, VersionConflict
from redrive.message import Message
from redrive.runtime import Runtime
from redrive.timekeeper import set_timer

PASSING = (BrokerUnavailable, OutcomeUnknown)
"""What may be over in a moment; everything else that a broker refuses, it refuses again."""
_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """One message, its queue, and when it may be handled."""

    queue: str
    message: Message
    due_at_ms: int | None = None
    """Not before; None: at once."""
    deduplication_id: str | None = None
    """On a FIFO queue. None: what the queue makes of the body."""

    def to_document(self) -> dict[str, Any]:
        """The JSON form."""
        message = self.message
        document: dict[str, Any] = {
            "queue": self.queue,
            "id": message.id,
            "body": message.body.decode(),
            "sent_at_ms": message.sent_at_ms,
        }
        if message.attributes:
            document["attributes"] = dict(message.attributes)
        where = {"group": message.group, "due_at_ms": self.due_at_ms, "deduplication_id": self.deduplication_id}
        return document | {name: value for name, value in where.items() if value is not None}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Unsent:
        """Read the JSON form."""
        message = Message(
            id=document["id"],
            body=document["body"].encode(),
            sent_at_ms=document["sent_at_ms"],
            attributes=document.get("attributes", {}),
            group=document.get("group"),
        )
        return cls(
            queue=document["queue"],
            message=message,
            due_at_ms=document.get("due_at_ms"),
            deduplication_id=document.get("deduplication_id"),
        )


def to_json(unsent: Sequence[Unsent]) -> bytes:
    """Several of them, in order, as JSON."""
    return json.dumps([one.to_document() for one in unsent], ensure_ascii=False, separators=(",", ":")).encode()


def from_json(value: bytes) -> list[Unsent]:
    """Read what `to_json` wrote."""
    return [Unsent.from_document(one) for one in json.loads(value)]


async def leave(runtime: Runtime, unsent: list[Unsent]) -> None:
    """Send them, in order for each queue, and take what was sent off the list.

    A broker that is away for a moment is asked up to five times within about two seconds. A crash in between leaves
    some of them sent; sent again, they are the same messages.

    Raises:
        BrokerError: If one was refused, or the broker stayed away; what is still on the list is not known to be sent.
        StoreError: If a delay beyond the broker's longest could not be kept.
    """
    for left in reversed(range(_TRIES)):
        try:
            await send(runtime, unsent)
        except PASSING:
            if not left:
                raise
            await asyncio.sleep(0.05 * 2.0 ** (_TRIES - left))
        else:
            return


async def send(runtime: Runtime, unsent: list[Unsent]) -> None:
    """Send them, once, and take what was sent off the list.

    Raises:
        BrokerError: If one was refused; the others of its batch, and those for other queues, were sent.
        StoreError: If a delay beyond the broker's longest could not be kept.
    """
    errors: list[BrokerError] = []
    for queue in dict.fromkeys(one.queue for one in unsent):
        try:
            await _send_to(runtime, queue, unsent)
        except BrokerError as error:
            errors.append(error)
    if errors:
        raise next((one for one in errors if not isinstance(one, PASSING)), errors[0])


async def _send_to(runtime: Runtime, queue: str, unsent: list[Unsent]) -> None:
    """Send what is for one queue, in batches, until something of one is refused."""
    ours = [one for one in unsent if one.queue == queue]
    size = runtime.broker.capabilities.max_batch
    for start in range(0, len(ours), size):
        batch = ours[start : start + size]
        results = await send_batch(runtime, queue, batch)
        sent = {one.message.id for one, error in zip(batch, results, strict=True) if error is None}
        unsent[:] = [one for one in unsent if one.message.id not in sent]
        for error in results:
            if error is not None:
                raise error


async def send_batch(runtime: Runtime, queue: str, batch: Sequence[Unsent]) -> list[BrokerError | None]:
    """Send at most `max_batch` messages to one queue; for each, why it was refused, or None.

    What has to wait for longer than the broker can is left to the timekeeper.

    Raises:
        BrokerError: If nothing is known to be sent.
        StoreError: If the timekeeper's store is away.
    """
    now_ms = runtime.clock.now_ms()
    delays = [max(0.0, ((one.due_at_ms or now_ms) - now_ms) / 1000) for one in batch]
    results: list[BrokerError | None] = [None] * len(batch)
    soon = [number for number, delay in enumerate(delays) if delay <= runtime.broker.capabilities.max_delay]
    for number in set(range(len(batch))).difference(soon):
        await _keep(runtime, batch[number])
    outgoing = [
        Outgoing(
            message=batch[number].message,
            delay=delays[number] or None,
            deduplication_id=batch[number].deduplication_id,
        )
        for number in soon
    ]
    if outgoing:
        for number, result in zip(soon, await runtime.broker.send(queue, outgoing), strict=True):
            results[number] = result if isinstance(result, BrokerError) else None
    return results


async def _keep(runtime: Runtime, one: Unsent) -> None:
    """Leave it to the timekeeper."""
    with contextlib.suppress(VersionConflict):  # it was left to it before
        await set_timer(
            runtime.store,
            one.queue,
            one.message,
            due_at_ms=one.due_at_ms or 0,
            deduplication_id=one.deduplication_id,
        )
