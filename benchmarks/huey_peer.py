"""Huey on SQLite, doing the same work: the nearest peer that needs no server.

It deletes a task, then runs it: a crash loses what runs. With `fsync=True` each task costs two commits on disk, one to
put it in and one to take it out; with `fsync=False` neither is on disk when it is answered.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from draining import Count
from workload import Measure, Order, measured_by, order, orders, quantiles, rate

THREADS = 128
_POLL = 0.005
"""Seconds between two looks of an idle worker: it polls, and its own 0.1 s growing to 10 s would measure just that."""
_WARM_UP = 20


def on(folder: Path, *, fsync: bool) -> Any:  # noqa: ANN401 - huey has no types
    """A Huey that keeps no results, which nobody here reads."""
    logging.getLogger("huey").setLevel(logging.WARNING)
    huey = importlib.import_module("huey")  # without types, and not there at all outside of `make bench`
    return huey.SqliteHuey("bench", filename=str(folder / "huey.db"), fsync=fsync, results=False, timeout=60)


def sent_concurrently(folder: Path, count: int, *, fsync: bool) -> Mapping[str, float]:
    """Single sends from 128 threads."""
    task = on(folder, fsync=fsync).task()(_handler(lambda _: None))
    those = orders(count)
    with ThreadPoolExecutor(THREADS) as threads:
        began = time.time()
        list(threads.map(lambda one: task(one.model_dump_json()), those))
        return rate(count, began)


def sent_in_turn(folder: Path, count: int, *, fsync: bool) -> Mapping[str, float]:
    """Each send waits for the one before."""
    task = on(folder, fsync=fsync).task()(_handler(lambda _: None))
    those = orders(count)
    began = time.time()
    for one in those:
        task(one.model_dump_json())
    return rate(count, began)


def drained(folder: Path, count: int, *, fsync: bool) -> Mapping[str, float]:
    """One worker thread, which is where Huey on SQLite is fastest: more of them wait for one another's lock."""
    huey, done = on(folder, fsync=False), threading.Event()  # filled without fsync, drained with it
    counter = Count(count, done.set)
    task = huey.task()(_handler(lambda _: counter.one()))
    for one in orders(count):
        task(one.model_dump_json())
    huey.storage.close()
    huey.storage._fsync = fsync  # noqa: SLF001 - read when the connection is opened anew
    consumer = _consuming(huey)
    done.wait()
    found = rate(count, counter.began)
    consumer.stop_flag.set()
    return found


def latency(folder: Path, count: int, *, fsync: bool) -> Mapping[str, float]:
    """From a send to its handler, sender and worker in one process."""
    huey, arrived = on(folder, fsync=fsync), threading.Event()
    took: list[int] = []

    def arrive(one: Order) -> None:
        took.append(time.monotonic_ns() - one.sent_ns)
        arrived.set()

    task = huey.task()(_handler(arrive))
    consumer = _consuming(huey)
    for number in range(count + _WARM_UP):
        task(order(number, time.monotonic_ns()).model_dump_json())
        arrived.wait()
        arrived.clear()
        time.sleep(_POLL)
    consumer.stop_flag.set()
    return quantiles(took[_WARM_UP:])


def idle(folder: Path, seconds: int, *, fsync: bool) -> Mapping[str, float]:
    """Percent of one core that polling costs."""
    huey = on(folder, fsync=fsync)
    consumer = _consuming(huey)
    time.sleep(1.0)
    before = time.process_time()
    time.sleep(seconds)
    used = (time.process_time() - before) / seconds
    consumer.stop_flag.set()
    return {"percent": 100 * used}


def _handler(then: Callable[[Order], None]) -> Callable[[str], None]:
    def handle(body: str) -> None:
        then(Order.model_validate_json(body))

    return handle


def _consuming(huey: Any) -> Any:  # noqa: ANN401 - huey has no types
    consumer = huey.create_consumer(workers=1, periodic=False, initial_delay=_POLL, backoff=1.0, max_delay=_POLL)
    consumer.start()
    return consumer


def _both(measure: Callable[..., Mapping[str, float]], name: str) -> dict[str, Measure]:
    return {name: partial(measure, fsync=True), f"{name}-relaxed": partial(measure, fsync=False)}


if __name__ == "__main__":
    measured_by(
        {
            **_both(sent_concurrently, "concurrent"),
            **_both(sent_in_turn, "in-turn"),
            **_both(drained, "drain"),
            **_both(latency, "latency"),
            **_both(idle, "idle"),
        }
    )
    os._exit(0)  # its threads end when they next look
