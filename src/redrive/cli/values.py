"""Kinds of values on the command line, beyond click's own."""

from __future__ import annotations

import math
import os
import re
import sys
from pathlib import Path

import click

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|min|h|d)?")
_SECONDS = {None: 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


def length_of_time(text: str) -> float:
    """`90`, `1.5s`, `5m`, `2h` or `1d`, as seconds.

    Raises:
        BadParameter: If it is not like that.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is no length of time; write it like 90, 1.5s, 5m, 2h or 1d")
    return float(match[1]) * _SECONDS[match[2]]


def over_zero(text: str) -> float:
    """A finite number over 0.

    Raises:
        BadParameter: If it is not.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise click.BadParameter(f"{text!r} is no number over 0")
    return number


def pair(text: str) -> tuple[str, str]:
    """`name=value`, split at the first equals sign.

    Raises:
        BadParameter: If there is no name or no equals sign, or it is not UTF-8.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"{text!r} is not like name=value")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(f"{text!r} is not UTF-8") from None
    return name, value


def body_given(text: str | None, file: Path | None) -> bytes | None:
    """A body from the command line: as text (`-`: standard input, to its end), or from a file; None: neither.

    Raises:
        UsageError: If it is given twice, or the file cannot be read.
    """
    if text is not None and file is not None:
        raise click.UsageError("the body is given twice; give it as text or as a file")
    try:
        if file is not None:
            return file.read_bytes()
        if text == "-":
            return sys.stdin.buffer.read()
    except OSError as error:
        raise click.UsageError(f"the body cannot be read from {str(file or text)!r}: {error.strerror}") from None
    return None if text is None else os.fsencode(text)
