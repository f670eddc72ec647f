"""Celery, by way of kombu's SQS transport."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.sqs_api.answering import Endpoint, environment

SHOP = Path(__file__).with_name("celery_shop.py")
DEADLINE = 30.0


@pytest.mark.e2e
def test_a_celery_worker_handles_and_retries(running: Endpoint, tmp_path: Path) -> None:
    """Every task is handled once, the failing ones at their second try, and the queue is empty at the end."""
    lines = tmp_path / "lines"
    lines.touch()
    settings = {
        **os.environ,
        **environment(running.url),
        "SHOP_ENDPOINT": running.url.removeprefix("http://"),
        "SHOP_FILE": str(lines),
    }
    subprocess.run([sys.executable, str(SHOP), "send", "6"], env=settings, check=True, timeout=DEADLINE)
    with subprocess.Popen([sys.executable, str(SHOP), "work"], env=settings) as worker:
        try:
            _until(lambda: len(lines.read_text("utf-8").splitlines()) >= 6)
            client = running.client()
            queue = client.get_queue_url(QueueName="celery-orders")["QueueUrl"]
            _until(lambda: not _held(client.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])))
        finally:
            worker.terminate()
            worker.wait(DEADLINE)
    handled = sorted(lines.read_text("utf-8").splitlines())
    assert handled == ["0 0", "1 1", "2 0", "3 1", "4 0", "5 1"]


def _held(answer: dict[str, dict[str, str]]) -> int:
    return sum(int(value) for name, value in answer["Attributes"].items() if name.startswith("Approximate"))


def _until(condition: object) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)
