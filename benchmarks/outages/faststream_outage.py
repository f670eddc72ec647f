"""FastStream on RabbitMQ: what the handler raised rejects the message (its default), or hands it back at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from outages.amqp import waiting
from outages.calling import handle_on_loop
from servers import RABBITMQ_URL

_QUEUE = RabbitQueue(f"faststream-{os.environ.get('BENCH_RUN', '')}", durable=True)
_POLICY = AckPolicy(os.environ.get("BENCH_ACK", AckPolicy.REJECT_ON_ERROR.value))


def fill(count: int) -> None:
    """Send them all."""

    async def sending() -> None:
        async with RabbitBroker(os.environ[RABBITMQ_URL], logger=None) as broker:
            await broker.declare_queue(_QUEUE)
            for number in range(count):
                await broker.publish(number, queue=_QUEUE, persist=True)

    asyncio.run(sending())


def left() -> Mapping[str, int]:
    """A rejected message is gone, unless the queue was given a dead-letter exchange."""
    return {"dead": 0, "waiting": waiting(_QUEUE.name)}


async def work() -> None:
    """Its worker, until SIGTERM."""
    broker = RabbitBroker(os.environ[RABBITMQ_URL], logger=None)
    broker.subscriber(_QUEUE, channel=Channel(prefetch_count=10), ack_policy=_POLICY)(handle_on_loop)
    await FastStream(broker, logger=None).run()


WORKER = ["-m", "outages.faststream_outage"]

if __name__ == "__main__":
    asyncio.run(work())
