"""A worker that is started while its broker is away waits for it, and says so once."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from redrive.sqs_api.door import Settings
from redrive.sqs_api.running import running
from tests.runtime import supervised
from tests.runtime.fakes import until

pytestmark = pytest.mark.e2e
_APP = """
import pathlib

from redrive import App

pathlib.Path(__file__).with_name("tries").open("a").write(".")
app = App("away")
orders = app.queue("orders", str)


@orders.consumer()
async def handle(order: str) -> None: ...
"""


async def test_a_worker_started_while_sqs_is_away_waits_for_it(tmp_path: Path) -> None:
    """One line with the cause, however often it is tried and without a traceback, and one when it is there."""
    (tmp_path / "away.py").write_text(_APP)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = {
        "REDRIVE_BROKER": f"sqs://?endpoint_url=http://127.0.0.1:{port}&store_url=sqlite:{tmp_path / 'store.db'}",
    }
    output = tmp_path / "output"
    async with supervised.started(tmp_path, f"{tmp_path / 'away.py'}:app", environment=environment):
        await until(lambda: "no worker can start" in output.read_text(), 20)
        await until(lambda: len((tmp_path / "tries").read_text()) >= 3, 20)
        async with running(str(tmp_path / "queues.db"), port, Settings(), durability="relaxed"):
            await until(lambda: "could start again" in output.read_text(), 30)
    first, last = output.read_text().splitlines()
    assert f"broker 'sqs://?endpoint_url=http://127.0.0.1:{port}" in first
    assert "could start again" in last
