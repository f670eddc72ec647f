"""Queues: look, send, purge, pause and resume."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from redrive.broker import Acknowledge, Outgoing, Page, refused_group
from redrive.claims import Claims
from redrive.consumer import dead_queue
from redrive.errors import BrokerError, OperationRefused
from redrive.message import Message, message_id
from redrive.operations.ground import PARKED, Ground, is_consumed
from redrive.operations.views import QueueView
from redrive.sending import checked_attributes
from redrive.store import ABSENT, CONTROLS
from redrive.sweep import LEASE
from redrive.timekeeper import set_timer


class QueueOperations(Ground):
    """Queues: look, send, purge, pause and resume."""

    async def queue(self, name: str) -> QueueView:
        """One queue.

        Raises:
            QueueNotFound: If it does not exist.
        """
        return await self._queue_view(name, await self._broker.queues())

    async def peek(self, queue: str, *, limit: int = 10, cursor: str | None = None) -> Page:
        """Look at messages of any queue, parked and dead ones too, without receiving them.

        Raises:
            OperationRefused: If the broker cannot be looked into.
        """
        if not self._broker.capabilities.browses:
            remedy = "its depth is all that is known; dead letters are in the catalogue, see `redrive dead ls`"
            raise OperationRefused(f"queue {queue!r}", "cannot be looked into on this broker", remedy)
        return await self._broker.browse(queue, cursor=cursor, limit=limit)

    async def send(
        self,
        queue: str,
        body: bytes,
        attributes: Mapping[str, str] | None = None,
        *,
        delay: float = 0.0,
        group: str | None = None,
        deduplication_id: str | None = None,
        unchecked: bool = False,
    ) -> str:
        """Put a body into a queue, checked unless told otherwise; its message id, of a duplicate the first one's.

        Raises:
            PayloadError: If it does not fit the queue.
            QueueNotFound: If the queue does not exist.
        """
        if not unchecked:
            await self.check(queue, body)
        if error := refused_group(group):
            raise error
        now = self._clock.now_ms()
        message = Message(
            id=message_id(now, self._random.randbytes(10)),
            body=body,
            sent_at_ms=now,
            attributes=checked_attributes(attributes),
            group=group,
        )
        if delay > self._broker.capabilities.max_delay:
            await self._broker.depth(queue)
            await set_timer(self._store, queue, message, due_at_ms=now + int(delay * 1000))
            return message.id
        outgoing = Outgoing(message=message, delay=delay or None, deduplication_id=deduplication_id or message.id)
        (sent,) = await self._broker.send(queue, [outgoing])
        if isinstance(sent, BrokerError):
            raise sent
        return message.id if sent is None else sent.id

    async def purge(self, queue: str) -> int:
        """Delete everything in a queue, in flight too; how many there were.

        Raises:
            QueueNotFound: If it does not exist.
            OperationRefused: If it is a dead-letter queue: its letters are discarded one by one, which is written down.
        """
        if queue.endswith("-dead"):
            raise OperationRefused(
                f"queue {queue!r}", "holds dead letters", "use `dead discard --all`, which writes down who did it"
            )
        emptied = 0
        if PARKED in queue and self._broker.capabilities.browses:
            await self._forget_keys(queue)
        elif PARKED in queue:
            emptied = await self._empty(queue)
        return emptied + await self._broker.purge(queue)

    async def pause(self, queue: str) -> None:
        """Let consumers take nothing more from a queue; within a second, on all workers."""
        await self._broker.depth(queue)
        if not is_consumed(queue):
            raise OperationRefused(f"queue {queue!r}", "has no consumer", "pause the queue that it stands behind")
        await self._put_control(f"paused/{queue}", {"who": self._who, "at_ms": self._clock.now_ms()})

    async def resume(self, queue: str) -> None:
        """Let consumers take messages again."""
        await self._broker.depth(queue)
        entry = await self._store.get(CONTROLS, f"paused/{queue}")
        if entry is not None:
            await self._store.delete(CONTROLS, entry.key, if_version=entry.version)

    async def _forget_keys(self, queue: str) -> None:
        """What is deleted needs no key kept for it; what comes meanwhile keeps its own, which is safe."""
        claims = Claims(self._store, self._clock)
        cursor = None
        while True:
            page = await self._broker.browse(queue, cursor=cursor, limit=100)
            for message in page.messages:
                if message.notes.key is not None:
                    await claims.forget(message.notes.key, message.id)
            if (cursor := page.cursor) is None:
                return

    async def _empty(self, queue: str) -> int:
        """Receive and acknowledge what can be had, with its keys forgotten: what is not seen keeps its own for ever."""
        claims, most, emptied = Claims(self._store, self._clock), self._broker.capabilities.max_batch, 0
        while deliveries := await self._broker.receive(queue, limit=most, lease=LEASE):
            for delivery in deliveries:
                if (key := delivery.message.notes.key) is not None:
                    await claims.forget(key, delivery.message.id)
            results = await self._broker.settle([Acknowledge(delivery=one) for one in deliveries])
            emptied += sum(error is None for error in results)
        return emptied

    async def _queue_view(self, name: str, names: list[str]) -> QueueView:
        depth = await self._broker.depth(name)
        parked = [await self._broker.depth(one) for one in names if one.startswith(f"{name}{PARKED}")]
        dead = await self._broker.depth(dead_queue(name)) if dead_queue(name) in names else None
        return QueueView(
            name=name,
            ready=depth.ready,
            in_flight=depth.in_flight,
            delayed=depth.delayed,
            parked=sum(one.total for one in parked),
            dead=0 if dead is None else dead.total,
            paused=await self._store.get(CONTROLS, f"paused/{name}") is not None,
        )

    async def _put_control(self, key: str, value: dict[str, Any]) -> None:
        entry = await self._store.get(CONTROLS, key)
        version = ABSENT if entry is None else entry.version
        await self._store.put(CONTROLS, key, json.dumps(value).encode(), if_version=version)
