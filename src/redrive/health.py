"""The health door: whether the workers live and are ready, answered by the supervisor over HTTP.

    GET /live   200 while the loop of every worker turned within the last 10 seconds, else 503
    GET /ready  200 once every worker has reached its broker, and while each did within the last 30 seconds, else 503

Both say the same of each worker, in JSON. The supervisor runs no user code, so a handler cannot keep it from answering.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from redrive.errors import OperationRefused
from redrive.keeper import Keeper, Seen

_log = logging.getLogger("redrive.supervisor")
LIVE_WITHIN = 10.0
"""Seconds within which the loop of a worker has to turn; one that starts has as long for its first turn."""
READY_WITHIN = 30.0
"""Seconds within which the broker of a worker has to answer; one that asked for nothing for ten seconds asks then."""


def listen(host: str, port: int) -> socket.socket:
    """Take the address; port 0 is any free one.

    Raises:
        OperationRefused: If it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise OperationRefused(
            f"address {shown!r}",
            f"cannot be listened on ({error.strerror or error})",
            "stop what listens there, or choose another by --health",
        ) from None


@contextlib.asynccontextmanager
async def answering(listener: socket.socket, keepers: Sequence[Keeper], stopping: asyncio.Event) -> AsyncIterator[None]:
    """Answer until the block ends."""
    server = _Server(_Door(keepers, stopping).service())
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    host, port = listener.getsockname()[:2]
    _log.info("health is told on http://%s:%d/live and /ready", f"[{host}]" if ":" in host else host, port)
    try:
        yield
    finally:
        server.should_exit = True
        await serving
        listener.close()


class _Door:
    """What is asked, and what is answered."""

    def __init__(self, keepers: Sequence[Keeper], stopping: asyncio.Event) -> None:
        self._keepers, self._stopping = keepers, stopping

    def service(self) -> Starlette:
        """Two pages, for GET and HEAD."""
        return Starlette(routes=[Route("/live", self._live), Route("/ready", self._ready)])

    async def _live(self, _: Request) -> JSONResponse:
        return self._answer("live")

    async def _ready(self, _: Request) -> JSONResponse:
        return self._answer("ready")

    def _answer(self, asked: str) -> JSONResponse:
        stopping = self._stopping.is_set()
        workers = [_told(one, stopping=stopping) for keeper in self._keepers for one in keeper.seen()]
        good = all(one[asked] for one in workers)
        return JSONResponse({asked: good, "stopping": stopping, "workers": workers}, 200 if good else 503)


def _told(one: Seen, *, stopping: bool) -> dict[str, Any]:
    """What is said of one worker: seconds to a tenth, null for what has not happened yet."""
    return {
        "worker": one.worker,
        "pid": one.pid,
        "live": _is_live(one, stopping=stopping),
        "ready": not stopping and one.answered_ago is not None and one.answered_ago <= READY_WITHIN,
        "loop_turned_seconds_ago": _tenths(one.turned_ago),
        "broker_answered_seconds_ago": _tenths(one.answered_ago),
        "messages_running": one.running,
        "deaths": one.deaths,
    }


def _is_live(one: Seen, *, stopping: bool) -> bool:
    if stopping and one.pid is None:
        return True  # it has ended, as it was told to
    return (one.started_ago if one.turned_ago is None else one.turned_ago) <= LIVE_WITHIN


def _tenths(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


class _Server(uvicorn.Server):
    """uvicorn, quiet, and without a word about signals: those are the supervisor's."""

    def __init__(self, service: Starlette) -> None:
        super().__init__(
            uvicorn.Config(
                service,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
