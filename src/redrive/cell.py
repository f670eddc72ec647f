"""The process in which suspects run: it opens the application anew, and is asked one message at a time."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from typing import Self

READY = "ready"
"""What it says first, once the application is open; before that nothing is a message's fault."""
_START_UP = 30.0
_LAST_MOMENTS = 5.0
_LINE_LIMIT = 4 * 1024 * 1024


class Cell:
    """One such process, from the start to the end."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child
        self.used = False
        """Whether a message ran in it already: what goes wrong then may be that one's doing."""

    @classmethod
    async def start(cls, command: Sequence[str]) -> Self:
        """Start it; arguments of Python."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
        )
        return cls(child)

    async def ready(self) -> bool:
        """Whether it could open the application; waits for that, 30 seconds at most."""
        return bool(await self._line(_START_UP))

    async def ask(self, line: str, patience: float) -> str | None:
        """Give it a message, and wait for its answer for so many seconds; None: it ended, or took too long."""
        assert self._child.stdin is not None  # noqa: S101 - a pipe was asked for
        with contextlib.suppress(ConnectionError):  # it has ended, as the answer will show
            self._child.stdin.write(line.encode() + b"\n")
        answer = await self._line(patience)
        self.used = True
        return answer.decode() or None

    async def end(self) -> int:
        """Kill it; its exit status. What is ending by itself is waited for: a kill would hide how it ended."""
        if self._child.stdout is not None and self._child.stdout.at_eof():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_MOMENTS):
                    return await self._child.wait()
        with contextlib.suppress(ProcessLookupError):
            self._child.kill()
        return await self._child.wait()

    async def _line(self, patience: float) -> bytes:
        """What it says next; empty when it ended or took too long."""
        assert self._child.stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            async with asyncio.timeout(patience):
                return await self._child.stdout.readline()
        except (TimeoutError, ConnectionError):
            return b""


def how_it_ended(status: int) -> str:
    """An exit status, for people."""
    if status == -9:  # noqa: PLR2004 - SIGKILL: by us after the time limit, by the system out of memory, or by a person
        return "killed, or no end within its timeout"
    return f"signal {-status}" if status < 0 else f"exit code {status}"
