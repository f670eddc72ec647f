"""The processes that run an application: `python -m redrive.child ROLE TARGET`, started by the supervisor.

worker      one worker; says on the board what it runs, and stops when its supervisor is gone
isolated    says `ready`, then reads one delivery a line and answers with one settlement a line: for suspects
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

from redrive.app import App
from redrive.board import Board
from redrive.broker import Settlement
from redrive.calling import Held
from redrive.cell import READY
from redrive.claims import Claims
from redrive.consumer import Consumer
from redrive.errors import BrokerUnavailable, ClaimLost, OutcomeUnknown, RedriveError, StoreError
from redrive.lifeline import when_parent_is_gone
from redrive.loading import load_app, log_to_stderr
from redrive.pulse import Pulse
from redrive.runtime import GRACE
from redrive.sagas.turns import turns_for
from redrive.turn import Turns
from redrive.wire import delivery_from_json, settlement_to_json
from redrive.witness import Witness

_log = logging.getLogger("redrive.worker")
REPLACE = 75
"""Exit code of a worker whose process has to be replaced."""
UNAVAILABLE = 69
"""Exit code of a worker whose broker or store is away: to be started again."""
MISCONFIGURED = 78
"""Exit code of a worker that cannot start: starting it again would not help."""
_SWITCH_EVERY = 0.0005
"""Seconds for which a thread that computes may keep the others waiting; Python's own 5 ms would let one endless loop in
a plain handler take a third of the throughput of handlers that wait for something."""


async def run_app(app: App[Any], *, grace: float = GRACE, **settings: Any) -> int:  # noqa: ANN401 - App.work's
    """Open the application and work until SIGTERM or SIGINT; an exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with app, contextlib.AsyncExitStack() as stack:
        for queue in app.queues.values():
            queue.payload.schema()  # a type that cannot be used is told before anything is received
        _log.info("worker %s of %r on %s", app.runtime.worker, app.name, app.runtime.broker.address)
        board: Board | None = settings.get("board")
        if board is not None:
            when_parent_is_gone(lambda: loop.call_soon_threadsafe(stop.set))
            await stack.enter_async_context(_on_board(board, app))
        if board is not None:  # a process of our own: what is loaded by now is never garbage, and need not be looked at
            gc.collect()
            gc.freeze()
        stuck = await app.work(stop=stop, grace=grace, **settings)
    return REPLACE if stuck else 0


@contextlib.asynccontextmanager
async def _on_board(board: Board, app: App[Any]) -> AsyncIterator[None]:
    """Let the supervisor see what this worker does."""
    runtime = app.runtime
    timeouts = [consumer.timeout for consumer in app.consumers]
    board.introduce(address=runtime.broker.address, timeout=max(timeouts, default=0.0))
    runtime.broker = Witness(runtime.broker, board)
    pulse = asyncio.create_task(Pulse(board, runtime.broker, app.consumers).run())
    try:
        yield
    finally:
        pulse.cancel()
        await asyncio.gather(pulse, return_exceptions=True)


async def run_isolated(app: App[Any], answers: TextIO) -> None:
    """Say that the application is open, then run suspects one by one, until standard input ends."""
    lines = _lines_of_standard_input()
    async with app, contextlib.AsyncExitStack() as stack:
        if app.resources is not None:
            app.runtime.resources = await stack.enter_async_context(app.resources())
        most = max([consumer.concurrency for consumer in app.consumers], default=1)
        threads = ThreadPoolExecutor(most, thread_name_prefix="redrive-handler")
        turns = {consumer.queue: (consumer, turns_for(app.runtime, consumer, threads)) for consumer in app.consumers}
        _say(answers, READY)
        while True:
            delivery = delivery_from_json(await lines.get())
            held = Held(delivery)
            settlement = await _turn(app, *turns[delivery.queue], held)
            _say(answers, settlement_to_json(settlement))
            if held.stuck:
                os._exit(0)  # its thread runs on: nothing else may run beside it


async def _turn(app: App[Any], consumer: Consumer[Any], turns: Turns, held: Held) -> Settlement | None:
    """One suspect's turn; what goes wrong in redrive itself is no crash of the message."""
    keeping = asyncio.create_task(_keep_claim(app, consumer, held))
    try:
        return await turns.turn(held)
    except Exception:  # noqa: BLE001 - an outermost loop: logged and survived
        _log.exception("the turn of message %s of %s raised", held.delivery.message.id, consumer.queue)
        return turns.back(held.delivery, 1.0)
    finally:
        keeping.cancel()


def _lines_of_standard_input() -> asyncio.Queue[str]:
    """What the worker asks. Its end means that the worker is gone: then nothing here may go on, whatever it does."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        os._exit(0)

    threading.Thread(target=read, name="redrive-lifeline", daemon=True).start()
    return lines


def _say(answers: TextIO, line: str) -> None:
    answers.write(line + "\n")
    answers.flush()


def _answers() -> TextIO:
    """Standard output, kept for answers: what the application prints from now on goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


async def _keep_claim(app: App[Any], consumer: Consumer[Any], held: Held) -> None:
    """The worker extends the message's lease; the claim is held here."""
    claims = Claims(app.runtime.store, app.runtime.clock)
    while True:
        await asyncio.sleep(consumer.lease / 3)
        if held.claim is not None:
            with contextlib.suppress(ClaimLost, StoreError):
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
    if options.role == "isolated":
        return _run(options, None)
    return _run(options, Board(options.board))


def _run(options: argparse.Namespace, board: Board | None) -> int:
    """A worker where there is a board, else the process for suspects; its exit code, which it leaves on the board."""
    code, why = _ended(options, board)
    if board is not None:
        board.say(code, why)
    if why and (board is None or code != UNAVAILABLE):  # what is away, the keeper says, and not of each worker anew
        _log.critical("%s", why)
    return code


def _ended(options: argparse.Namespace, board: Board | None) -> tuple[int, str]:
    """Run until the end: the exit code, and what was wrong if that is not logged yet."""
    answers = None if board is not None else _answers()
    sys.setswitchinterval(_SWITCH_EVERY)
    try:
        app = _loaded(options.target, options.app_dir)
        if app is None:
            return MISCONFIGURED, ""
        if answers is not None:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)  # its worker decides: to be stopped is no crash of a message
            asyncio.run(run_isolated(app, answers))
            return 0, ""
        isolated = ["-m", "redrive.child", "isolated", options.target, "--app-dir", options.app_dir]
        isolated += ["--log-level", options.log_level]
        return asyncio.run(run_app(app, grace=options.grace, board=board, isolated_by=isolated)), ""
    except (BrokerUnavailable, OutcomeUnknown, StoreError) as error:
        return UNAVAILABLE, str(error)
    except RedriveError as error:
        return MISCONFIGURED, str(error)


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
