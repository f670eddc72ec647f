"""Runs a script of `benchmarks/` as its user does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def script(name: str, *options: str, timeout: float = 50.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / name), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


def passable(folder: Path) -> None:
    """Let servers, which do not run as root, come to a test's folder."""
    for one in (folder, folder.parent, folder.parent.parent):
        one.chmod(0o711)


def kept(folder: Path, name: str, *options: str, timeout: float = 50.0) -> dict[str, Any]:
    """What the short form of a script keeps; whatever it started and made is gone."""
    passable(folder)
    file, files = folder / "kept.json", folder / "files"
    done = script(name, "--short", "--folder", str(files), "--json", str(file), *options, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(files.iterdir())
    document: dict[str, Any] = json.loads(file.read_text("utf-8"))
    assert document["short"]
    return document
