"""Celery on RabbitMQ: durable queue, persistent messages, each send confirmed, acknowledged after the task.

A crash in mid-message: with `acks_late` and `reject_on_worker_lost`, RabbitMQ hands it out again; by default it would
be lost. Tuned as its guide "Optimizing" says for many short tasks: a prefetch multiplier of 128 and as many pooled
connections as threads send; no results, no events, one process for each core.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from celery import Celery
from kombu import Queue
from peers.contest import Peer, answer, handler
from servers import RABBITMQ_URL
from workload import Order

THREADS = 32
_QUEUE = f"celery-{os.environ.get('BENCH_RUN', '')}"

app = Celery("bench", broker=os.environ[RABBITMQ_URL])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=128,
    worker_send_task_events=False,
    worker_hijack_root_logger=True,
    broker_pool_limit=THREADS,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
    task_default_queue=_QUEUE,
    task_queues=[Queue(_QUEUE, durable=True)],
)
task = app.task(handler(), name="order")


def send(order: Order) -> None:
    """One task."""
    task.apply_async((order.model_dump_json(),))


def concurrently(orders: Sequence[Order]) -> None:
    """Single sends from threads."""
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(send, orders):
            pass


def _prepare() -> None:
    with app.connection_for_write() as connection:
        Queue(_QUEUE, durable=True)(connection.default_channel).declare()


PEER = Peer(
    prepare=_prepare,
    concurrently=concurrently,
    send=send,
    worker=[
        *("-m", "celery", "-A", "peers.celery_peer", "worker", "--concurrency", "2", "--loglevel", "WARNING"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ],
)

if __name__ == "__main__":
    answer(PEER)
