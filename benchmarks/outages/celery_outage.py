"""Celery on RabbitMQ: `autoretry_for` with `retry_backoff` and jitter, and its default of three retries."""

from __future__ import annotations

import os
from collections.abc import Mapping

from celery import Celery
from kombu import Queue
from outages.amqp import waiting
from outages.calling import OutOfOrder, handle
from servers import RABBITMQ_URL

_QUEUE = f"celery-{os.environ.get('BENCH_RUN', '')}"

app = Celery("bench", broker=os.environ[RABBITMQ_URL])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
    task_default_queue=_QUEUE,
    task_queues=[Queue(_QUEUE, durable=True)],
)
task = app.task(handle, name="handle", autoretry_for=(OutOfOrder,), retry_backoff=True, retry_jitter=True)


def fill(count: int) -> None:
    """Send them all."""
    for number in range(count):
        task.apply_async((number,))


def left() -> Mapping[str, int]:
    """It has no dead letters of its own."""
    return {"dead": 0, "waiting": waiting(_QUEUE)}


WORKER = [
    *("-m", "celery", "-A", "outages.celery_outage", "worker", "--pool", "threads", "--concurrency", "10"),
    *("--loglevel", "CRITICAL", "--without-gossip", "--without-mingle"),
]
