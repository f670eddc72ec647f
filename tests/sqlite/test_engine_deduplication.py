"""What FIFO queues remember, and for how long: ids that were sent, and receives with an attempt id."""

from __future__ import annotations

import pytest

from redrive.broker import Outgoing, QueueSpec
from redrive.errors import LimitExceeded
from redrive.message import Delivery
from tests.sqlite.driven import LEASE, Driven, bodies_of, driven

LINE = QueueSpec(name="line", fifo=True)
OTHER = QueueSpec(name="other", fifo=True)
CONTENT = QueueSpec(name="content", fifo=True, content_deduplication=True)
PLAIN = QueueSpec(name="plain")


# Sending


def test_an_id_is_remembered_for_five_minutes_to_the_millisecond() -> None:
    """Source: Amazon SQS, "Exactly-once processing": the deduplication interval is 5 minutes."""
    with driven(LINE) as engine:
        first = engine.sent("line", "first", key="k")
        engine.let_pass(299.999)
        again = engine.sent("line", "second", key="k")
        assert (again.id, again.sequence, again.duplicate) == (first.id, first.sequence, True)
        engine.let_pass(0.001)
        third = engine.sent("line", "third", key="k")
        assert not third.duplicate
        assert third.sequence > first.sequence
        assert engine.bodies("line") == ["first", "third"]
        engine.let_pass(299.999)
        assert engine.sent("line", "fourth", key="k").id == third.id


def test_a_duplicate_writes_nothing() -> None:
    """Not even that it came."""
    with driven(LINE) as engine:
        engine.sent("line", "first", key="k")
        before = engine.connection.total_changes()
        engine.sent("line", "second", key="k")
        assert engine.connection.total_changes() == before


def test_an_id_counts_for_one_queue() -> None:
    """In all of its groups."""
    with driven(LINE, OTHER) as engine:
        assert not engine.sent("line", "1", key="k", group="a").duplicate
        assert not engine.sent("other", "2", key="k", group="a").duplicate
        assert engine.sent("line", "3", key="k", group="b").duplicate


def test_content_is_the_body_alone() -> None:
    """An id goes before it; what has another body is another message."""
    with driven(CONTENT) as engine:

        def send(body: str, key: str | None = None) -> bool:
            one = Outgoing(message=engine.message(body, "a"), deduplication_id=key)
            ((sent),) = engine.do(lambda it: it.send("content", [one], engine.now_ms))
            assert sent is not None
            assert not isinstance(sent, LimitExceeded)
            return bool(getattr(sent, "duplicate", None))

        assert [send("x"), send("x"), send("y"), send("x", "k"), send("z", "k")] == [False, True, False, False, True]
        engine.let_pass(300)
        assert not send("x")


@pytest.mark.parametrize("key", ["", "k" * 129, "with space", "é", "line\n", "tab\t"])
def test_an_id_that_cannot_be_is_refused(key: str) -> None:
    """1 to 128 letters, digits and punctuation marks; nothing is sent, and nothing remembered."""
    with driven(LINE) as engine:
        one = Outgoing(message=engine.message("x", "a"), deduplication_id=key)
        (refused,) = engine.do(lambda it: it.send("line", [one], engine.now_ms))
        assert isinstance(refused, LimitExceeded)
        assert str(refused).startswith("deduplication id")
        assert engine.total("line") == engine.count_of("deduplication") == 0


def test_an_id_may_have_128_characters_of_every_kind() -> None:
    """All that can be seen in ASCII."""
    key = "".join(map(chr, range(0x21, 0x7F))) + "x" * 34
    assert len(key) == 128
    with driven(LINE) as engine:
        assert not engine.sent("line", "1", key=key).duplicate
        assert engine.sent("line", "2", key=key).duplicate


