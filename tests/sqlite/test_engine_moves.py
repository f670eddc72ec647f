"""Message move tasks in the engine.

Source: Amazon SQS, StartMessageMoveTask, ListMessageMoveTasks, CancelMessageMoveTask.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from typing_extensions import override

from redrive.broker import Forward, QueueSpec
from redrive.errors import LimitExceeded, QueueConflict, QueueNotFound
from redrive.message import Failure, Notes
from redrive.sqlite.engine import Engine
from redrive.sqlite.queues import Queue
from redrive.sqlite.rows import Row
from tests.sqlite.driven import BEGIN_MS, LEASE, Driven, bodies_of, driven

DEAD = QueueSpec(name="dead")
ONE = QueueSpec(name="one", dead_letter_queue="dead", max_receives=1)
TWO = QueueSpec(name="two", dead_letter_queue="dead", max_receives=1)
OTHER = QueueSpec(name="other")
LINE_DEAD = QueueSpec(name="line-dead", fifo=True)
LINE = QueueSpec(name="line", fifo=True, dead_letter_queue="line-dead", max_receives=1)
ALL = (DEAD, ONE, TWO, OTHER, LINE_DEAD, LINE)


def die(engine: Driven, queue: str, *bodies: str, group: str | None = None) -> None:
    """Send, and receive too often."""
    engine.send(queue, *bodies, group=group)
    engine.take(queue, 1_000, lease=0.0)
    engine.let_pass(0.001)
    assert engine.take(queue) == []


# Where to


def test_dead_letters_go_back_to_where_they_died() -> None:
    """Each to its own queue, in the order in which they are received, for a new start."""
    with driven(*ALL) as engine:
        die(engine, "one", "1a", "1b")
        die(engine, "two", "2a")
        engine.start_move("dead")
        assert engine.move() is None
        assert engine.total("dead") == 0
        taken = engine.take("one")
        assert [(one.message.body, one.receive_count) for one in taken] == [(b"1a", 1), (b"1b", 1)]
        assert engine.bodies("two") == ["2a"]


def test_dead_letters_go_where_the_task_says() -> None:
    """All of them, whichever queue they come from."""
    with driven(*ALL) as engine:
        die(engine, "one", "1a")
        die(engine, "two", "2a")
        engine.start_move("dead", "other")
        engine.move()
        assert engine.bodies("other") == ["1a", "2a"]
        assert [engine.total(queue) for queue in ("dead", "one", "two")] == [0, 0, 0]


def test_what_a_worker_gave_up_goes_back_as_well() -> None:
    """A forward into a queue's own dead-letter queue is a death like the broker's own."""
    with driven(*ALL) as engine:
        engine.send("one", "x")
        engine.forward(engine.take_one("one"), "dead")
        engine.start_move("dead")
        engine.move()
        assert engine.bodies("one") == ["x"]


def test_a_moved_message_keeps_its_history_and_begins_to_count_anew() -> None:
    """Body, id, group and send time are as they were; counters are zero, and the failure record stays."""
    noted = Notes(attempts=3, bounces=2, crashes=1, forwards=4).noting(Failure(at_ms=5, kind="raised"), reason="why")
    with driven(*ALL) as engine:
        engine.send("one", "x", group="g", notes=noted)
        (taken,) = engine.take("one")
        engine.forward(taken, "dead")
        engine.let_pass(7)
        engine.start_move("dead")
        engine.move()
        (again,) = engine.take("one")
        fresh = replace(noted, attempts=0, bounces=0, crashes=0, redriven_at_ms=BEGIN_MS + 7_000)
        assert again.message == replace(taken.message, notes=fresh)


def test_a_message_without_notes_gets_none() -> None:
    """There is no history to keep."""
    with driven(*ALL) as engine:
        engine.send("one", "x")
        (taken,) = engine.take("one")
        engine.forward(taken, "dead")
        engine.start_move("dead")
        engine.move()
        (again,) = engine.take("one")
        assert again.message == taken.message


def test_a_destinations_own_settings_count() -> None:
    """Its delay, and its retention from the move on."""
    held = QueueSpec(name="held", delay=10.0, retention=60.0)
    with driven(*ALL, held) as engine:
        die(engine, "one", "x")
        engine.start_move("dead", "held")
        engine.move()
        assert engine.take("held") == []
        engine.let_pass(10)
        assert engine.bodies("held") == ["x"]
        engine.let_pass(50)
        assert engine.total("held") == 0


def test_a_line_is_moved_in_order() -> None:
    """Behind what is in the other queue already, group by group."""
    with driven(*ALL) as engine:
        die(engine, "line", "a1", "a2", "a3", group="a")
        engine.send("line", "a4", group="a")
        engine.start_move("line-dead")
        while engine.move() is not None:
            engine.let_pass(1)
        assert engine.drain("line") == ["a4", "a1", "a2", "a3"]
        assert engine.next_in("line-dead") is None


def test_a_line_moved_slowly_keeps_its_order() -> None:
    """One a second, and the next one only after it."""
    with driven(*ALL) as engine:
        die(engine, "line", "a1", "a2", "a3", group="a")
        engine.start_move("line-dead", rate=1)
        for moved in (1, 2, 3):
            engine.move()
            assert engine.total("line") == moved
            engine.let_pass(1)
        assert engine.drain("line") == ["a1", "a2", "a3"]


def test_what_is_in_flight_waits_for_its_holder() -> None:
    """The task goes on once it is back; a line waits as a whole."""
    with driven(*ALL) as engine:
        die(engine, "line", "a1", "a2", group="a")
        die(engine, "one", "x", "y")
        (held,) = engine.take("dead", 1)
        (first,) = engine.take("line-dead", 1)
        engine.start_move("dead")
        engine.start_move("line-dead")
        engine.move()
        assert (engine.total("one"), engine.total("line")) == (1, 0)
        assert [task.status for queue in ("dead", "line-dead") for task in engine.moves(queue)] == ["RUNNING"] * 2
        engine.hand_back(held)
        engine.hand_back(first)
        engine.move()
        assert sorted(engine.drain("one")) == ["x", "y"]
        assert engine.drain("line") == ["a1", "a2"]


def test_what_is_acknowledged_meanwhile_is_not_moved() -> None:
    """The task ends when there is nothing left."""
    with driven(*ALL) as engine:
        die(engine, "one", "x", "y")
        (held,) = engine.take("dead", 1)
        engine.start_move("dead")
        engine.acknowledge(held)
        assert engine.move() is None
        (task,) = engine.moves("dead")
        assert (task.status, task.moved, task.to_move) == ("COMPLETED", 1, 2)


# How many


def test_a_task_moves_as_many_as_there_were() -> None:
    """What dies meanwhile is for the next one."""
    with driven(*ALL) as engine:
        die(engine, "one", "1", "2")
        engine.start_move("dead", "other", rate=1)
        die(engine, "one", "3")
        assert engine.move() is not None
        engine.let_pass(1)
        assert engine.move() is None
        assert engine.bodies("other") == ["1", "2"]
        assert engine.bodies("dead") == ["3"]
        (task,) = engine.moves("dead")
        assert (task.status, task.moved, task.to_move) == ("COMPLETED", 2, 2)


def test_a_fast_task_moves_as_many_as_there_were_too() -> None:
    """Its last step is no larger than what is left of them."""
    with driven(*ALL) as engine:
        die(engine, "one", *map(str, range(600)))
        engine.start_move("dead")
        engine.move()
        die(engine, "two", *map(str, range(300)))
        assert engine.move() is None
        assert (engine.total("one"), engine.total("two"), engine.total("dead")) == (600, 0, 300)


def test_a_task_of_an_empty_queue_moves_nothing_that_dies_later() -> None:
    """It is over before."""
    with driven(*ALL) as engine:
        engine.start_move("dead")
        die(engine, "one", "x")
        assert engine.move() is None
        assert engine.total("dead") == 1


def test_a_damaged_message_is_not_moved() -> None:
    """It is set aside and told of; the task goes on without it."""
    with driven(*ALL) as engine:
        die(engine, "one", "1", "2")
        engine.damage("1")
        engine.start_move("dead")
        engine.move()
        assert engine.bodies("one") == ["2"]
        assert [queue for queue, _ in engine.engine.damaged] == ["dead"]


def test_a_task_that_gets_nothing_although_something_is_there_looks_again_in_a_moment() -> None:
    """It does not turn in a circle."""

    class Stuck(Engine):
        @override
        def take_to_move(self, source: Queue, limit: int, now_ms: int) -> list[Row]:
            return []

    with driven(*ALL) as engine:
        die(engine, "one", "x")
        engine.engine = Stuck(engine.connection)
        engine.start_move("dead")
        assert engine.move() == 0.1


def test_what_falls_back_is_not_moved_twice_by_one_task() -> None:
    """A message that dies again at once does not keep the task running for ever."""
    with driven(*ALL) as engine:
        die(engine, "one", "x")
        engine.start_move("dead")
        assert engine.move() is None
        engine.take("one", lease=0.0)
        engine.let_pass(0.001)
        assert engine.take("one") == []
        assert engine.move() is None
        assert engine.bodies("dead") == ["x"]


def test_an_empty_queue_is_moved_at_once() -> None:
    """There is nothing to do."""
    with driven(*ALL) as engine:
        engine.start_move("dead")
        assert engine.move() is None
        (task,) = engine.moves("dead")
        assert (task.status, task.moved, task.to_move) == ("COMPLETED", 0, 0)


def test_without_a_rate_500_go_at_once() -> None:
    """So that no transaction takes long; the next ones are due at once."""
    with driven(*ALL) as engine:
        die(engine, "one", *map(str, range(1_000)))
        die(engine, "one", "last")
        engine.start_move("dead")
        assert engine.move() == 0
        assert engine.total("one") == 500
        assert engine.move() == 0
        assert engine.total("one") == 1_000
        assert engine.move() is None
        assert (engine.total("one"), engine.total("dead")) == (1_001, 0)


def test_a_rate_is_kept() -> None:
    """The first one goes at once, and the others when their time has come: not a millisecond earlier."""
    with driven(*ALL) as engine:
        die(engine, "one", *map(str, range(9)))
        engine.start_move("dead", rate=2)
        assert engine.move() == 0.5
        assert engine.total("one") == 1
        engine.let_pass(0.499)
        assert engine.move() == pytest.approx(0.001, abs=0.001)
        assert engine.total("one") == 1
        engine.let_pass(0.001)
        engine.move()
        assert engine.total("one") == 2
        engine.let_pass(1)
        engine.move()
        assert engine.total("one") == 4


def test_a_pause_is_not_made_up_for_by_a_burst() -> None:
    """After a night in which nobody ran, one second's worth goes at once."""
    with driven(*ALL) as engine:
        die(engine, "one", *map(str, range(50)))
        engine.start_move("dead", rate=5)
        engine.move()
        engine.let_pass(36_000)
        engine.move()
        assert engine.total("one") == 1 + 6
        engine.let_pass(1)
        engine.move()
        assert engine.total("one") == 12


