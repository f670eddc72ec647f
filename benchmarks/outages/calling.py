"""How every contestant calls the dependency, and how its handlers are timed."""

from __future__ import annotations

import asyncio
import http.client
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PORT, FOLDER = "BENCH_UNWELL", "BENCH_FOLDER"
"""The environment variables that say where the dependency listens, and where a worker's files are."""
_TIMEOUT = 5.0
_threads = threading.local()


class OutOfOrder(Exception):
    """The dependency did not do what it was asked."""


def call(path: str) -> None:
    """One call, from a thread.

    Raises:
        OutOfOrder: If it failed.
    """
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ[PORT]), timeout=_TIMEOUT)
    try:
        connection.request("POST", path)
        status = connection.getresponse().status
    except OSError as error:
        raise OutOfOrder(str(error)) from None
    finally:
        connection.close()
    if status != http.HTTPStatus.OK:
        raise OutOfOrder(f"status {status}")


async def call_on_loop(path: str) -> None:
    """One call, from a loop.

    Raises:
        OutOfOrder: If it failed.
    """
    try:
        async with asyncio.timeout(_TIMEOUT):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ[PORT]))
            writer.write(f"POST {path} HTTP/1.1\r\nContent-Length: 0\r\n\r\n".encode())
            status = int((await reader.readline()).split()[1])
            writer.close()
    except OSError as error:
        raise OutOfOrder(str(error)) from None
    if status != http.HTTPStatus.OK:
        raise OutOfOrder(f"status {status}")


def handle(number: int) -> None:
    """The handler of an order, from a thread: one call, timed."""
    with timed():
        call(f"/orders/{number}")


async def handle_on_loop(number: int) -> None:
    """The handler of an order, on a loop: one call, timed."""
    with timed():
        await call_on_loop(f"/orders/{number}")


@contextmanager
def timed() -> Iterator[None]:
    """Write down how long a handler ran, also when it raised."""
    began = time.monotonic()
    try:
        yield
    finally:
        line = f"{began} {time.monotonic()}\n".encode()
        os.write(_log(), line)


def turns(folder: Path) -> list[tuple[float, float]]:
    """When each handler of the folder's workers began and ended, on the monotonic clock."""
    lines = [line.split() for path in folder.glob("turns-*") for line in path.read_text("ascii").splitlines()]
    return sorted((float(began), float(ended)) for began, ended in lines)


def _log() -> int:
    """A file for each process: a line of less than a page, appended, is never torn."""
    found: tuple[int, int] | None = getattr(_threads, "log", None)
    if found is None or found[0] != os.getpid():  # a fork is another process
        path = Path(os.environ[FOLDER]) / f"turns-{os.getpid()}"
        found = _threads.log = (os.getpid(), os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
    return found[1]
