"""Runs a script of `benchmarks/` as its user does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def script(name: str, *options: str, timeout: float = 50.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / name), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


@contextmanager
def passable() -> Iterator[Path]:
    """A folder that servers, which do not run as root, may come to; pytest's own are closed to all others."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o711)
        yield folder


def kept(name: str, *options: str, timeout: float = 50.0) -> dict[str, Any]:
    """What the short form of a script keeps; whatever it started and made is gone."""
    with passable() as folder:
        file, files = folder / "kept.json", folder / "files"
        done = script(name, "--short", "--folder", str(files), "--json", str(file), *options, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not list(files.iterdir())
        document: dict[str, Any] = json.loads(file.read_text("utf-8"))
    assert document["short"]
    return document
