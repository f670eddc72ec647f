"""A disk on which some sectors cannot be read: `strace` answers reads of the file in its place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_FROM, _TO = 40, 46
"""Which reads of pages fail."""


def run_with_bad_sectors(path: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `redrive COMMAND PATH … --json` while some pages of the file cannot be read."""
    works = shutil.which("strace") and subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], check=False)
    if not works or works.returncode:
        missing = "no strace here that may trace; Debian's package `strace` has one"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    failing = f"inject=pread64:error=EIO:when={_FROM}..{_TO}"
    traced = ["strace", "-f", "-qq", "-o", os.devnull, "-P", os.fspath(path), "-e", "trace=pread64", "-e", failing]
    redrive = [sys.executable, "-m", "redrive", command, os.fspath(path), *arguments, "--json"]
    return subprocess.run([*traced, *redrive], capture_output=True, text=True, check=False, timeout=60)
