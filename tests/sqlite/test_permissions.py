"""What may not be written is refused in plain words: which file, whose it is, and who asks.

As root, the other process is nobody; as anybody else, it is oneself, which the modes hold for too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redrive.clock import SystemClock
from redrive.sqlite.writer import FileDatabase
from tests.sqlite.stranger import NOBODY

IS_ROOT = os.geteuid() == 0
WHO = "nobody" if IS_ROOT else ""
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can give a file to somebody else")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the other process's own."""
    with tempfile.TemporaryDirectory(prefix="r-") as name:
        give(Path(name), 0o700)
        yield Path(name)
        Path(name).chmod(0o700)


def give(path: Path, mode: int) -> None:
    path.chmod(mode)
    if IS_ROOT:
        os.chown(path, NOBODY, NOBODY)


def opened(path: Path) -> dict[str, Any]:
    """What the other process says."""
    script = str(Path(__file__).with_name("stranger.py"))
    done = subprocess.run([sys.executable, script, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def refused(path: Path, *words: str) -> None:
    said = opened(path)
    assert said.get("error") == "DatabaseUnusable", said
    for word in (repr(str(path)), "check the owner and mode", f"this is {WHO}", *words):
        assert word in said["text"]


def made(path: Path) -> Path:
    FileDatabase(str(path), SystemClock()).close()
    return path


def test_one_s_own_folder_can_be_used(folder: Path) -> None:
    """So that the others are refused for what they say."""
    assert opened(folder / "a.db") == {"sent": True}


def test_a_read_only_folder_is_refused(folder: Path) -> None:
    """Nothing can be made in it."""
    folder.chmod(0o500)
    refused(folder / "a.db", "mode 500")


def test_a_read_only_file_is_refused(folder: Path) -> None:
    """At once, not at the first send: SQLite would open it for reading."""
    path = made(folder / "a.db")
    give(path, 0o400)
    refused(path, "cannot be written", "mode 400")


def test_a_read_only_folder_with_a_file_in_it_is_refused(folder: Path) -> None:
    """The log has to be made beside it."""
    path = made(folder / "a.db")
    give(path, 0o600)
    for beside in ("lock", "next"):
        (folder / f"a.db-{beside}").unlink()
    folder.chmod(0o500)
    refused(path, "mode 500")


@needs_root
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_somebody_else_s_file_is_refused(folder: Path, mode: int) -> None:
    """Whether it may be read or not."""
    path = made(folder / "a.db")
    path.chmod(mode)
    refused(path, f"belongs to root, mode {mode:03o}")


@needs_root
def test_somebody_else_s_folder_is_refused(folder: Path) -> None:
    """One that cannot even be looked into."""
    path = made(folder / "a.db")
    os.chown(folder, 0, 0)
    refused(path)


@needs_root
@pytest.mark.parametrize("beside", ["lock", "next", "wake"])
def test_somebody_else_s_files_beside_it_are_refused(folder: Path, beside: str) -> None:
    """They are named."""
    path = made(folder / "a.db")
    for one in folder.iterdir():
        give(one, 0o600)
    obstacle = folder / f"a.db-{beside}"
    if beside == "wake":
        obstacle.mkdir(mode=0o700)
    else:
        os.chown(obstacle, 0, 0)
        obstacle.chmod(0o600)
    said = opened(path)
    assert said["error"] == "DatabaseUnusable"
    assert f"a.db-{beside}" in said["text"]
    assert "what stands beside the file" in said["text"]


@needs_root
def test_what_root_leaves_beside_a_file_is_its_owner_s(folder: Path) -> None:
    """A command as root does not lock the worker out, whether it made the files beside the database or not."""
    path = folder / "a.db"
    assert opened(path) == {"sent": True}
    for one in folder.iterdir():
        if one != path:
            one.unlink()
    database = FileDatabase(str(path), SystemClock())
    assert {one.stat().st_uid for one in folder.iterdir()} == {NOBODY}
    assert opened(path) == {"sent": True}
    database.close()
    assert opened(path) == {"sent": True}
