"""Keeps one worker running: replaces it when it died, relieves it while it stands still.

died            what ran becomes suspect, what was held goes back at once, and another worker starts
stands still    its loop has not turned for three seconds: what runs becomes suspect, and a second worker helps out
                until the first one turns again
stuck           its loop has not turned for longer than a handler may take: it is killed, and so has died
leaves          it asked to be replaced, and finishes what runs: a second worker helps out until its successor turns
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from redrive.aftermath import accuse, clean_up
from redrive.board import Board
from redrive.child import MISCONFIGURED, REPLACE, UNAVAILABLE
from redrive.restarts import Life, Restarts

_log = logging.getLogger("redrive.supervisor")
_LOOK_EVERY = 0.5
_STANDS_STILL = 3.0
_CALM = 10.0
_LOOP_PATIENCE = 10.0
_KILL_AFTER = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a keeper sees of its worker, for whoever asks about its health."""

    worker: str
    """`1` to the number of processes; `1+` is what helps out for `1`."""
    pid: int | None
    """None: it is being replaced."""
    deaths: int
    """How many workers died here before."""
    turned_ago: float | None
    """Seconds since its loop turned; None: it has not yet."""
    started_ago: float
    """Seconds since the process started, or since the former one ended."""
    answered_ago: float | None
    """Seconds since its broker answered; None: it has not yet."""
    running: int
    """Messages that run."""


