"""A row that is not what was written is never handed out, whatever it looks like."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import pytest

from redrive.broker import Acknowledge, Depth, Forward, Outgoing, QueueSpec, Return
from redrive.message import Message, Notes
from redrive.sqlite.database import MEMORY, connect
from redrive.sqlite.engine import Engine

NOW = 1_700_000_000_000


@pytest.fixture
def connection() -> Iterator[apsw.Connection]:
    opened = connect(MEMORY)
    yield opened
    opened.close()


@pytest.fixture
def engine(connection: apsw.Connection) -> Engine:
    made = Engine(connection)
    made.declare(
        [
            QueueSpec(name="dead"),
            QueueSpec(name="plain", dead_letter_queue="dead", max_receives=5),
            QueueSpec(name="line", fifo=True),
        ],
        NOW,
    )
    for queue in ("plain", "line"):
        made.send(
            queue,
            [
                Outgoing(
                    message=Message(
                        id=f"{queue}-{number}",
                        body=b'{"n": 1}',
                        sent_at_ms=NOW,
                        attributes={"a": "b"},
                        group="g",
                        notes=Notes(attempts=1),
                    ),
                    deduplication_id=str(number),
                )
                for number in range(3)
            ],
            NOW,
        )
    return made


DAMAGE = [
    "body = x'7b226e223a20327d'",
    "body = x''",
    "id = 'another'",
    "id = CAST(x'ff' AS TEXT)",
    "sent_at_ms = sent_at_ms + 1",
    "group_id = 'h'",
    "group_id = CAST(x'ff' AS TEXT)",
    "attributes = CAST(x'7b' AS TEXT)",
    "attributes = NULL",
    'notes = \'{"v":1,"attempts":2}\'',
    "checksum = checksum + 1",
]


@pytest.mark.parametrize(
    ("queue", "damage"),
    # a message whose group is damaged stands in no line: the doctor finds it
    [("plain", one) for one in DAMAGE] + [("line", one) for one in DAMAGE if not one.startswith("group")],
)
def test_a_damaged_message_is_set_aside_and_the_others_go_on(
    connection: apsw.Connection, engine: Engine, queue: str, damage: str
) -> None:
    """Invariant 8: it is named, counted in no depth, and neither received nor lost."""
    seq = connection.execute("SELECT seq FROM message WHERE id = ?", (f"{queue}-1",)).get
    connection.execute(f"UPDATE message SET {damage} WHERE seq = ?", (seq,))  # noqa: S608 - from the list above
    taken = engine.receive(queue, limit=9, lease=30.0, now_ms=NOW + 1)
    expected = [f"{queue}-0", f"{queue}-2"]
    assert [one.message.id for one in taken] == expected
    assert [of for of, _ in engine.damaged] == [queue]
    assert engine.settle([Acknowledge(delivery=one) for one in taken], NOW + 2) == [None, None]
    assert engine.depth(queue, NOW + 3) == Depth()
    assert engine.next_visible_ms(queue) is None
    assert connection.execute("SELECT phase FROM message WHERE seq = ?", (seq,)).get == 5


@pytest.mark.parametrize("damage", DAMAGE)
def test_looking_at_a_queue_leaves_a_damaged_message_out(
    connection: apsw.Connection, engine: Engine, damage: str
) -> None:
    """And changes nothing."""
    connection.execute(f"UPDATE message SET {damage} WHERE id = 'plain-1'")  # noqa: S608 - from the list above
    before = connection.total_changes()
    seen = [engine.browse("plain", cursor=None, limit=9), engine.browse("plain", cursor=None, limit=1)]
    assert [one.id for one in seen[0].messages] == ["plain-0", "plain-2"]
    assert connection.total_changes() == before


@pytest.mark.parametrize("queue", ["plain", "line"])
def test_new_notes_do_not_make_a_damaged_message_whole(connection: apsw.Connection, engine: Engine, queue: str) -> None:
    """What was damaged while it was leased is found when it comes back."""
    first, *_ = engine.receive(queue, limit=3, lease=30.0, now_ms=NOW)
    connection.execute("UPDATE message SET body = x'00' WHERE id = ?", (first.message.id,))
    engine.settle([Return(delivery=first, notes=Notes(attempts=2))], NOW)
    assert engine.damaged == [(queue, first.message.id)]
    assert engine.depth(queue, NOW).ready == 0


def test_a_message_that_is_moved_takes_no_damage_along(connection: apsw.Connection, engine: Engine) -> None:
    """A forward writes what its consumer received, not what the row has become since."""
    (first,) = engine.receive("plain", limit=1, lease=30.0, now_ms=NOW)
    connection.execute("UPDATE message SET body = x'00' WHERE id = ?", (first.message.id,))
    engine.settle([Forward(delivery=first, queue="dead", message=first.message)], NOW)
    assert engine.browse("dead", cursor=None, limit=9).messages == [first.message]


def test_a_damaged_index_stops_a_receive_rather_than_going_round_in_it(
    connection: apsw.Connection, engine: Engine
) -> None:
    """A row that is set aside and comes again means that its index is damaged: that is said."""
    connection.execute("UPDATE message SET body = x'00' WHERE id = 'plain-0'")
    connection.execute(
        "CREATE TRIGGER stays AFTER UPDATE OF phase ON message WHEN new.phase = 5 "
        "BEGIN UPDATE message SET phase = 0 WHERE seq = new.seq; END"
    )
    with pytest.raises(apsw.CorruptError, match="still in an index"):
        engine.receive("plain", limit=1, lease=30.0, now_ms=NOW)


def test_a_message_from_before_there_were_checksums_is_received(connection: apsw.Connection, engine: Engine) -> None:
    """As it is, where it can be read at all."""
    connection.execute("UPDATE message SET checksum = NULL")
    connection.execute("UPDATE message SET notes = CAST(x'ff' AS TEXT) WHERE id = 'plain-1'")
    taken = engine.receive("plain", limit=9, lease=30.0, now_ms=NOW)
    assert [one.message.id for one in taken] == ["plain-0", "plain-2"]
    assert engine.damaged == [("plain", "plain-1")]
