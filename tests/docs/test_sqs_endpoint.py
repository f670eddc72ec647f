"""The page of the SQS endpoint: its commands are run as printed, against an endpoint on a free port."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, Block, blocks

PAGE = DOCS / "sqs-endpoint.md"
PORT, MARK = "9324", "-- end of block --"
DEADLINE = 60.0
ALONE = {"AWS_CONFIG_FILE": "none", "AWS_SHARED_CREDENTIALS_FILE": "none", "HTTPS_PROXY": "http://127.0.0.1:9"}
"""Nothing of whoever runs the tests is read, and no other machine is reached."""


@pytest.mark.e2e
def test_the_aws_command_line_does_the_operator_s_work(tmp_path: Path) -> None:
    """From the pair of queues to the move back, and everything that the page prints is printed."""
    found = [block for block in blocks(PAGE) if block.language in {"sh", "text"}]
    start, shell = found[0], found[1:]
    with _serving(start, tmp_path) as port:
        script = "".join(f"{block.text}echo '{MARK}'\n" for block in shell if block.language == "sh")
        printed = _bash(script.replace(PORT, port), tmp_path).replace(port, PORT).split(f"{MARK}\n")
    assert printed.pop() == ""
    expected: list[str] = []
    for block in shell:
        if block.language == "sh":
            expected.append("")
        else:
            expected[-1] = block.text
    assert printed == expected


def _bash(script: str, folder: Path) -> str:
    """What it prints; it has to go well."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**settings, **ALONE, "PATH": programs},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def _serving(start: Block, folder: Path) -> Iterator[str]:
    """The page's own command, on a free port; the port."""
    _, *arguments = shlex.split(start.text.replace(PORT, "0"))
    with subprocess.Popen(
        [sys.executable, "-m", "redrive", *arguments], cwd=folder, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            yield _port_in(server.stdout.readline())
        finally:
            server.terminate()
            server.wait(DEADLINE)


def _port_in(line: str) -> str:
    address = next(word for word in line.split() if word.startswith("http://"))
    return address.rstrip("/,.;").rpartition(":")[2]
