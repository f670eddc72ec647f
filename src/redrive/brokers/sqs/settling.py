"""Settling and extending: deletes and changed visibility, gathered; a forward is sent, and deleted once it is answered.

Invariants:
    1. A forwarded message is deleted only after the target answered: a crash leaves both, under one id.
    2. A receipt that this process knows to be stale settles nothing and copies nothing.
    3. Changes of one receipt follow one another: a return is not undone by an extension that is still on its way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from redrive.broker import LONGEST_LEASE, Acknowledge, Forward, Outgoing, Results, Return, Settlement
from redrive.brokers.sqs.batches import MOST_REQUESTS, Batches, in_parts, whole
from redrive.brokers.sqs.client import Client
from redrive.brokers.sqs.failures import LeaseTooLong, is_stale
from redrive.brokers.sqs.leases import Leases
from redrive.brokers.sqs.messages import forwarded, written
from redrive.brokers.sqs.queues import Queues
from redrive.brokers.sqs.sending import Outbox
from redrive.errors import BrokerError, LimitExceeded, QueueNotFound, StaleReceipt
from redrive.message import MAX_BODY, Delivery

_DELETE, _CHANGE = "DeleteMessageBatch", "ChangeMessageVisibilityBatch"
_LATE_LEASE = 30
"""Seconds of lease that a forward asks for when its own may be over."""


class _Change(NamedTuple):
    receipt: str
    seconds: int


class Settler:
    """Settles for all queues of one client."""

    def __init__(self, client: Client, queues: Queues, leases: Leases, outbox: Outbox) -> None:
        self._client, self._queues, self._leases, self._outbox = client, queues, leases, outbox
        self._deletes: dict[str, Batches[Any]] = {}
        self._changes: dict[str, Batches[Any]] = {}
        self._under_way: dict[str, asyncio.Future[Any]] = {}
        """The change of a receipt that was not answered yet."""

    async def settle(self, settlements: Sequence[Settlement]) -> Results:
        """Do all of them, side by side; whoever comes second with one receipt is late.

        Raises:
            BrokerUnavailable: If none could be done.
            OutcomeUnknown: If there was no answer for any.
        """
        settled: Results = [None] * len(settlements)
        deletes: dict[str, list[int]] = {}
        others: list[tuple[int, Return | Forward]] = []
        for index, one in enumerate(settlements):
            if error := self._refused(one):
                settled[index] = error
            elif isinstance(one, Acknowledge):
                deletes.setdefault(one.delivery.queue, []).append(index)
            else:
                others.append((index, one))
        acknowledged, rest = await asyncio.gather(
            asyncio.gather(
                *(self._acknowledge(queue, [settlements[i].delivery for i in of]) for queue, of in deletes.items())
            ),
            asyncio.gather(*(self._other(one) for _, one in others)),
        )
        for indexes, errors in zip(deletes.values(), acknowledged, strict=True):
            for index, answer in zip(indexes, errors, strict=True):
                settled[index] = answer
        for (index, _), answer in zip(others, rest, strict=True):
            settled[index] = answer
        whole(settled)
        return settled

    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Results:
        """Let the leases end `lease` seconds from now.

        Raises:
            LimitExceeded: If the lease cannot be.
            BrokerUnavailable: If none could be extended.
        """
        if not 0 < lease <= LONGEST_LEASE:
            raise LimitExceeded("lease", lease, "over 0 and at most 43200 seconds")
        results: Results = list(await asyncio.gather(*(self._extend(one, lease) for one in deliveries)))
        whole(results)
        return results

    def hand_back(self, deliveries: list[Delivery]) -> None:
        """Ready again at once, without anybody who waits for it; a broker that is away leaves them to their leases."""
        if self._client.closed:
            return
        for queue in {one.queue for one in deliveries}:
            mine = [_Change(one.receipt, 0) for one in deliveries if one.queue == queue]
            for change in mine:
                self._leases.end(change.receipt)
            self._changes_of(queue).put(mine)

    # One by one

    def _refused(self, one: Settlement) -> BrokerError | None:
        """Why nothing is asked of SQS at all; otherwise the receipt is taken (invariant 2)."""
        if isinstance(one, Return) and not 0 <= one.delay <= LONGEST_LEASE:
            return LimitExceeded("delay", one.delay, "from 0 to 43200 seconds")
        if isinstance(one, Forward):
            located = self._queues.located_now(one.queue)
            largest = self._outbox.largest.get(one.queue, MAX_BODY)
            write = forwarded if _as_received(one) else written
            outgoing = write(_outgoing(one), fifo=located is not None and located.fifo, largest=largest)
            if isinstance(outgoing, LimitExceeded):
                return outgoing
        if self._leases.is_stale(one.delivery.receipt):
            return _stale(one.delivery)
        self._leases.end(one.delivery.receipt)
        return None

    async def _acknowledge(self, queue: str, deliveries: list[Delivery]) -> list[BrokerError | None]:
        answers: Sequence[Any]
        try:
            await self._queues.located(queue)
            answers = await self._deletes_of(queue).put([one.receipt for one in deliveries])
        except BrokerError as error:
            answers = [error] * len(deliveries)
        return [self._settled(one, answer) for one, answer in zip(deliveries, answers, strict=True)]

    async def _other(self, one: Return | Forward) -> BrokerError | None:
        try:
            if isinstance(one, Forward):
                return await self._forward(one)
            return self._settled(one.delivery, await self._changed(one.delivery, one.delay, shorten=True))
        except BrokerError as error:
            self._leases.resume(one.delivery.receipt)
            return error
        except asyncio.CancelledError:
            self._leases.resume(one.delivery.receipt)
            raise

    async def _forward(self, one: Forward) -> BrokerError | None:
        """Invariant 1."""
        lease = self._leases.of(one.delivery.receipt)
        if lease is None or lease.until <= time.monotonic():  # somebody else may have it: ask before there are two
            error = await self._changed(one.delivery, _LATE_LEASE, shorten=True)
            if error is not None:
                return self._settled(one.delivery, error)
        (sent,) = await self._outbox.send(one.queue, [_outgoing(one)], forward=_as_received(one))
        if isinstance(sent, BrokerError):
            self._leases.resume(one.delivery.receipt)
            return sent
        (error,) = await self._acknowledge(one.delivery.queue, [one.delivery])
        return error

    async def _extend(self, delivery: Delivery, lease: float) -> BrokerError | None:
        if self._leases.is_stale(delivery.receipt):
            return _stale(delivery)
        try:
            error = await self._changed(delivery, lease, shorten=False)
        except BrokerError as raised:
            return raised
        if error is None:
            self._leases.extend(delivery.receipt, lease)
            return None
        return _stale(delivery) if is_stale(error) else error

    async def _changed(self, delivery: Delivery, seconds: float, *, shorten: bool) -> BrokerError | None:
        """Let it be visible in so many seconds; cut where that is beyond twelve hours since its receive."""
        await self._queues.located(delivery.queue)
        change = _Change(delivery.receipt, -int(-seconds // 1))
        error = await self._change_of(delivery.queue, change)
        if isinstance(error, LeaseTooLong) and shorten:
            lease = self._leases.of(delivery.receipt)
            left = 0 if lease is None else int(LONGEST_LEASE - (time.monotonic() - lease.began)) - 1
            cut = _Change(delivery.receipt, max(0, min(change.seconds, left)))
            error = await self._change_of(delivery.queue, cut)
            if isinstance(error, LeaseTooLong):
                error = await self._change_of(delivery.queue, _Change(delivery.receipt, 0))
        return error

    async def _change_of(self, queue: str, change: _Change) -> BrokerError | None:
        """Invariant 3, also where whoever asked for the earlier change waits for it no more."""
        while earlier := self._under_way.get(change.receipt):
            await asyncio.wait([earlier])
        answer = self._changes_of(queue).put([change])
        self._under_way[change.receipt] = answer
        answer.add_done_callback(lambda _: self._under_way.pop(change.receipt, None))
        (result,) = await asyncio.shield(answer)
        return result if isinstance(result, BrokerError) else None

    def _settled(self, delivery: Delivery, answer: object) -> BrokerError | None:
        if not isinstance(answer, BrokerError):
            self._leases.settled(delivery.receipt)
            return None
        if is_stale(answer):
            self._leases.settled(delivery.receipt)
            return _stale(delivery)
        self._leases.resume(delivery.receipt)
        return answer

    # Requests

    def _deletes_of(self, queue: str) -> Batches[Any]:
        found = self._deletes.get(queue)
        if found is None:
            made = Batches[Any](lambda receipts: self._delete(queue, receipts), lanes=MOST_REQUESTS)
            found = self._deletes[queue] = made
        return found

    def _changes_of(self, queue: str) -> Batches[Any]:
        found = self._changes.get(queue)
        if found is None:
            made = Batches[Any](lambda changes: self._change(queue, changes), lanes=MOST_REQUESTS)
            found = self._changes[queue] = made
        return found

    async def _delete(self, queue: str, receipts: list[str]) -> list[Any]:
        return await self._batch(_DELETE, queue, [{"ReceiptHandle": receipt} for receipt in receipts])

    async def _change(self, queue: str, changes: list[_Change]) -> list[Any]:
        entries = [{"ReceiptHandle": one.receipt, "VisibilityTimeout": one.seconds} for one in changes]
        return await self._batch(_CHANGE, queue, entries)

    async def _batch(self, action: str, queue: str, entries: list[dict[str, Any]]) -> list[Any]:
        url, _ = await self._queues.located(queue)

        async def request(asked: list[dict[str, Any]]) -> dict[str, Any]:
            return await self._client.write(action, queue, QueueUrl=url, Entries=asked)

        try:
            return await in_parts(entries, request, place=self._client.place, action=action, queue=queue)
        except QueueNotFound:
            self._queues.forget(queue)
            raise


def _outgoing(one: Forward) -> Outgoing:
    return Outgoing(message=one.message, delay=one.delay, deduplication_id=one.deduplication_id)


def _as_received(one: Forward) -> bool:
    """Whether it goes on with the body it came with, which SQS has taken once, however large it is."""
    return one.message.body == one.delivery.message.body


def _stale(delivery: Delivery) -> StaleReceipt:
    return StaleReceipt(delivery.queue, delivery.message.id)
