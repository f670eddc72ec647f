"""A database file as pages: the file itself, with what its write-ahead log has for it, put together by hand.

Nothing is locked, nothing is made beside the file and not a byte of it changes, not even its `-shm`. So it may be used
on what SQLite refuses; on a file that somebody writes to meanwhile it sees what never was.

Not in a process that has the file open: when a process closes a file, it lets go of every lock that it holds on it.

Source: SQLite, "Database File Format", sections 1.2 and 1.3.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from redrive.sqlite.damage.logfile import LogFile, View, read_log

MAGIC = b"SQLite format 3\0"
USUAL_SIZE = 4096
"""What SQLite gives a page unless it is told otherwise, and redrive does not tell."""
_SIZES = tuple(1 << power for power in range(9, 17))
_HEADER = 100


class Missing(Exception):
    """A page is not where it should be."""


class Pages:
    """The pages of one file. They are numbered from 1."""

    def __init__(self, path: str, *, saved: bool) -> None:
        """Open the file and read its log.

        Args:
            path: the file.
            saved: take from the log all that can be read, not only what SQLite takes.

        Raises:
            OSError: If the file cannot be opened.
        """
        self._opened = contextlib.ExitStack()
        self._log_file: BinaryIO | None = None
        try:
            self._file = self._opened.enter_context(Path(path).open("rb"))  # noqa: SIM115 - closed with the pages
            self.header = self._file.read(_HEADER)
            self.file_size = os.fstat(self._file.fileno()).st_size
            self.page_size = _page_size(self.header)
            self.log = self._read_log(f"{path}-wal")
        except BaseException:
            self.close()
            raise
        self._view: View = self.log.saved if saved else self.log.sound
        in_file = -(-self.file_size // self.page_size)
        self.count: int = in_file if self._view.count is None else self._view.count
        """Pages of the database, as it stood after the last transaction."""
        if saved:
            self.count = max(self.count, in_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._opened.close()

    def read(self, number: int) -> bytes:
        """A page.

        Raises:
            Missing: If there is no such page, or only a part of it.
        """
        if not 1 <= number <= self.count:
            raise Missing(f"page {number} is beyond the end, {self.count}")
        if (image := self._view.images.get(number)) is not None:
            return image
        at = self._view.pages.get(number)
        file, start = (self._file, (number - 1) * self.page_size) if at is None else (self._log_file, at)
        try:
            page = b"" if file is None else os.pread(file.fileno(), self.page_size, start)
        except OSError as error:  # a bad sector: the others can be read
            raise Missing(f"page {number} cannot be read from the disk ({error.strerror})") from None
        if len(page) < self.page_size:
            raise Missing(f"page {number} is not in the file, which ends after {self.file_size} bytes")
        return page

    def missing(self) -> int:
        """How many pages belong to the database and are neither in the file nor in its log."""
        whole = self.file_size // self.page_size
        return sum(number not in self._view.pages for number in range(whole + 1, self.count + 1))

    def _read_log(self, path: str) -> LogFile:
        if not Path(path).exists():
            return LogFile()
        self._log_file = self._opened.enter_context(Path(path).open("rb"))  # noqa: SIM115 - closed with the pages
        return read_log(self._log_file, self.page_size)


def _page_size(header: bytes) -> int:
    if len(header) < _HEADER:
        return USUAL_SIZE
    (stored,) = struct.unpack_from(">H", header, 16)
    size = 65_536 if stored == 1 else stored
    return size if size in _SIZES else USUAL_SIZE
