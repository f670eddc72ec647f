"""Lets SQLite read a file without touching it: a file system that serves pages from memory of where they stand.

SQLite itself would make a `-shm` beside the file, and with it the file would have been changed; opened as immutable, it
would not see the log; and opened for reading, it does not look at CHECK constraints. What is served here has the log in
it already, says of itself that it has none, and refuses to be written.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import cast

import apsw

from redrive.sqlite.damage.pages import Missing, Pages

_numbers = itertools.count(1)
_JOURNAL_MODE = (18, 20)
"""Two bytes of the header: 1 and 1 for a file without a write-ahead log."""


@contextlib.contextmanager
def still(pages: Pages, name: str) -> Iterator[apsw.Connection]:
    """A connection that reads these pages and nothing else.

    Raises:
        apsw.Error: If SQLite does not take it for a database.
    """
    system = _System(f"redrive-still-{next(_numbers)}", pages)
    try:
        connection = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READWRITE, vfs=system.name)
        try:
            connection.pragma("query_only", 1)
            yield connection
        finally:
            connection.close()
    finally:
        system.unregister()


class _System(apsw.VFS):
    def __init__(self, name: str, pages: Pages) -> None:
        super().__init__(name, "")
        self.name = name
        self._pages = pages

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            flags[1] = apsw.SQLITE_OPEN_READWRITE
            return cast("apsw.VFSFile", _File(self._pages))  # apsw asks for the methods, not for the class
        return apsw.VFSFile("", name, flags)  # where SQLite sorts what is too much for memory

    def xAccess(self, _name: str, _flags: int) -> bool:  # noqa: N802
        return False  # no journal and no log stands beside it

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name


class _File:
    """The pages in a row, as if they were one file."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        size = self._pages.page_size
        parts = []
        for number in range(offset // size + 1, (offset + amount - 1) // size + 2):
            try:
                page = self._pages.read(number)
            except Missing:
                break
            parts.append(_without_log(page) if number == 1 else page)
        start = offset % size
        return b"".join(parts)[start : start + amount]

    def xFileSize(self) -> int:  # noqa: N802
        return self._pages.count * self._pages.page_size

    def xLock(self, _level: int) -> None:  # noqa: N802
        """Nobody else is at these pages."""

    def xUnlock(self, _level: int) -> None:  # noqa: N802
        """Likewise."""

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xWrite(self, _data: bytes, _offset: int) -> None:  # noqa: N802
        raise apsw.ReadOnlyError("these pages are only read")

    def xTruncate(self, _size: int) -> None:  # noqa: N802
        raise apsw.ReadOnlyError("these pages are only read")

    def xFileControl(self, _operation: int, _pointer: int) -> bool:  # noqa: N802
        return False

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return 0

    def xSectorSize(self) -> int:  # noqa: N802
        return 4096

    def xClose(self) -> None:  # noqa: N802
        """The pages are closed by whoever opened them."""


def _without_log(page: bytes) -> bytes:
    start, end = _JOURNAL_MODE
    return page[:start] + b"\1" * (end - start) + page[end:]