def test_a_rate_that_is_no_whole_number_of_milliseconds_is_kept_in_the_long_run() -> None:
    """Three a second: thirty in ten seconds, and the one at the beginning."""
    with driven(*ALL) as engine:
        die(engine, "one", *map(str, range(50)))
        engine.start_move("dead", rate=3)
        for _ in range(10_001):
            engine.move()
            engine.let_pass(0.001)
        assert engine.total("one") == 31


def test_who_asks_too_early_is_told_when() -> None:
    """And nothing is moved; when several tasks run, the first of them counts."""
    with driven(*ALL) as engine:
        die(engine, "one", "x", "y")
        die(engine, "line", "a1", "a2", group="a")
        engine.start_move("dead", rate=1)
        engine.let_pass(0.25)
        engine.start_move("line-dead", rate=1)
        assert engine.move() == pytest.approx(0.75)
        again = engine.move()
        assert again is not None
        assert 0.75 <= again <= 0.751


def test_a_task_whose_messages_are_all_in_flight_looks_again() -> None:
    """Once a second, for who holds it may hand it back before its lease ends; never in a busy loop."""
    with driven(*ALL) as engine:
        die(engine, "one", "x")
        engine.take("dead")
        engine.start_move("dead")
        assert engine.move() == 1
        engine.let_pass(LEASE)
        assert engine.move() is None
        assert engine.bodies("one") == ["x"]


