"""How long queues keep messages, and what a dead letter's time is counted from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redrive.broker import Acknowledge, QueueSpec
from redrive.errors import StaleReceipt
from tests.sqlite.driven import LEASE, driven

KEEPS = QueueSpec(name="keeps")
BRIEF = QueueSpec(name="brief", retention=60.0)
LINE = QueueSpec(name="line", fifo=True, retention=60.0)
DAY = 86_400.0


def test_a_message_is_gone_in_the_millisecond_in_which_its_retention_ends() -> None:
    """Not one before; it is not received, not counted and not seen."""
    with driven(KEEPS, BRIEF) as engine:
        engine.send("brief", "x")
        engine.send("keeps", "y")
        engine.let_pass(59.999)
        assert engine.total("brief") == 1
        engine.let_pass(0.001)
        assert engine.take("brief") == []
        assert engine.total("brief") == 0
        assert engine.seen("brief") == []
        assert engine.total("keeps") == 1


@pytest.mark.parametrize("queue", ["brief", "line"])
def test_a_receive_that_is_the_first_to_look_gets_nothing_that_is_over(queue: str) -> None:
    """Nobody has to sweep before."""
    with driven(BRIEF, LINE) as engine:
        engine.send(queue, "x", group="a")
        engine.let_pass(60)
        assert engine.take(queue) == []


def test_what_is_in_flight_is_gone_too() -> None:
    """Its holder is told that his receipt is stale."""
    with driven(BRIEF) as engine:
        engine.send("brief", "x")
        (taken,) = engine.take("brief", lease=3_600.0)
        engine.let_pass(60)
        assert engine.total("brief") == 0
        assert [type(one) for one in engine.settle(Acknowledge(delivery=taken))] == [StaleReceipt]


def test_a_return_does_not_make_a_message_younger() -> None:
    """Nor does a delay: its retention counts from when it entered."""
    with driven(BRIEF) as engine:
        engine.send("brief", "x")
        engine.let_pass(50)
        engine.hand_back(engine.take_one("brief"), delay=20.0)
        engine.let_pass(10)
        assert engine.total("brief") == 0


def test_a_forward_makes_a_message_as_young_as_a_new_one() -> None:
    """It enters the other queue, whose retention counts from then."""
    with driven(KEEPS, BRIEF) as engine:
        engine.send("keeps", "x")
        engine.let_pass(DAY)
        engine.forward(engine.take_one("keeps"), "brief")
        engine.let_pass(59.999)
        assert engine.total("brief") == 1
        engine.let_pass(0.001)
        assert engine.total("brief") == 0


def test_a_line_is_free_again_once_its_front_is_over() -> None:
    """In flight or delayed, it holds nobody beyond its retention."""
    with driven(LINE) as engine:
        engine.send("line", "a1", group="a")
        engine.send("line", "b1", group="b", delay=900.0)
        engine.take("line", lease=3_600.0)
        engine.let_pass(30)
        engine.send("line", "a2", group="a")
        engine.send("line", "b2", group="b")
        engine.let_pass(29.999)
        assert engine.take("line") == []
        engine.let_pass(0.001)
        assert sorted(engine.bodies("line")) == ["a2", "b2"]


def test_a_line_of_which_everything_is_over_is_no_more() -> None:
    """What is sent later begins a new one."""
    with driven(LINE) as engine:
        engine.send("line", "a1", group="a", delay=900.0)
        engine.let_pass(60)
        engine.do(lambda it: it.expire(engine.now_ms))
        assert engine.next_in("line") is None
        engine.send("line", "a2", group="a")
        assert engine.bodies("line") == ["a2"]


def test_expiry_deletes_some_hundreds_at_once() -> None:
    """Those that are over longest first, so that no call takes long; the rest goes with the next calls."""
    with driven(BRIEF) as engine:
        engine.send("brief", *("old" for _ in range(501)))
        engine.let_pass(1)
        engine.send("brief", "young")
        engine.let_pass(60)
        assert engine.do(lambda it: it.expire(engine.now_ms)) == 500
        assert [one.body for one in engine.seen("brief")] == [b"old", b"young"]
        assert [engine.do(lambda it: it.expire(engine.now_ms)) for _ in range(2)] == [2, 0]


def test_time_in_which_nobody_ran_does_not_count() -> None:
    """A broker that was down for a month has lost nothing when it is up again."""
    with driven(KEEPS, BRIEF) as engine:
        engine.send("brief", "x")
        engine.send("keeps", "y")
        engine.let_pass(31 * DAY)
        engine.do(lambda it: it.postpone_expiry(int(31 * DAY * 1000)))
        assert engine.total("brief") == 1
        engine.let_pass(59.999)
        assert engine.total("brief") == 1
        engine.let_pass(0.001)
        assert engine.total("brief") == 0
        engine.let_pass(365 * DAY)
        assert engine.total("keeps") == 1


# Changing it


def test_a_longer_retention_counts_from_when_each_message_entered() -> None:
    """What is there lives as much longer."""
    with driven(BRIEF) as engine:
        engine.send("brief", "x")
        engine.let_pass(30)
        engine.declare(replace(BRIEF, retention=100.0))
        engine.let_pass(69.999)
        assert engine.total("brief") == 1
        engine.let_pass(0.001)
        assert engine.total("brief") == 0


def test_a_shorter_retention_may_end_at_once() -> None:
    """What is older than that is over."""
    with driven(replace(BRIEF, retention=120.0)) as engine:
        engine.send("brief", "old")
        engine.let_pass(60)
        engine.send("brief", "young")
        engine.declare(BRIEF)
        assert engine.bodies("brief") == ["young"]


def test_a_queue_may_begin_to_forget_and_stop_again() -> None:
    """What was kept for ever is kept from then on for as long as is said; and what is left then, for ever."""
    with driven(KEEPS, BRIEF) as engine:
        engine.send("keeps", "x")
        engine.let_pass(DAY)
        engine.declare(replace(KEEPS, retention=60.0))
        engine.let_pass(59)
        engine.send("keeps", "y")
        engine.let_pass(1)
        assert engine.total("keeps") == 1
        engine.declare(KEEPS)
        engine.let_pass(DAY)
        assert engine.bodies("keeps") == ["y"]


def test_declaring_the_same_retention_changes_nothing() -> None:
    """A worker that starts again does not give messages another life."""
    with driven(BRIEF) as engine:
        engine.send("brief", "x")
        engine.let_pass(59)
        engine.declare(BRIEF)
        engine.let_pass(1)
        assert engine.total("brief") == 0


def test_what_was_set_aside_is_kept_beyond_its_retention() -> None:
    """Nobody handled it."""
    with driven(BRIEF) as engine:
        engine.send("brief", "x", "y")
        engine.damage("x")
        assert engine.bodies("brief") == ["y"]
        engine.let_pass(60)
        engine.do(lambda it: it.sweep(engine.now_ms))
        assert engine.count_of("message") == 1


def test_what_was_set_aside_is_kept_whatever_a_queue_is_told_later() -> None:
    """A damaged message is there until somebody has looked at it."""
    with driven(KEEPS) as engine:
        engine.send("keeps", "x")
        engine.connection.execute("UPDATE message SET body = x'00'")
        assert engine.take("keeps") == []
        engine.declare(replace(KEEPS, retention=60.0))
        engine.let_pass(60)
        engine.do(lambda it: it.sweep(engine.now_ms))
        assert engine.count_of("message") == 1


# Dead letters


def pair(dead: float | None, source: float | None, *, fifo: bool = False) -> tuple[QueueSpec, QueueSpec]:
    """A dead-letter queue, and a queue that gives up after one receive."""
    return (
        QueueSpec(name="dead", retention=dead, fifo=fifo),
        QueueSpec(name="source", retention=source, fifo=fifo, dead_letter_queue="dead", max_receives=1),
    )


@pytest.mark.parametrize(
    ("dead", "source", "fifo", "lives"),
    [
        (200.0, 100.0, False, 150.0),  # Amazon SQS, "Using dead-letter queues": on standard queues its age counts on
        (200.0, 100.0, True, 200.0),  # and on FIFO queues it begins anew
        (200.0, None, False, 200.0),
        (None, 100.0, False, None),
    ],
)
def test_a_dead_letter_that_the_broker_moved(
    dead: float | None, source: float | None, *, fifo: bool, lives: float | None
) -> None:
    """Fifty seconds old, it lives on in a dead-letter queue of its kind for as long as Amazon SQS lets it."""
    with driven(*pair(dead, source, fifo=fifo)) as engine:
        engine.send("source", "x", group="a")
        engine.take("source", lease=50.0)
        engine.let_pass(50)
        assert engine.take("source") == []
        if lives is None:
            engine.let_pass(365 * DAY)
            assert engine.total("dead") == 1
            return
        engine.let_pass(lives - 0.001)
        assert engine.total("dead") == 1
        engine.let_pass(0.001)
        assert engine.total("dead") == 0


def test_a_dead_letter_may_be_over_the_moment_it_is_one() -> None:
    """Its age counts on, and the dead-letter queue keeps shorter."""
    with driven(KEEPS, *pair(60.0, 200.0)) as engine:
        engine.send("keeps", "another")
        engine.send("source", "x")
        engine.let_pass(70)
        engine.take("source")
        engine.let_pass(LEASE)
        assert engine.take("source") == []
        assert engine.total("dead") == 0
