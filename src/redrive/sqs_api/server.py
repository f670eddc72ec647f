"""The HTTP server below the door: uvicorn on httptools, with limits on what a client may leave unfinished."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from redrive.sqs_api.contract import missing
from redrive.sqs_api.door import Door

if TYPE_CHECKING:
    from redrive.sqs_api.connection import Connection

IDLE_FOR = 120
"""Seconds for which a connection may stand between two requests; SDKs keep theirs, and lose one badly."""
LOOK_EVERY = 1.0
"""Seconds between two looks at connections that are slow."""
_LAST_RESORT = 0.5
"""Seconds that requests on their way have once the server stops."""


def needed() -> None:
    """Look whether what the server needs is installed.

    Raises:
        DeclarationError: If httptools is not.
    """
    _connections()


@contextlib.asynccontextmanager
async def answering(door: Door, listener: socket.socket) -> AsyncIterator[None]:
    """Answer on a listening socket until the block ends; polls that wait are then answered at once.

    Raises:
        DeclarationError: If httptools is not installed.
    """
    server = _Server(door, _connections())
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    watching = asyncio.create_task(_end_the_slow(server))
    try:
        yield
    finally:
        door.stop()
        server.should_exit = True
        await serving
        watching.cancel()
        listener.close()


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop: uvloop's where it is installed."""
    try:
        made = import_module("uvloop").new_event_loop()
    except ModuleNotFoundError:
        return asyncio.new_event_loop()
    return cast("asyncio.AbstractEventLoop", made)


def until_told(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """What is set by SIGTERM and Ctrl-C."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told


class _Server(uvicorn.Server):
    """uvicorn, quiet, and without a word about signals."""

    def __init__(self, door: Door, connections: type[asyncio.Protocol]) -> None:
        super().__init__(
            uvicorn.Config(
                cast("Any", door),
                http=connections,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=IDLE_FOR,
                timeout_graceful_shutdown=cast("int", _LAST_RESORT),  # uvicorn takes fractions
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _connections() -> type[asyncio.Protocol]:
    try:
        from redrive.sqs_api.connection import Connection  # noqa: PLC0415 - it needs the extra
    except ModuleNotFoundError as error:
        raise missing(str(error.name)) from None
    return Connection


async def _end_the_slow(server: uvicorn.Server) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY)
        for connection in list(server.server_state.connections):
            cast("Connection", connection).end_if_slow()