# Refusals


def test_only_a_dead_letter_queue_can_be_moved_from() -> None:
    """One that is some queue's, as Amazon SQS has it; nothing is begun otherwise."""
    with driven(*ALL) as engine:
        with pytest.raises(QueueConflict, match="'other' is no queue's dead-letter queue"):
            engine.start_move("other", "one")
        assert engine.moves("other") == []
        assert engine.count_of("move_task") == 0


@pytest.mark.parametrize(
    ("source", "destination", "error", "words"),
    [
        ("dead", "dead", QueueConflict, "'dead' cannot be moved to itself"),
        ("dead", "line", QueueConflict, "'line' is not of the kind of 'dead'"),
        ("line-dead", "one", QueueConflict, "'one' is not of the kind of 'line-dead'"),
        ("dead", "unknown", QueueNotFound, "'unknown'"),
        ("unknown", None, QueueNotFound, "'unknown'"),
    ],
)
def test_queues_that_do_not_fit_are_refused(
    source: str, destination: str | None, error: type[Exception], words: str
) -> None:
    """By name, before anything is begun."""
    with driven(*ALL) as engine:
        with pytest.raises(error, match=words):
            engine.start_move(source, destination)
        assert engine.count_of("move_task") == 0


@pytest.mark.parametrize("rate", [0, -1, 501])
def test_a_rate_out_of_range_is_refused(rate: int) -> None:
    """1 to 500 messages a second."""
    with driven(*ALL) as engine:
        with pytest.raises(LimitExceeded, match="rate"):
            engine.start_move("dead", rate=rate)
        for fine in (1, 500):
            engine.cancel(engine.start_move("dead", rate=fine))


