"""The load, from a process of its own: `python -m endpoints.load MEASURE URL COUNT`, its numbers as a line of JSON.

Each measure makes its own queue, and counts only if every message that was sent is there, or was received once.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from endpoints.http import Client
from workload import quantiles

CLIENTS = 8
BODY = json.dumps({"order_id": "order-00000000", "customer": "Ada Lovelace", "note": "x" * 256})[:254] + '"}'
"""256 bytes."""
_BATCH = 10
Numbers = dict[str, float]
Measure = Callable[[str, int], Coroutine[Any, Any, Numbers]]


async def send_batches(url: str, count: int) -> Numbers:
    """Messages a second, ten a request, from eight clients."""
    queue = await _queue(url)
    entries = [{"Id": str(number), "MessageBody": BODY} for number in range(_BATCH)]

    async def one(client: Client) -> int:
        answer = await client.call("SendMessageBatch", QueueUrl=queue, Entries=entries)
        return len(answer["Successful"])

    return await _rate(url, count, one)


async def send_alone(url: str, count: int) -> Numbers:
    """Messages a second, one a request, from eight clients."""
    queue = await _queue(url)

    async def one(client: Client) -> int:
        await client.call("SendMessage", QueueUrl=queue, MessageBody=BODY)
        return 1

    return await _rate(url, count, one)


async def drain(url: str, count: int) -> Numbers:
    """Messages a second, received and deleted in tens, by eight clients."""
    queue = await _queue(url)
    await fill(url, queue, count)
    return await _drained(url, queue, count)


async def drain_what_is_there(url: str, count: int) -> Numbers:
    """The same of a queue `deep` that somebody filled; of its messages `count` are received and deleted."""
    async with Client(url) as client:
        queue = (await client.call("GetQueueUrl", QueueName="deep"))["QueueUrl"]
    return await _drained(url, queue, count)


async def one_after_the_other(url: str, count: int) -> Numbers:
    """p50 and p99 of a send by a single client, in ms."""
    queue = await _queue(url)
    took: list[int] = []
    async with Client(url) as client:
        for _ in range(count):
            began = time.perf_counter_ns()
            await client.call("SendMessage", QueueUrl=queue, MessageBody=BODY)
            took.append(time.perf_counter_ns() - began)
    return quantiles(took[count // 10 :])


async def wake(url: str, count: int) -> Numbers:
    """From the answer to a send until a long poll that waited for it has the message, p50 and p99 in ms."""
    queue = await _queue(url)
    took: list[int] = []
    async with Client(url) as sender, Client(url) as receiver:
        for _ in range(count):
            asked = asyncio.ensure_future(
                receiver.call("ReceiveMessage", QueueUrl=queue, MaxNumberOfMessages=1, WaitTimeSeconds=20)
            )
            await asyncio.sleep(0.02)  # until it waits
            await sender.call("SendMessage", QueueUrl=queue, MessageBody=BODY)
            began = time.perf_counter_ns()
            (message,) = (await asked)["Messages"]
            took.append(time.perf_counter_ns() - began)
            await receiver.call("DeleteMessage", QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return quantiles(took)


MEASURES: dict[str, Measure] = {
    one.__name__: one for one in (send_batches, send_alone, drain, drain_what_is_there, one_after_the_other, wake)
}


async def _queue(url: str) -> str:
    async with Client(url) as client:
        made = await client.call("CreateQueue", QueueName=f"bench-{time.time_ns()}")
    found: str = made["QueueUrl"]
    return found


async def _rate(url: str, count: int, one: Callable[[Client], Awaitable[int]]) -> Numbers:
    left = count

    async def work() -> None:
        nonlocal left
        async with Client(url) as client:
            while left > 0:
                sent = await one(client)
                left -= sent  # not in one line: it would be read before the wait

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CLIENTS)))
    return {"rate": (count - left) / (time.perf_counter() - began)}


async def fill(url: str, queue: str, count: int, body: str = BODY) -> None:
    """Send `count` messages, in tens."""
    entries = [{"Id": str(number), "MessageBody": body} for number in range(_BATCH)]

    async def work(share: int) -> None:
        async with Client(url) as client:
            for _ in range(share // _BATCH):
                await client.call("SendMessageBatch", QueueUrl=queue, Entries=entries)

    await asyncio.gather(*(work(count // CLIENTS) for _ in range(CLIENTS)))


async def _drained(url: str, queue: str, count: int) -> Numbers:
    seen: set[str] = set()

    async def work() -> None:
        async with Client(url) as client:
            while len(seen) < count // CLIENTS * CLIENTS // _BATCH * _BATCH:
                answer: dict[str, Any] = await client.call(
                    "ReceiveMessage", QueueUrl=queue, MaxNumberOfMessages=_BATCH, VisibilityTimeout=120
                )
                if not (messages := answer.get("Messages", [])):
                    return
                entries = [
                    {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]} for number, one in enumerate(messages)
                ]
                await client.call("DeleteMessageBatch", QueueUrl=queue, Entries=entries)
                seen.update(one["MessageId"] for one in messages)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CLIENTS)))
    if not seen:
        raise RuntimeError("nothing was received")
    return {"rate": len(seen) / (time.perf_counter() - began), "received": float(len(seen))}


def _main() -> None:
    name, url, count = sys.argv[1:]
    numbers = asyncio.run(MEASURES[name](url, int(count)))
    print(json.dumps(numbers), flush=True)


if __name__ == "__main__":
    _main()
