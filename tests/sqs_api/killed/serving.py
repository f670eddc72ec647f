"""`redrive serve`, killed and started again on its file, and a client that knows where it answers by now."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

DEADLINE = 30.0
"""Seconds in which a server is up, on a machine that has much else to do."""
_ADDRESS = re.compile(r"Amazon SQS: http://127\.0\.0\.1:([0-9]+)")
_FAULT = 500


class Lost(Exception):
    """The server was gone before it answered: nobody knows whether the call was done."""


class Refused(Exception):
    """The server answered with an error, and has done nothing."""

    def __init__(self, status: int, answer: Mapping[str, Any]) -> None:
        super().__init__(status, answer)
        self.status, self.code = status, str(answer.get("__type", "")).rpartition("#")[2]


class Server:
    """One process at a time."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._process: subprocess.Popen[str] | None = None
        self._up = threading.Condition()
        self._port: int | None = None
        self.lives = 0
        """How often it was started."""
        self.asked = threading.Event()
        """Set by each call that begins."""

    def start(self) -> None:
        """Return when it answers."""
        command = [sys.executable, "-m", "redrive", "serve", "--port", "0", "--database", os.fspath(self._database)]
        given = {name: value for name, value in os.environ.items() if name != "REDRIVE_ACCESS_KEYS"}
        self._process = subprocess.Popen(command, env=given, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = _ADDRESS.match(line)
        assert found, f"instead of its address it said {line!r}"
        with self._up:
            self._port, self.lives = int(found[1]), self.lives + 1
            self._up.notify_all()

    def kill(self) -> None:
        """With -9; return when it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        with self._up:
            self._port = None
        ended = process.poll()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        assert ended is None, f"it had ended by itself, with status {ended}"

    def where(self) -> tuple[int, int]:
        """Its port and its number, as soon as it is up."""
        with self._up:
            assert self._up.wait_for(lambda: self._port is not None, DEADLINE), "no server came up"
            assert self._port is not None
            return self._port, self.lives


class Client:
    """One connection at a time, AWS JSON by hand: an SDK would ask again by itself. Not for two threads."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: HTTPConnection | None = None
        self.life = 0
        """Of the server that was asked last."""

    def call(self, operation: str, *, first: Callable[[], None] = lambda: None, **request: Any) -> dict[str, Any]:
        """Ask, and wait for the answer.

        Args:
            operation: as in SQS's model.
            first: done when there is a connection, and nothing was sent yet.
            request: as in SQS's model.

        Raises:
            Lost: If the server was killed meanwhile.
            Refused: If it is an error.
        """
        connection = self._connected()
        first()
        headers = {"X-Amz-Target": f"AmazonSQS.{operation}", "Content-Type": "application/x-amz-json-1.0"}
        self._server.asked.set()
        try:
            connection.request("POST", "/", json.dumps(request), headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, HTTPException) as error:
            self.close()
            raise Lost(f"{operation}: {error!r}") from None
        answer: dict[str, Any] = json.loads(content) if content else {}
        assert response.status < _FAULT, (operation, response.status, answer)
        if response.status != 200:
            raise Refused(response.status, answer)
        return answer

    def wait(self) -> None:
        """Until a server is up."""
        self._server.where()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _connected(self) -> HTTPConnection:
        while True:
            port, life = self._server.where()
            if self._connection is not None and life == self.life:
                return self._connection
            self.close()
            connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
            try:
                connection.connect()
            except OSError:
                continue  # killed since
            self._connection, self.life = connection, life


def url(queue: str) -> str:
    """The host does not count: a URL outlives its server."""
    return f"http://127.0.0.1/000000000000/{queue}"


def arn(queue: str) -> str:
    return f"arn:aws:sqs:us-east-1:000000000000:{queue}"
