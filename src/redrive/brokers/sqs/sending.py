"""Sending: many callers' messages in few requests, and the MD5s that say that they arrived whole."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

from redrive.broker import Outgoing, Sends, Sent
from redrive.brokers.sqs.batches import LANES, Batches, in_parts, whole
from redrive.brokers.sqs.client import Client
from redrive.brokers.sqs.failures import Refused
from redrive.brokers.sqs.messages import Written, forwarded, written
from redrive.brokers.sqs.queues import Queues
from redrive.errors import BrokerError, LimitExceeded, OutcomeUnknown, QueueNotFound
from redrive.message import MAX_BODY

_REMEMBERED = 10_000
_INTERVAL = 300.0
"""Seconds. Source: Amazon SQS, "Exactly-once processing": the deduplication interval is 5 minutes."""
_ACTION = "SendMessageBatch"


class Outbox:
    """Sends to all queues of one client."""

    def __init__(self, client: Client, queues: Queues) -> None:
        self._client, self._queues = client, queues
        self._batches: dict[tuple[str, bool], Batches[Sent | None]] = {}
        self._first = _FirstSends()
        self.largest: dict[str, int] = {}
        """Largest message by queue, where it is declared smaller than usual."""

    async def send(self, queue: str, messages: Sequence[Outgoing], *, forward: bool = False) -> Sends:
        """Send with whatever else this turn of the loop sends there.

        Args:
            queue: where to.
            messages: what.
            forward: they came from SQS with these bodies, so that its own limit counts.

        Raises:
            QueueNotFound: If the queue does not exist.
            BrokerUnavailable: If nothing was sent.
            OutcomeUnknown: If there was no answer.
        """
        located = await self._queues.located(queue)
        largest = self.largest.get(queue, MAX_BODY)
        write = forwarded if forward else written
        entries = [write(one, fifo=located.fifo, largest=largest) for one in messages]
        good = [one for one in entries if isinstance(one, Written)]
        batches = self._batches_for(queue, fifo=located.fifo)
        lines = [one.entry["MessageGroupId"] for one in good] if located.fifo else None
        sent = await batches.put(good, [one.size for one in good], lines)
        whole(sent, QueueNotFound)
        answers = iter(sent)
        return [next(answers) if isinstance(one, Written) else one for one in entries]

    def _batches_for(self, queue: str, *, fifo: bool) -> Batches[Sent | None]:
        found = self._batches.get((queue, fifo))
        if found is None:
            # Requests to a FIFO queue follow one another: what is sent first in a line has to arrive first.
            made = Batches[Sent | None](lambda batch: self._run(queue, batch), lanes=1 if fifo else LANES)
            found = self._batches[queue, fifo] = made
        return found

    async def _run(self, queue: str, batch: list[Written]) -> list[Sent | BrokerError | None]:
        url, fifo = await self._queues.located(queue)

        async def request(entries: list[dict[str, Any]]) -> dict[str, Any]:
            # Doing it twice is doing it once where SQS deduplicates; elsewhere the sender is told and decides.
            return await self._client.write(_ACTION, queue, repeatable=fifo, QueueUrl=url, Entries=entries)

        try:
            results = await in_parts(
                [one.entry for one in batch], request, place=self._client.place, action=_ACTION, queue=queue
            )
        except QueueNotFound:
            self._queues.forget(queue)
            raise
        return [self._made(queue, one, result, fifo=fifo) for one, result in zip(batch, results, strict=True)]

    def _made(
        self, queue: str, one: Written, result: dict[str, Any] | BrokerError, *, fifo: bool
    ) -> Sent | BrokerError | None:
        if isinstance(result, BrokerError):
            return _explained(one, result, fifo=fifo)
        if fifo and (first := self._first.of(queue, result)):
            return Sent(id=first.id, sequence=first.sequence, duplicate=True)
        for what, is_, should in (
            ("body", result.get("MD5OfMessageBody"), one.body_md5),
            ("attributes", result.get("MD5OfMessageAttributes"), one.attributes_md5),
        ):
            if is_ != should:
                problem = f"the MD5 of the {what} that arrived is {is_}, and of what was sent {should}"
                return OutcomeUnknown(self._client.place.address, problem)
        if not fifo:
            return None
        sent = Sent(id=one.message_id, sequence=int(result.get("SequenceNumber") or 0))
        self._first.remember(queue, result, sent)
        return sent


class _First(NamedTuple):
    id: str
    sequence: int
    until: float


class _FirstSends:
    """What this process sent to FIFO queues lately, by SQS's ids: the answer to a duplicate names the first one's.

    SQS does not say that a message is a duplicate. One that another process sent first is not recognised as one.
    """

    def __init__(self) -> None:
        self._sent: OrderedDict[tuple[str, str], _First] = OrderedDict()

    def of(self, queue: str, result: dict[str, Any]) -> _First | None:
        first = self._sent.get((queue, result.get("MessageId", "")))
        return first if first is not None and first.until > time.monotonic() else None

    def remember(self, queue: str, result: dict[str, Any], sent: Sent) -> None:
        now = time.monotonic()
        self._sent[queue, result.get("MessageId", "")] = _First(sent.id, sent.sequence, now + _INTERVAL)
        while len(self._sent) > _REMEMBERED or next(iter(self._sent.values())).until <= now:
            self._sent.popitem(last=False)


def _explained(one: Written, error: BrokerError, *, fifo: bool) -> BrokerError:
    """The error in the words of the port."""
    if not isinstance(error, Refused):
        return error
    if fifo and "MessageDeduplicationId" not in one.entry and "eduplication" in error.text:
        limit = "given, or the queue declared with content_deduplication=True"
        return LimitExceeded("deduplication id", None, limit)
    if not error.is_about_message:
        return error
    return LimitExceeded("message", error.code, f"as Amazon SQS takes it: {error.text}")
