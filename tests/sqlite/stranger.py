"""Opens a database as another user: `python stranger.py DATABASE`; says what came of it.

Root may do everything, so it becomes nobody first. All that this needs is imported and done once before, for the
interpreter may lie where nobody may not read.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

from redrive.broker import Outgoing, QueueSpec
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import SystemClock
from redrive.errors import RedriveError
from redrive.message import Message
from redrive.sqlite.writer import FileDatabase

NOBODY = 65_534


async def opened(path: str) -> dict[str, object]:
    """Open it and send one message."""
    try:
        database = FileDatabase(path, SystemClock())
    except RedriveError as error:
        return {"error": type(error).__name__, "text": str(error)}
    broker = SqliteBroker(database)
    await broker.declare([QueueSpec(name="orders")])
    sent = await broker.send("orders", [Outgoing(message=Message(id="m", body=b"1", sent_at_ms=1))])
    await broker.close()
    return {"sent": sent == [None]}


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="r-") as folder:
        Path(folder, "bad.db").write_text("no database")
        for name in ("good.db", "bad.db"):
            asyncio.run(opened(f"{folder}/{name}"))
    if os.geteuid() == 0:
        become_nobody()
    print(json.dumps(asyncio.run(opened(sys.argv[1]))), flush=True)  # noqa: T201
