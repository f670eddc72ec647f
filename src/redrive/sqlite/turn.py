"""How processes take turns at one file, and what whoever has the turn tells the others about the time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

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

    def __init__(self, turn: Lock, following: Lock) -> None:
        self._turn, self._next = turn, following

    def take(self) -> None:
        """Wait for this process's turn; as long as one transaction of each process that waits already.

        Raises:
            OSError: If the system refuses the lock; nothing is held then.
        """
        self._next.take()
        try:
            self._turn.take()
        finally:
            self._next.give()

    def give(self) -> None:
        """Let the next process have its turn."""
        self._turn.give()

    def note_time(self, *, boot: str, monotonic: float, engine_ms: int) -> None:
        """Write down, in this process's turn, what engine time it was at which moment since the machine started.

        A note for processes that run at the same time, of no use after a restart of the machine; so it is not synced.
        """
        text = f"{boot} {monotonic:.6f} {engine_ms}\n".encode()
        with contextlib.suppress(OSError):  # without it, who comes next believes the wall clock
            os.pwrite(self._turn.file(), text, 0)

    def noted_time_ms(self, *, boot: str, monotonic: float) -> int | None:
        """Engine time at a moment since the machine started, by the last note; None without a fresh one.

        Whoever runs writes one every ten minutes at least: by one that is older nobody has run since.
        """
        try:
            of_boot, at, engine_ms = os.pread(self._turn.file(), _LONGEST_NOTE, 0).split(b"\n")[0].decode().split()
            since = monotonic - float(at)
        except (OSError, ValueError):
            return None
        is_fresh = of_boot == boot and 0 <= since < _FRESH and engine_ms.isdecimal()
        return int(engine_ms) + int(since * 1000) if is_fresh else None

    def close(self) -> None:
        """Let go of the locks. Their files stay: to remove one that another process opens means two locks."""
        self._turn.close()
        self._next.close()


class Lock:
    """A lock of one process on a file, made if it is missing; not counted: to take it twice is to take it once."""

    def __init__(self, path: str, *, beside: str) -> None:
        self._path, self._beside = path, beside
        self._file: int | None = None

    def file(self) -> int:
        """The number of the open file.

        Raises:
            OSError: If it cannot be opened.
        """
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            belongs_to_the_owner_of(self._beside, self._file)
        return self._file

    def take(self) -> None:
        """Wait until nobody else has it.

        Raises:
            OSError: If the system refuses it.
        """
        fcntl.flock(self.file(), fcntl.LOCK_EX)

    def give(self) -> None:
        """Let go of it, whatever the system says to that."""
        try:
            fcntl.flock(self.file(), fcntl.LOCK_UN)
        except OSError:
            self.close()  # which lets go of it too

    def close(self) -> None:
        """Let go of it, and of the file."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                os.close(file)


def turn_for(path: str) -> Turn:
    """The advisory lock for a database file.

    Raises:
        OSError: If its files cannot be opened.
    """
    turn, following = Lock(f"{path}-lock", beside=path), Lock(f"{path}-next", beside=path)
    try:
        turn.file()
        following.file()
    except OSError:
        turn.close()
        raise
    return Turn(turn, following)


def belongs_to_the_owner_of(path: str, made: int | str) -> None:
    """What root makes beside a file is its owner's, who could not use it otherwise; SQLite does so with its log."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            owner = Path(path).stat()
            os.chown(made, owner.st_uid, owner.st_gid)
