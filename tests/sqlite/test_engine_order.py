"""FIFO queues in the engine: which lines are free, what a receive takes from them, and when they are free again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redrive.broker import Acknowledge, Outgoing, QueueSpec, Return
from redrive.errors import LimitExceeded
from redrive.message import Notes
from tests.sqlite.driven import LEASE, Driven, bodies_of, driven

LINE = QueueSpec(name="line", fifo=True)
OTHER = QueueSpec(name="other", fifo=True)
DEAD = QueueSpec(name="dead", fifo=True)
LIMITED = QueueSpec(name="limited", fifo=True, dead_letter_queue="dead", max_receives=2)
NOTED = Notes(attempts=1)


def fill(engine: Driven, queue: str, groups: str, length: int) -> None:
    """`a1`, `a2` … of each group, group by group."""
    for group in groups:
        engine.send(queue, *(f"{group}{number + 1}" for number in range(length)), group=group)


def test_a_receive_takes_from_as_many_lines_as_it_has_room_for() -> None:
    """The same from each, as far as the limit goes; line by line in the answer, each in order."""
    with driven(LINE) as engine:
        fill(engine, "line", "abc", 3)
        assert engine.bodies("line", 6) == ["a1", "a2", "b1", "b2", "c1", "c2"]


def test_a_receive_takes_all_that_its_limit_allows_of_few_lines() -> None:
    """One line alone may give everything."""
    with driven(LINE) as engine:
        fill(engine, "line", "a", 5)
        assert engine.bodies("line", 4) == ["a1", "a2", "a3", "a4"]


def test_a_line_of_which_nothing_was_taken_is_not_locked() -> None:
    """The limit was used up by the lines before it: the next receive begins with it."""
    with driven(LINE) as engine:
        fill(engine, "line", "abc", 3)
        assert engine.bodies("line", 4) == ["a1", "a2", "b1", "b2"]
        assert engine.next_in("line") == 0
        assert engine.bodies("line", 4) == ["c1", "c2", "c3"]


def test_the_line_that_is_free_longest_comes_first() -> None:
    """Whoever was handed back stands behind those that have waited."""
    with driven(LINE) as engine:
        fill(engine, "line", "abc", 2)
        (first,) = engine.take("line", 1)
        engine.let_pass(1)
        engine.hand_back(first)
        assert engine.bodies("line", 1) == ["b1"]
        assert engine.bodies("line", 1) == ["c1"]
        assert engine.bodies("line", 1) == ["a1"]


def test_of_lines_free_equally_long_the_oldest_message_comes_first() -> None:
    """Whatever their groups are called."""
    with driven(LINE) as engine:
        fill(engine, "line", "zma", 1)
        assert [engine.bodies("line", 1) for _ in range(3)] == [["z1"], ["m1"], ["a1"]]


def test_lines_of_different_queues_know_nothing_of_each_other() -> None:
    """The same group in another queue is another line."""
    with driven(LINE, OTHER) as engine:
        fill(engine, "line", "a", 2)
        fill(engine, "other", "a", 2)
        (first,) = engine.take("line", 1)
        assert engine.bodies("other", 1) == ["a1"]
        engine.acknowledge(first)
        assert engine.bodies("line", 1) == ["a2"]
        assert engine.bodies("other", 1) == []


def test_a_group_that_stands_in_two_queues_is_two_lines() -> None:
    """Whichever came first, and whatever is settled, extended or asked for by its id."""
    with driven(LINE, OTHER) as engine:
        engine.send("other", "b1", "b2", group="a", notes=NOTED)
        engine.send("line", "a1", "a2", group="a", notes=NOTED)
        first = engine.take_one("line")
        engine.hand_back(first)
        held = engine.take_one("other", lease=3_600.0)
        assert engine.take("line", ids=["m1", "m2"]) == []
        assert bodies_of(engine.take("line", 1, ids=["m3"])) == ["a1"]
        assert engine.extend(held, lease=7_200.0) == [None]
        engine.let_pass(LEASE)
        assert engine.bodies("line", 1) == ["a1"]
        assert engine.total("other") == 2


def test_what_is_delayed_behind_the_front_does_not_hold_it() -> None:
    """A line waits for its front and for what is leased, and for nothing else."""
    with driven(LINE) as engine:
        engine.send("line", "a1", group="a")
        engine.send("line", "a2", group="a", delay=900.0)
        engine.hand_back(engine.take_one("line"))
        assert engine.next_in("line") == 0
        assert engine.bodies("line", 1) == ["a1"]


@pytest.mark.parametrize("limit", [1, 3])
def test_what_was_set_aside_holds_nobody(limit: int) -> None:
    """A damaged front leaves its line: what is behind it comes, now and later, one by one or together."""
    with driven(LINE) as engine:
        engine.send("line", "a1", "a2", group="a", notes=NOTED)
        engine.damage("a1")
        (second,) = engine.take("line", limit)
        assert second.message.body == b"a2"
        engine.hand_back(second)
        engine.send("line", "a3", group="a", notes=NOTED)
        assert engine.drain("line") == ["a2", "a3"]
        assert engine.take("line", ids=["m1"]) == []
        assert engine.seen("line") == []
        assert engine.next_in("line") is None
        assert engine.engine.damaged == [("line", "m1")]


def test_damage_that_is_found_by_an_id_is_told_with_its_queue() -> None:
    """And its line goes on."""
    with driven(LINE) as engine:
        engine.send("line", "a1", "a2", group="a", notes=NOTED)
        engine.damage("a1")
        assert engine.take("line", ids=["m1"]) == []
        assert engine.engine.damaged == [("line", "m1")]
        assert engine.bodies("line", 1) == ["a2"]


def test_a_lock_ends_in_the_very_millisecond_in_which_the_lease_does() -> None:
    """Not one before."""
    with driven(LINE) as engine:
        fill(engine, "line", "a", 2)
        engine.take("line", 1, lease=1.0)
        engine.let_pass(0.999)
        assert engine.next_in("line") == 0.001
        assert engine.take("line") == []
        engine.let_pass(0.001)
        assert engine.bodies("line", 1) == ["a1"]


def test_a_lock_lasts_as_long_as_the_longest_lease_in_its_line() -> None:
    """One of two is extended: both wait for it, and the first one comes first."""
    with driven(LINE) as engine:
        fill(engine, "line", "a", 3)
        _, second = engine.take("line", 2, lease=1.0)
        assert engine.extend(second, lease=5.0) == [None]
        assert engine.next_in("line") == 5
        engine.let_pass(4.999)
        assert engine.take("line") == []
        engine.let_pass(0.001)
        assert engine.bodies("line") == ["a1", "a2", "a3"]


def test_what_is_settled_by_a_stale_receipt_does_not_end_a_lock() -> None:
    """Neither acknowledge, return nor extension of the holder before."""
    with driven(LINE) as engine:
        fill(engine, "line", "a", 2)
        (before,) = engine.take("line", 1, lease=1.0)
        engine.let_pass(1)
        engine.take("line", 1)
        results = [*engine.settle(Acknowledge(delivery=before)), *engine.settle(Return(delivery=before))]
        assert None not in [*results, *engine.extend(before, lease=0.001)]
        engine.let_pass(1)
        assert engine.take("line") == []


def test_a_delayed_message_holds_what_is_behind_it() -> None:
    """Sent with a delay, it keeps its place: the one sent after it without one waits for it."""
    with driven(LINE) as engine:
        engine.send("line", "late", group="a", delay=5.0)
        engine.send("line", "soon", group="a")
        assert engine.next_in("line") == 5
        assert engine.take("line") == []
        engine.let_pass(5)
        assert engine.bodies("line") == ["late", "soon"]


def test_a_receive_stops_before_the_first_whose_time_has_not_come() -> None:
    """Nobody overtakes it, also not within one answer."""
    with driven(LINE) as engine:
        engine.send("line", "a1", group="a")
        engine.send("line", "a2", group="a", delay=5.0)
        engine.send("line", "a3", group="a")
        first = engine.take("line")
        assert bodies_of(first) == ["a1"]
        engine.acknowledge(*first)
        assert engine.next_in("line") == 5
        engine.let_pass(5)
        assert engine.bodies("line") == ["a2", "a3"]


def test_what_is_in_line_is_counted_as_what_it_is() -> None:
    """Ready is what may be received once its turn has come; in flight and delayed are the others."""
    with driven(LINE) as engine:
        fill(engine, "line", "ab", 2)
        engine.send("line", "c1", group="c", delay=5.0)
        engine.take("line", 1)
        depth = engine.depth("line")
        assert (depth.ready, depth.in_flight, depth.delayed) == (3, 1, 1)
        engine.let_pass(LEASE)
        depth = engine.depth("line")
        assert (depth.ready, depth.in_flight, depth.delayed) == (5, 0, 0)
        assert engine.total("line") == 5


def test_an_empty_queue_has_no_next_message() -> None:
    """Before the first one, and after the last one was handled, purged or moved."""
    with driven(LINE, OTHER) as engine:
        assert engine.next_in("line") is None
        fill(engine, "line", "ab", 1)
        assert engine.next_in("line") == 0
        engine.forward(engine.take_one("line"), "other")
        assert engine.next_in("other") == 0
        engine.acknowledge(*engine.take("line"))
        assert engine.next_in("line") is None
        assert engine.count_of("line") == 1
        engine.do(lambda one: one.purge("other"))
        assert engine.next_in("other") is None
        assert engine.count_of("line") == 0


def test_a_message_is_found_by_its_id_wherever_it_stands_in_a_free_line() -> None:
    """One that carries notes; the line is locked by it, and what it left behind keeps its order."""
    with driven(LINE) as engine:
        engine.send("line", "a1", "a2", "a3", group="a", notes=NOTED)
        engine.send("line", "b1", group="b")
        taken = engine.take("line", ids=["m2"])
        assert bodies_of(taken) == ["a2"]
        assert taken[0].receive_count == 1
        assert engine.take("line", ids=["m1", "m2", "m3"]) == []
        assert engine.bodies("line") == ["b1"]
        engine.acknowledge(*taken)
        assert engine.bodies("line") == ["a1", "a3"]


def test_another_group_in_flight_hides_nothing_from_a_search_by_id() -> None:
    """Only its own line does."""
    with driven(LINE) as engine:
        engine.send("line", "b1", group="b")
        engine.send("line", "a1", group="a", notes=NOTED)
        assert engine.bodies("line", 1) == ["b1"]
        assert bodies_of(engine.take("line", ids=["m2"])) == ["a1"]


@pytest.mark.parametrize("queue", ["line", "plain"])
def test_of_two_copies_with_one_id_the_older_one_comes_first(queue: str) -> None:
    """Forwarding is at least once elsewhere: copies may meet here."""
    with driven(LINE, QueueSpec(name="plain")) as engine:
        first = replace(engine.message("older", "a", NOTED), id="same")
        second = replace(engine.message("younger", "a", NOTED), id="same")
        outgoing = [Outgoing(message=one, deduplication_id=one.body.decode()) for one in (first, second)]
        engine.do(lambda it: it.send(queue, outgoing, engine.now_ms))
        (taken,) = engine.take(queue, 1, ids=["same", "same"])
        assert taken.message.body == b"older"
        engine.hand_back(taken)
        assert sorted(bodies_of(engine.take(queue, ids=["same"]))) == ["older", "younger"]


def test_a_message_in_line_without_notes_is_not_found_by_its_id() -> None:
    """As on a standard queue: what never failed has no entry in the index of ids."""
    with driven(LINE) as engine:
        engine.send("line", "a1", group="a")
        assert engine.take("line", ids=["m1"]) == []


def test_an_ended_lease_lets_a_message_be_found_by_its_id() -> None:
    """In the millisecond in which it ends; delayed ones are found as well, and all of one line at once."""
    with driven(LINE) as engine:
        engine.send("line", "a1", "a2", group="a", notes=NOTED)
        engine.send("line", "b1", group="b", notes=NOTED, delay=60.0)
        engine.take("line", 1, lease=1.0)
        engine.let_pass(0.999)
        assert engine.take("line", ids=["m2"]) == []
        engine.let_pass(0.001)
        assert bodies_of(engine.take("line", ids=["m3", "m2", "m1"])) == ["a1", "a2", "b1"]


def test_ids_of_a_line_are_looked_for_up_to_the_limit() -> None:
    """Those beyond stay free."""
    with driven(LINE) as engine:
        for group in "abc":
            engine.send("line", f"{group}1", group=group, notes=NOTED)
        assert sorted(bodies_of(engine.take("line", 2, ids=["m3", "m1", "m2"]))) == ["a1", "c1"]
        assert engine.bodies("line") == ["b1"]


def test_a_message_received_too_often_by_its_id_is_moved_too() -> None:
    """The way in which it is received does not matter; its line is free afterwards."""
    with driven(DEAD, LIMITED) as engine:
        engine.send("limited", "a1", "a2", group="a", notes=NOTED)
        for _ in range(2):
            (taken,) = engine.take("limited", ids=["m1"])
            engine.hand_back(taken)
        assert engine.take("limited", ids=["m1"]) == []
        assert engine.bodies("dead") == ["a1"]
        assert engine.bodies("limited") == ["a2"]


def test_what_takes_the_place_of_dead_letters_comes_with_the_same_receive() -> None:
    """Each message of a line gets its own count of receives, and its dead letters keep their order."""
    with driven(DEAD, LIMITED) as engine:
        engine.send("limited", "a1", "a2", group="a")
        for _ in range(2):
            assert engine.bodies("limited") == ["a1", "a2"]
            engine.let_pass(LEASE)
        engine.send("limited", "a3", group="a")
        taken = engine.take("limited")
        assert [(one.message.body, one.receive_count) for one in taken] == [(b"a3", 1)]
        assert engine.bodies("dead") == ["a1", "a2"]
        assert engine.take("limited") == []


def test_a_dead_letter_queue_that_is_gone_gives_nobody_up() -> None:
    """Its sources hand out on, until there is one again."""
    with driven(DEAD, LIMITED) as engine:
        engine.send("limited", "a1", group="a")
        engine.do(lambda one: one.delete("dead"))
        for count in range(1, 5):
            (taken,) = engine.take("limited")
            assert taken.receive_count == count
            engine.hand_back(taken)
        engine.declare(DEAD)
        assert engine.take("limited") == []
        assert engine.bodies("dead") == ["a1"]


def test_an_uncounted_return_takes_the_receive_back() -> None:
    """As if it had not been: the message gets all of its receives."""
    with driven(DEAD, LIMITED) as engine:
        engine.send("limited", "a1", group="a")
        for uncounted, count in ((True, 1), (True, 1), (False, 1), (True, 2), (False, 2)):
            (taken,) = engine.take("limited")
            assert taken.receive_count == count
            engine.hand_back(taken, uncounted=uncounted)
        assert engine.take("limited") == []
        assert engine.bodies("dead") == ["a1"]


def test_a_crash_keeps_places_and_locks() -> None:
    """What was received stays received, what was not committed was not sent, and the next one stays behind."""
    with driven(LINE, on_file=True) as engine:
        fill(engine, "line", "a", 2)
        (first,) = engine.take("line", 1)
        engine.connection.execute("BEGIN IMMEDIATE")
        engine.engine.settle([Acknowledge(delivery=first)], engine.now_ms)
        engine.crash()
        assert engine.take("line") == []
        engine.acknowledge(first)
        assert engine.bodies("line") == ["a2"]


def test_numbers_are_never_used_again() -> None:
    """Invariant 9: not after the last one was handled, not after a purge, not after a crash."""
    with driven(LINE, on_file=True) as engine:
        numbers = [engine.sent("line", "a1").sequence]
        engine.acknowledge(*engine.take("line"))
        numbers.append(engine.sent("line", "a2").sequence)
        engine.do(lambda one: one.purge("line"))
        numbers.append(engine.sent("line", "a3").sequence)
        engine.do(lambda one: one.purge("line"))
        engine.crash()
        numbers.append(engine.sent("line", "a4").sequence)
        assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("group", [None, "", "g" * 129, "with space", "é"])
def test_a_group_that_cannot_be_is_refused(group: str | None) -> None:
    """On a FIFO queue: none, an empty one, one of over 128 characters or of others; nothing of it is there."""
    with driven(LINE) as engine:
        (refused,) = engine.send("line", "x", group=group)
        assert isinstance(refused, LimitExceeded)
        assert str(refused).startswith("group")
        assert engine.total("line") == 0


def test_a_group_may_have_128_characters() -> None:
    """The longest there is."""
    with driven(LINE) as engine:
        engine.send("line", "x", group="g" * 128)
        assert engine.bodies("line") == ["x"]
