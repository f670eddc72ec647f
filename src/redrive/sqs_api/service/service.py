"""One call after another, as transactions on the database that the embedded broker uses.

What is answered is on disk. A crash leaves of each call all or nothing; leases, receipts and move tasks are in the file
and go on with whoever opens it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redrive.brokers.sqlite import Taken, taken_within, until_next
from redrive.clock import SystemClock
from redrive.errors import QueueNotFound, RedriveError
from redrive.sqlite.database import FULL
from redrive.sqlite.engine import MOST_IN_FLIGHT
from redrive.sqlite.signals import BACKSTOP
from redrive.sqlite.tables import T, Tables, Work
from redrive.sqlite.writer import Database, FileDatabase
from redrive.sqs_api.calls import Caller, QueueCounts, Refused
from redrive.sqs_api.service import batches, moving, permissions, queues, receiving, sending, settling
from redrive.sqs_api.service.addresses import FIFO, name_in_url, queue_called, wire_name
from redrive.sqs_api.service.settings import LARGEST_MESSAGE, seconds
from redrive.sqs_api.service.wording import in_words_of, refusal_of

Request = Mapping[str, Any]
_IN_ONE_STEP = {**queues.OPERATIONS, **permissions.OPERATIONS, **moving.OPERATIONS}


class _Receive:
    """One ReceiveMessage: each try is a transaction, in which the queue is looked at anew."""

    def __init__(self, name: str, want: receiving.Wanted) -> None:
        self._name, self._want = name, want
        self.own = name.removesuffix(FIFO)
        self.wait, self.now_ms = want.wait or 0, 0
        """How long to wait: seconds, by the request or else by the queue."""
        self.refused: Refused | None = None

    def take(self, tables: Tables) -> Taken:
        """What there is; nothing once it is refused, which ends the wait."""
        engine, want = tables.engine, self._want
        try:
            self.queue = queue_called(tables, self._name)
            self.refused = want.refused(self.queue)
        except Refused as refused:
            self.refused = refused
        if self.refused:
            return [], 0.0
        said, self.now_ms = tables.sqs.of(self.queue.id).attributes, tables.now_ms
        if want.wait is None:
            self.wait = seconds(said, "ReceiveMessageWaitTimeSeconds")
        lease = seconds(said, "VisibilityTimeout") if want.visibility is None else want.visibility
        taken = engine.receive(
            self.own, limit=want.most, lease=lease, now_ms=tables.now_ms, attempt=want.attempt, by_group=True
        )
        if not lease:  # the engine's shortest is a millisecond, and whoever asks next may be faster
            for one in taken:
                engine.change_visibility(one, 0, tables.now_ms)
        if not taken and not self.wait and not self.queue.fifo and engine.is_full(self.own, tables.now_ms):
            self.refused = Refused("OverLimit", f"{MOST_IN_FLIGHT} messages are in flight, and more cannot be.")
        return taken, BACKSTOP if taken else until_next(tables, self.own)


class EndpointService:
    """SQS on one database. One event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sent: Counter[str] = Counter()
        self._received: Counter[str] = Counter()
        self._deleted: Counter[str] = Counter()
        self._alone = {
            "SendMessage": self._send,
            "SendMessageBatch": self._send_batch,
            "ReceiveMessage": self._receive,
            "DeleteMessage": self._delete,
            "DeleteMessageBatch": self._delete_batch,
            "ChangeMessageVisibility": self._change,
            "ChangeMessageVisibilityBatch": self._change_batch,
        }

    async def call(self, operation: str, request: Request, caller: Caller) -> Mapping[str, Any]:
        """Do one operation of SQS; see `redrive.sqs_api.calls.Service`."""
        try:
            if alone := self._alone.get(operation):
                return await alone(request, caller)
            return await self._in_one_step(operation, request, caller)
        except RedriveError as error:
            raise refusal_of(error) from error
        except Refused as refused:
            raise in_words_of(caller.protocol, refused) from None

    async def metrics(self) -> Sequence[QueueCounts]:
        """Count each queue's messages; costs time by their number."""
        found: list[QueueCounts] = []
        for name in await self._database.run(lambda tables: tables.engine.queues()):
            found += await self._database.run(lambda tables, name=name: self._counted(tables, name))  # type: ignore[misc]
        return found

    async def _in_one_step(self, operation: str, request: Request, caller: Caller) -> Mapping[str, Any]:
        step = _IN_ONE_STEP[operation]
        answer = await self._run(lambda tables: step(tables, request, caller))
        if operation == "DeleteQueue":
            self._forget(name_in_url(request["QueueUrl"], caller))
        return answer

    def _forget(self, name: str) -> None:
        for counter in (self._sent, self._received, self._deleted):
            counter.pop(name, None)

    # Messages

    async def _send(self, request: Request, caller: Caller) -> Mapping[str, Any]:
        name, entry = name_in_url(request["QueueUrl"], caller), sending.entry_of(request)
        (answer,) = await self._sent_to(name, [entry], sending.send)
        if isinstance(answer, Refused):
            raise answer
        return answer

    async def _send_batch(self, request: Request, caller: Caller) -> Mapping[str, Any]:
        name = name_in_url(request["QueueUrl"], caller)
        entries = batches.entries_of(request, "SendMessageBatchRequestEntry")
        read = [_or_refused(one) for one in entries]
        fit = [one for one in read if isinstance(one, sending.Entry)]
        total = sum(one.size for one in fit)
        if len(fit) < len(read):
            total = sum(sending.size_of(one) for one in entries)
        if total > LARGEST_MESSAGE:
            problem = f"Batch requests cannot be longer than {LARGEST_MESSAGE} bytes. You have sent {total} bytes."
            raise Refused("BatchRequestTooLong", problem)
        answers = iter(await self._sent_to(name, fit, sending.send_batch))
        results = [one if isinstance(one, Refused) else next(answers) for one in read]
        return batches.answer(entries, results)

    async def _sent_to(
        self, name: str, entries: Sequence[sending.Entry], send: sending.Send
    ) -> list[dict[str, Any] | Refused]:
        answers = await self._run(lambda tables: send(tables, queue_called(tables, name), entries))
        self._sent[name] += sum(not isinstance(one, Refused) for one in answers)
        return answers

    async def _receive(self, request: Request, caller: Caller) -> Mapping[str, Any]:
        name, want = name_in_url(request["QueueUrl"], caller), receiving.wanted(request, caller)
        receive = _Receive(name, want)
        taken = await taken_within(self._database, receive.own, receive.take, 0.0)
        if not taken and receive.wait and not receive.refused:
            taken = await taken_within(self._database, receive.own, receive.take, receive.wait)
        if receive.refused:
            raise receive.refused
        if not taken:
            return {}
        self._received[name] += len(taken)
        return {"Messages": [receiving.told(receive.queue, one, want, caller, receive.now_ms) for one in taken]}

    async def _delete(self, request: Request, caller: Caller) -> Mapping[str, Any]:
        name = name_in_url(request["QueueUrl"], caller)
        (result,) = await self._deleted_from(name, [request["ReceiptHandle"]], settling.delete)
        if result is not None:
            raise result
        return {}

    async def _delete_batch(self, request: Request, caller: Caller) -> Mapping[str, Any]:
        name = name_in_url(request["QueueUrl"], caller)
        entries = batches.entries_of(request, "DeleteMessageBatchRequestEntry")
        handles = [one["ReceiptHandle"] for one in entries]
        return batches.answer(entries, await self._deleted_from(name, handles, settling.delete_batch))

    async def _deleted_from(self, name: str, handles: Sequence[str], delete: settling.Delete) -> list[Refused | None]:
        results = await self._run(lambda tables: delete(tables, queue_called(tables, name), handles))
        self._deleted[name] += sum(one is None for one in results)
        return results

    async def _change(self, request: Request, caller: Caller) -> Mapping[str, Any]:
        (result,) = await self._changed_in(name_in_url(request["QueueUrl"], caller), [request])
        if result is not None:
            raise result
        return {}

    async def _change_batch(self, request: Request, caller: Caller) -> Mapping[str, Any]:
        name = name_in_url(request["QueueUrl"], caller)
        entries = batches.entries_of(request, "ChangeMessageVisibilityBatchRequestEntry")
        return batches.answer(entries, await self._changed_in(name, entries))

    async def _changed_in(self, name: str, requests: Sequence[Request]) -> list[Refused | None]:
        return await self._run(lambda tables: settling.change(tables, queue_called(tables, name), requests))

    # On the database

    async def _run(self, work: Work[T]) -> T:
        """In one transaction, which what is refused does not disturb: it is found out before anything is written."""

        def refusing(tables: Tables) -> T | Refused:
            try:
                return work(tables)
            except Refused as refused:
                return refused

        answer = await self._database.run(refusing)
        if isinstance(answer, Refused):
            raise answer
        return answer

    def _counted(self, tables: Tables, own: str) -> list[QueueCounts]:
        try:
            queue = tables.engine.queue_table.named(own)
        except QueueNotFound:  # deleted meanwhile
            return []
        depth = tables.engine.depth(own, tables.now_ms)
        name = wire_name(own, fifo=bool(queue.fifo))
        return [
            QueueCounts(
                queue=name,
                visible=depth.ready,
                not_visible=depth.in_flight,
                delayed=depth.delayed,
                sent=self._sent[name],
                received=self._received[name],
                deleted=self._deleted[name],
            )
        ]


@asynccontextmanager
async def open_service(path: str, durability: str = FULL) -> AsyncIterator[EndpointService]:
    """Open the database file, made if it is missing; on leaving, finish what is asked and close it.

    Raises:
        DatabaseUnusable: If the file cannot be used.
    """
    database = await asyncio.to_thread(lambda: FileDatabase(path, SystemClock(), durability=durability))
    try:
        yield EndpointService(database)
    finally:
        await asyncio.to_thread(database.close)


def _or_refused(request: Request) -> sending.Entry | Refused:
    try:
        return sending.entry_of(request)
    except Refused as refused:
        return refused
