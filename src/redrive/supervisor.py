"""`redrive worker`: keeps worker children running, and runs no user code itself.

When a child dies, or its loop has not turned for longer than a handler may take, the messages on its board become
suspects: written into the store before the next child starts, so that they run one at a time in a process of their
own, and only the one that takes that down is charged a crash.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from redrive.app import App
from redrive.board import Board
from redrive.child import MISCONFIGURED, REPLACE, run_app
from redrive.clock import SteadyClock, SystemClock
from redrive.connections import connect
from redrive.errors import RedriveError, VersionConflict
from redrive.lifeline import when_parent_is_gone
from redrive.loading import log_to_stderr
from redrive.runtime import GRACE
from redrive.store import ABSENT, SUSPECTS

_log = logging.getLogger("redrive.supervisor")
_SUSPECT_FOR_MS = 24 * 3600 * 1000
_LOOP_PATIENCE = 10.0
_LOOK_EVERY = 0.5
_LONGEST_PAUSE = 5.0
_KILL_AFTER = 5.0


def supervise(
    target: str, app_dir: str = ".", *, processes: int = 1, grace: float = GRACE, log_level: str = "info"
) -> int:
    """Keep `processes` workers running until SIGTERM or SIGINT; an exit code. Blocks."""
    command = ["-m", "redrive.child", "worker", target, "--app-dir", app_dir]
    command += ["--grace", str(grace), "--log-level", log_level]
    return asyncio.run(_supervise(command, processes, grace))


def run_here(app: App[Any], *, grace: float = GRACE) -> int:
    """Run an application's worker in this very process, until SIGTERM or SIGINT; an exit code. Blocks."""
    return asyncio.run(run_app(app, grace=grace))


async def _supervise(command: list[str], processes: int, grace: float) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="redrive-") as folder:
        keepers = [_Keeper(command, Path(folder) / f"board-{n}", stop, grace).keep() for n in range(processes)]
        codes = await asyncio.gather(*keepers)
    return max(codes)


class _Keeper:
    """Keeps one child running."""

    def __init__(self, command: list[str], board: Path, stop: asyncio.Event, grace: float) -> None:
        self._command, self._board_path, self._stop, self._grace = command, board, stop, grace

    async def keep(self) -> int:
        deaths, started_once = 0, False
        while not self._stop.is_set():
            self._board_path.write_bytes(b"")
            board = Board(self._board_path)
            began = time.monotonic()
            code = await self._run(board)
            if self._stop.is_set():
                return 0
            if code == MISCONFIGURED or (not started_once and not board.facts()):
                self._stop.set()  # it never got as far as opening the application: another would not either
                return code
            started_once = True
            if code != REPLACE:
                _log.error("a worker died (%s); starting another", f"signal {-code}" if code < 0 else f"code {code}")
                await _accuse(board)
            board.close()
            deaths = deaths + 1 if time.monotonic() - began < _LONGEST_PAUSE else 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_LONGEST_PAUSE, 0.05 * 2**deaths)):
                    await self._stop.wait()
        return 0

    async def _run(self, board: Board) -> int:
        """One child's life; its exit code."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._command,
            "--board",
            str(self._board_path),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        ended = asyncio.create_task(child.wait())
        stopped = asyncio.create_task(self._stop.wait())
        try:
            while not ended.done() and not stopped.done():
                await asyncio.wait({ended, stopped}, timeout=_LOOK_EVERY, return_when=asyncio.FIRST_COMPLETED)
                if not ended.done() and _is_stuck(board):
                    _log.error("a worker's loop has not turned for longer than a handler may take; it is killed")
                    child.kill()
            if not ended.done():
                child.terminate()
                await asyncio.wait({ended}, timeout=self._grace + _KILL_AFTER)
            if not ended.done():
                child.kill()
            return await ended
        finally:
            stopped.cancel()
            if child.returncode is None:
                child.kill()


def _is_stuck(board: Board) -> bool:
    beat, facts = board.last_beat(), board.facts()
    return bool(beat and facts) and time.monotonic() - beat > float(facts["timeout"]) + _LOOP_PATIENCE


async def _accuse(board: Board) -> None:
    """Write down what was running when a child died."""
    running, facts = board.running(), board.facts()
    if not running or "address" not in facts:
        return
    clock = SteadyClock(SystemClock())
    try:
        broker, store = await asyncio.to_thread(connect, facts["address"], clock)
        for key in running:
            with contextlib.suppress(VersionConflict):
                value = json.dumps({"v": 1, "at_ms": clock.now_ms()}).encode()
                expires = clock.now_ms() + _SUSPECT_FOR_MS
                await store.put(SUSPECTS, key, value, if_version=ABSENT, expires_at_ms=expires)
        await broker.close()
        await store.close()
    except RedriveError as error:
        _log.error("suspects cannot be written down: %s", error)


def main() -> int:
    """`python -m redrive.supervisor TARGET`: a supervisor that stops when its own parent is gone, as in the demo."""
    parser = argparse.ArgumentParser(prog="redrive.supervisor")
    parser.add_argument("target")
    parser.add_argument("--app-dir", default=".")
    parser.add_argument("--grace", type=float, default=GRACE)
    parser.add_argument("--log-level", default="info")
    options = parser.parse_args()
    log_to_stderr(options.log_level)
    when_parent_is_gone(lambda: os.kill(os.getpid(), signal.SIGTERM))
    return supervise(options.target, options.app_dir, grace=options.grace, log_level=options.log_level)


if __name__ == "__main__":
    sys.exit(main())
