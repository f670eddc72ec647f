"""The folder of sockets: who may use it, and what is left of it."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from redrive.clock import ManualClock
from redrive.errors import DatabaseUnusable
from redrive.sqlite.signals import Neighbours, Signals
from redrive.sqlite.writer import FileDatabase


@pytest.fixture
def long_path(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database whose path is too long for sockets beside it, and a temporary folder of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(short_path))
    folder = short_path / ("f" * 120)
    folder.mkdir()
    return folder / "w.db"


@pytest.fixture
def away(long_path: Path, short_path: Path) -> Path:
    """The folder that its sockets are in."""
    neighbours = Neighbours(str(long_path), Signals())
    (found,) = short_path.glob("redrive-*")
    neighbours.close()
    assert not found.exists()
    return found


def refused(path: Path, *words: str) -> None:
    with pytest.raises(DatabaseUnusable) as caught:
        FileDatabase(str(path), ManualClock())
    for word in ("cannot be shared", "not a folder of ours alone; remove it, or set TMPDIR", *words):
        assert word in str(caught.value)


def test_the_last_one_takes_the_folder_away(short_path: Path) -> None:
    """Not the first one: the other still listens in it."""
    folder = short_path / "w.db-wake"
    one, other = (Neighbours(str(short_path / "w.db"), Signals()) for _ in range(2))
    one.close()
    assert len(list(folder.iterdir())) == 1
    other.close()
    assert not folder.exists()


def test_a_folder_in_the_temporary_folder_is_for_oneself(away: Path, long_path: Path) -> None:
    """Nobody else may look into it."""
    database = FileDatabase(str(long_path), ManualClock())
    assert away.stat().st_mode & 0o777 == 0o700
    database.close()
    assert not away.exists()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o701])
def test_one_that_others_may_use_is_refused(away: Path, long_path: Path, mode: int) -> None:
    """Everybody may make a folder of that name there, and would hear and wake whom they like."""
    away.mkdir()
    away.chmod(mode)
    refused(long_path, str(away))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_one_of_somebody_else_s_is_refused(away: Path, long_path: Path) -> None:
    """Whatever its mode."""
    away.mkdir(mode=0o700)
    os.chown(away, 65_534, 65_534)
    refused(long_path, str(away))


def test_a_link_is_refused(away: Path, long_path: Path, short_path: Path) -> None:
    """To a folder that would do, too: whoever made it can lead it elsewhere."""
    target = short_path / "target"
    target.mkdir(mode=0o700)
    away.symlink_to(target)
    refused(long_path, str(away))


def test_nobody_is_there_when_only_the_dead_left_their_sockets(short_path: Path) -> None:
    """A killed process's socket does not count as a process."""
    path = str(short_path / "w.db")
    one = Neighbours(path, Signals())
    assert not one.anybody()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
        gone.bind(str(short_path / "w.db-wake" / "4711-dead"))
    assert not one.anybody()
    other = Neighbours(path, Signals())
    assert one.anybody()
    assert other.anybody()
    other.close()
    assert not one.anybody()
    one.close()


def test_one_that_hears_nothing_is_there_all_the_same(short_path: Path) -> None:
    """A process that is stopped has a full queue of datagrams: telling it something neither blocks nor fails."""
    one = Neighbours(str(short_path / "w.db"), Signals())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(short_path / "w.db-wake" / "4711-deaf"))
        for _ in range(1_000):
            one.tell(["orders"])
        assert one.anybody()
    one.close()
