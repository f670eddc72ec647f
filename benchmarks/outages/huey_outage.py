"""Huey on SQLite: three retries with its backoff, ten worker threads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from huey import SqliteHuey
from outages.calling import FOLDER, handle

huey = SqliteHuey(
    "bench", filename=str(Path(os.environ.get(FOLDER, ".")) / "huey.db"), fsync=True, results=False, timeout=60
)
task = huey.task(retries=3, retry_delay=1, retry_backoff=2, name="handle")(handle)


def fill(count: int) -> None:
    """Send them all."""
    for number in range(count):
        task(number)


def left() -> Mapping[str, int]:
    """It has no dead letters: what is neither pending nor scheduled is gone."""
    return {"dead": 0, "waiting": huey.pending_count() + huey.scheduled_count()}


WORKER = ["-m", "outages.huey_outage"]

if __name__ == "__main__":
    huey.create_consumer(workers=10, periodic=False, initial_delay=0.01, max_delay=0.1).run()
