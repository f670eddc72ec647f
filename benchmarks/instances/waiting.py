"""What a worker costs whose sagas all wait on timers: memory, processor time, disk, and how soon it is at work."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from embedded import BATCH
from instances.completing import IN_FLIGHT, heard, verify
from instances.fulfilment import fulfilling, ledger
from resting import SETTLING, processor_seconds
from workload import measured_by, orders, status_kib

from redrive.sagas.journal import State

_IDLE = 5.0
"""Seconds in which processor time is counted."""


def waiting(folder: Path, count: int) -> Mapping[str, float]:
    """Percent of one core, MB (10^6 bytes) in memory and on disk, and seconds from its start to a saga's last step."""
    booked = ledger(folder, "booked", 1)
    asyncio.run(_wait_all(folder, count))
    asyncio.run(_ask(folder))
    disk = sum(file.stat().st_size for file in folder.glob("bench.db*")) / 1e6
    began = time.time()
    with worker(folder) as process:
        started = booked.wait(range(1)) - began
        time.sleep(SETTLING)
        before, since = processor_seconds(process.pid), time.monotonic()
        time.sleep(_IDLE)
        used = (processor_seconds(process.pid) - before) / (time.monotonic() - since)
        resident = status_kib(process.pid, "VmRSS") * 1024 / 1e6
    return {"percent": 100 * used, "mb": resident, "disk": disk, "start-up": started}


@contextmanager
def worker(folder: Path, *settings: str, module: str = "instances.waiting") -> Iterator[subprocess.Popen[bytes]]:
    """A module's worker in a process of its own; it is killed in the end."""
    command = [sys.executable, "-m", module, "worker", str(folder), *settings]
    with subprocess.Popen(command, env=dict(os.environ)) as process:  # noqa: S603 - our own
        try:
            yield process
        finally:
            process.kill()


async def work(folder: Path, *, concurrency: int = IN_FLIGHT, lease: float = 30.0, held: bool = False) -> None:
    """Be the worker, until killed."""
    app = fulfilling(folder, concurrency=concurrency, lease=lease, held=held)
    async with heard(app, folder, None):
        await asyncio.Event().wait()


async def _wait_all(folder: Path, count: int) -> None:
    """Let that many sagas begin to wait."""
    app = fulfilling(folder, concurrency=IN_FLIGHT)
    async with heard(app, folder, None):
        for first in range(0, count, BATCH):
            await app.queues["naps"].send_many(orders(BATCH, first=first))
        while (await app.runtime.broker.depth("naps")).total:  # noqa: ASYNC110 - only the broker knows
            await asyncio.sleep(0.01)
        await verify(app, count, queue="naps", state=State.WAITING)


async def _ask(folder: Path) -> None:
    """Send one order, by which the worker shows that it works."""
    async with fulfilling(folder, concurrency=1) as app:
        await app.queues["orders"].send_many(orders(1))


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        asyncio.run(work(Path(sys.argv[2])))
    else:
        measured_by({"waiting": waiting})
