"""The health door of `redrive worker`: answered by the supervisor, from what real workers write on their boards."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from redrive.cli import main
from redrive.errors import OperationRefused
from redrive.health import _told, listen
from redrive.keeper import Seen
from tests.runtime.fakes import until
from tests.runtime.supervised import Supervisor, exists, opened, supervising

pytestmark = pytest.mark.e2e
TOLD = re.compile(r"health is told on (http://\S+)/live")


class Door:
    """What a supervisor answers."""

    def __init__(self, supervisor: Supervisor, client: httpx.AsyncClient) -> None:
        self.supervisor, self._client = supervisor, client

    async def ask(self, what: str) -> tuple[int, dict[str, Any]]:
        answer = await self._client.get(f"/{what}")
        return answer.status_code, answer.json()

    async def workers(self) -> dict[str, dict[str, Any]]:
        return {one["worker"]: one for one in (await self.ask("live"))[1]["workers"]}

    async def says(self, what: str, code: int, within: float = 20.0) -> dict[str, Any]:
        """Wait until it answers so."""

        async def answered() -> dict[str, Any] | None:
            found, document = await self.ask(what)
            return document if found == code else None

        document: dict[str, Any] = await until(answered, within)
        return document


@asynccontextmanager
async def watched(
    folder: Path, *does: str, processes: int = 1, constants: Mapping[str, float] | None = None, **settings: str
) -> AsyncIterator[Door]:
    """A supervisor of `crashing.py` with a health door, on a file that holds these orders."""
    options = ["--processes", str(processes), "--health", "127.0.0.1:0", "--grace", "2", "--log-level", "info"]
    environment = {"CRASHING_LOG": str(folder / "log"), "CRASHING_LONG": "1", **settings}
    async with opened(folder) as operations:
        for number, one in enumerate(does):
            await operations.send("orders", f'{{"id":"{number}","does":"{one}"}}'.encode())
        running = supervising(
            folder, operations, "crashing.py:app", environment=environment, options=options, constants=constants
        )
        async with running as supervisor:
            told = await until(lambda: TOLD.search(supervisor.said()), 20)
            async with httpx.AsyncClient(base_url=told[1]) as client:
                yield Door(supervisor, client)


async def test_every_worker_lives_and_becomes_ready(tmp_path: Path) -> None:
    """Two workers, each named with its process, its loop and its broker."""
    async with watched(tmp_path, processes=2) as door:
        document = await door.says("ready", 200)
        assert (document["ready"], document["stopping"]) == (True, False)
        assert [one["worker"] for one in document["workers"]] == ["1", "2"]
        assert {one["pid"] for one in document["workers"]} == await door.supervisor.workers(2)
        for one in document["workers"]:
            assert (one["live"], one["ready"], one["deaths"], one["messages_running"]) == (True, True, 0, 0)
            assert one["loop_turned_seconds_ago"] < 10
            assert one["broker_answered_seconds_ago"] < 30
        assert (await door.ask("live"))[0] == 200


async def test_a_worker_that_has_not_reached_its_broker_is_not_ready(tmp_path: Path) -> None:
    """While its application is being imported it lives, for as long as a loop may stand still, and is not ready."""
    begin = tmp_path / "begin"
    async with watched(tmp_path, CRASHING_WAITS_FOR=str(begin)) as door:
        document = await door.says("ready", 503)
        (one,) = document["workers"]
        assert (one["live"], one["ready"], one["loop_turned_seconds_ago"]) == (True, False, None)
        begin.touch()
        await door.says("ready", 200)


async def test_only_the_worker_that_died_is_replaced(tmp_path: Path) -> None:
    """Of two workers one is killed: the other stays, and the dead one's successor becomes ready."""
    async with watched(tmp_path, processes=2) as door:
        await door.says("ready", 200)
        before = await door.workers()
        os.kill(before["1"]["pid"], signal.SIGKILL)

        async def replaced() -> bool:
            one = (await door.workers())["1"]
            return one["pid"] not in {None, before["1"]["pid"]} and one["deaths"] == 1

        await until(replaced, 20)
        await door.says("ready", 200)
        assert (await door.workers())["2"]["pid"] == before["2"]["pid"]


