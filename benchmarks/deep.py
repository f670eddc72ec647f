"""What a message costs while a thousand wait, and while a million do: receive and acknowledge, through the port.

Both queues stand in files of their own and take turns, so that what the disk does meanwhile happens to both. What is
taken out is put back, outside of the measured time.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ledger import Miscounted
from resting import running
from workload import measured_by, order, status_kib

from redrive.broker import Acknowledge, Broker, Outgoing, QueueSpec
from redrive.clock import SteadyClock, SystemClock
from redrive.connections import connect
from redrive.errors import BrokerError
from redrive.message import Message

SHALLOW = 1_000
"""Messages in the queue that the other one is compared with."""
GROUPS = 10_000
"""Groups of a FIFO queue; fewer where there are fewer messages."""
BATCH = 100
_ROUNDS, _WARM_UP = 100, 20
_FILL, _FILLERS = 1_000, 4
_LEASE = 30.0
_PART = 10
"""The worker whose memory is measured handles a tenth of what waits."""


class Deep:
    """A queue of a certain depth."""

    def __init__(self, broker: Broker, *, fifo: bool) -> None:
        self._broker, self._fifo = broker, fifo
        self._messages = _messages(fifo=fifo)
        self.took: list[float] = []
        """Seconds that each round took."""

    async def fill(self, count: int) -> None:
        """Put that many into it.

        Raises:
            Miscounted: If it does not hold so many then.
        """
        await self._broker.declare([_spec(fifo=self._fifo)])
        parts = iter([min(_FILL, count - start) for start in range(0, count, _FILL)])

        async def filler() -> None:
            for part in parts:
                await self._send(part)

        await asyncio.gather(*(filler() for _ in range(_FILLERS)))
        found = (await self._broker.depth("orders")).total
        if found != count:
            raise Miscounted(f"{count} messages were sent and {found} are in the queue")

    async def round(self) -> None:
        """Receive a batch and acknowledge it; then send as many again.

        Raises:
            Miscounted: If it was no full batch, or one of them was not acknowledged.
        """
        began = time.perf_counter()
        deliveries = await self._broker.receive("orders", limit=BATCH, lease=_LEASE)
        results = await self._broker.settle([Acknowledge(delivery=one) for one in deliveries])
        self.took.append(time.perf_counter() - began)
        if len(deliveries) != BATCH or any(results):
            raise Miscounted(f"{len(deliveries)} of {BATCH} received; not acknowledged: {list(filter(None, results))}")
        await self._send(BATCH)

    async def _send(self, count: int) -> None:
        for result in await self._broker.send("orders", [next(self._messages) for _ in range(count)]):
            if isinstance(result, BrokerError):
                raise result


async def compared(folder: Path, count: int, *, fifo: bool) -> Mapping[str, float]:
    """Microseconds for each message at both depths, and how many times more the deep one costs."""
    queues, brokers = [], []
    for name, depth in (("shallow", min(SHALLOW, count)), ("bench", count)):
        broker, _ = await asyncio.to_thread(connect, f"sqlite:{folder / name}.db", SteadyClock(SystemClock()))
        brokers.append(broker)
        queues.append(Deep(broker, fifo=fifo))
        await queues[-1].fill(depth)
    for _ in range(_WARM_UP + _ROUNDS):
        for queue in queues:
            await queue.round()
    for broker in brokers:
        await broker.close()
    shallow, deep = (1e6 * statistics.median(queue.took[_WARM_UP:]) / BATCH for queue in queues)
    return {"shallow": shallow, "deep": deep, "ratio": deep / shallow}


async def worker(folder: Path, count: int) -> Mapping[str, float]:
    """Memory of a worker that has handled a tenth of what waits: now and at most, in MB (10^6 bytes)."""
    broker, _ = await asyncio.to_thread(connect, f"sqlite:{folder / 'bench.db'}", SteadyClock(SystemClock()))
    await Deep(broker, fifo=False).fill(count)
    with running(folder) as process:
        while (await broker.depth("orders")).total > count - count // _PART:  # noqa: ASYNC110 - only the broker knows
            await asyncio.sleep(0.2)
        resident, most = (status_kib(process.pid, field) * 1024 / 1e6 for field in ("VmRSS", "VmHWM"))
    await broker.close()
    return {"mb": resident, "most": most}


def _spec(*, fifo: bool) -> QueueSpec:
    """The queue; all that is known here of ordered queues stands in this function and in `_messages`."""
    return QueueSpec(name="orders", fifo=True) if fifo else QueueSpec(name="orders")


def _messages(*, fifo: bool) -> Iterator[Outgoing]:
    """Messages of 200 bytes, each with an id of its own; on an ordered queue in groups, one after the other."""
    first = order(0)
    body = first.model_dump_json().encode()
    before, after = body.split(first.order_id.encode())
    number = 0
    while True:
        identity = f"order-{number:08d}"
        message = Message(
            id=identity,
            body=before + identity.encode() + after,
            sent_at_ms=0,
            group=str(number % GROUPS) if fifo else None,
        )
        yield Outgoing(message=message, deduplication_id=identity if fifo else None)
        number += 1


if __name__ == "__main__":
    measured_by(
        {
            "standard": lambda folder, count: asyncio.run(compared(folder, count, fifo=False)),
            "fifo": lambda folder, count: asyncio.run(compared(folder, count, fifo=True)),
            "worker": lambda folder, count: asyncio.run(worker(folder, count)),
        }
    )
