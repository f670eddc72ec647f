"""`redrive worker`, `dev` and `demo`; and the story of a malformed order, told with real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from redrive import demo
from redrive.cli import main
from tests.cli.conftest import Cafe

DEADLINE = 30.0
pytestmark = pytest.mark.e2e


@contextlib.contextmanager
def running(command: list[str], cafe: Cafe, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed if it does not end by itself."""
    log = cafe.folder / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=cafe.folder, env=environment, stdout=file, stderr=subprocess.STDOUT, text=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def until(what: Callable[[], bool], log: Path) -> None:
    """Wait for something, for as long as the deadline allows."""
    ends = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < ends, log.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("command", "number"),
    [(["worker", "cafe:app", "--processes", "2"], signal.SIGTERM), (["dev", "cafe.py:app"], signal.SIGINT)],
)
def test_a_mended_order_is_served(
    cafe: Cafe, redrive: list[str], environment: dict[str, str], command: list[str], number: signal.Signals
) -> None:
    """Malformed and dead at once; edited, redriven under its own id and handled, by whatever runs the application."""
    cafe.run("circuit", "auto", "payments")
    cafe.run("circuit", "close", "payments")
    (sent,) = cafe.json("queue", "send", "orders", '{"customer":"Ann"}', "--unchecked")
    log = cafe.folder / "log.txt"
    with running([*redrive, *command], cafe, environment) as process:
        until(lambda: sent["id"] in cafe.dead(), log)
        assert "drink" in cafe.json("dead", "show", sent["id"])[0]["reason"]
        cafe.run("dead", "edit", sent["id"], "--set", "drink=mocha")
        until(lambda: cafe.json("queue", "show", "orders")[0]["dead"] == 3 and not cafe.messages(), log)
        assert cafe.letter(sent["id"]).state == "redriven"
        assert any(one["alive"] for one in cafe.json("queue", "show", "orders")[0]["workers"])
        process.send_signal(number)
        assert process.wait(DEADLINE) == 0
    text = log.read_text()
    assert "worker" in text
    assert cafe.address in text


def test_whoever_speaks_sqs_can_send_to_an_application_under_development(
    cafe: Cafe, redrive: list[str], environment: dict[str, str]
) -> None:
    """What is sent there under a queue's name is handled here, under the id that its sender was told."""
    log = cafe.folder / "log.txt"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with running([*redrive, "dev", "cafe:app", "--sqs-port", str(port)], cafe, environment) as process:
        until(lambda: f"as Amazon SQS at http://127.0.0.1:{port}" in log.read_text(), log)
        until(lambda: any(one["alive"] for one in cafe.json("queue", "show", "orders")[0]["workers"]), log)
        url = httpx.post(
            f"http://127.0.0.1:{port}/",
            headers={"X-Amz-Target": "AmazonSQS.GetQueueUrl", "Content-Type": "application/x-amz-json-1.0"},
            json={"QueueName": "orders"},
        ).json()["QueueUrl"]
        sent = httpx.post(
            f"http://127.0.0.1:{port}/",
            headers={"X-Amz-Target": "AmazonSQS.SendMessage", "Content-Type": "application/x-amz-json-1.0"},
            json={"QueueUrl": url, "MessageBody": '{"customer":"Zoe"}'},
        ).json()["MessageId"]
        until(lambda: sent in cafe.dead(), log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    assert "drink" in cafe.json("dead", "show", sent)[0]["reason"]


def test_a_port_that_is_taken_is_no_reason_not_to_work(
    cafe: Cafe, redrive: list[str], environment: dict[str, str]
) -> None:
    """Unless it was asked for by its number: then it is an error that names it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [*redrive, "dev", "cafe:app", "--sqs-port", port]
        done = subprocess.run(
            command, cwd=cafe.folder, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
    assert done.returncode == 1
    assert port in done.stderr
    assert "Traceback" not in done.stderr


def test_the_log_level_is_kept(cafe: Cafe, redrive: list[str], environment: dict[str, str]) -> None:
    """A quiet worker says nothing while all is well."""
    log = cafe.folder / "log.txt"
    with running([*redrive, "dev", "cafe:app", "--log-level", "error"], cafe, environment) as process:
        until(lambda: any(one["alive"] for one in cafe.json("queue", "show", "orders")[0]["workers"]), log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    assert log.read_text() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["worker", "x:y", "--processes", "0"],
        ["dev", "x:y", "--grace", "soon"],
        ["worker", "x:y", "--log-level", "loud"],
    ],
)
def test_settings_are_checked(arguments: list[str]) -> None:
    """Exit code 2, before anything starts."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert arguments[-1] in result.stderr


def test_demo_passes_on_what_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder, its ports and how many workers; its exit code is the demo's."""
    heard: list[object] = []

    def run(*arguments: object) -> int:
        heard.append(arguments)
        return 7

    monkeypatch.setattr(demo, "run", run)
    options = ["--data", str(tmp_path), "--port", "81", "--payments-port", "82", "--processes", "2"]
    result = CliRunner().invoke(main, ["demo", *options])
    assert (result.exit_code, heard) == (7, [(tmp_path, 81, 82, 2)])


def test_demo_names_a_busy_port(tmp_path: Path) -> None:
    """And how to choose another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["demo", "--data", str(tmp_path), "--port", str(port)])
    assert result.exit_code == 1
    assert f"port {port}" in result.stderr
    assert "--port" in result.stderr


def test_json_lines_are_ascii(cafe: Cafe, redrive: list[str], environment: dict[str, str]) -> None:
    """Whatever a letter holds, a line is one JSON object without a single control character."""
    command = [*redrive, "dead", "show", cafe.hostile, "--json", *cafe.without_code]
    answer = subprocess.run(command, env=environment, cwd=cafe.folder, capture_output=True, check=True)
    line = answer.stdout.removesuffix(os.linesep.encode())
    assert all(0x20 <= byte < 0x7F for byte in line)
    assert json.loads(line)["id"] == cafe.hostile
