"""The file that a recovery makes: filled in one transaction under another name, then put in its place."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

import apsw

from redrive.sqlite.damage.cells import Value
from redrive.sqlite.damage.identity import APPLICATION_ID
from redrive.sqlite.damage.layout import Layout
from redrive.sqlite.statements import migrations


class NewDatabase:
    """A database with the schema of an old one, until it is brought to today's."""

    def __init__(self, connection: apsw.Connection, made: Layout) -> None:
        """Make the tables, in a transaction that `finish` ends."""
        self.execute = connection.execute
        self._connection, self._version = connection, made.version
        self._sql = {
            table.name: _insertion(table.name, [column.name for column in table.columns])
            for table in made.tables.values()
        }
        connection.pragma("foreign_keys", 1)
        connection.execute("BEGIN IMMEDIATE")
        for script in migrations()[: made.version]:
            connection.execute(script)
        connection.execute("DELETE FROM meta")

    def put(self, table: str, values: dict[str, Value]) -> bool:
        """Insert a row; whether the table takes it."""
        names, sql = self._sql[table]
        try:
            self.execute(sql, [values[name] for name in names])
        except apsw.ConstraintError:
            return False
        return True

    def finish(self) -> None:
        """Bring it to today's schema, and to the disk."""
        for script in migrations()[self._version :]:
            self.execute(script)
        self._connection.pragma("application_id", APPLICATION_ID)
        self._connection.pragma("user_version", len(migrations()))
        self.execute("COMMIT")


def _insertion(table: str, names: list[str]) -> tuple[list[str], str]:
    sql = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 - our own names
    return names, sql


@contextlib.contextmanager
def building(path: str | None, made: Layout, like: str) -> Iterator[NewDatabase]:
    """Build a database at a path, with owner and mode of the old one as far as that is allowed.

    A crash leaves a file whose name ends in `.unfinished-` and eight digits.

    Args:
        path: where; None: it is only tried, in a temporary file.
        made: the schema that it begins with.
        like: the old one.

    Raises:
        FileExistsError: If something was put at the path meanwhile.
    """
    unfinished = "" if path is None else f"{path}.unfinished-{secrets.token_hex(4)}"
    try:
        connection = apsw.Connection(unfinished)
        try:
            if unfinished:
                _take_after(unfinished, like)
            database = NewDatabase(connection, made)
            yield database
            database.finish()
        finally:
            connection.close()
        if path is not None:
            os.link(unfinished, path)  # in one step, and never over something
            _sync_folder(path)
    finally:
        for suffix in ("", "-journal") if unfinished else ():
            Path(f"{unfinished}{suffix}").unlink(missing_ok=True)


def _take_after(path: str, like: str) -> None:
    was = Path(like).stat()
    with contextlib.suppress(PermissionError):
        os.chown(path, was.st_uid, was.st_gid)
    Path(path).chmod(stat.S_IMODE(was.st_mode) | stat.S_IRUSR | stat.S_IWUSR)


def _sync_folder(path: str) -> None:
    folder = os.open(Path(path).parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
