"""TaskIQ on RabbitMQ: its retry middleware with growing delays and jitter, three tries as by default."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from outages.amqp import waiting
from outages.calling import handle_on_loop
from servers import RABBITMQ_URL
from taskiq.middlewares import SmartRetryMiddleware
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue

_QUEUE = f"taskiq-{os.environ.get('BENCH_RUN', '')}"

broker = AioPikaBroker(
    os.environ[RABBITMQ_URL],
    exchange=Exchange(name=_QUEUE),
    task_queues=[Queue(name=_QUEUE)],
    dead_letter_queue=Queue(name=f"{_QUEUE}-dead"),
    delay_queue=Queue(name=f"{_QUEUE}-delay"),
).with_middlewares(
    SmartRetryMiddleware(default_retry_count=3, default_delay=5, use_jitter=True, use_delay_exponent=True)
)
task = broker.task(task_name="handle", retry_on_error=True)(handle_on_loop)


def fill(count: int) -> None:
    """Send them all."""

    async def sending() -> None:
        await broker.startup()
        for number in range(count):
            await task.kiq(number)
        await broker.shutdown()

    asyncio.run(sending())


def left() -> Mapping[str, int]:
    """Its dead-letter queue takes what is rejected; a task that ran out of retries was acknowledged."""
    return {"dead": waiting(f"{_QUEUE}-dead"), "waiting": waiting(_QUEUE, f"{_QUEUE}-delay")}


WORKER = [
    *("-m", "taskiq", "worker", "outages.taskiq_outage:broker", "--workers", "1", "--max-async-tasks", "10"),
    *("--app-dir", str(Path(__file__).parents[1]), "--log-level", "CRITICAL"),
]
