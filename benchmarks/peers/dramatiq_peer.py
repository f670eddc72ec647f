"""Dramatiq on RabbitMQ: durable queue, persistent messages, each send confirmed.

A crash in mid-message: RabbitMQ hands it out again. Tuned: two worker processes of four threads and a prefetch of 200
messages each (`dramatiq_queue_prefetch`), and no middleware but the retries.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.middleware import Retries
from peers.contest import Peer, answer, handler
from servers import RABBITMQ_URL
from workload import Order

THREADS = 32
_QUEUE = f"dramatiq-{os.environ.get('BENCH_RUN', '')}"

broker = RabbitmqBroker(url=os.environ[RABBITMQ_URL], confirm_delivery=True, middleware=[Retries()])
dramatiq.set_broker(broker)
actor = dramatiq.actor(handler(), actor_name="order", queue_name=_QUEUE)


def send(order: Order) -> None:
    """One message."""
    actor.send(order.model_dump_json())


def concurrently(orders: Sequence[Order]) -> None:
    """Single sends from threads, each with a connection of its own."""
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(send, orders):
            pass


PEER = Peer(
    prepare=lambda: broker.declare_queue(_QUEUE, ensure=True),
    concurrently=concurrently,
    send=send,
    worker=["-m", "dramatiq", "peers.dramatiq_peer", "--processes", "2", "--threads", "4"],
)

if __name__ == "__main__":
    os.environ["dramatiq_queue_prefetch"] = "200"  # noqa: SIM112 - its own name
    answer(PEER)
