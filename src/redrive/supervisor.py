"""`redrive worker`: keeps worker children running, and runs no user code itself.

When a child dies, or its loop stands still, the messages on its board become suspects: written into the store before
anybody can receive them again, so that they run one at a time in a process of their own, and only the one that takes
that down is charged a crash. What else a dead child held is handed back at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redrive.app import App
from redrive.child import run_app
from redrive.keeper import Keeper
from redrive.lifeline import when_parent_is_gone
from redrive.loading import log_to_stderr
from redrive.runtime import GRACE


def supervise(
    target: str,
    app_dir: str = ".",
    *,
    processes: int = 1,
    grace: float = GRACE,
    log_level: str = "info",
    health: socket.socket | None = None,
) -> int:
    """Keep `processes` workers running until SIGTERM or SIGINT; an exit code. Blocks.

    Args:
        target: `module:attribute` or `path/to/file.py:attribute`.
        app_dir: the folder that its module is found in.
        processes: how many workers to keep; each is a process of its own.
        grace: seconds that running handlers have when it is told to stop.
        log_level: of the workers.
        health: where to answer whether the workers live and are ready, from `redrive.health.listen`; closed at the end.
    """
    command = ["-m", "redrive.child", "worker", target, "--app-dir", app_dir]
    command += ["--grace", str(grace), "--log-level", log_level]
    return asyncio.run(_supervise(command, processes, grace, health))


def run_here(
    app: App[Any], *, grace: float = GRACE, beside: contextlib.AbstractAsyncContextManager[Any] | None = None
) -> int:
    """Run an application's worker in this very process, until SIGTERM or SIGINT; an exit code. Blocks.

    Args:
        app: the application.
        grace: seconds that running handlers have when it is told to stop.
        beside: what runs on the same loop as long as the worker does.
    """

    async def run() -> int:
        async with beside or contextlib.nullcontext():
            return await run_app(app, grace=grace)

    return asyncio.run(run())


async def _supervise(command: Sequence[str], processes: int, grace: float, health: socket.socket | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="redrive-") as folder:
        keepers = [
            Keeper(str(number), command, Path(folder) / f"board-{number}", stop, grace=grace)
            for number in range(1, processes + 1)
        ]
        async with contextlib.AsyncExitStack() as stack:
            if health is not None:
                from redrive.health import answering  # noqa: PLC0415 - whoever asks for none pays for none

                await stack.enter_async_context(answering(health, keepers, stop))
            codes = await asyncio.gather(*(one.keep() for one in keepers))
    return max(codes)


def main() -> int:
    """`python -m redrive.supervisor TARGET`: a supervisor that stops when its own parent is gone, as in the demo."""
    parser = argparse.ArgumentParser(prog="redrive.supervisor")
    parser.add_argument("target")
    parser.add_argument("--app-dir", default=".")
    parser.add_argument("--grace", type=float, default=GRACE)
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    log_to_stderr(options.log_level)
    when_parent_is_gone(lambda: os.kill(os.getpid(), signal.SIGTERM))
    return supervise(
        options.target,
        options.app_dir,
        processes=options.processes,
        grace=options.grace,
        log_level=options.log_level,
    )


if __name__ == "__main__":
    sys.exit(main())
