"""dramatiq_sqs, on boto3."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import dramatiq
import pytest
from dramatiq.middleware import Retries
from dramatiq_sqs import SQSBroker

from tests.sqs_api.answering import KEY, REGION, SECRET, Endpoint

DEADLINE = 20.0


@pytest.fixture
def broker(running: Endpoint) -> Iterator[SQSBroker]:
    """With a dead-letter queue, as dramatiq understands one."""
    made = SQSBroker(
        namespace="shop",
        dead_letter=True,
        middleware=[Retries(max_retries=0)],
        endpoint_url=running.url,
        region_name=REGION,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )
    yield made
    made.close()


def test_a_dramatiq_worker_handles_and_rejects(running: Endpoint, broker: SQSBroker) -> None:
    """What is handled is deleted, what fails goes to the dead-letter queue, and the queue is empty then."""
    handled: list[int] = []
    rejected = threading.Event()

    @dramatiq.actor(broker=broker, queue_name="orders")
    def brew(number: int) -> None:
        if number == 3:
            rejected.set()
            raise RuntimeError(number)
        handled.append(number)

    for number in range(4):
        brew.send(number)
    brew.send_with_options(args=(4,), delay=1_000)
    worker = dramatiq.Worker(broker, worker_timeout=1_000, worker_threads=2)
    worker.start()
    try:
        broker.join("orders", timeout=int(DEADLINE * 1_000))
        worker.join()
        assert rejected.wait(DEADLINE)
    finally:
        worker.stop()
    assert sorted(handled) == [0, 1, 2, 4]
    client = running.client()
    dead = client.get_queue_url(QueueName="shop_orders_dlq")["QueueUrl"]
    (letter,) = client.receive_message(QueueUrl=dead)["Messages"]
    assert json.dumps(3) in _decoded(letter["Body"])


def _decoded(body: str) -> str:
    import base64  # noqa: PLC0415 - only here

    return base64.b64decode(body).decode()
