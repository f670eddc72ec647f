"""A file that an older version of redrive wrote holds, once opened, what it held: ready, delayed, in flight, dead."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from redrive.broker import Acknowledge, Depth
from redrive.errors import StaleReceipt
from redrive.message import Notes
from redrive.sqlite import database
from redrive.sqlite.database import connect
from redrive.sqlite.engine import Engine
from redrive.sqlite.statements import migrations

NOW = 1_700_000_000_000
LATER = NOW + 60_000
RECEIPT = bytes(range(16))


def written_by_the_first_version(path: Path) -> None:
    """As the schema of version 1 has it."""
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    connection.execute(migrations()[0])
    connection.pragma("application_id", database._APPLICATION_ID)
    connection.pragma("user_version", 1)
    connection.execute("UPDATE meta SET clock_high_water_ms = ?", (NOW,))
    connection.execute("INSERT INTO queue (name) VALUES ('orders-dead')")
    connection.execute("INSERT INTO queue (name, dead_letter_queue, max_receives) VALUES ('orders', 'orders-dead', 26)")
    rows = [
        (2, NOW - 5, None, 0, "ready", None),
        (2, LATER, None, 1, "delayed", '{"v":1,"attempts":1}'),
        (2, LATER, RECEIPT, 1, "in flight", None),
        (2, NOW - 1, RECEIPT[::-1], 2, "its lease ran out", None),
        (1, NOW - 9, None, 0, "dead", '{"v":1,"forwards":1}'),
    ]
    for queue, visible, receipt, count, name, notes in rows:
        connection.execute(
            "INSERT INTO message "
            "(queue, visible_at_ms, receipt, receive_count, sent_at_ms, id, attributes, notes, body) VALUES "
            "(?, ?, ?, ?, ?, ?, '{\"a\": \"b\"}', ?, x'7b7d')",
            (queue, visible, receipt, count, NOW - 100, name, notes),
        )
    connection.execute("INSERT INTO entry (namespace, key, version, value) VALUES ('claims', 'k', 7, x'7b7d')")
    connection.close()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    path = tmp_path / "old.db"
    written_by_the_first_version(path)
    return Engine(connect(str(path)))


def test_every_message_is_what_it_was(engine: Engine) -> None:
    """Counted as what it is, with its counters and notes."""
    assert engine.depth("orders", NOW) == Depth(ready=2, in_flight=1, delayed=1)
    assert engine.depth("orders-dead", NOW) == Depth(ready=1)
    taken = {one.message.id: one for one in engine.receive("orders", limit=9, lease=1.0, now_ms=LATER)}
    assert {name: one.receive_count for name, one in taken.items()} == {
        "ready": 1,
        "delayed": 2,
        "in flight": 2,
        "its lease ran out": 3,
    }
    assert taken["delayed"].message.notes == Notes(attempts=1)
    assert taken["ready"].message.attributes == {"a": "b"}
    assert [one.message.id for one in engine.receive("orders-dead", limit=9, lease=1.0, now_ms=NOW, ids=["dead"])] == [
        "dead"
    ]


def test_a_receipt_from_before_is_still_good(engine: Engine) -> None:
    """A worker that was handling while the file was migrated can acknowledge."""
    (taken,) = [one for one in engine.receive("orders", limit=9, lease=1.0, now_ms=NOW) if one.message.id == "ready"]
    in_flight = taken.__class__(message=taken.message, queue="orders", receipt=f"3.{RECEIPT.hex()}", receive_count=1)
    assert engine.settle([Acknowledge(delivery=in_flight)], NOW) == [None]
    assert isinstance(engine.settle([Acknowledge(delivery=in_flight)], NOW)[0], StaleReceipt)


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All scripts are one transaction: the older version can go on with it."""
    path = tmp_path / "old.db"
    written_by_the_first_version(path)
    broken = [*migrations(), "DROP TABLE line; SELECT no_such_function();"]
    monkeypatch.setattr(database, "migrations", lambda: broken)
    with pytest.raises(apsw.SQLError, match="no_such_function"):
        connect(str(path))
    left = apsw.Connection(str(path))
    assert left.pragma("user_version") == 1
    assert left.execute("SELECT count(*) FROM message").get == 5
    assert left.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'line'").get == 0
    left.close()