def test_one_task_is_active_for_a_source() -> None:
    """The next one may begin when it is over; another source is another matter."""
    with driven(*ALL) as engine:
        die(engine, "one", "x")
        first = engine.start_move("dead", rate=1)
        with pytest.raises(QueueConflict, match=first):
            engine.start_move("dead")
        engine.start_move("line-dead")
        engine.move()
        assert engine.start_move("dead") != first


# Cancelling, failing


def test_a_cancelled_task_moves_nothing_more() -> None:
    """What it moved stays moved, and it says how many that were; it cannot be cancelled twice."""
    with driven(*ALL) as engine:
        die(engine, "one", "1", "2", "3")
        task = engine.start_move("dead", rate=1)
        engine.move()
        engine.let_pass(1)
        engine.move()
        other = engine.start_move("line-dead", rate=1)
        assert engine.cancel(task) == 2
        assert [one.status for one in engine.moves("line-dead")] == ["RUNNING"]
        assert engine.cancel(other) == 0
        engine.let_pass(10)
        assert engine.move() is None
        assert (engine.total("one"), engine.total("dead")) == (2, 1)
        assert [(one.status, one.moved) for one in engine.moves("dead")] == [("CANCELLED", 2)]
        for unknown in (task, "unknown"):
            with pytest.raises(LimitExceeded, match=f"move task.*{unknown}"):
                engine.cancel(unknown)


def test_a_task_that_is_over_cannot_be_cancelled() -> None:
    """Nor does that change what became of it."""
    with driven(*ALL) as engine:
        task = engine.start_move("dead")
        engine.move()
        with pytest.raises(LimitExceeded, match=task):
            engine.cancel(task)
        assert [one.status for one in engine.moves("dead")] == ["COMPLETED"]


