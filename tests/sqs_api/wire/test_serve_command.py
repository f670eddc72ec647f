"""`redrive serve`, as a process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from redrive.cli import main
from redrive.errors import DeclarationError
from redrive.sqs_api import contract, server
from tests.sqs_api.wire.endpoint import DEADLINE, KEY, SECRET

pytestmark = pytest.mark.e2e
ADDRESS = re.compile(r"Amazon SQS: (http://\S+)")


@contextlib.contextmanager
def served(database: Path, *options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that serves, and its first line."""
    command = [sys.executable, "-m", "redrive", "serve", "--database", str(database), "--port", "0", *options]
    given = {name: value for name, value in os.environ.items() if name != "REDRIVE_ACCESS_KEYS"} | environment
    with subprocess.Popen(command, env=given, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            if process.poll() is None:
                process.kill()


def client(first_line: str) -> Any:
    found = ADDRESS.match(first_line)
    assert found, first_line
    return boto3.client(
        "sqs",
        endpoint_url=found[1],
        region_name="us-east-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_and_stops_within_a_second(tmp_path: Path, number: signal.Signals) -> None:
    """What it was sent is there when it starts again."""
    with served(tmp_path / "queues.db") as (process, line):
        sqs = client(line)
        queue = sqs.create_queue(QueueName="orders")["QueueUrl"]
        sent = sqs.send_message(QueueUrl=queue, MessageBody="hello")["MessageId"]
        process.send_signal(number)
        began = time.monotonic()
        assert process.wait(DEADLINE) == 0
        assert time.monotonic() - began < 1.5  # a second, and what a busy machine needs to end a process
    with served(tmp_path / "queues.db") as (process, line):
        sqs = client(line)
        queue = sqs.get_queue_url(QueueName="orders")["QueueUrl"]
        (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
        assert (message["MessageId"], message["Body"]) == (sent, "hello")


def test_it_is_what_it_is_told_to_be(tmp_path: Path) -> None:
    """Account and region stand in URLs and ARNs, and keys are asked for."""
    options = ["--account", "123456789012", "--region", "eu-west-3", "--durability", "relaxed"]
    options += ["--public-url", "https://sqs.example.net"]
    with served(tmp_path / "queues.db", *options, REDRIVE_ACCESS_KEYS=f"{KEY}:{SECRET}") as (_, line):
        sqs = client(line)
        queue = sqs.create_queue(QueueName="orders")["QueueUrl"]
        assert "account 123456789012, region eu-west-3; signed requests only" in line
        assert queue == "https://sqs.example.net/123456789012/orders"
        told = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
        assert told == {"QueueArn": "arn:aws:sqs:eu-west-3:123456789012:orders"}


@pytest.mark.parametrize(
    ("options", "environment", "code", "word"),
    [
        (["--host", "::"], {}, 78, "REDRIVE_ACCESS_KEYS"),
        ([], {"REDRIVE_ACCESS_KEYS": "hunter2"}, 78, "ID:SECRET"),
        (["--public-url", "https://sqs.example.net"], {}, 78, "REDRIVE_ACCESS_KEYS"),
        (["--public-url", "sqs.example.net"], {}, 78, "https://"),
        (["--account", "1"], {}, 2, "twelve digits"),
        (["--region", "Mars"], {}, 2, "us-east-1"),
        (["--host", "no-such-host.invalid"], {}, 1, "--host"),
    ],
)
def test_it_says_what_is_wrong(
    tmp_path: Path, options: list[str], environment: dict[str, str], code: int, word: str
) -> None:
    """In one line, before it makes a file."""
    command = [sys.executable, "-m", "redrive", "serve", "--database", str(tmp_path / "queues.db"), *options]
    given = {name: value for name, value in os.environ.items() if name != "REDRIVE_ACCESS_KEYS"} | environment
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == code
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_it_says_that_it_needs_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    """And how to get it."""
    monkeypatch.setattr(contract, "find_spec", lambda name: None if name == "botocore" else util.find_spec(name))
    with pytest.raises(DeclarationError, match=r"needs botocore; .*redrive\[serve\]"):
        contract.load()


def test_it_says_that_it_needs_httptools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise."""
    for name in ("redrive.sqs_api.connection", "uvicorn.protocols.http.httptools_impl"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "httptools", None)
    with pytest.raises(DeclarationError, match=r"needs httptools; .*redrive\[serve\]"):
        server.needed()


def test_help_needs_no_extra() -> None:
    """It names what is asked of the environment."""
    result = CliRunner().invoke(main, ["serve", "--help"])
    assert result.exit_code == 0
    assert "REDRIVE_ACCESS_KEYS" in result.output
