"""A broker that can do less: the embedded one, or any other, with what some brokers lack taken away.

    app.test(broker=PlainBroker)        the application in virtual time, on a broker that is like Amazon SQS

It rewrites no message when it is returned and takes back no count; it forwards by sending, then acknowledging, so that
a crash in between leaves two copies; it takes nobody's messages by their ids, shows none, and takes few in one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from redrive.broker import (
    Acknowledge,
    Broker,
    Capabilities,
    Forward,
    Outgoing,
    Page,
    Results,
    Return,
    Sends,
    Settlement,
)
from redrive.errors import BrokerError, LimitExceeded
from redrive.message import Delivery
from redrive.relay import Relay

_MAX_BATCH = 10
"""Source: Amazon SQS quotas, "Batched message ID": 10 messages in one call."""


class PlainBroker(Relay):
    """A broker in front of another one that withholds what Amazon SQS does not have."""

    def __init__(self, broker: Broker, *, max_batch: int = _MAX_BATCH) -> None:
        super().__init__(broker)
        self._max_batch = max_batch

    @property
    def capabilities(self) -> Capabilities:
        """Little."""
        return replace(
            self._broker.capabilities,
            annotates_retry=False,
            atomic_forward=False,
            selects=False,
            browses=False,
            uncounts=False,
            max_batch=self._max_batch,
        )

    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        """Put messages into a queue, ten at most."""
        self._must_be_few(len(messages))
        return await super().send(queue, messages)

    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Sequence[str] | None = None
    ) -> list[Delivery]:
        """Take up to ten messages, and none by its id."""
        self._must_be_few(limit)
        if ids is not None:
            raise LimitExceeded("ids", len(ids), "None: this broker selects nothing")
        return await super().receive(queue, limit=limit, lease=lease, wait=wait)

    async def settle(self, settlements: Sequence[Settlement]) -> Results:
        """Settle one after another, each for itself, ten at most."""
        self._must_be_few(len(settlements))
        return [await self._settle(one) for one in settlements]

    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Results:
        """Let the leases end later, ten at most."""
        self._must_be_few(len(deliveries))
        return await super().extend(deliveries, lease=lease)

    async def browse(self, queue: str, *, cursor: str | None = None, limit: int = 100) -> Page:  # noqa: ARG002
        """Refused.

        Raises:
            LimitExceeded: Always, of a queue that exists.
        """
        await super().depth(queue)  # it may be away, or have no such queue
        raise LimitExceeded("browse", queue, "left out: this broker shows no messages")

    def _must_be_few(self, count: int) -> None:
        if count > self._max_batch:
            raise LimitExceeded("messages in one call", count, f"at most {self._max_batch}")

    async def _settle(self, settlement: Settlement) -> BrokerError | None:
        match settlement:
            case Return():
                (result,) = await super().settle([replace(settlement, notes=None, uncounted=False)])
            case Forward(delivery=delivery):
                outgoing = Outgoing(
                    message=settlement.message, delay=settlement.delay, deduplication_id=settlement.deduplication_id
                )
                try:
                    (sent,) = await super().send(settlement.queue, [outgoing])
                except BrokerError as error:
                    return error
                if isinstance(sent, BrokerError):
                    return sent
                (result,) = await super().settle([Acknowledge(delivery=delivery)])
            case _:
                (result,) = await super().settle([settlement])
        return result