def test_ids_survive_a_crash_and_a_purge() -> None:
    """They outlive the message, not the queue."""
    with driven(LINE, on_file=True) as engine:
        first = engine.sent("line", "first", key="k")
        engine.do(lambda it: it.purge("line"))
        engine.crash()
        again = engine.sent("line", "second", key="k")
        assert (again.id, again.duplicate) == (first.id, True)
        assert engine.total("line") == 0
        engine.do(lambda it: it.delete("line"))
        engine.declare(LINE)
        assert not engine.sent("line", "third", key="k").duplicate


def test_an_uncommitted_send_is_not_remembered() -> None:
    """Whoever did not get an answer sends again, and then it is there once."""
    with driven(LINE, on_file=True) as engine:
        engine.connection.execute("BEGIN IMMEDIATE")
        one = Outgoing(message=engine.message("first", "a"), deduplication_id="k")
        engine.engine.send("line", [one], engine.now_ms)
        engine.crash()
        assert not engine.sent("line", "again", key="k").duplicate
        assert engine.bodies("line") == ["again"]


def test_sweeping_forgets_what_is_over_and_nothing_else() -> None:
    """An id in its last millisecond is still one."""
    with driven(LINE) as engine:
        engine.sent("line", "1", key="old")
        engine.take("line", 1, attempt="old")
        engine.let_pass(299.999)
        engine.sent("line", "2", key="young")
        engine.take("line", 1, attempt="young")
        engine.do(lambda it: it.sweep(engine.now_ms))
        assert (engine.count_of("deduplication"), engine.count_of("receive_attempt")) == (2, 2)
        engine.let_pass(0.001)
        engine.do(lambda it: it.sweep(engine.now_ms))
        assert (engine.count_of("deduplication"), engine.count_of("receive_attempt")) == (1, 1)
        assert engine.sent("line", "3", key="young").duplicate


# Receiving


def receipts(deliveries: list[Delivery]) -> list[str]:
    return [one.receipt for one in deliveries]


def filled(engine: Driven) -> None:
    for group in "ba":
        engine.send("line", f"{group}1", f"{group}2", group=group)


def test_an_attempt_that_is_repeated_gets_the_same_messages_again() -> None:
    """With the same receipts, uncounted, in the same order, whatever limit it names then."""
    with driven(LINE) as engine:
        filled(engine)
        first = engine.take("line", 4, attempt="x")
        assert bodies_of(first) == ["b1", "b2", "a1", "a2"]
        engine.let_pass(1)
        again = engine.take("line", 1, attempt="x")
        assert receipts(again) == receipts(first)
        assert [one.receive_count for one in again] == [1] * 4
        engine.acknowledge(*again)
        assert engine.total("line") == 0


def test_a_repeated_attempt_begins_its_leases_anew() -> None:
    """From the repetition on; the lines stay locked as long."""
    with driven(LINE) as engine:
        filled(engine)
        engine.take("line", 4, attempt="x", lease=10.0)
        engine.let_pass(9)
        engine.take("line", 4, attempt="x", lease=10.0)
        engine.let_pass(9.999)
        assert engine.take("line") == []
        assert engine.next_in("line") == 0.001
        engine.let_pass(0.001)
        assert len(engine.take("line")) == 4


def test_another_attempt_gets_other_messages() -> None:
    """Two receivers are two."""
    with driven(LINE) as engine:
        filled(engine)
        assert bodies_of(engine.take("line", 1, attempt="x")) == ["b1"]
        assert bodies_of(engine.take("line", 1, attempt="y")) == ["a1"]
        assert engine.take("line", 1, attempt="z") == []


def test_an_attempt_of_which_something_was_settled_is_a_new_one() -> None:
    """What it was given is not handed out once more: it gets what is ready now."""
    with driven(LINE) as engine:
        filled(engine)
        (first,) = engine.take("line", 1, attempt="x")
        engine.acknowledge(first)
        assert bodies_of(engine.take("line", 2, attempt="x")) == ["b2", "a1"]
        assert engine.total("line") == 3


