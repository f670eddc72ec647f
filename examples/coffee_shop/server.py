"""How the services of the shop run: on loopback, quietly, and gone within a second when told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn

import uvicorn
from typing_extensions import override

if TYPE_CHECKING:
    from types import FrameType

    from starlette.applications import Starlette

LAST_RESORT = 5.0
"""Seconds after which a process whose parent is gone ends without ceremony."""


def main(service: Starlette, *, name: str, port: int) -> NoReturn:
    """Serve until SIGINT, SIGTERM or, with `--lifeline`, the end of standard input; then exit with 0."""
    parser = argparse.ArgumentParser(description=f"Run {name} on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=port, help="0 takes any free one (default: %(default)s)")
    parser.add_argument("--listener", type=int, metavar="FD", help="serve on this inherited socket, which listens")
    parser.add_argument("--lifeline", action="store_true", help="stop when standard input ends, as when a parent dies")
    options = parser.parse_args()
    inherited: int | None = options.listener
    listener = _listen(options.port, name) if inherited is None else socket.socket(fileno=inherited)
    server = Server(service, name)
    if options.lifeline:
        threading.Thread(target=_hold, args=(server,), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):  # before uvicorn has taken the signal over
        server.run(sockets=[listener])
    sys.exit(0)


class Server(uvicorn.Server):
    """uvicorn, which waits for open responses before it ends the lifespan: so those are told to finish first.

    The service keeps an `asyncio.Event` as `service.state.stopping`; whoever answers for long waits for it too.
    """

    def __init__(self, service: Starlette, name: str) -> None:
        super().__init__(uvicorn.Config(service, log_level="warning", access_log=False, timeout_graceful_shutdown=1))
        self._service, self._name = service, name

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for listener in sockets or ():
            with contextlib.suppress(OSError):  # nobody has to read this
                print(f"{self._name}: http://127.0.0.1:{listener.getsockname()[1]}", flush=True)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.state.stopping.set()
        await super().shutdown(sockets=sockets)

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, and at a second Ctrl-C do not wait; uvicorn's own raises the signal again at its end."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


async def told_to_stop(stopping: asyncio.Event, within: float) -> bool:
    """Wait that many seconds, or less if the server stops meanwhile; say whether it does."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), within)
    return stopping.is_set()


def _listen(port: int, name: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        sys.exit(
            f"{name} cannot listen on port {port}: {error.strerror}; stop what does, or choose another with --port"
        )
    return listener


def _hold(server: Server) -> None:
    """Stop the server once standard input ends; `os.read` takes no lock that could hold up the interpreter's end."""
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    server.should_exit = True
    time.sleep(LAST_RESORT)
    os._exit(1)
