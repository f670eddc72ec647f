"""`redrive doctor`: looks at a database file, changes nothing, and says what is wrong with it and what to do.

A file that some process has open is read beside it, as any reader would. A file that none has open is read by hand
(see `pages`), so that not even its `-shm` changes and what SQLite refuses can be looked at too.

To be run in a process of its own: one that has the file open would lose its locks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import apsw

from redrive.sqlite.damage.checks import Checks
from redrive.sqlite.damage.findings import Finding, Report
from redrive.sqlite.damage.identity import APPLICATION_ID
from redrive.sqlite.damage.index_of_log import LogIndex, read_index
from redrive.sqlite.damage.pages import MAGIC, Missing, Pages
from redrive.sqlite.damage.still import still
from redrive.sqlite.damage.surroundings import holder, look_around, state_of
from redrive.sqlite.statements import migrations

_ID_AT = slice(68, 72)
_OTHER_BITS = 2
"""A number that differs in no more bits than this is damaged; in more, it is another."""
_TRIES = 3


def examine(path: str, now_ms: int) -> Report:
    """Look at a file.

    Reading takes as long as reading the whole file, and memory for one message at a time. While workers run, their log
    grows meanwhile.

    Args:
        path: the file.
        now_ms: the wall clock.
    """
    for _ in range(_TRIES):
        before = state_of(path)
        report = _report(path, now_ms)
        if report.open_by is not None or state_of(path) == before:
            return report  # nobody wrote to it while it was read by hand
    return _report(path, now_ms)


def _report(path: str, now_ms: int) -> Report:
    report = Report(path=path, known_schema=len(migrations()))
    with _readable(report):
        _examine(report, now_ms)
    return report


def _examine(report: Report, now_ms: int) -> None:
    if not Path(report.path).is_file():
        problem = "is not a file" if Path(report.path).exists() else "does not exist"
        _cannot(report, "missing", problem, "check the address; a worker makes a new one")
        return
    look_around(report)
    report.open_by = holder(report.path)
    if report.open_by is not None:
        with contextlib.closing(_beside_others(report.path)) as connection:
            connection.execute("BEGIN")
            _examine_database(connection, report, now_ms)
        return
    with Pages(report.path, saved=False) as pages:
        _examine_log(report, pages, read_index(f"{report.path}-shm"))
        if not _is_database(report, pages):
            return
        if missing := pages.missing():
            problem = f"{report.path!r} is cut off: {missing} of its {pages.count} pages are missing"
            report.add(Finding(kind="truncated", problem=problem, remedy=report.recover))
        with still(pages, report.path) as connection:
            _examine_database(connection, report, now_ms)


def _examine_database(connection: apsw.Connection, report: Report, now_ms: int) -> None:
    report.application_id = connection.pragma("application_id") & 0xFFFF_FFFF
    report.schema = connection.pragma("user_version")
    checks = Checks(connection, report, now_ms)
    if not _is_ours(connection, report):
        return
    checks.structure()
    if report.schema > report.known_schema:
        problem = f"{report.path!r} has schema {report.schema}, and this redrive knows {report.known_schema}"
        report.add(Finding(kind="newer", problem=problem, remedy="install the newer redrive"))
        return
    if report.schema < 1:
        problem = f"{report.path!r} has schema {report.schema}, which redrive never made"
        report.add(Finding(kind="header", problem=problem, remedy=report.recover))
        return
    checks.definitions()
    checks.clock()
    if report.schema < report.known_schema:
        report.notes.append(f"it has schema {report.schema}; the next worker brings it to {report.known_schema}")
        return
    checks.texts()
    checks.rows()
    checks.invariants()


def _is_ours(connection: apsw.Connection, report: Report) -> bool:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    found = report.application_id or 0
    if found == APPLICATION_ID:
        return True
    if {"meta", "queue", "message", "entry"} <= tables:
        problem = f"{report.path!r} has the tables of redrive, and the application id {found:#x} of another program"
        report.add(Finding(kind="header", problem=problem, remedy=report.recover))
        return True
    if not tables:
        _cannot(report, "empty", "is a database without tables", "a worker makes them; what should be there is gone")
        return False
    _cannot(report, "foreign", "belongs to another program", "name another file")
    return False


def _is_database(report: Report, pages: Pages) -> bool:
    """Whether it begins like a database; what it is if it does not."""
    begin = _first_bytes(pages)
    if begin == MAGIC and pages.file_size:
        return True
    if pages.file_size == 0 and pages.log.frames:
        remedy = "start no worker, for SQLite deletes such a log; " + report.recover
        _cannot(report, "empty", f"is empty, and its log holds {pages.log.frames} pages", remedy)
    elif pages.file_size == 0:
        _cannot(report, "empty", "is empty", "a worker makes a database of it; if it held messages, restore a copy")
    elif _differs(begin, MAGIC) <= _OTHER_BITS:
        _cannot(report, "header", "has a damaged header, so that SQLite does not know it", report.recover)
    elif pages.header[_ID_AT] == APPLICATION_ID.to_bytes(4):
        _cannot(report, "header", "has lost its header", report.recover)
    else:
        _cannot(report, "not-a-database", "is not an SQLite database", "name another file")
    return False


def _first_bytes(pages: Pages) -> bytes:
    try:
        return pages.read(1)[: len(MAGIC)]
    except Missing:
        return pages.header[: len(MAGIC)]


def _examine_log(report: Report, pages: Pages, index: LogIndex | None) -> None:
    log = pages.log
    if log.dropped_commits:
        where = "its header" if log.broken == 0 else f"frame {log.broken}"
        problem = (
            f"the log of {report.path!r} is damaged in {where}: SQLite would drop {log.dropped_commits} transactions "
            "without a word; that they are on disk was said of each, of the last one not if the power went"
        )
        report.add(Finding(kind="log", problem=problem, remedy="before a worker opens it, " + report.recover))
    if index is None:
        return
    if index.frames > index.copied and not log.size:
        problem = f"the log of {report.path!r} is missing: {index.frames - index.copied} pages were in it alone"
        remedy = "look for the -wal file and put it back; without it, " + report.recover
        report.add(Finding(kind="log", problem=problem, remedy=remedy))
    elif index.salts == log.salts and index.frames > max(log.frames, index.copied):
        problem = f"the log of {report.path!r} is cut off: {index.frames - log.frames} of its pages are missing"
        report.add(Finding(kind="log", problem=problem, remedy=report.recover))
    elif log.salts and index.salts != log.salts:
        report.notes.append("the -shm is of another log; SQLite makes it anew, and nothing is lost")


def _beside_others(path: str) -> apsw.Connection:
    """A reader. Opened only for reading, SQLite would not look at CHECK constraints; so it may write, and does not."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    connection.pragma("query_only", 1)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.set_busy_timeout(10_000)
    return connection


@contextlib.contextmanager
def _readable(report: Report) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _cannot(report, "unreadable", f"cannot be read ({error.strerror})", "check owner, mode and disk")
    except apsw.NotADBError:
        _cannot(report, "header", "has a damaged header, so that SQLite does not know it", report.recover)
    except (apsw.Error, UnicodeDecodeError) as error:
        reason = str(error) if isinstance(error, apsw.Error) else "a text is not UTF-8"
        _cannot(report, "unreadable", f"cannot be read by SQLite ({reason})", report.recover)


def _cannot(report: Report, kind: str, problem: str, remedy: str) -> None:
    report.unreadable(Finding(kind=kind, problem=f"{report.path!r} {problem}", remedy=remedy))


def _differs(one: bytes, other: bytes) -> int:
    if len(one) != len(other):
        return 8 * len(other)
    return sum((left ^ right).bit_count() for left, right in zip(one, other, strict=True))