async def test_a_stopped_loop_is_not_live_and_another_worker_helps_out(tmp_path: Path) -> None:
    """A worker in a handler that blocks its loop is told apart, and is live again when its loop turns."""
    constants = {"health.LIVE_WITHIN": 2.5, "keeper._STANDS_STILL": 1.5, "keeper._CALM": 0.5}
    async with watched(tmp_path, constants=constants) as door:
        await door.says("ready", 200)
        pid = (await door.workers())["1"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            document = await door.says("live", 503)
            told = {one["worker"]: one for one in document["workers"]}
            assert told["1"]["live"] is False
            assert told["1"]["loop_turned_seconds_ago"] > 2
            await until(lambda: helped(door), 20)
        finally:
            os.kill(pid, signal.SIGCONT)
        await door.says("live", 200)
        await until(lambda: not exists(told["1+"]["pid"]), 20)
        assert set(await door.workers()) == {"1"}


async def helped(door: Door) -> bool:
    return bool((await door.workers())["1+"]["ready"])


async def test_it_answers_while_it_stops_and_is_gone_with_the_workers(tmp_path: Path) -> None:
    """SIGTERM: not ready from then on, live to the end, and an open connection does not hold the end up."""
    async with watched(tmp_path, "hang") as door:
        await until((tmp_path / "log").exists, 20)
        door.supervisor.process.terminate()
        document = await door.says("ready", 503)
        assert document["stopping"] is True
        assert (await door.ask("live"))[0] == 200
        async with asyncio.timeout(6):
            assert await door.supervisor.process.wait() == 0


def test_an_address_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """It is named, and how to choose another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "redrive", "worker", "nothing:app", "--health", address]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert address in line
    assert "Address already in use" in line
    assert "--health" in line


@pytest.mark.parametrize(
    "address", ["8081", ":8081", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "::1:8081", "a:-1"]
)
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    """Exit code 2, and how to write it."""
    result = CliRunner().invoke(main, ["worker", "x:y", "--health", address])
    assert result.exit_code == 2
    assert repr(address) in result.stderr
    assert "127.0.0.1:8081" in result.stderr


def test_ipv6_and_names_are_addresses_too() -> None:
    """In brackets on the command line; an address of no interface here is refused."""
    with listen("localhost", 0) as listener:
        assert listener.getsockname()[1] > 0
    if socket.has_ipv6 and Path("/proc/net/if_inet6").exists():
        with listen("::1", 0) as listener:
            assert listener.family == socket.AF_INET6
    with pytest.raises(OperationRefused, match=r"'203\.0\.113\.1:81' cannot be listened on"):
        listen("203.0.113.1", 81)


@pytest.mark.parametrize(
    ("seen", "stopping", "live", "ready"),
    [
        ({}, False, True, True),
        ({"turned_ago": 10.1}, False, False, True),
        ({"answered_ago": 30.1}, False, True, False),
        ({"turned_ago": None, "answered_ago": None, "started_ago": 10.0}, False, True, False),
        ({"turned_ago": None, "answered_ago": None, "started_ago": 10.1}, False, False, False),
        ({"pid": None, "turned_ago": None, "answered_ago": None, "started_ago": 20.0}, False, False, False),
        ({"pid": None, "turned_ago": None, "answered_ago": None, "started_ago": 20.0}, True, True, False),
        ({}, True, True, False),
    ],
)
def test_what_is_live_and_ready(seen: Mapping[str, Any], *, stopping: bool, live: bool, ready: bool) -> None:
    """A loop turns within ten seconds, a broker answers within thirty; what has not begun to turn has ten as well."""
    well = {"worker": "1", "pid": 1, "deaths": 0, "turned_ago": 10.0, "started_ago": 99.0, "answered_ago": 30.0}
    told = _told(Seen(**{"running": 0, **well, **seen}), stopping=stopping)
    assert (told["live"], told["ready"]) == (live, ready)


def test_whoever_asks_for_no_health_pays_for_none() -> None:
    """The server is imported when its option is given."""
    code = "import sys, redrive.supervisor, redrive.cli; sys.exit({'uvicorn', 'starlette'} & set(sys.modules) != set())"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
