"""How processes take turns at one file, and what whoever has the turn tells the others about the time."""

from __future__ import annotations

import contextlib
import fcntl
import os

_LONGEST_NOTE = 256
_FRESH = 900.0
"""Seconds."""


class Turn:
    """An advisory lock beside the file, taken before `BEGIN IMMEDIATE`.

    SQLite's own busy wait starves: of two draining processes one got 100 of 60,000 messages. One lock alone can starve
    too: who gives it and takes it again at once is faster than who has to be woken for it. So there are two. Whoever
    wants the turn holds the second one, `next`, while it waits for the first; who comes back waits behind. A process
    that dies lets go of both.
    """

    def __init__(self, turn: int, following: int) -> None:
        self._turn, self._next = turn, following
        self._closed = False

    def take(self) -> None:
        """Wait for this process's turn; as long as one transaction of each process that waits already.

        Raises:
            OSError: If the kernel refuses the lock; nothing is held then.
        """
        fcntl.flock(self._next, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._next, fcntl.LOCK_UN)

    def give(self) -> None:
        """Let the next process have its turn."""
        fcntl.flock(self._turn, fcntl.LOCK_UN)

    def note_time(self, *, boot: str, monotonic: float, engine_ms: int) -> None:
        """Write down, in this process's turn, what engine time it was at which moment since the machine started.

        A note for processes that run at the same time, of no use after a restart of the machine; so it is not synced.
        """
        text = f"{boot} {monotonic:.6f} {engine_ms}\n".encode()
        with contextlib.suppress(OSError):  # without it, who comes next believes the wall clock
            os.pwrite(self._turn, text, 0)

    def noted_time_ms(self, *, boot: str, monotonic: float) -> int | None:
        """Engine time at a moment since the machine started, by the last note; None without a fresh one.

        Whoever runs writes one every ten minutes at least: by one that is older nobody has run since.
        """
        try:
            of_boot, at, engine_ms = os.pread(self._turn, _LONGEST_NOTE, 0).split(b"\n")[0].decode().split()
            since = monotonic - float(at)
        except (OSError, ValueError):
            return None
        is_fresh = of_boot == boot and 0 <= since < _FRESH and engine_ms.isdecimal()
        return int(engine_ms) + int(since * 1000) if is_fresh else None

    def close(self) -> None:
        """Let go of the locks. Their files stay: to remove one that another process opens means two locks."""
        if not self._closed:
            self._closed = True
            os.close(self._turn)
            os.close(self._next)


def turn_for(path: str) -> Turn:
    """The advisory lock for a database file.

    Raises:
        OSError: If its files cannot be opened.
    """
    turn = _made(f"{path}-lock")
    try:
        return Turn(turn, _made(f"{path}-next"))
    except OSError:
        os.close(turn)
        raise


def _made(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
