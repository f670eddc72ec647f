"""Dramatiq on RabbitMQ: its retries with backoff (from 15 s, twenty of them by default), or three of them from 1 s."""

from __future__ import annotations

import os
from collections.abc import Mapping

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from outages.amqp import waiting
from outages.calling import handle
from servers import RABBITMQ_URL

_QUEUE = f"dramatiq-{os.environ.get('BENCH_RUN', '')}"
_LIMIT = os.environ.get("BENCH_RETRIES", "")

broker = RabbitmqBroker(url=os.environ[RABBITMQ_URL], confirm_delivery=True)
dramatiq.set_broker(broker)
options = {"max_retries": int(_LIMIT), "min_backoff": 1_000} if _LIMIT else {}
actor = dramatiq.actor(handle, actor_name="handle", queue_name=_QUEUE, **options)


def fill(count: int) -> None:
    """Send them all."""
    for number in range(count):
        actor.send(number)


def left() -> Mapping[str, int]:
    """Its dead letters stand in `.XQ`, what is delayed in `.DQ`."""
    return {"dead": waiting(f"{_QUEUE}.XQ"), "waiting": waiting(_QUEUE, f"{_QUEUE}.DQ")}


WORKER = ["-m", "dramatiq", "outages.dramatiq_outage", "--processes", "1", "--threads", "10"]
