"""Text that is safe to print: bodies and errors come from strangers, and a terminal obeys what it is sent."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def printable(text: str, *, lines: bool = False) -> str:
    r"""The text with everything escaped that could move a cursor, change a colour or turn the writing direction.

    Controls, format characters, surrogates and odd spaces become `\x1b`, `\u202e` and the like.

    Args:
        text: whatever it is.
        lines: keep line breaks, and write tabs as spaces.
    """
    if lines:
        return "\n".join(printable(line.expandtabs(4)) for line in text.split("\n"))
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def body_text(body: bytes) -> str:
    r"""A body as text; bytes that are not UTF-8 become `\xff`."""
    return body.decode("utf-8", "backslashreplace")


def shortened(text: str, length: int) -> str:
    """The beginning of a text, with an ellipsis where more follows."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def width(text: str) -> int:
    """How many columns a printable text takes."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text
    )


def duration(seconds: float) -> str:
    """A length of time in its largest fitting unit: `850 ms`, `12 s`, `5 min`, `3 h`, `2 d`."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def age(at_ms: int | None, now_ms: int) -> str:
    """How long ago an instant was; `-` for never."""
    return duration(max(1.0, (now_ms - at_ms) / 1000)) if at_ms else "-"


def instant(at_ms: int) -> str:
    """An instant as local time with its offset; the number itself where no calendar reaches."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().isoformat(" ", "milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{at_ms} ms"


def _escaped(one: str) -> str:
    number = ord(one)
    if one in _NAMED:
        return _NAMED[one]
    if number < 0x100:  # noqa: PLR2004 - two digits are enough
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"  # noqa: PLR2004 - four digits are enough
