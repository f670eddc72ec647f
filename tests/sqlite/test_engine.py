"""What the engine refuses, and by which words."""

from __future__ import annotations

import re
from collections.abc import Callable

import apsw
import pytest

from redrive.broker import Outgoing, QueueSpec
from redrive.errors import LimitExceeded, QueueNotFound
from redrive.message import NOTHING, Message, Notes
from redrive.sqlite.database import MEMORY, connect
from redrive.sqlite.engine import Engine
from redrive.sqlite.rows import RAW, RECEIVED
from redrive.sqlite.statements import named


def test_what_does_not_exist_is_named_and_nothing_changes() -> None:
    """Invariant 5: a call that raises has changed nothing."""
    connection = connect(MEMORY)
    engine = Engine(connection)
    engine.declare([QueueSpec(name="plain")], 0)
    before = connection.total_changes()
    asked: list[Callable[[], object]] = [
        lambda: engine.send("unknown", [], 1),
        lambda: engine.receive("unknown", limit=1, lease=1.0, now_ms=1),
        lambda: engine.receive("unknown", limit=1, lease=1.0, now_ms=1, ids=["m1"]),
        lambda: engine.browse("unknown", cursor=None, limit=1),
        lambda: engine.purge("unknown"),
        lambda: engine.depth("unknown", 1),
        lambda: engine.declare(
            [QueueSpec(name="other"), QueueSpec(name="x", dead_letter_queue="unknown", max_receives=3)], 1
        ),
    ]
    for ask in asked:
        with pytest.raises(QueueNotFound, match="unknown"):
            ask()
    assert connection.total_changes() == before
    assert engine.queues() == ["plain"]
    connection.close()


@pytest.mark.parametrize(
    "spec",
    [
        QueueSpec(name=""),
        QueueSpec(name="no spaces"),
        QueueSpec(name="x" * 81),
        QueueSpec(name="line\n"),
        QueueSpec(name="x", dead_letter_queue="plain", max_receives=0),
        QueueSpec(name="x", dead_letter_queue="plain", max_receives=1_001),
        QueueSpec(name="x", dead_letter_queue="plain"),
        QueueSpec(name="x", max_receives=3),
    ],
    ids=str,
)
def test_a_queue_that_cannot_be_is_refused(spec: QueueSpec) -> None:
    """By the value and the limit that it breaks, and nothing is made: not those before it either."""
    connection = connect(MEMORY)
    engine = Engine(connection)
    engine.declare([QueueSpec(name="plain")], 0)
    with pytest.raises(LimitExceeded):
        engine.declare([QueueSpec(name="good"), spec], 0)
    assert engine.queues() == ["plain"]
    connection.close()


@pytest.mark.parametrize("limit", [1, 9])
def test_what_is_ready_longest_is_received_first(limit: int) -> None:
    """And what takes the place of those that were moved comes with the same receive."""
    connection = connect(MEMORY)
    engine = Engine(connection)
    engine.declare([QueueSpec(name="dead"), QueueSpec(name="plain", dead_letter_queue="dead", max_receives=1)], 0)

    def message(name: str, notes: Notes = NOTHING) -> Message:
        return Message(id=name, body=b"1", sent_at_ms=1, notes=notes)

    noted = message("noted", Notes(attempts=7))
    engine.send("plain", [Outgoing(message=noted, delay=2.0), Outgoing(message=message("plain"), delay=1.0)], 0)
    engine.send("plain", [Outgoing(message=message("fresh"), delay=8.0)], 0)
    for expected in ("plain", "noted"):
        taken = engine.receive("plain", limit=1, lease=1.0, now_ms=5_000)
        assert [one.message.id for one in taken] == [expected]
    taken = engine.receive("plain", limit=limit, lease=1.0, now_ms=9_000)
    assert [one.message.id for one in taken] == ["fresh"]
    assert {one.id: one.notes for one in engine.browse("dead", cursor=None, limit=9).messages} == {
        "plain": Notes(forwards=1),
        "noted": noted.notes,
    }
    connection.close()


def test_sqlite_is_new_enough() -> None:
    """SQLite before 3.51.3 can lose committed pages when one connection writes while another checkpoints."""
    assert tuple(map(int, apsw.sqlite_lib_version().split("."))) >= (3, 51, 3)


STATEMENTS = [
    (name, sql)
    for source in ("engine", "lines", "tenants", "deduplication", "move_tasks")
    for name, sql in named(f"{source}.sql").items()
]


@pytest.mark.parametrize(("name", "sql"), STATEMENTS, ids=[name for name, _ in STATEMENTS])
def test_no_statement_looks_at_everything(name: str, sql: str) -> None:
    """Invariant 6: each finds its rows by an index; what is scanned is what the statement itself was given."""
    connection = connect(MEMORY)
    filled = sql.replace("{RECEIVED}", RECEIVED).replace("{RAW}", RAW)
    parameters = max(map(int, re.findall(r"\?(\d)", filled)), default=filled.count("?"))
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {filled}", [None] * parameters)]
    connection.close()
    scans = [
        step
        for step in plan
        if re.match(
            r"SCAN (?!json_each|given|held|free|\(subquery|CONSTANT|queue|move_task USING INDEX move_task_running)",
            step,
        )
    ]
    assert scans == [], f"{name}: {plan}"
