"""What a poison pill costs the others: messages a second before it and with it, in the same run of the same worker."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from redrive.broker import Outgoing
from redrive.clock import SystemClock
from redrive.connections import connect
from redrive.message import Message
from tests.runtime import poison
from tests.runtime.fakes import until
from tests.runtime.supervised import address, opened, supervising

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(600)]
_log = logging.getLogger("tests.poison")
A_SECOND = 920
"""What ten lanes get done of handlers that take ten milliseconds."""


class Cost(NamedTuple):
    """Good messages handled in a span of time before the pill first ran, and in one as long from then on."""

    before: int
    after: int


@pytest.mark.parametrize(
    ("queue", "pill", "seconds"),
    [
        ("orders", "raise", 20),
        ("orders", "os._exit", 30),
        ("orders", "oom kill", 30),
        ("orders", "loop", 60),
        ("plain", "loop", 60),
    ],
)
async def test_others_keep_nine_tenths_of_their_throughput(tmp_path: Path, queue: str, pill: str, seconds: int) -> None:
    """One pill among tens of thousands, one worker, the default lease: what is handled a second hardly changes."""
    count = 2 * seconds * A_SECOND
    await fill(tmp_path, queue, [pill if number == count // 2 else "work" for number in range(count)])
    log = tmp_path / "log"
    environment = {"POISON_LOG": str(log), "POISON_TIMEOUT": "2", "POISON_LEASE": "30"}
    async with (
        opened(tmp_path) as operations,
        supervising(tmp_path, operations, "poison.py:app", environment=environment) as s,
    ):
        records = 2 * (count - 1)
        await until(lambda: log.exists() and log.stat().st_size >= records * poison.RECORD.size, 6 * seconds)
        await until(lambda: s.empty(queue), 60)  # counting costs time by depth: not before there is little left
        assert len(await s.dead(queue)) == 1
    cost = costs(log, count // 2, seconds)
    figures = f"{cost.before} before and {cost.after} after, in {seconds} s each: {cost.after / cost.before:.3f}"
    _log.info("%s: %s", pill, figures)  # `pytest -m long -o log_cli=true --log-cli-level=INFO` shows it
    assert cost.after >= 0.9 * cost.before, figures


async def fill(folder: Path, queue: str, does: Sequence[str]) -> None:
    """Put an order for each thing to do into a queue."""
    async with opened(folder):
        broker, store = connect(address(folder), SystemClock())
        now = time.time_ns() // 1_000_000
        for start in range(0, len(does), 1000):
            bodies = [
                f'{{"number":{number},"does":"{one}"}}'.encode()
                for number, one in enumerate(does[start : start + 1000], start)
            ]
            messages = [
                Message(id=f"{start + number}", body=body, sent_at_ms=now) for number, body in enumerate(bodies)
            ]
            await broker.send(queue, [Outgoing(message=one) for one in messages])
        await broker.close()
        await store.close()


def costs(log: Path, pill: int, seconds: int) -> Cost:
    """Read it off the log."""
    records = poison.read(log)
    ran = min(at for what, number, at in records if what == "b" and number == pill)
    ends = [at for what, _, at in records if what == "e"]
    return Cost(
        before=sum(ran - seconds <= at < ran for at in ends), after=sum(ran <= at < ran + seconds for at in ends)
    )