def test_a_destination_that_vanishes_fails_the_task() -> None:
    """It says why, and nothing is lost: what was not moved is where it was, uncounted."""
    with driven(*ALL) as engine:
        die(engine, "one", "1", "2")
        engine.start_move("dead", "other", rate=1)
        engine.move()
        engine.do(lambda it: it.delete("other"))
        engine.let_pass(1)
        assert engine.move() is None
        (task,) = engine.moves("dead")
        assert (task.status, task.moved) == ("FAILED", 1)
        assert "'other'" in str(task.failure)
        (left,) = engine.take("dead")
        assert (left.message.body, left.receive_count) == (b"2", 1)


def test_a_source_that_vanishes_fails_the_task() -> None:
    """There is nothing to move any more, and no one to tell but the list of a queue of that name."""
    with driven(*ALL) as engine:
        die(engine, "one", "1")
        engine.start_move("dead", rate=1)
        engine.do(lambda it: it.delete("dead"))
        assert engine.move() is None
        engine.declare(DEAD)
        assert [one.status for one in engine.moves("dead")] == ["FAILED"]


def test_a_message_that_died_nowhere_fails_a_task_without_a_destination() -> None:
    """It is named, those before it are moved, and those from it on stay, uncounted and free."""
    with driven(*ALL) as engine:
        die(engine, "one", "1")
        engine.send("dead", "stray")
        die(engine, "one", "3")
        engine.start_move("dead")
        assert engine.move() is None
        (task,) = engine.moves("dead")
        assert (task.status, task.moved) == ("FAILED", 1)
        assert "'m2'" in str(task.failure)
        assert engine.bodies("one") == ["1"]
        assert [(one.message.body, one.receive_count) for one in engine.take("dead")] == [(b"stray", 1), (b"3", 1)]


def test_a_message_that_came_from_elsewhere_is_no_dead_letter() -> None:
    """A forward from a queue whose dead-letter queue is another one."""
    with driven(*ALL) as engine:
        engine.send("other", "x")
        engine.forward(engine.take_one("other"), "dead")
        engine.start_move("dead")
        engine.move()
        assert [one.status for one in engine.moves("dead")] == ["FAILED"]
        assert engine.total("other") == 0


def test_a_source_that_was_deleted_fails_a_task_without_a_destination() -> None:
    """A new queue of its name is another queue."""
    with driven(*ALL) as engine:
        die(engine, "one", "1")
        engine.do(lambda it: it.delete("one"))
        engine.declare(ONE)
        engine.start_move("dead")
        engine.move()
        assert [one.status for one in engine.moves("dead")] == ["FAILED"]
        assert (engine.total("one"), engine.total("dead")) == (0, 1)


def test_a_line_whose_move_failed_is_free_again() -> None:
    """In its order."""
    with driven(*ALL) as engine:
        engine.send("line-dead", "a1", "a2", group="a")
        engine.start_move("line-dead")
        engine.move()
        assert engine.next_in("line-dead") == 0
        assert engine.drain("line-dead") == ["a1", "a2"]


def test_a_failed_task_does_not_stop_the_others() -> None:
    """Each goes on for itself."""
    with driven(*ALL) as engine:
        engine.send("dead", "stray")
        die(engine, "line", "a1", group="a")
        engine.start_move("dead")
        engine.start_move("line-dead")
        engine.move()
        assert engine.bodies("line") == ["a1"]
        assert [engine.moves(queue)[0].status for queue in ("dead", "line-dead")] == ["FAILED", "COMPLETED"]


# Listing, crashing


