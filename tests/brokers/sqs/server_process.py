"""A server that answers as Amazon SQS, for tests: a process, started once, whose time can be made to pass."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Server:
    """A running one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._line())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def advance(self, seconds: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"advance {seconds}\n")
        self._process.stdin.flush()
        assert self._line() == "advanced"

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server ended"
        return line.strip()


@contextmanager
def server(script: str, *arguments: str) -> Iterator[Server]:
    """Start a script that prints its port, and answers to `advance SECONDS` with `advanced`."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process)
        finally:
            process.kill()
