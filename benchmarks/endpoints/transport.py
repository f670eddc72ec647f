"""What redrive's worker costs on SQS, beside a loop that does nothing but receive and delete, with the same client.

`python -m endpoints.transport worker|bare URL COUNT`: messages a second, as a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from endpoints.load import fill
from workload import order

from redrive import App

LANES = 10
"""Of the bare loop; the worker finds out for itself how many requests to have under way."""
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}
_BODY = order(0).model_dump_json()


async def worker(url: str, count: int) -> float:
    """A worker of redrive, from its first handler's start until its last one's end."""
    handled: list[float] = []
    done = asyncio.Event()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store.db"
        app = App("bench", broker=f"sqs://us-east-1?endpoint_url={url}&store_url=sqlite:{store}")
        queue = app.queue(f"bench-{time.time_ns()}", dict[str, Any])

        @queue.consumer(concurrency=200)
        async def handle(_: dict[str, Any]) -> None:
            handled.append(time.perf_counter())
            if len(handled) >= count:
                done.set()

        async with app:
            async with get_session().create_client("sqs", endpoint_url=url) as client:
                found = (await client.get_queue_url(QueueName=queue.name))["QueueUrl"]
            await fill(url, found, count, _BODY)
            stop = asyncio.Event()
            work = asyncio.create_task(app.work(stop=stop))
            await done.wait()
            took = time.perf_counter() - handled[0]
            stop.set()
            await work
    return count / took


async def bare(url: str, count: int) -> float:
    """Ten lanes of aiobotocore: receive ten, delete ten."""
    left = count
    config = AioConfig(max_pool_connections=LANES)
    async with get_session().create_client("sqs", endpoint_url=url, config=config) as client:
        found = (await client.create_queue(QueueName=f"bench-{time.time_ns()}"))["QueueUrl"]
        await fill(url, found, count, _BODY)

        async def lane() -> None:
            nonlocal left
            while left > 0:
                answer = await client.receive_message(QueueUrl=found, MaxNumberOfMessages=10, WaitTimeSeconds=1)
                messages = answer.get("Messages", [])
                entries = [
                    {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]} for number, one in enumerate(messages)
                ]
                if entries:
                    await client.delete_message_batch(QueueUrl=found, Entries=entries)
                    left -= len(entries)

        began = time.perf_counter()
        lanes = [asyncio.create_task(lane()) for _ in range(LANES)]
        await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)
        took = time.perf_counter() - began
        for one in lanes:
            one.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
    return count / took


def _main() -> None:
    name, url, count = sys.argv[1:]
    os.environ.update(_CREDENTIALS)
    found = asyncio.run({"worker": worker, "bare": bare}[name](url, int(count)))
    print(json.dumps({"rate": found}), flush=True)


if __name__ == "__main__":
    _main()
