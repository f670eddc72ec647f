"""Opening the file: what it must be, and how durable a commit to it is."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import apsw

from redrive.errors import BrokerUnavailable, DatabaseTooNew, DatabaseUnusable
from redrive.sqlite.statements import migrations
from redrive.sqlite.turn import turn_for

MEMORY = ":memory:"
FULL, RELAXED = "full", "relaxed"
DURABILITY: Mapping[str, str] = MappingProxyType({FULL: "FULL", RELAXED: "NORMAL"})
"""The levels, and SQLite's word for `synchronous` at each.

`full`: a commit that returned survives a power cut. `relaxed`: the last commits before a power cut may be lost, never
those before a crash of the process; the file is whole either way. Source: SQLite, "PRAGMA synchronous".
"""
_MODES = ("wal", "memory")
_APPLICATION_ID = 0x72647276
BUSY_MS = 5_000
"""How long SQLite waits for a program that does not take turns."""
_LONGEST_RESTING_LOG = 8 * 1024 * 1024
"""Bytes that the log's file keeps once it starts anew."""
_LEAST_ROOM = 128 * 1024
HELP = "`redrive doctor` looks into it, `redrive recover` saves what is whole"


def address_of(path: str, durability: str = FULL) -> str:
    """The address that a file at a level has."""
    plain = path.replace("%", "%25").replace("?", "%3F")
    return f"sqlite:{plain}" + ("" if durability == FULL else f"?durability={durability}")


def connect(path: str, durability: str = FULL) -> apsw.Connection:
    """Open the file, made if it is missing, and bring it to today's schema in one transaction.

    Blocks while another process makes or migrates it.

    Raises:
        BrokerUnavailable: If another program keeps it locked for five seconds.
        DatabaseTooNew: If a later version of redrive wrote it.
        DatabaseUnusable: If it is not ours, cannot be read or cannot be written; it is left untouched.
    """
    with explained(path):
        if path != MEMORY:
            _refuse_at_sight(path)
        return _opened(path, durability)


def damaged(path: str, error: Exception) -> DatabaseUnusable:
    """What was found wrong inside the file."""
    return DatabaseUnusable(path, f"is damaged ({error})", HELP)


def cannot_be_shared(path: str, error: OSError) -> DatabaseUnusable:
    """What has to stand beside the file for other processes cannot."""
    remedy = "check the owner and mode of what stands beside the file"
    return DatabaseUnusable(path, f"cannot be shared ({error})", remedy)


def _opened(path: str, durability: str) -> apsw.Connection:
    connection = apsw.Connection(path)
    try:
        connection.set_busy_timeout(BUSY_MS)
        _refuse(connection, path)
        connection.pragma("synchronous", DURABILITY[durability])
        connection.pragma("fullfsync", 1)
        connection.pragma("checkpoint_fullfsync", 1)
        connection.pragma("foreign_keys", 1)
        connection.pragma("journal_size_limit", _LONGEST_RESTING_LOG)
        if not _is_of_today(connection):
            _make(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def explained(path: str) -> Iterator[None]:
    """What SQLite and the system say while a file is opened, as what it means for the file and what to do.

    Raises:
        BrokerUnavailable: If another program keeps it locked.
        DatabaseUnusable: For all else.
    """
    try:
        yield
    except apsw.NotADBError:
        raise DatabaseUnusable(path, "is not an SQLite database", "name another file, or move this one away") from None
    except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError, PermissionError) as error:
        raise DatabaseUnusable(path, f"cannot be opened for writing ({error})", _may_not_write(path)) from None
    except apsw.CorruptError as error:
        raise damaged(path, error) from None
    except apsw.BusyError:
        raise BrokerUnavailable(address_of(path), "another program has kept the file locked for seconds") from None
    except (apsw.FullError, apsw.IOError, OSError) as error:
        if _is_full(path):
            raise DatabaseUnusable(path, "cannot be opened: its disk is full", "make room") from None
        raise DatabaseUnusable(path, f"cannot be read or written ({error})", "check the disk") from None


def _is_full(path: str) -> bool:
    """Whether there is too little room even for what a process needs beside the file."""
    try:
        found = os.statvfs(Path(path).absolute().parent)
    except OSError:
        return False
    return found.f_blocks > 0 and found.f_bavail * found.f_frsize < _LEAST_ROOM


def _refuse_at_sight(path: str) -> None:
    """What SQLite would say too vaguely, or not at all."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise DatabaseUnusable(path, "is in a folder that does not exist", f"make {os.fspath(folder)!r} first")
    found = _found(Path(path))
    if found is None:
        return
    if not stat.S_ISREG(found.st_mode):
        raise DatabaseUnusable(path, "cannot be opened: it is not a file", "name a file, such as coffee.db")
    if found.st_size == 1:  # SQLite takes it as empty and would write over it
        raise DatabaseUnusable(path, "is not an SQLite database", "name another file, or move this one away")


def _may_not_write(path: str) -> str:
    """Who owns the file and its folder, and who asks."""
    there = {one: found for one in (Path(path), Path(path).absolute().parent) if (found := _found(one)) is not None}
    if there and all(os.access(one, os.W_OK) for one in there):
        return "its owner and mode allow it: look at the limit of open files, and at what the system logs"
    facts = [
        f"{os.fspath(one)!r} belongs to {_name(found.st_uid)}, mode {stat.S_IMODE(found.st_mode):03o}"
        for one, found in there.items()
    ]
    told = ", ".join(facts) or "nothing may be known of them"
    return f"check the owner and mode of the file and its folder ({told}; this is {_name(os.geteuid())})"


def _found(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _refuse(connection: apsw.Connection, path: str) -> None:
    """What is not ours, or newer, or cannot be written; closing it writes nothing to it either."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    if connection.readonly("main"):
        raise DatabaseUnusable(path, "cannot be written", _may_not_write(path))
    connection.execute("BEGIN")  # one read transaction: between two, another process may make the file ours
    ours = connection.pragma("application_id") == _APPLICATION_ID
    empty = not connection.execute("SELECT count(*) FROM sqlite_schema").get
    found, known = connection.pragma("user_version"), len(migrations())
    connection.execute("COMMIT")
    if not ours and not empty:
        raise DatabaseUnusable(path, "belongs to another program", "name another file")
    if ours and found > known:
        raise DatabaseTooNew(path, found, known)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)


def _is_of_today(connection: apsw.Connection) -> bool:
    return connection.pragma("user_version") == len(migrations()) and connection.pragma("journal_mode") in _MODES


def _make(connection: apsw.Connection, path: str) -> None:
    """Switch to the write-ahead log and migrate, while no other process does: SQLite does not wait for a switch."""
    if path == MEMORY:
        _migrate(connection)
        return
    try:
        turn = turn_for(path)
    except OSError as error:
        raise cannot_be_shared(path, error) from None
    try:
        turn.take()
        connection.pragma("journal_mode", "wal")
        _migrate(connection)
    finally:
        turn.close()


def _migrate(connection: apsw.Connection) -> None:
    scripts = migrations()
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = connection.pragma("user_version")  # another process may have done it meanwhile
        for script in scripts[found:]:
            connection.execute(script)
        connection.pragma("application_id", _APPLICATION_ID)
        connection.pragma("user_version", max(found, len(scripts)))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
