"""Keeping the write-ahead log short, in short turns and after the answers."""

from __future__ import annotations

import logging

import apsw

from redrive.sqlite.turn import Turn

LONG = 300
"""Pages, of 4 KiB: a log of that length is copied into the file. Not SQLite's own 1,000: others wait for it."""
_SCARCE = 10
"""The part of it that counts as long while the disk is nearly full."""
_BLOCKED = 16 * LONG
"""Pages at which somebody should know that it cannot be shortened."""
_log = logging.getLogger("redrive.sqlite")


class Log:
    """The write-ahead log, as one connection sees it.

    SQLite starts the log anew, from the beginning of its file, once all of it is in the database and nobody reads it.
    Were it copied while others write, there would always be a rest: seen, with three processes, logs of 28 MiB and then
    turns of 110 ms for the rest. So it is copied in this process's turn, and early, so that the turn is short.
    """

    def __init__(self, connection: apsw.Connection, path: str) -> None:
        self._connection, self._path = connection, path
        self.pages = 0
        """How long it was after this connection's last commit."""
        self._try_at, self._tell_at = LONG, _BLOCKED
        connection.set_wal_hook(self._grown)  # in place of SQLite's own, which makes a caller wait for the checkpoint

    def is_long(self, *, scarce: bool) -> bool:
        """Whether it should be shortened; sooner while room on the disk is scarce."""
        return self.pages >= (self._try_at // _SCARCE if scarce else self._try_at)

    def shorten(self, turn: Turn) -> None:
        """Copy it into the file; blocks for that. What fails is left to the next one: what was answered is on disk."""
        try:
            turn.take()
            try:
                pages, copied = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            finally:
                turn.give()
        except apsw.BusyError:  # a program of somebody else's is at it
            pages, copied = self.pages, 0
        except (apsw.Error, OSError) as error:
            _log.warning("the log of %s stays as it is: %s", self._path, error)
            pages, copied = self.pages, 0
        self._settle_for(pages - copied)

    def _settle_for(self, left: int) -> None:
        """What could not be copied now is tried again when the log is longer still, not after every commit."""
        if not left:
            self.pages, self._try_at, self._tell_at = 0, LONG, _BLOCKED
            return
        self._try_at = self.pages + LONG
        if self.pages >= self._tell_at:
            self._tell_at = 2 * self.pages
            size = self.pages * 4 // 1024
            _log.warning("the log of %s has %d MiB: a program keeps reading from the file", self._path, size)

    def _grown(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.pages = pages
        return apsw.SQLITE_OK
