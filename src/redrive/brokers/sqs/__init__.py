"""Amazon SQS as a broker, by aiobotocore.

What SQS does not tell is not made up: it does not say that a receipt of a standard queue is stale or that a message is
a duplicate, unless this process can know; a message that waits after a return counts as in flight; nothing is kept for
longer than 14 days. Nothing is polled but by `receive`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from redrive.broker import (
    LONGEST_DELAY,
    Capabilities,
    Depth,
    MoveTask,
    Outgoing,
    Page,
    QueueSpec,
    Results,
    Sends,
    Settlement,
)
from redrive.brokers.sqs.address import SqsAddress, parsed
from redrive.brokers.sqs.batches import MOST, MOST_REQUESTS
from redrive.brokers.sqs.client import Client, check_installed
from redrive.brokers.sqs.declaring import Declarer
from redrive.brokers.sqs.leases import Leases
from redrive.brokers.sqs.moving import Mover
from redrive.brokers.sqs.queues import Queues
from redrive.brokers.sqs.receiving import Inlet
from redrive.brokers.sqs.sending import Outbox
from redrive.brokers.sqs.settling import Settler
from redrive.errors import BrokerUnavailable, LimitExceeded, QueueNotFound
from redrive.message import MAX_BODY, Delivery

__all__ = ["SqsAddress", "SqsBroker", "parsed"]

_CAPABILITIES = Capabilities(
    annotates_retry=False,
    uncounts=False,
    atomic_forward=False,
    selects=False,
    browses=False,
    ordered=True,
    settles="message",
    max_delay=LONGEST_DELAY,
    max_batch=MOST * MOST_REQUESTS,
)
_DEPTH = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]


class SqsBroker:
    """A broker at Amazon SQS, or at whatever answers like it. Belongs to the event loop of its first call."""

    def __init__(self, address: SqsAddress) -> None:
        """Take note of the address; nothing is asked before the first call.

        Raises:
            DeclarationError: If aiobotocore is not installed.
        """
        check_installed()
        self._client = Client(address)
        self._capabilities = replace(_CAPABILITIES, shared=not address.prefix)
        self._located = Queues(self._client)
        self._leases = Leases()
        self._outbox = Outbox(self._client, self._located)
        self._settler = Settler(self._client, self._located, self._leases, self._outbox)
        self._inlet = Inlet(self._client, self._located, self._leases, self._settler.hand_back)
        self._declarer = Declarer(self._client, self._located)
        self._mover = Mover(self._client, self._located)

    @property
    def address(self) -> str:
        """`sqs://`, the region and what else was given; no credentials."""
        return str(self._client.address)

    @property
    def capabilities(self) -> Capabilities:
        """What SQS has: order, and no more. An account is shared, but for what a prefix sets apart."""
        return self._capabilities

    async def declare(self, queues: Sequence[QueueSpec]) -> None:
        """Make the queues exist as described, or only see whether they do, as the address says.

        Raises:
            DeclarationError: If they are not as described and may only be looked at.
        """
        if self._client.address.mode == "create":
            await self._declarer.create(queues)
        else:
            await self._declarer.verify(queues)
        for spec in queues:
            self._outbox.largest[spec.name] = min(spec.largest_message, MAX_BODY)

    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        """Put messages into a queue, ten in a request."""
        self._check_open()
        return await self._outbox.send(queue, messages)

    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Sequence[str] | None = None
    ) -> list[Delivery]:
        """Take up to `limit` ready messages, by long polls; the lease is of whole seconds, rounded up."""
        self._check_open()
        if ids is not None:
            raise LimitExceeded("ids", list(ids)[:3], "None: Amazon SQS hands out what it likes")
        return await self._inlet.receive(queue, limit=limit, lease=lease, wait=wait)

    async def settle(self, settlements: Sequence[Settlement]) -> Results:
        """Delete, change the visibility, or send and then delete; a return's notes are not written."""
        self._check_open()
        return await self._settler.settle(settlements)

    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Results:
        """Let the leases end `lease` seconds from now, at most twelve hours after the receive."""
        self._check_open()
        return await self._settler.extend(deliveries, lease=lease)

    async def browse(self, queue: str, *, cursor: str | None = None, limit: int = 100) -> Page:  # noqa: ARG002 - the port's
        """Nothing can be looked at.

        Raises:
            LimitExceeded: Always.
        """
        self._check_open()
        raise LimitExceeded("queue to look into", queue, "at a broker that browses: Amazon SQS only hands out")

    async def depth(self, queue: str) -> Depth:
        """Count a queue's messages, about; what was returned with a delay counts as in flight."""
        located = await self._located.located(queue)
        try:
            answer = await self._client.read("GetQueueAttributes", queue, QueueUrl=located.url, AttributeNames=_DEPTH)
        except QueueNotFound:
            self._located.forget(queue)
            raise
        counts = answer.get("Attributes") or {}
        ready, in_flight, delayed = (int(counts.get(name, 0)) for name in _DEPTH)
        return Depth(ready=ready, in_flight=in_flight, delayed=delayed)

    async def queues(self) -> list[str]:
        """The names of all queues below the prefix, sorted; a queue that was just made may be missing."""
        return await self._located.names()

    async def purge(self, queue: str) -> int:
        """Delete everything in a queue, within a minute; about how many there were. Once a minute.

        Source: Amazon SQS, PurgeQueue.
        """
        depth = await self.depth(queue)
        located = await self._located.located(queue)
        await self._client.write("PurgeQueue", queue, QueueUrl=located.url)
        self._leases.end_all(queue)
        return depth.total

    async def start_move(self, source: str, destination: str | None = None, *, rate: int | None = None) -> str:
        """Begin to move what is in a dead-letter queue, also a parked one; the task's handle.

        It goes on by itself, at SQS. A message that is moved keeps our id and send time, and is a new one to SQS.

        Args:
            source: some queue's dead-letter queue.
            destination: where to; None: each message back to the queue whose dead letter it is. From a parked queue it
                has to be named: its messages are nobody's dead letters.
            rate: messages a second, 1 to 500; None: as fast as it goes.

        Raises:
            QueueNotFound: If one of the queues does not exist.
            QueueConflict: If SQS does not move from there, or not now.
            LimitExceeded: If the rate is out of range.
        """
        return await self._mover.start(source, destination, rate)

    async def moves(self, source: str) -> list[MoveTask]:
        """The latest move tasks of a dead-letter queue, the newest first; at most 10. Only running ones have an id."""
        return await self._mover.list(source)

    async def cancel_move(self, task: str) -> int:
        """Stop a running move task; how many messages it had moved, which stay moved.

        Raises:
            LimitExceeded: If no task of this id is running.
        """
        return await self._mover.cancel(task)

    async def close(self) -> None:
        """End what is under way, and let go of the connections. What a receive had on its way comes back later."""
        await self._client.close()

    def _check_open(self) -> None:
        if self._client.closed:
            raise BrokerUnavailable(self.address, "it is closed")
