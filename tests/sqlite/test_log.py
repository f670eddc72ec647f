"""The write-ahead log is kept short; only a program that keeps reading can hold it up, and that is told."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from typing_extensions import override

from redrive.clock import ManualClock
from redrive.errors import DiskNearlyFull
from redrive.sqlite.log import LONG, Log
from redrive.sqlite.session import Session
from redrive.sqlite.tables import Tables
from redrive.sqlite.turn import Turn
from redrive.store import ABSENT, CIRCUITS

KIB, MIB = 1024, 1024 * 1024


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = Session(str(tmp_path / "l.db"), ManualClock())
    yield session
    session.close()


def size(session: Session) -> int:
    return Path(f"{session.path}-wal").stat().st_size


NUMBERS = itertools.count()


def put(tables: Tables) -> None:
    """An entry of 100 KiB: some 26 pages."""
    arguments: dict[str, Any] = {"if_version": ABSENT, "due_at_ms": None, "expires_at_ms": None}
    tables.entries.put(CIRCUITS, f"{next(NUMBERS)}", bytes(100 * KIB), now_ms=tables.now_ms, **arguments)


def write(session: Session, count: int) -> None:
    """One transaction for each entry, and what the writer does after it."""
    for _ in range(count):
        (outcome,) = session.run([put])
        assert outcome.error is None
        session.tidy()


class Watched(Log):
    """Counts how often it is shortened."""

    tries = 0

    @override
    def shorten(self, turn: Turn) -> None:
        self.tries += 1
        super().shorten(turn)


def test_it_begins_anew_at_the_front(session: Session) -> None:
    """Ten megabytes go through it, and its file has not two."""
    write(session, 100)
    assert size(session) < 2 * MIB
    assert session.tables.connection.execute("SELECT count(*) FROM entry").get == 100


def test_one_large_transaction_leaves_no_large_file(session: Session) -> None:
    """What it took is given back to the disk by the next commits."""
    with session.tables.connection as connection:
        connection.execute("CREATE TABLE large (content BLOB)")
        connection.execute("INSERT INTO large VALUES (zeroblob(30000000))")
    assert size(session) > 30 * MIB * 0.9
    session.tidy()
    write(session, 1)
    assert size(session) <= 8 * MIB


def test_a_program_that_keeps_reading_is_told_once_and_waited_for(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    """Writing goes on, without a checkpoint after every commit; when it has gone, the log is short again."""
    write(session, 1)
    session._log = log = Watched(session.tables.connection, session.path)
    reader = apsw.Connection(session.path)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM entry").get == 1
    write(session, 260)
    assert size(session) > 20 * MIB
    assert log.tries < 30
    assert caplog.text.count("a program keeps reading from the file") == 1
    reader.close()
    write(session, 30)
    assert size(session) <= 8 * MIB


def test_it_is_kept_shorter_while_the_disk_is_nearly_full(session: Session) -> None:
    """Room in the log is room that acknowledgements need."""
    session._space.shortage = lambda: DiskNearlyFull("sqlite:l.db", 1, 2)  # type: ignore[method-assign]
    write(session, 100)
    assert size(session) < 0.5 * MIB


def test_what_cannot_be_copied_is_told_and_tried_again(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    """It is no trouble of those who were answered: what they wrote is in the log."""
    turn, session._turn.take = session._turn.take, _refuse  # type: ignore[method-assign]
    session._log.pages = LONG
    session.tidy()
    assert "stays as it is: [Errno 5] no" in caplog.text
    session._turn.take = turn  # type: ignore[method-assign]
    write(session, 40)
    assert size(session) < 4 * MIB


def _refuse() -> None:
    raise OSError(5, "no")
