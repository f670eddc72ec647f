"""The processes that run an application: `python -m redrive.child ROLE TARGET`, started by the supervisor.

worker      one worker; says on the board what it runs, and stops when its supervisor is gone
isolated    reads one delivery a line, answers with one settlement a line: for suspects
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from redrive.app import App
from redrive.board import Board
from redrive.consumer import Consumer
from redrive.errors import ClaimLost, RedriveError
from redrive.lifeline import when_parent_is_gone
from redrive.loading import load_app, log_to_stderr
from redrive.once import Claims
from redrive.turn import Held, Turns
from redrive.wire import delivery_from_json, settlement_to_json
from redrive.worker import GRACE

_log = logging.getLogger("redrive.worker")
REPLACE = 75
"""Exit code of a worker whose process has to be replaced."""
MISCONFIGURED = 78
"""Exit code of a worker that cannot start: starting it again would not help."""


async def run_app(app: App[Any], *, grace: float = GRACE, **settings: Any) -> int:  # noqa: ANN401 - App.work's
    """Open the application and work until SIGTERM or SIGINT; an exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with app:
        for queue in app.queues.values():
            queue.payload.schema()  # a type that cannot be used is told before anything is received
        _log.info("worker %s of %r on %s", app.runtime.worker, app.name, app.runtime.broker.address)
        board: Board | None = settings.get("board")
        if board is not None:
            when_parent_is_gone(lambda: loop.call_soon_threadsafe(stop.set))
            timeouts = [consumer.timeout for consumer in app.consumers]
            board.introduce(address=app.runtime.broker.address, timeout=max(timeouts, default=0.0))
        stuck = await app.work(stop=stop, grace=grace, **settings)
    return REPLACE if stuck else 0


async def run_isolated(app: App[Any]) -> None:
    """Run suspects one by one, until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what handlers print must not be taken for an answer
    async with app, contextlib.AsyncExitStack() as stack:
        if app.resources is not None:
            app.runtime.resources = await stack.enter_async_context(app.resources())
        consumers = {consumer.queue: consumer for consumer in app.consumers}
        while line := await asyncio.to_thread(sys.stdin.readline):
            delivery = delivery_from_json(line)
            consumer = consumers[delivery.queue]
            held = Held(delivery)
            keeping = asyncio.create_task(_keep_claim(app, consumer, held))
            settlement = await Turns(app.runtime, consumer).turn(held)
            keeping.cancel()
            answers.write(settlement_to_json(settlement) + "\n")
            answers.flush()


async def _keep_claim(app: App[Any], consumer: Consumer[Any], held: Held) -> None:
    """The worker extends the message's lease; the claim is held here."""
    claims = Claims(app.runtime.store, app.runtime.clock)
    while True:
        await asyncio.sleep(consumer.lease / 3)
        if held.claim is not None:
            with contextlib.suppress(ClaimLost):
                await claims.extend(held.claim)


def main() -> int:
    """Run one role."""
    parser = argparse.ArgumentParser(prog="redrive.child")
    parser.add_argument("role", choices=["worker", "isolated"])
    parser.add_argument("target")
    parser.add_argument("--app-dir", default=".")
    parser.add_argument("--board", type=Path)
    parser.add_argument("--grace", type=float, default=GRACE)
    parser.add_argument("--log-level", default="info")
    options = parser.parse_args()
    log_to_stderr(options.log_level)
    try:
        app = _loaded(options.target, options.app_dir)
        if app is None:
            return MISCONFIGURED
        if options.role == "isolated":
            asyncio.run(run_isolated(app))
            return 0
        isolated = ["-m", "redrive.child", "isolated", options.target, "--app-dir", options.app_dir]
        return asyncio.run(run_app(app, grace=options.grace, board=Board(options.board), isolated_by=isolated))
    except RedriveError as error:
        _log.critical("%s", error)
        return MISCONFIGURED


def _loaded(target: str, app_dir: str) -> App[Any] | None:
    """The application; None, with the traceback in the log, where its own module raises."""
    try:
        return load_app(target, app_dir)
    except RedriveError:
        raise
    except Exception:  # noqa: BLE001 - a user's module may raise anything
        _log.critical("application %s cannot be imported", target, exc_info=True)
        return None


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if code == REPLACE:
        os._exit(code)  # a stuck thread would hold a clean exit up for ever
    sys.exit(code)
