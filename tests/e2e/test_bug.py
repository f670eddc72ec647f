"""A handler with a bug, under the real `redrive worker`."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from redrive.catalogue import Letter
from redrive.operations import Operations
from tests.e2e.conftest import redrive

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

APP = """
from redrive import App, Backoff
from pydantic import BaseModel

class Order(BaseModel):
    drink: str

app = App("buggy", broker="sqlite:buggy.db")
orders = app.queue("orders", Order)
healed = app.queue("told", Order)

@orders.consumer(max_attempts=4, backoff=Backoff(first=0.2, maximum=0.4))
async def brew(order: Order) -> None:
    prices = {"mocha": 3.9}
    prices[order.drink]

@app.on_dead
def tell(message, reason):
    with open("deaths.txt", "a") as file:
        file.write(reason + "\\n")
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`redrive worker` on the buggy application; it logs to its standard error."""
    (tmp_path / "buggy.py").write_text(APP)
    process = subprocess.Popen(
        [*redrive(), "worker", "buggy:app", "--app-dir", str(tmp_path), "--grace", "2"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("REDRIVE")},
    )
    with process:
        yield process
        if process.poll() is None:
            process.kill()


async def test_a_bug_is_tried_again_with_jitter_and_ends_dead_with_every_attempt_on_record(
    tmp_path: Path, worker: subprocess.Popen[str]
) -> None:
    """`max_attempts` turns, each delay within its jitter's bounds; the worker says its address and ends with 0."""
    assert worker.stderr is not None
    first_line = await asyncio.to_thread(worker.stderr.readline)
    assert f"sqlite:{tmp_path / 'buggy.db'}" in first_line
    async with Operations.open(f"sqlite:{tmp_path / 'buggy.db'}") as operations:
        sent = await operations.send("orders", b'{"drink": "latte"}')
        letter = await first_death(worker, operations)
    assert letter.id == sent
    assert letter.record.reason.startswith("4 of 4 attempts: KeyError")
    assert [one.kind for one in letter.record.recent] == ["raised"] * 4
    assert "prices[order" in letter.record.first.traceback
    times = [one.at_ms for one in letter.record.recent]
    for number, (before, after) in enumerate(itertools.pairwise(times)):
        assert after - before <= min(0.2 * 2**number, 0.4) * 1000 + 1_500  # the jitter's ceiling, and a busy machine
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait, 10) == 0
    assert "4 of 4 attempts" in (tmp_path / "deaths.txt").read_text()


async def first_death(worker: subprocess.Popen[str], operations: Operations) -> Letter:
    """Wait for the log to tell of a death, then read the catalogue."""
    assert worker.stderr is not None
    async with asyncio.timeout(20):
        while "is dead" not in await asyncio.to_thread(worker.stderr.readline):
            assert worker.poll() is None, "the worker ended"
    (letter,) = [one async for one in operations.letters("orders")]
    return letter