class Keeper:
    """Keeps one worker."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        board: Path,
        stop: asyncio.Event,
        *,
        grace: float,
        relieves: bool = True,
    ) -> None:
        """Be ready to keep one.

        Args:
            name: what its health is told under.
            command: arguments of the Python that starts a worker, but for its board.
            board: where its board is made.
            stop: set when it shall end.
            grace: seconds that running handlers have then.
            relieves: whether a second worker helps out while this one stands still.
        """
        self._name, self._command, self._path, self._stop, self._grace = name, list(command), board, stop, grace
        self._relieves = relieves
        self._relief: Keeper | None = None
        self._reliefs = 0
        self._background: set[asyncio.Task[object]] = set()
        self._stood_still_at = 0.0
        self._child: asyncio.subprocess.Process | None = None
        self._board: Board | None = None
        self._since = self._unwell_at = time.monotonic()
        self._opened = self._is_over = False
        self._deaths = 0
        self._random = Random()  # noqa: S311 - jitter, no secret
        self._away: str | None = None
        """What its workers wait for, as the log said last."""

    async def keep(self) -> int:
        """Keep a worker until told to stop, or until another would do no better; an exit code."""
        restarts, code = Restarts(), None
        while code is None and not self._stop.is_set():
            life = await self._one_life()
            restarts, code = restarts.after(life), life.code
            if code is None:
                await self._pause(restarts.pause(life, self._random))
        self._stop.set()
        self._dismiss()
        await asyncio.gather(*self._background)
        self._path.unlink(missing_ok=True)
        self._is_over = True
        return code or 0

    def stop(self) -> None:
        """Tell its worker to finish what runs; `keep` returns then."""
        self._stop.set()

    def seen(self) -> list[Seen]:
        """How the worker is, and how the one is that helps out for it; nothing when there is none any more."""
        if self._is_over:
            return []
        now, board, child = time.monotonic(), self._board, self._child
        mine = Seen(
            worker=self._name,
            pid=None if child is None or child.returncode is not None else child.pid,
            deaths=self._deaths,
            turned_ago=_ago(now, 0.0 if board is None else board.last_beat()),
            started_ago=now - self._since,
            answered_ago=_ago(now, 0.0 if board is None else board.last_answer()),
            running=0 if board is None else len(board.running()),
        )
        return [mine] if self._relief is None else [mine, *self._relief.seen()]

    async def _one_life(self) -> Life:
        """One worker's life, from its start to its burial."""
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            try:
                self._path.unlink(missing_ok=True)
                self._path.touch()
                board = self._board = Board(self._path)
                stack.callback(self._close, board)
                code = await self._run(board)
            except OSError as error:  # no process, no memory, no room for the board: they may come back
                _log.error("a worker cannot be started: %s", error)
                return Life(seconds=time.monotonic() - began)
            self._since = time.monotonic()
            return replace(await self._bury(board, code), seconds=self._since - began)

    def _close(self, board: Board) -> None:
        self._board = None
        board.close()

    async def _run(self, board: Board) -> int:
        """From start to end; its exit code."""
        child = self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._command,
            "--board",
            str(self._path),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._since = time.monotonic()
        ended = asyncio.create_task(child.wait())
        stopped = asyncio.create_task(self._stop.wait())
        try:
            while not ended.done() and not stopped.done():
                await asyncio.wait({ended, stopped}, timeout=_LOOK_EVERY, return_when=asyncio.FIRST_COMPLETED)
                if not ended.done():
                    await self._look_after(child, board)
            self._dismiss()
            if not ended.done():
                _send(child, signal.SIGTERM)
                await asyncio.wait({ended}, timeout=self._grace + _KILL_AFTER)
            if not ended.done():
                _send(child, signal.SIGKILL)
            return await ended
        finally:
            stopped.cancel()
            if child.returncode is None:
                _send(child, signal.SIGKILL)

    async def _bury(self, board: Board, code: int) -> Life:
        """See to what a worker leaves behind. Its exit code counts only if the board says so: handlers exit too."""
        stopping, said = self._stop.is_set(), board.said() == code
        as_told = (said and code == REPLACE) or (stopping and code in {0, -signal.SIGKILL})
        if code != 0 or not as_told:
            _kill_all_of(self._child)
        away = board.why() if said and code == UNAVAILABLE else None
        hopeless = not self._opened and not board.facts() and away is None
        if not stopping and (hopeless or (said and code == MISCONFIGURED)):
            return Life(seconds=0.0, code=code if code > 0 else 1)  # it cannot open the application: nor could another
        self._opened = self._opened or bool(board.facts())
        if not as_told:
            self._deaths += 1
            self._tell(code, away)
        accused = not as_told and bool(board.running())
        await clean_up(board, crashed=not as_told)
        return Life(seconds=0.0, accused=accused, away=away)

    def _tell(self, code: int, away: str | None) -> None:
        """Say why a worker ended; what is still away was said before."""
        if away is None:
            _log.error("a worker died (%s); starting another", f"signal {-code}" if code < 0 else f"code {code}")
        elif away != self._away:
            _log.error("no worker can start: %s; tried again and again, at last every half minute", away)
        self._away = away

    async def _look_after(self, child: asyncio.subprocess.Process, board: Board) -> None:
        now, beat, facts = time.monotonic(), board.last_beat(), board.facts()
        if facts and self._away is not None:
            self._away = None
            _log.warning("a worker could start again")
        silence = now - beat if beat and facts else 0.0
        if not beat or silence > _STANDS_STILL or board.is_leaving():
            self._unwell_at = now
        if silence > float(facts.get("timeout", 0.0)) + _LOOP_PATIENCE:
            _log.error("a worker's loop has not turned for longer than a handler may take; it is killed")
            _send(child, signal.SIGKILL)
        elif silence > _STANDS_STILL:
            self._accuse_once(board, beat)
            self._relieve()
        elif board.is_leaving():
            self._relieve()
        elif now - self._unwell_at > _CALM:
            self._dismiss()

    def _accuse_once(self, board: Board, beat: float) -> None:
        """Before the leases of what runs there end: whoever receives it then runs it alone.

        Nothing waits for it here: the worker may hold the file's lock, and then nothing but its end lets go of that.
        """
        if self._stood_still_at != beat:
            self._stood_still_at = beat
            _log.warning("a worker's loop stands still; another worker helps out until it turns again")
            if running := board.running():
                self._in_background(accuse(board.facts()["address"], running))

    def _relieve(self) -> None:
        if self._relieves and (self._relief is None or self._relief._is_over):  # noqa: SLF001 - one of its own kind
            self._reliefs += 1
            path = self._path.with_name(f"{self._path.name}-{self._reliefs}")
            stop = asyncio.Event()
            self._relief = Keeper(f"{self._name}+", self._command, path, stop, grace=self._grace, relieves=False)
            self._in_background(self._relief.keep())

    def _in_background(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _dismiss(self) -> None:
        """Whoever helps out finishes what it holds."""
        if self._relief is not None:
            self._relief.stop()
            self._relief = None

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()


def _ago(now: float, then: float) -> float | None:
    return max(0.0, now - then) if then else None


def _send(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
        child.send_signal(number)


def _kill_all_of(child: asyncio.subprocess.Process | None) -> None:
    """Kill what a dead worker started: nothing of it may touch messages that are handed back."""
    if child is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
