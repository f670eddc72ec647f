"""The servers that are measured, each a process of its own on a free port of loopback, ended by its id."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers import free_port

_PATIENCE = 60.0


@dataclass(frozen=True)
class Endpoint:
    """A server that speaks SQS."""

    name: str
    needs: str
    """The package that has to be installed."""
    command: Callable[[int, Path], Sequence[str]]
    durable: bool


def _redrive(port: int, folder: Path) -> Sequence[str]:
    program = Path(sys.executable).with_name("redrive")
    return [str(program), "serve", "--port", str(port), "--database", str(folder / "endpoint.db")]


ENDPOINTS = (
    Endpoint("redrive serve", "redrive", _redrive, durable=True),
    Endpoint(
        "moto server",
        "moto",
        lambda port, _: [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        durable=False,
    ),
    Endpoint("MiniStack", "ministack", lambda _port, _: [sys.executable, "-m", "ministack"], durable=False),
)


class Missing(Exception):
    """A server that is not installed, or does not start here."""


@dataclass(frozen=True)
class Serving:
    """A server that answers."""

    url: str
    process: int
    started_in: float
    """Seconds from the start of its process to its first answer."""


@contextmanager
def serving(endpoint: Endpoint, folder: Path) -> Iterator[Serving]:
    """Start it; blocks until it answers, and on leaving until it has ended.

    Raises:
        Missing: If it is not installed or does not start.
    """
    if importlib.util.find_spec(endpoint.needs) is None:
        raise Missing(f"{endpoint.needs} is not installed (`python3 tools/bootstrap.py bench` does it)")
    port = free_port()
    environment = {**os.environ, "GATEWAY_PORT": str(port), "MINISTACK_HOST": "127.0.0.1", "LOG_LEVEL": "ERROR"}
    began = time.perf_counter()
    with (
        (folder / "server.log").open("wb") as log,
        subprocess.Popen(  # noqa: S603 - what stands above
            [*endpoint.command(port, folder)], env=environment, cwd=folder, stdout=log, stderr=log
        ) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            _until_it_answers(url, process, endpoint.name)
            yield Serving(url, process.pid, time.perf_counter() - began)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _until_it_answers(url: str, process: subprocess.Popen[bytes], name: str) -> None:
    asked = f"{url}/?Action=ListQueues&Version=2012-11-05"
    ends = time.monotonic() + _PATIENCE
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise Missing(f"{name} ended with code {process.returncode}")
        try:
            with urllib.request.urlopen(asked, timeout=5):  # noqa: S310 - loopback
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.005)
    raise Missing(f"{name} does not answer within {_PATIENCE:.0f} s")
