"""Which failures are the same failure.

The innermost error's type, where the user's code raised it, and its text less numbers and ids.
"""

from __future__ import annotations

import hashlib
import re
import traceback
from pathlib import Path
from types import TracebackType

_IDS = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{16,}\b|\d+", re.IGNORECASE)
_OURS = str(Path(__file__).parent)


def fingerprint(error_type: str, place: str, text: str) -> str:
    """Twelve hexadecimal digits that are equal for failures that are alike."""
    normal = "\n".join((error_type, place, _IDS.sub("#", text)[:500]))
    return hashlib.blake2b(normal.encode("utf-8", "replace"), digest_size=6).hexdigest()


def innermost(error: BaseException) -> BaseException:
    """The error that began it: down the causes, and into the first of a group."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None:
            error = error.__cause__
    return error


def type_name(error: BaseException) -> str:
    """The type with its module; builtins without."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def text_of(error: BaseException) -> str:
    """The error's text; says so where it cannot be printed."""
    try:
        return str(error).encode("utf-8", "backslashreplace").decode("utf-8")
    except Exception as problem:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<its text cannot be shown: {type(problem).__name__}>"


def place_of(trace: TracebackType | None) -> str:
    """`file.py:function` of the last frame that is the user's own code; empty when there is none."""
    for frame in reversed(traceback.extract_tb(trace)):
        if _OURS not in frame.filename and "site-packages" not in frame.filename and "<frozen" not in frame.filename:
            return f"{Path(frame.filename).name}:{frame.name}"
    return ""


def one_line(text: str) -> str:
    """A text as it may stand in a log line: without line breaks and other control characters."""
    return "".join(character if character.isprintable() else " " for character in text)
