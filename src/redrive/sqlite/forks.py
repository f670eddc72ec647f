"""A file that is open is not opened by a child which was forked meanwhile.

The child inherits SQLite's memory of its locks, but not the locks themselves. What it writes is lost when its parent
closes the file, answered or not. So it is refused; a file that is opened only after the fork is no matter.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from redrive.errors import DatabaseUnusable

_open: dict[str, tuple[int, int]] = {}
"""Of each file that is open: the process that opened it, and how often. A forked child inherits this too."""
_lock = threading.Lock()


@contextlib.contextmanager
def opened_by_this_process(path: str) -> Iterator[None]:
    """For as long as the file is open.

    Raises:
        DatabaseUnusable: If a parent had it open when this process was forked.
    """
    real, process = os.path.realpath(path), os.getpid()
    with _lock:
        owner, times = _open.get(real, (process, 0))
        if owner != process:
            problem = "was open when this process was forked from its parent"
            raise DatabaseUnusable(path, problem, "open it after the fork only, or start processes by spawn")
        _open[real] = (process, times + 1)
    try:
        yield
    finally:
        with _lock:
            owner, times = _open.get(real, (process, 1))
            if times > 1:
                _open[real] = (owner, times - 1)
            else:
                _open.pop(real, None)
