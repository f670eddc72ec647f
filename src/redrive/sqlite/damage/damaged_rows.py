"""A file of JSON lines with what a recovery did not save, as far as it can be read, for a person.

There are bodies in it: only its owner may read it.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from redrive.sqlite.damage.cells import Value


class DamagedRows:
    """The file. It is made when there is something to write, never over another one, and stays if all went well."""

    def __init__(self, path: str | None) -> None:
        """Say where.

        Args:
            path: the file; None: nothing is written.
        """
        self._path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is None or self._path is None:
            return
        if error is None:
            self._file.flush()
            os.fsync(self._file.fileno())
        else:
            Path(self._path).unlink()
        self._file.close()

    def write(self, table: str, reason: str, values: dict[str, Value] | None, **facts: object) -> None:
        """Write a row down, its bytes as text where they are text, else as base64.

        Raises:
            OSError: If the file exists already, or cannot be written.
        """
        if self._path is None:
            return
        if self._file is None:
            made = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = os.fdopen(made, "w", encoding="ascii")
        told = None if values is None else {name: _writable(value) for name, value in values.items()}
        self._file.write(json.dumps({"table": table, "reason": reason, **facts, "values": told}) + "\n")


def _writable(value: Value) -> object:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
