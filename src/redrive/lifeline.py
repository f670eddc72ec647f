"""A child that does not outlive its parent: the parent holds the other end of its standard input."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable


def when_parent_is_gone(call: Callable[[], object]) -> None:
    """Call once standard input ends, from a thread; nothing may be written to it."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        call()

    threading.Thread(target=watch, name="redrive-lifeline", daemon=True).start()