def test_tasks_are_listed_newest_first() -> None:
    """With all that is known of each, those of one source only; at most ten are kept."""
    with driven(*ALL) as engine:
        die(engine, "one", "x")
        begun = []
        for number in range(12):
            engine.let_pass(1)
            begun.append(engine.start_move("dead", "other" if number == 11 else None, rate=number + 1))
            engine.cancel(begun[-1]) if number < 11 else engine.move()
        engine.start_move("line-dead")
        listed = engine.moves("dead")
        assert [one.id for one in listed] == begun[:1:-1]
        newest = listed[0]
        assert (newest.source, newest.destination, newest.rate) == ("dead", "other", 12)
        assert (newest.status, newest.moved, newest.to_move) == ("COMPLETED", 1, 1)
        assert newest.started_at_ms == engine.now_ms
        assert newest.failure is None
        assert (listed[1].destination, listed[1].rate, listed[1].status) == (None, 11, "CANCELLED")
        assert [one.id for one in engine.engine.moves.list("dead", 3)] == begun[:-4:-1]
        assert len(engine.moves("line-dead")) == 1
        assert engine.count_of("move_task") == 11
        with pytest.raises(QueueNotFound, match="unknown"):
            engine.moves("unknown")


def test_each_source_keeps_ten_tasks_of_its_own() -> None:
    """However many another one has."""
    with driven(*ALL) as engine:
        for _ in range(12):
            for source in ("dead", "line-dead"):
                engine.cancel(engine.start_move(source))
        assert [len(engine.moves(source)) for source in ("dead", "line-dead")] == [10, 10]
        assert engine.count_of("move_task") == 20
        engine.start_move("dead")
        assert [len(engine.moves(source)) for source in ("dead", "line-dead")] == [10, 10]


def test_ids_of_tasks_are_their_own() -> None:
    """Long and random: nobody guesses another's."""
    with driven(*ALL) as engine:
        ids = set()
        for _ in range(5):
            ids.add(engine.start_move("dead"))
            engine.move()
        assert len(ids) == 5
        assert all(len(one) == 32 for one in ids)


def test_a_crash_neither_loses_nor_doubles_a_step() -> None:
    """A step is moved and counted in one transaction: before the commit nothing of it happened, after it all."""
    with driven(*ALL, on_file=True) as engine:
        die(engine, "one", *map(str, range(10)))
        engine.start_move("dead", rate=2)
        for step in range(40):
            engine.connection.execute("BEGIN IMMEDIATE")
            engine.engine.move(engine.now_ms)
            if step % 3:
                engine.connection.execute("COMMIT")
            engine.crash()
            (task,) = engine.moves("dead")
            assert engine.total("one") == task.moved
            assert engine.total("one") + engine.total("dead") == 10
            engine.let_pass(0.5)
        assert [task.status for task in engine.moves("dead")] == ["COMPLETED"]
        assert sorted(bodies_of(engine.take("one"))) == sorted(map(str, range(10)))


def test_a_task_goes_on_after_a_crash_at_its_rate() -> None:
    """Its clock is in the database."""
    with driven(*ALL, on_file=True) as engine:
        die(engine, "one", "1", "2", "3")
        engine.start_move("dead", rate=1)
        engine.move()
        engine.crash()
        engine.let_pass(0.5)
        engine.move()
        assert engine.total("one") == 1
        engine.let_pass(0.5)
        engine.move()
        assert engine.total("one") == 2


def test_what_a_move_leaves_somewhere_wakes_who_waits_there() -> None:
    """The destination is among the queues that became ready."""
    with driven(*ALL) as engine:
        die(engine, "one", "x")
        engine.engine.became_ready.clear()
        engine.start_move("dead", "other")
        engine.move()
        assert "other" in engine.engine.became_ready


def test_a_dead_letter_that_is_edited_on_its_way_keeps_its_origin() -> None:
    """Forwarded from its queue into the dead-letter queue under another body, it goes back with that."""
    with driven(*ALL) as engine:
        engine.send("one", "before")
        (taken,) = engine.take("one")
        edited = replace(taken.message, body=b"after")
        assert engine.settle(Forward(delivery=taken, queue="dead", message=edited)) == [None]
        engine.start_move("dead")
        engine.move()
        assert engine.bodies("one") == ["after"]
