"""A file that cannot be used is refused in plain words, and left as it was."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from pathlib import Path

import apsw
import pytest

from redrive.broker import Outgoing, QueueSpec
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import ManualClock
from redrive.errors import BrokerUnavailable, DatabaseTooNew, DatabaseUnusable
from redrive.message import Message
from redrive.sqlite.database import connect
from redrive.sqlite.statements import migrations
from redrive.sqlite.writer import FileDatabase


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refused(path: Path, *words: str) -> DatabaseUnusable:
    with pytest.raises(DatabaseUnusable) as caught:
        FileDatabase(str(path), ManualClock())
    text = str(caught.value)
    for word in (str(path), *words):
        assert word in text
    return caught.value


def test_another_program_s_database_is_refused_and_untouched(tmp_path: Path) -> None:
    """It belongs to somebody: not one byte of it changes, and nothing is left beside it."""
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customer (name TEXT)")
    connection.close()
    before = digest(path)
    refused(path, "belongs to another program", "name another file")
    assert digest(path) == before
    assert [one.name for one in tmp_path.iterdir()] == ["theirs.db"]


def test_another_program_s_log_is_left_as_it_is(tmp_path: Path) -> None:
    """What it has not copied into its database yet is its own business."""
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE customer (name TEXT)")
        connection.commit()
        for beside in ("", "-wal"):
            shutil.copy(f"{path}{beside}", tmp_path / f"copy.db{beside}")
    connection.close()
    before = [digest(tmp_path / f"copy.db{beside}") for beside in ("", "-wal")]
    refused(tmp_path / "copy.db", "belongs to another program")
    assert [digest(tmp_path / f"copy.db{beside}") for beside in ("", "-wal")] == before


@pytest.mark.parametrize("content", [b"x", b"xy", b"not a database" * 100, b"\0" * 4096, os.urandom(5000)], ids=len)
def test_what_is_no_database_is_refused_and_untouched(tmp_path: Path, content: bytes) -> None:
    """A text, zeros or noise: an error that says so, and the file is as it was."""
    path = tmp_path / "notes.db"
    path.write_bytes(content)
    refused(path)
    assert path.read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == ["notes.db"]


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    """What `touch` or a temporary file left is as good as none."""
    path = tmp_path / "empty.db"
    path.touch()
    FileDatabase(str(path), ManualClock()).close()
    assert path.stat().st_size > 0


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """Nothing is made that nobody asked for."""
    folder = tmp_path / "no" / "such"
    refused(folder / "a.db", f"make {str(folder)!r} first")
    assert not list(tmp_path.iterdir())


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    """A file is not a folder."""
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file" / "a.db", "folder")


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    """Naming the folder instead of the file is said plainly."""
    refused(tmp_path, "cannot be opened")


def test_a_newer_database_is_refused_and_untouched(tmp_path: Path) -> None:
    """An older redrive does not guess what a newer one wrote."""
    path = tmp_path / "newer.db"
    connection = connect(str(path))
    connection.pragma("user_version", 99)
    connection.close()
    before = digest(path)
    error = refused(path, "schema 99", "install the newer redrive")
    assert isinstance(error, DatabaseTooNew)
    assert (error.found, error.known) == (99, len(migrations()))
    assert digest(path) == before


@pytest.mark.parametrize("beside", ["lock", "wake"])
def test_what_stands_in_the_way_beside_the_file_is_named(short_path: Path, beside: str) -> None:
    """The lock's file is a folder, or the folder of sockets a file: an error with the name, nothing left open."""
    path = short_path / "a.db"
    obstacle = short_path / f"a.db-{beside}"
    if beside == "lock":
        obstacle.mkdir()
    else:
        obstacle.write_text("in the way")
    refused(path, "cannot be shared", f"a.db-{beside}")


@pytest.mark.parametrize("left", [99, 100, 1_500, 4_096, 20_000])
def test_a_truncated_database_is_refused(tmp_path: Path, left: int) -> None:
    """A part of a file is an error that says what can be done, not a part of an answer."""
    path = tmp_path / "a.db"
    FileDatabase(str(path), ManualClock()).close()
    whole = path.read_bytes()
    assert len(whole) > left
    path.write_bytes(whole[:left])
    refused(path)
    assert path.read_bytes() == whole[:left]


def test_damage_is_told_with_what_can_be_done(tmp_path: Path) -> None:
    """Here the root of a table is gone."""
    path = tmp_path / "a.db"
    FileDatabase(str(path), ManualClock()).close()
    path.write_bytes(path.read_bytes()[:4_096])
    refused(path, "is damaged", "`redrive doctor`", "`redrive recover`")


async def test_damage_that_is_met_later_is_told_too(tmp_path: Path) -> None:
    """By whoever meets it; it is not the broker that is away."""
    path = tmp_path / "a.db"
    database = FileDatabase(str(path), ManualClock())
    broker = SqliteBroker(database)
    await broker.declare([QueueSpec(name="orders")])
    await broker.close()
    database = FileDatabase(str(path), ManualClock())
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(bytes(len(path.read_bytes()) - 4_096))
    with pytest.raises(DatabaseUnusable, match="is damaged"):
        await SqliteBroker(database).send("orders", [Outgoing(message=Message(id="m", body=b"1", sent_at_ms=1))])
    database.close()


def test_what_is_no_file_is_refused() -> None:
    """A device is none."""
    refused(Path(os.devnull), "it is not a file")


def test_a_file_that_another_program_keeps_locked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After seconds of patience; it is a matter of time, not of the file."""
    monkeypatch.setattr("redrive.sqlite.database.BUSY_MS", 50)
    path = str(tmp_path / "a.db")
    FileDatabase(path, ManualClock()).close()
    other = apsw.Connection(path)
    other.pragma("locking_mode", "exclusive")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(BrokerUnavailable, match="another program has kept the file locked"):
        FileDatabase(path, ManualClock())
    other.close()


async def test_a_program_that_keeps_writing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told that a database is locked; once it is done, work goes on by itself."""
    monkeypatch.setattr("redrive.sqlite.session.BUSY_MS", 50)
    path = str(tmp_path / "a.db")
    database = FileDatabase(path, ManualClock())
    other = apsw.Connection(path)
    other.set_busy_timeout(10_000)  # the writer may be storing the time
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BrokerUnavailable, match="another program has kept the file locked"):
        await database.run(lambda tables: tables.now_ms)
    other.execute("ROLLBACK")
    assert await database.run(lambda tables: tables.now_ms) > 0
    other.close()
    database.close()


def test_opening_again_changes_no_schema(tmp_path: Path) -> None:
    """Migrations run once."""
    path = str(tmp_path / "a.db")
    connect(path).close()
    connection = connect(path)
    assert connection.pragma("user_version") == len(migrations())
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2
    connection.close()


def test_a_database_of_an_older_schema_is_migrated(tmp_path: Path) -> None:
    """From an empty file up to today's schema, in one transaction: a migration that fails leaves nothing."""
    path = tmp_path / "a.db"
    broken = [*migrations(), "CREATE TABLE extra (n INTEGER); CREATE NONSENSE"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("redrive.sqlite.database.migrations", lambda: broken)
        with pytest.raises(Exception, match="NONSENSE"):
            connect(str(path))
    connection = connect(str(path))
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert "extra" not in names
    assert {"message", "queue", "entry", "meta"} <= names
    connection.close()
