"""How soon a new worker goes on with sagas whose worker was killed while all of them were in their second step."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from embedded import fill, until_empty
from instances.fulfilment import fulfilling, ledger
from instances.waiting import work, worker
from workload import measured_by, orders

LEASE = 2.0
_MODULE, _HELD = "instances.interrupted", "held"


def recovery(folder: Path, count: int) -> Mapping[str, float]:
    """Seconds from the restart, at the kill, to the first saga that goes on and to the last one's end."""
    booked, held, again = (ledger(folder, name, count) for name in ("booked", _HELD, "again"))
    asyncio.run(_send(folder, count))
    with worker(folder, str(count), _HELD, module=_MODULE) as first:
        held.wait(range(count))
        first.kill()
        first.wait()
        restart = time.monotonic_ns()
        with worker(folder, str(count), module=_MODULE):
            booked.wait(range(count))
            continued = min(again.took_ns(range(count)))  # nobody said when it was sent, so this is the clock
            asyncio.run(_until_empty(folder))
            ended = time.monotonic_ns()
    booked.verify(range(count))
    to_first, to_last = (continued - restart) / 1e9, (ended - restart) / 1e9
    return {"first": to_first, "last": to_last, "between": to_last - to_first}


async def _send(folder: Path, count: int) -> None:
    async with fulfilling(folder, concurrency=1) as app:
        await fill(app, orders(count))


async def _until_empty(folder: Path) -> None:
    async with fulfilling(folder, concurrency=1) as app:
        await until_empty(app)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        asyncio.run(
            work(Path(sys.argv[2]), concurrency=int(sys.argv[3]), lease=LEASE, held=_HELD in sys.argv),
        )
    else:
        measured_by({"recovery": recovery})
