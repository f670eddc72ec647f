"""What redrive's worker costs on SQS, beside a loop that only receives and deletes, by aiobotocore as it comes.

`python -m endpoints.transport worker|bare URL COUNT`: messages a second, and the processor's time for each, as a line
of JSON. Where a machine has other work to do, the second is what can be compared.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from endpoints.http import Client
from endpoints.load import fill
from workload import order

from redrive import App

LANES = 16
"""Of the bare loop: as many requests under way as the worker has receives at most."""
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}
_BODY = order(0).model_dump_json()


class _Moment(NamedTuple):
    """Seconds, of the wall's clock and of the processor's, all threads of this process together."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> _Moment:
        return cls(time.perf_counter(), time.process_time())

    def since(self, count: int) -> dict[str, float]:
        """What came of `count` messages."""
        wall, cpu = (end - began for began, end in zip(self, _Moment.now(), strict=True))
        return {"rate": count / wall, "cpu_us": cpu / count * 1e6}


async def worker(url: str, count: int) -> dict[str, float]:
    """A worker of redrive, from its first handler's start until it has ended, and so has deleted what it handled."""
    began: list[_Moment] = []
    left = count
    done = asyncio.Event()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store.db"
        app = App("bench", broker=f"sqs://us-east-1?endpoint_url={url}&store_url=sqlite:{store}")
        queue = app.queue(f"bench-{time.time_ns()}", dict[str, Any])

        @queue.consumer(concurrency=200)
        async def handle(_: dict[str, Any]) -> None:
            nonlocal left
            if not began:
                began.append(_Moment.now())
            left -= 1
            if not left:
                done.set()

        async with app:
            async with Client(url) as client:
                found = (await client.call("GetQueueUrl", QueueName=queue.name))["QueueUrl"]
            await fill(url, found, count, _BODY)
            stop = asyncio.Event()
            work = asyncio.create_task(app.work(stop=stop))
            await done.wait()
            stop.set()
            await work
            measured = began[0].since(count)
    await _check_empty(url, found)
    return measured


async def bare(url: str, count: int) -> dict[str, float]:
    """Lanes of aiobotocore: receive ten, delete ten."""
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

        began = _Moment.now()
        lanes = [asyncio.create_task(lane()) for _ in range(LANES)]
        await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)
        measured = began.since(count)
        for one in lanes:
            one.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
    await _check_empty(url, found)
    return measured


async def _check_empty(url: str, queue: str) -> None:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    async with Client(url) as client:
        answer = await client.call("GetQueueAttributes", QueueUrl=queue, AttributeNames=names)
    if left := sum(map(int, answer["Attributes"].values())):
        raise RuntimeError(f"{left} messages were not deleted")


def _main() -> None:
    name, url, count = sys.argv[1:]
    os.environ.update(_CREDENTIALS)
    print(json.dumps(asyncio.run({"worker": worker, "bare": bare}[name](url, int(count)))), flush=True)


if __name__ == "__main__":
    _main()
