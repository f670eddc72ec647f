"""FastStream on RabbitMQ: durable queue, persistent messages, each send confirmed, acknowledged after the handler.

A crash in mid-message: RabbitMQ hands it out again. Tuned: a prefetch of 200 messages, handled as they come.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from peers.contest import Peer, answer, handler
from servers import RABBITMQ_URL
from workload import Order

TASKS = 128
PREFETCH = 200
_QUEUE = RabbitQueue(f"faststream-{os.environ.get('BENCH_RUN', '')}", durable=True)


def new_broker() -> RabbitBroker:
    """Its broker, not connected yet."""
    return RabbitBroker(os.environ[RABBITMQ_URL], logger=None)


async def _prepare() -> None:
    async with new_broker() as broker:
        await broker.declare_queue(_QUEUE)


async def _concurrently(orders: Sequence[Order]) -> None:
    """Single sends from 128 tasks over one connection."""
    async with new_broker() as broker:
        waiting = iter(orders)

        async def sender() -> None:
            for one in waiting:
                await broker.publish(one.model_dump_json(), queue=_QUEUE, persist=True)

        await asyncio.gather(*(sender() for _ in range(TASKS)))


class Sender:
    """One connection, and a loop to use it on."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._broker: RabbitBroker | None = None

    def send(self, order: Order) -> None:
        """One message."""
        self._loop.run_until_complete(self._send(order))

    async def _send(self, order: Order) -> None:
        if self._broker is None:
            self._broker = new_broker()
            await self._broker.connect()
        await self._broker.publish(order.model_dump_json(), queue=_QUEUE, persist=True)


async def work() -> None:
    """Its worker, until SIGTERM."""
    broker, handle = new_broker(), handler()

    async def take(body: str) -> None:
        handle(body)

    broker.subscriber(_QUEUE, channel=Channel(prefetch_count=PREFETCH), ack_policy=AckPolicy.NACK_ON_ERROR)(take)
    await FastStream(broker, logger=None).run()


PEER = Peer(
    prepare=lambda: asyncio.run(_prepare()),
    concurrently=lambda orders: asyncio.run(_concurrently(orders)),
    send=Sender().send,
    worker=["-m", "peers.faststream_peer", "worker"],
)

if __name__ == "__main__":
    if sys.argv[1] == "worker":
        asyncio.run(work())
    else:
        answer(PEER)
