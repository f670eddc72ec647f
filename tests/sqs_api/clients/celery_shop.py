"""A Celery application on an SQS endpoint: `send NUMBER`, or `work`. What it handles it writes into a file, by line.

Its worker runs without kombu's event loop, which needs pycurl: kombu then receives by boto3, as it sends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from celery import Celery

app = Celery(
    "shop",
    broker=f"sqs://{os.environ['AWS_ACCESS_KEY_ID']}:secret@{os.environ['SHOP_ENDPOINT']}",
    broker_transport_options={
        "region": os.environ["AWS_DEFAULT_REGION"],
        "wait_time_seconds": 1,
        "polling_interval": 0.05,
    },
    task_default_queue="celery-orders",
    task_acks_late=True,
    worker_enable_remote_control=False,
)


@app.task(bind=True, max_retries=1, name="shop.brew")
def brew(self: object, number: int) -> None:
    """Fails the first time for odd numbers, and is tried again."""
    retries: int = self.request.retries  # type: ignore[attr-defined]
    if number % 2 and not retries:
        raise self.retry(countdown=0)  # type: ignore[attr-defined]
    with Path(os.environ["SHOP_FILE"]).open("a", encoding="utf-8") as lines:
        lines.write(f"{number} {retries}\n")


def main(command: str, *arguments: str) -> None:
    """Either."""
    if command == "send":
        for number in range(int(arguments[0])):
            brew.delay(number)
    else:
        app.Worker(
            pool="solo", use_eventloop=False, without_heartbeat=True, without_gossip=True, without_mingle=True
        ).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
