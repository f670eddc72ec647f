"""The engine does what a list and some dictionaries would do, whatever is asked of it in whatever order."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

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

from redrive.broker import Acknowledge, Forward, MoveTask, Outgoing, QueueSpec, Return, Settlement
from redrive.clock import SteadyClock
from redrive.errors import LimitExceeded, QueueConflict, QueueNotFound, StaleReceipt
from redrive.message import MAX_BODY, NOTHING, Delivery, Message, Notes
from redrive.sqlite.database import connect
from redrive.sqlite.engine import Engine
from tests.sqlite.model import IN_FLIGHT, IN_LINE, LEASED, Model, Move, Row

MAX_RECEIVES = 2
SPECS = {
    spec.name: spec
    for spec in (
        QueueSpec(name="plain"),
        QueueSpec(name="dead"),
        QueueSpec(name="limited", dead_letter_queue="dead", max_receives=MAX_RECEIVES, retention=600.0),
        QueueSpec(name="fleeting", retention=60.0, delay=1.0),
        QueueSpec(name="line"),
        QueueSpec(name="line-dead"),
        QueueSpec(name="line-limited", dead_letter_queue="line-dead", max_receives=MAX_RECEIVES, retention=60.0),
    )
}
SPECS |= {name: replace(spec, fifo=True) for name, spec in SPECS.items() if name.startswith("line")}
SPECS["line"] = replace(SPECS["line"], content_deduplication=True)
SPECS["dead"] = replace(SPECS["dead"], retention=3_600.0)
QUEUES = tuple(SPECS)
STANDARD = tuple(name for name in QUEUES if not SPECS[name].fifo)

queues = st.sampled_from([*QUEUES, "limited", "line-limited", "line", "plain"])
seconds = st.sampled_from([0.0, 0.001, 1.0, 5.0, 60.0, 900.0])
leases = st.sampled_from([0.0, 0.001, 1.0, 5.0, 60.0, 43_200.0])
notes = st.builds(Notes, attempts=st.integers(1, 5), bounces=st.integers(0, 3))
jumps = st.sampled_from([1_000, -1_000, 3_600_000, -3_600_000, -365 * 86_400_000, 36_525 * 86_400_000])


class Wall:
    """A machine's clocks: one that runs, and one that is set."""

    def __init__(self) -> None:
        self.ran_ms = 0
        self.set_to_ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.set_to_ms + self.ran_ms

    def monotonic(self) -> float:
        return self.ran_ms / 1000


class AgainstAModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="redrive-model-")
        self.path = str(Path(self.folder.name) / "model.db")
        self.wall = Wall()
        self.clock = SteadyClock(self.wall)
        self.model = Model(specs=SPECS)
        self.deliveries: list[tuple[Delivery, Row]] = []
        self.count = 0
        self.last_ms = 0
        self.open()

    @property
    def now_ms(self) -> int:
        """Engine time, which never turns back."""
        now_ms = self.clock.now_ms()
        assert now_ms >= self.last_ms
        self.last_ms = now_ms
        return now_ms

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
            self.engine.declare(list(SPECS.values()), self.now_ms)
        for queue in ("plain", "limited", "line", "line-limited"):
            self.send(queue, [0.0, 0.0, 5.0], noted=noted, odd="", tenant="a", key=None)

    # Time and restarts

    @rule(seconds=st.sampled_from([0.001, 0.999, 1.0, 4.0, 30.0, 299.0, 600.0, 43_200.0]))
    def time_passes(self, seconds: float) -> None:
        for _ in range(int(seconds // 60) or 1):  # a running broker looks at the clock more often than that
            self.wall.ran_ms += int(min(seconds, 60.0) * 1000)
            assert self.now_ms

    @rule(by_ms=jumps)
    def the_wall_clock_is_set(self, by_ms: int) -> None:
        before = self.now_ms
        self.wall.set_to_ms += by_ms
        assert 0 <= self.now_ms - before <= 60_000

    @precondition(lambda self: self.count % 3 == 0)
    @rule()
    def reopen(self) -> None:
        self.connection.close()
        self.open()

    @rule()
    def declare_again(self) -> None:
        before = self.connection.total_changes()
        with self.transaction():
            self.engine.declare(list(SPECS.values()), self.now_ms)
        assert self.connection.total_changes() == before

    @rule()
    def sweep(self) -> None:
        with self.transaction():
            self.engine.sweep(self.now_ms)
        self.model.expire(self.last_ms)

    # Messages

    @rule(
        queue=queues,
        delays=st.lists(
            st.none() | seconds | st.sampled_from([0.0, 0.0, -1.0, 900.1, float("nan")]), min_size=1, max_size=5
        ),
        noted=st.booleans(),
        odd=st.sampled_from(["", "", "large", "ungrouped", "keyless"]),
        tenant=st.sampled_from("abc"),
        key=st.none() | st.integers(1, 4),
    )
    def send(
        self, queue: str, delays: list[float | None], *, noted: bool, odd: str, tenant: str, key: int | None
    ) -> None:
        spec = SPECS[queue]
        outgoing = [self.outgoing(queue, delay, noted, tenant, key) for delay in delays]
        if odd == "large":
            outgoing[0] = replace(outgoing[0], message=replace(outgoing[0].message, body=b"x" * (MAX_BODY + 1)))
        if odd == "ungrouped":
            outgoing[0] = replace(outgoing[0], message=replace(outgoing[0].message, group=None))
        if odd == "keyless":
            outgoing[0] = replace(outgoing[0], deduplication_id=None)
        now_ms = self.now_ms
        with self.transaction():
            results = self.engine.send(queue, outgoing, now_ms)
        for one, result in zip(outgoing, results, strict=True):
            keyed = one.deduplication_id is not None or spec.content_deduplication
            fits = not spec.fifo or (one.message.group is not None and keyed)
            if 0 <= (one.delay or 0) <= 900 and len(one.message.body) <= MAX_BODY and fits:
                assert result == self.model.send(queue, one, now_ms)
            else:
                assert isinstance(result, LimitExceeded)

    @rule(queue=queues, limit=st.integers(1, 5), lease=leases)
    def receive(self, queue: str, limit: int, lease: float) -> None:
        now_ms = self.now_ms
        with self.transaction():
            taken = self.engine.receive(queue, limit=limit, lease=lease, now_ms=now_ms)
        self.model.expire(now_ms)
        self.check_received(taken, self.model.take(queue, limit, now_ms), lease)

    @rule(queue=queues, limit=st.integers(1, 3), lease=leases, data=st.data())
    def receive_by_ids(self, queue: str, limit: int, lease: float, data: st.DataObject) -> None:
        known = [row.message.id for row in self.model.rows] or ["unknown"]
        ids = data.draw(st.lists(st.sampled_from(known), unique=True, max_size=4))
        now_ms = self.now_ms
        with self.transaction():
            taken = self.engine.receive(queue, limit=limit, lease=lease, now_ms=now_ms, ids=ids)
        self.model.expire(now_ms)
        self.check_received(taken, self.model.take(queue, limit, now_ms, ids), lease)

    @rule(queue=st.sampled_from(["line", "line-limited"]), lease=leases, attempt=st.sampled_from("xy"))
    def receive_as_an_attempt(self, queue: str, lease: float, attempt: str) -> None:
        now_ms = self.now_ms
        with self.transaction():
            taken = self.engine.receive(queue, limit=2, lease=lease, now_ms=now_ms, attempt=attempt)
        self.model.expire(now_ms)
        receipts, until_ms = self.model.attempts.get((queue, attempt), ([], 0))
        again = [row for row in self.model.of(queue) if row.receipt in receipts and row.visible_at_ms > now_ms]
        if until_ms > now_ms and receipts and len(again) == len(receipts):
            assert [one.receipt for one in taken] == receipts
            for row in again:
                row.phase, row.visible_at_ms = LEASED, now_ms + max(1, int(lease * 1000))
        else:
            self.check_received(taken, self.model.take(queue, 2, now_ms), lease)
        self.model.attempts[queue, attempt] = ([one.receipt for one in taken], now_ms + 300_000)

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        chosen = data.draw(self.some_deliveries())
        settlements = [data.draw(self.settlements(delivery)) for delivery, _ in chosen]
        now_ms = self.now_ms
        with self.transaction():
            results = self.engine.settle(settlements, now_ms)
        for (delivery, row), settlement, result in zip(chosen, settlements, results, strict=True):
            assert type(result) is self.settled(delivery, row, settlement, now_ms)

    @precondition(lambda self: self.deliveries)
    @rule()
    def acknowledge_all_that_is_held(self) -> None:
        held = [(delivery, row) for delivery, row in self.deliveries if row.receipt == delivery.receipt]
        with self.transaction():
            results = self.engine.settle([Acknowledge(delivery=delivery) for delivery, _ in held], self.now_ms)
        assert results == [None] * len(held)
        for _, row in held:
            self.model.leave(row)

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data(), lease=leases.filter(bool))
    def extend(self, data: st.DataObject, lease: float) -> None:
        chosen = data.draw(self.some_deliveries())
        now_ms = self.now_ms
        with self.transaction():
            results = self.engine.extend([one for one, _ in chosen], lease=lease, now_ms=now_ms)
        for (delivery, row), result in zip(chosen, results, strict=True):
            if row.receipt == delivery.receipt:
                row.visible_at_ms = now_ms + int(lease * 1000)
                row.phase = LEASED if SPECS[row.queue].fifo else IN_FLIGHT
                assert result is None
            else:
                assert isinstance(result, StaleReceipt)

    @precondition(lambda self: len(self.model.rows) > 15)
    @rule(queue=queues)
    def purge(self, queue: str) -> None:
        with self.transaction():
            assert self.engine.purge(queue) == self.model.purge(queue)

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
        assert seen == [row.message for row in self.model.in_order_of_browsing(queue)]

    # Moves

    @rule(
        source=st.sampled_from(["dead", "line-dead", "dead", "line-dead", "plain"]),
        destination=st.sampled_from([None, None, "plain", "line", "unknown"]),
        rate=st.sampled_from([None, 1, 3, 500]),
    )
    def start_a_move(self, source: str, destination: str | None, rate: int | None) -> None:
        now_ms = self.now_ms
        busy = any(move.source == source and move.status == "RUNNING" for move in self.model.moves)
        other_kind = destination in SPECS and SPECS[destination].fifo != SPECS[source].fifo
        with self.transaction():
            if source == "plain" or other_kind or (busy and destination != "unknown"):
                with pytest.raises(QueueConflict):
                    self.engine.moves.start(source, destination, rate, now_ms)
            elif destination == "unknown":
                with pytest.raises(QueueNotFound):
                    self.engine.moves.start(source, destination, rate, now_ms)
            else:
                task = self.engine.moves.start(source, destination, rate, now_ms)
                held = len(self.model.of(source))
                self.model.moves.append(Move(task, source, destination, rate, held, float(now_ms)))

    @precondition(lambda self: any(move.status == "RUNNING" for move in self.model.moves))
    @rule()
    def moves_go_on(self) -> None:
        now_ms = self.now_ms
        with self.transaction():
            self.engine.expire(now_ms)
            again = self.engine.move(now_ms)
        self.model.expire(now_ms)
        for move in [move for move in self.model.moves if move.status == "RUNNING"]:
            self.model.step(move, now_ms)
        assert (again is None) is not any(move.status == "RUNNING" for move in self.model.moves)

    @precondition(lambda self: self.model.moves)
    @rule(data=st.data())
    def cancel_a_move(self, data: st.DataObject) -> None:
        move = data.draw(st.sampled_from(self.model.moves))
        with self.transaction():
            if move.status == "RUNNING":
                assert self.engine.moves.cancel(move.id) == move.moved
                move.status = "CANCELLED"
            else:
                with pytest.raises(LimitExceeded):
                    self.engine.moves.cancel(move.id)

    # What always holds

    @invariant()
    def every_message_is_counted_as_what_it_is(self) -> None:
        now_ms = self.now_ms
        with self.transaction():
            depths = {queue: self.engine.depth(queue, now_ms) for queue in self.engine.queues()}
        self.model.expire(now_ms)
        assert depths == {queue: self.model.depth(queue, now_ms) for queue in depths}
        for queue in depths:
            expected = self.model.next_visible_ms(queue)
            found = self.engine.next_visible_ms(queue)
            if expected is None or expected > now_ms:
                assert found == expected
            else:
                assert found is not None
                assert found <= now_ms

    @invariant()
    def every_move_is_where_it_should_be(self) -> None:
        found = [
            task for source in ("dead", "line-dead") if source in self.engine.queues() for task in self.tasks(source)
        ]
        latest = [move for source in ("dead", "line-dead") for move in self.model.latest_moves(source)]
        assert [(task.id, task.status, task.moved, task.to_move) for task in found] == [
            (move.id, move.status, move.moved, move.to_move) for move in latest
        ]

    # Help

    def tasks(self, source: str) -> list[MoveTask]:
        return list(self.engine.moves.list(source))

    def outgoing(self, queue: str, delay: float | None, noted: bool, tenant: str, key: int | None) -> Outgoing:  # noqa: FBT001
        self.count += 1
        number = self.count
        message = Message(
            id=f"m{number}",
            body=b"%d" % number,
            sent_at_ms=self.now_ms - number,
            attributes={"n": str(number)} if number % 2 else {},
            attribute_types={"n": "Number"} if number % 4 == 1 else None,
            group=tenant if SPECS[queue].fifo or number % 3 else None,
            notes=Notes(attempts=number) if noted else NOTHING,
        )
        return Outgoing(message=message, delay=delay, deduplication_id=str(number if key is None else key))

    def check_received(self, taken: list[Delivery], expected: list[Row], lease: float) -> None:
        assert sorted(one.message.id for one in taken) == sorted(row.message.id for row in expected)
        by_id = {row.message.id: row for row in expected}
        receipts = {delivery.receipt for delivery, _ in self.deliveries}
        for delivery in taken:
            row = by_id[delivery.message.id]
            row.receipt, row.visible_at_ms = delivery.receipt, self.last_ms + max(1, int(lease * 1000))
            assert delivery.receipt not in receipts
            assert delivery == Delivery(
                message=row.message,
                queue=row.queue,
                receipt=delivery.receipt,
                receive_count=row.receive_count,
                sequence=row.seq if row.phase >= IN_LINE else None,
                first_received_at_ms=row.first_received_at_ms,
                deduplication_id=row.deduplication_id,
                origin=row.origin,
            )
            self.deliveries.append((delivery, row))
        places = {one.message.group: one.sequence for one in taken}
        assert [one.sequence for one in taken if one.message.group in places] == [
            one.sequence for group in dict.fromkeys(one.message.group for one in taken) for one in in_line(taken, group)
        ] or taken[0].sequence is None
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
            st.builds(
                Return,
                delivery=st.just(delivery),
                delay=seconds,
                notes=st.none() | st.just(NOTHING) | notes,
                uncounted=st.booleans(),
            ),
            st.builds(
                Forward,
                delivery=st.just(delivery),
                queue=st.sampled_from([*QUEUES, "unknown"]),
                message=changed,
                delay=st.sampled_from([0.0, 5.0, 901.0]),
            ),
        )

    def settled(self, delivery: Delivery, row: Row, settlement: Settlement, now_ms: int) -> type:
        if isinstance(settlement, Forward) and settlement.queue == "unknown":
            return QueueNotFound
        if isinstance(settlement, Forward):
            ungrouped = SPECS[settlement.queue].fifo and delivery.message.group is None
            if settlement.delay > 900 or ungrouped:
                return LimitExceeded
        if row.receipt != delivery.receipt:
            return StaleReceipt
        match settlement:
            case Acknowledge():
                self.model.leave(row)
            case Return(delay=delay, notes=noted, uncounted=uncounted):
                delay_ms = int(delay * 1000)
                self.model.hand_back(row, now_ms + delay_ms, at_once=not delay_ms, uncounted=uncounted)
                if noted is not None:
                    row.message = replace(row.message, notes=noted)
            case Forward(queue=queue, message=message, delay=delay, deduplication_id=key):
                outgoing = Outgoing(message=message, delay=delay or None, deduplication_id=key)
                self.model.forward(row, queue, outgoing, now_ms)
        return type(None)


def in_line(taken: list[Delivery], group: str | None) -> list[Delivery]:
    return sorted((one for one in taken if one.message.group == group), key=lambda one: one.sequence or 0)


def test_the_engine_agrees_with_the_model() -> None:
    """15,000 steps, other ones each time."""
    run_state_machine_as_test(AgainstAModel, settings=settings(max_examples=250, stateful_step_count=60, deadline=None))


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_the_engine_agrees_with_the_model_for_a_long_time() -> None:
    """A million steps."""
    run_state_machine_as_test(
        AgainstAModel, settings=settings(max_examples=10_000, stateful_step_count=100, deadline=None)
    )
