"""Huey on SQLite: the nearest peer that needs no server.

It deletes a task, then runs it: a crash loses what runs. With `fsync=True` each task costs two commits on disk, one to
put it in and one to take it out; with `fsync=False` neither is on disk when it is answered. One worker thread is where
it is fastest on SQLite: more of them wait for one another's lock.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from huey import SqliteHuey
from peers.contest import FOLDER, Peer, answer, handler
from workload import Order

THREADS = 128
FSYNC = "BENCH_HUEY_FSYNC"
_POLL = 0.005
"""Seconds between two looks of an idle worker: it polls, and its own 0.1 s growing to 10 s would measure just that."""

fsync = os.environ.get(FSYNC, "1") == "1"
folder = Path(os.environ.get(FOLDER) or sys.argv[1])
huey = SqliteHuey("bench", filename=str(folder / "huey.db"), fsync=fsync, results=False, timeout=60)
task = huey.task()(handler())


def send(order: Order) -> None:
    """One task."""
    task(order.model_dump_json())


def concurrently(orders: Sequence[Order]) -> None:
    """Single sends from 128 threads."""
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(send, orders):
            pass


def work() -> None:
    """Its consumer, until SIGTERM."""
    huey.create_consumer(workers=1, periodic=False, initial_delay=_POLL, backoff=1.0, max_delay=_POLL).run()


PEER = Peer(prepare=lambda: None, concurrently=concurrently, send=send, worker=["-m", "peers.huey_peer", "worker", "0"])

if __name__ == "__main__":
    if sys.argv[1] == "worker":
        work()
    else:
        answer(PEER)
