"""The engine does what a dictionary would do, whatever is asked of it in whatever order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import apsw
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from redrive.broker import Acknowledge, Depth, Forward, Outgoing, QueueSpec, Return, Settlement
from redrive.errors import LimitExceeded, QueueNotFound, StaleReceipt
from redrive.message import MAX_BODY, NOTHING, Delivery, Message, Notes
from redrive.sqlite.database import MEMORY, connect
from redrive.sqlite.engine import Engine

QUEUES = ("plain", "other", "limited", "dead")
MAX_RECEIVES = 2
queues = st.sampled_from(["plain", "limited", *QUEUES])
seconds = st.sampled_from([0.0, 0.001, 1.0, 5.0, 60.0, 900.0])
leases = st.sampled_from([0.001, 1.0, 5.0, 60.0, 43_200.0])
notes = st.builds(Notes, attempts=st.integers(1, 5), bounces=st.integers(0, 3))


@dataclass
class Row:
    """A message in the model."""

    message: Message
    queue: str
    visible_at_ms: int
    order: int
    receipt: str | None = None
    receive_count: int = 0


class AgainstAModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="redrive-model-")
        self.path = str(Path(self.folder.name) / "model.db")
        self.now_ms = 1_700_000_000_000
        self.rows: list[Row] = []
        self.deliveries: list[tuple[Delivery, Row]] = []
        self.sent = 0
        self.open()

    def open(self) -> None:
        self.connection = connect(self.path)
        self.connection.pragma("synchronous", "OFF")  # nobody cuts the power here
        self.engine = Engine(self.connection)

    def teardown(self) -> None:
        self.connection.close()
        self.folder.cleanup()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        yield
        self.connection.execute("COMMIT")

    @initialize(noted=st.booleans())
    def declare(self, *, noted: bool) -> None:
        with self.transaction():
            self.engine.declare(
                [
                    QueueSpec(name="limited", dead_letter_queue="dead", max_receives=MAX_RECEIVES),
                    *(QueueSpec(name=name) for name in QUEUES if name != "limited"),
                ]
            )
        for queue in ("plain", "limited", "limited"):
            self.send(queue, [0.0, 0.0, 5.0], noted=noted, large=False)

    @rule(seconds=st.sampled_from([0.001, 0.999, 1.0, 4.0, 30.0, 600.0, 43_200.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)

    @precondition(lambda self: self.now_ms % 3 == 0)
    @rule()
    def reopen(self) -> None:
        self.connection.close()
        self.open()

    @rule(
        queue=queues,
        delays=st.lists(seconds | st.sampled_from([0.0, 0.0, -1.0, 900.1, float("nan")]), min_size=1, max_size=5),
        noted=st.booleans(),
        large=st.booleans(),
    )
    def send(self, queue: str, delays: list[float], *, noted: bool, large: bool) -> None:
        outgoing = [Outgoing(message=self.message(noted=noted), delay=delay) for delay in delays]
        if large:
            outgoing[0] = replace(outgoing[0], message=replace(outgoing[0].message, body=b"x" * (MAX_BODY + 1)))
        with self.transaction():
            results = self.engine.send(queue, outgoing, self.now_ms)
        for one, result in zip(outgoing, results, strict=True):
            if 0 <= one.delay <= 900 and len(one.message.body) <= MAX_BODY:
                assert result is None
                self.enter(one.message, queue, one.delay)
            else:
                assert isinstance(result, LimitExceeded)

    @rule(queue=queues, limit=st.integers(1, 4), lease=leases)
    def receive(self, queue: str, limit: int, lease: float) -> None:
        with self.transaction():
            taken = self.engine.receive(queue, limit=limit, lease=lease, now_ms=self.now_ms)
        self.check_received(taken, self.expected(queue, limit), lease)

    @rule(queue=queues, limit=st.integers(1, 3), lease=leases, data=st.data())
    def receive_by_ids(self, queue: str, limit: int, lease: float, data: st.DataObject) -> None:
        known = [row.message.id for row in self.rows] or ["unknown"]
        ids = data.draw(st.lists(st.sampled_from(known), unique=True, max_size=4))
        with self.transaction():
            taken = self.engine.receive(queue, limit=limit, lease=lease, now_ms=self.now_ms, ids=ids)
        expected: list[Row] = []
        for one in ids:
            for row in self.in_queue(queue):
                free = row.receipt is None or row.visible_at_ms <= self.now_ms
                if row.message.id == one and free and row.message.notes is not NOTHING and len(expected) < limit:
                    expected += self.unless_too_often([row])
        self.check_received(taken, expected, lease)

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        chosen = data.draw(self.some_deliveries())
        settlements = [data.draw(self.settlements(delivery)) for delivery, _ in chosen]
        with self.transaction():
            results = self.engine.settle(settlements, self.now_ms)
        for (delivery, row), settlement, result in zip(chosen, settlements, results, strict=True):
            assert type(result) is self.settled(delivery, row, settlement)

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data(), lease=leases)
    def extend(self, data: st.DataObject, lease: float) -> None:
        chosen = data.draw(self.some_deliveries())
        with self.transaction():
            results = self.engine.extend([one for one, _ in chosen], lease=lease, now_ms=self.now_ms)
        for (delivery, row), result in zip(chosen, results, strict=True):
            if row.receipt == delivery.receipt:
                row.visible_at_ms = self.now_ms + int(lease * 1000)
                assert result is None
            else:
                assert isinstance(result, StaleReceipt)

    @precondition(lambda self: len(self.rows) > 15)
    @rule(queue=queues)
    def purge(self, queue: str) -> None:
        with self.transaction():
            count = self.engine.purge(queue)
        gone = self.in_queue(queue)
        assert count == len(gone)
        for row in gone:
            self.leave(row)

    @rule(queue=queues, limit=st.integers(1, 5))
    def browse(self, queue: str, limit: int) -> None:
        seen: list[Message] = []
        cursor = None
        while True:
            page = self.engine.browse(queue, cursor=cursor, limit=limit)
            seen += page.messages
            cursor = page.cursor
            if cursor is None:
                break
        expected = sorted(self.in_queue(queue), key=lambda row: (row.visible_at_ms, row.order))
        assert seen == [row.message for row in expected]

    @invariant()
    def every_message_is_counted_as_what_it_is(self) -> None:
        for queue in self.engine.queues():
            rows = self.in_queue(queue)
            ready = [row for row in rows if row.visible_at_ms <= self.now_ms]
            in_flight = [row for row in rows if row.visible_at_ms > self.now_ms and row.receipt is not None]
            expected = Depth(
                ready=len(ready), in_flight=len(in_flight), delayed=len(rows) - len(ready) - len(in_flight)
            )
            assert self.engine.depth(queue, self.now_ms) == expected
            assert self.engine.next_visible_ms(queue) == min((row.visible_at_ms for row in rows), default=None)

    # The model

    def message(self, *, noted: bool = False) -> Message:
        self.sent += 1
        return Message(
            id=f"m{self.sent}",
            body=b"%d" % self.sent,
            sent_at_ms=self.now_ms - self.sent,
            attributes={"n": str(self.sent)} if self.sent % 2 else {},
            group="g" if self.sent % 3 else None,
            notes=Notes(attempts=self.sent) if noted else NOTHING,
        )

    def enter(self, message: Message, queue: str, delay: float) -> None:
        order = max((row.order for row in self.rows), default=0) + 1
        self.rows.append(Row(message, queue, self.now_ms + int(delay * 1000), max(order, self.sent)))

    def leave(self, row: Row) -> None:
        self.rows.remove(row)
        row.receipt = None

    def in_queue(self, queue: str) -> list[Row]:
        return [row for row in self.rows if row.queue == queue]

    def expected(self, queue: str, limit: int) -> list[Row]:
        taken: list[Row] = []
        while len(taken) < limit:
            ready = [row for row in self.in_queue(queue) if row.visible_at_ms <= self.now_ms and row not in taken]
            ready.sort(key=lambda row: (row.visible_at_ms, row.order))
            chosen = ready[: limit - len(taken)]
            if not chosen:
                break
            taken += self.unless_too_often(chosen)
        return taken

    def unless_too_often(self, rows: list[Row]) -> list[Row]:
        kept = []
        for row in rows:
            if row.queue == "limited" and row.receive_count >= MAX_RECEIVES:
                row.queue, row.visible_at_ms, row.receipt, row.receive_count = "dead", self.now_ms, None, 0
                if row.message.notes is NOTHING:
                    row.message = replace(row.message, notes=Notes(forwards=1))
            else:
                kept.append(row)
        return kept

    def check_received(self, taken: list[Delivery], expected: list[Row], lease: float) -> None:
        assert sorted(one.message.id for one in taken) == sorted(row.message.id for row in expected)
        by_id = {row.message.id: row for row in expected}
        receipts = {delivery.receipt for delivery, _ in self.deliveries}
        for delivery in taken:
            row = by_id[delivery.message.id]
            row.receive_count += 1
            row.receipt, row.visible_at_ms = delivery.receipt, self.now_ms + int(lease * 1000)
            assert delivery.receipt not in receipts
            assert delivery == Delivery(
                message=row.message, queue=row.queue, receipt=delivery.receipt, receive_count=row.receive_count
            )
            self.deliveries.append((delivery, row))
        del self.deliveries[:-30]

    def some_deliveries(self) -> st.SearchStrategy[list[tuple[Delivery, Row]]]:
        """Three of four are held by those who settle them; the others are stale."""
        held = [(delivery, row) for delivery, row in self.deliveries if row.receipt == delivery.receipt]
        one = st.sampled_from(self.deliveries)
        likely = [st.sampled_from(held)] * 3 if held else []
        return st.lists(st.one_of(*likely, one), min_size=1, max_size=3)

    def settlements(self, delivery: Delivery) -> st.SearchStrategy[Settlement]:
        changed = st.builds(replace, st.just(delivery.message), notes=notes, body=st.sampled_from([b"edited", b""]))
        return st.one_of(
            st.just(Acknowledge(delivery=delivery)),
            st.builds(Return, delivery=st.just(delivery), delay=seconds, notes=st.none() | notes),
            st.builds(
                Forward,
                delivery=st.just(delivery),
                queue=st.sampled_from([*QUEUES, "unknown"]),
                message=changed,
                delay=st.sampled_from([0.0, 5.0, 901.0]),
            ),
        )

    def settled(self, delivery: Delivery, row: Row, settlement: Settlement) -> type:
        if isinstance(settlement, Forward) and settlement.queue == "unknown":
            return QueueNotFound
        if isinstance(settlement, Forward) and settlement.delay > 900:
            return LimitExceeded
        if row.receipt != delivery.receipt:
            return StaleReceipt
        match settlement:
            case Acknowledge():
                self.leave(row)
            case Return(delay=delay, notes=noted):
                row.receipt, row.visible_at_ms = None, self.now_ms + int(delay * 1000)
                if noted is not None:
                    row.message = replace(row.message, notes=noted)
            case Forward(queue=queue, message=message, delay=delay):
                row.receipt, row.visible_at_ms = None, self.now_ms + int(delay * 1000)
                row.queue, row.receive_count = queue, 0
                row.message = replace(row.message, notes=message.notes, body=message.body)
        return type(None)


def test_the_engine_agrees_with_the_model() -> None:
    """Some thousand steps, other ones each time."""
    run_state_machine_as_test(AgainstAModel, settings=settings(max_examples=120, stateful_step_count=60, deadline=None))


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_the_engine_agrees_with_the_model_for_a_long_time() -> None:
    """A hundred thousand steps."""
    run_state_machine_as_test(
        AgainstAModel, settings=settings(max_examples=1_000, stateful_step_count=100, deadline=None)
    )


def test_what_does_not_exist_is_named_and_nothing_changes() -> None:
    """Invariant 5: a call that raises has changed nothing."""
    connection = connect(MEMORY)
    engine = Engine(connection)
    engine.declare([QueueSpec(name="plain")])
    before = connection.total_changes()
    asked: list[Callable[[], object]] = [
        lambda: engine.send("unknown", [], 1),
        lambda: engine.receive("unknown", limit=1, lease=1.0, now_ms=1),
        lambda: engine.receive("unknown", limit=1, lease=1.0, now_ms=1, ids=["m1"]),
        lambda: engine.browse("unknown", cursor=None, limit=1),
        lambda: engine.purge("unknown"),
        lambda: engine.depth("unknown", 1),
        lambda: engine.declare(
            [QueueSpec(name="other"), QueueSpec(name="x", dead_letter_queue="unknown", max_receives=3)]
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
    engine.declare([QueueSpec(name="plain")])
    with pytest.raises(LimitExceeded):
        engine.declare([QueueSpec(name="good"), spec])
    assert engine.queues() == ["plain"]
    connection.close()


@pytest.mark.parametrize("limit", [1, 9])
def test_what_is_ready_longest_is_received_first(limit: int) -> None:
    """And what takes the place of those that were moved comes with the same receive."""
    connection = connect(MEMORY)
    engine = Engine(connection)
    engine.declare([QueueSpec(name="dead"), QueueSpec(name="plain", dead_letter_queue="dead", max_receives=1)])

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
