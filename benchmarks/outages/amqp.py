"""How many messages wait in RabbitMQ."""

from __future__ import annotations

import os

import pika
from pika.exceptions import ChannelClosedByBroker
from servers import RABBITMQ_URL


def waiting(*queues: str) -> int:
    """Messages that are ready in these queues; those in the hands of a worker are ready again once it has ended."""
    with pika.BlockingConnection(pika.URLParameters(os.environ[RABBITMQ_URL])) as connection:
        return sum(_waiting(connection, queue) for queue in queues)


def _waiting(connection: pika.BlockingConnection, queue: str) -> int:
    channel = connection.channel()
    try:
        return int(channel.queue_declare(queue, passive=True).method.message_count)
    except ChannelClosedByBroker:  # there is no such queue, so nothing is in it
        return 0