def test_an_attempt_gets_nothing_that_somebody_else_holds_now() -> None:
    """What it was given went back, and was received by another: it is his."""
    with driven(LINE) as engine:
        engine.send("line", "a1", group="a")
        (first,) = engine.take("line", attempt="x")
        engine.hand_back(first)
        (second,) = engine.take("line", attempt="y")
        assert engine.take("line", attempt="x") == []
        assert receipts(engine.take("line", attempt="y")) == [second.receipt]


def test_an_attempt_whose_leases_ended_is_a_new_one() -> None:
    """In the millisecond in which they end: new receipts, and counted."""
    with driven(LINE) as engine:
        engine.send("line", "a1", group="a")
        (first,) = engine.take("line", attempt="x", lease=1.0)
        engine.let_pass(0.999)
        assert receipts(engine.take("line", attempt="x", lease=0.002)) == [first.receipt]
        engine.let_pass(0.002)
        (second,) = engine.take("line", attempt="x")
        assert second.receipt != first.receipt
        assert second.receive_count == 2


def test_an_attempt_is_remembered_for_five_minutes_to_the_millisecond() -> None:
    """Source: Amazon SQS, ReceiveMessage `ReceiveRequestAttemptId`. Each repetition begins them anew."""
    with driven(LINE) as engine:
        filled(engine)
        (first,) = engine.take("line", 1, attempt="x", lease=3_600.0)
        engine.let_pass(299.999)
        (again,) = engine.take("line", 1, attempt="x", lease=3_600.0)
        assert again.receipt == first.receipt
        engine.let_pass(299.999)
        (again,) = engine.take("line", 1, attempt="x", lease=3_600.0)
        assert again.receipt == first.receipt
        engine.let_pass(300)
        (other,) = engine.take("line", 1, attempt="x", lease=3_600.0)
        assert bodies_of([first, other]) == ["b1", "a1"]


def test_an_attempt_that_got_nothing_may_get_something_later() -> None:
    """There is nothing to repeat."""
    with driven(LINE) as engine:
        assert engine.take("line", attempt="x") == []
        filled(engine)
        assert bodies_of(engine.take("line", 1, attempt="x")) == ["b1"]


def test_an_attempt_counts_for_one_queue_and_only_on_fifo_queues() -> None:
    """On a standard queue it means nothing."""
    with driven(LINE, OTHER, PLAIN) as engine:
        engine.send("line", "line", group="a")
        engine.send("other", "other", group="a")
        engine.send("plain", "1", "2")
        assert bodies_of(engine.take("line", 1, attempt="x")) == ["line"]
        assert bodies_of(engine.take("other", 1, attempt="x")) == ["other"]
        assert bodies_of(engine.take("plain", 1, attempt="x")) == ["1"]
        assert bodies_of(engine.take("plain", 1, attempt="x")) == ["2"]


def test_attempts_survive_a_crash() -> None:
    """That is what they are for: the answer was lost, and is given once more."""
    with driven(LINE, on_file=True) as engine:
        filled(engine)
        first = engine.take("line", 2, attempt="x")
        engine.crash()
        assert receipts(engine.take("line", 2, attempt="x")) == receipts(first)


def test_attempts_are_forgotten_with_their_queue() -> None:
    """A new queue of the same name owes nobody anything."""
    with driven(LINE, OTHER) as engine:
        for queue in ("line", "other"):
            engine.sent(queue, "1", key="k")
            engine.take(queue, 1, attempt="x")
        engine.do(lambda it: it.delete("line"))
        assert engine.count_of("receive_attempt") == engine.count_of("deduplication") == engine.count_of("line") == 1
        assert engine.sent("other", "2", key="k").duplicate


@pytest.mark.parametrize("attempt", ["", "x" * 129, "with space"])
def test_an_attempt_id_that_cannot_be_is_refused(attempt: str) -> None:
    """By name; nothing is received."""
    with driven(LINE) as engine:
        engine.send("line", "a1", group="a")
        with pytest.raises(LimitExceeded, match="receive attempt id"):
            engine.take("line", attempt=attempt)
        (taken,) = engine.take("line", attempt="x" * 128, lease=LEASE)
        assert taken.receive_count == 1
