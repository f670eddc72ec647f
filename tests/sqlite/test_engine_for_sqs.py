"""What the engine knows for those who ask in the language of SQS: times, ids, origins, and whose receipt it is."""

from __future__ import annotations

import base64
from dataclasses import replace
from functools import partial

import pytest

from redrive.broker import Acknowledge, Forward, Outgoing, QueueSpec, Return
from redrive.errors import LimitExceeded, QueueNotFound, StaleReceipt
from redrive.message import Delivery
from redrive.sqlite.engine import Engine
from tests.sqlite.driven import BEGIN_MS, bodies_of, driven

PLAIN = QueueSpec(name="plain")
OTHER = QueueSpec(name="other")
DEAD = QueueSpec(name="dead")
LIMITED = QueueSpec(name="limited", dead_letter_queue="dead", max_receives=1)
LINE = QueueSpec(name="line", fifo=True)
BY_GROUP = QueueSpec(name="by-group", fifo=True, deduplication_by_group=True)
LINE_DEAD = QueueSpec(name="line-dead", fifo=True)
LIMITED_LINE = QueueSpec(name="limited-line", fifo=True, dead_letter_queue="line-dead", max_receives=1)


def elsewhere(delivery: Delivery, queue: str) -> Delivery:
    return Delivery(
        message=delivery.message, queue=queue, receipt=delivery.receipt, receive_count=delivery.receive_count
    )


def test_a_receipt_counts_in_its_own_queue_alone() -> None:
    """Whatever is asked with it under another queue's name is stale, one by one and all together."""
    with driven(PLAIN, OTHER) as engine:
        engine.send("plain", "a", "b")
        held = engine.take("plain")
        wrong = [elsewhere(one, "other") for one in held]
        assert [type(one) for one in engine.settle(*(Acknowledge(delivery=one) for one in wrong))] == [StaleReceipt] * 2
        for settlement in (
            Acknowledge(delivery=wrong[0]),
            Return(delivery=wrong[0]),
            Forward(delivery=wrong[0], queue="plain", message=wrong[0].message),
        ):
            assert [type(one) for one in engine.settle(settlement)] == [StaleReceipt]
        assert [type(one) for one in engine.extend(*wrong, lease=60.0)] == [StaleReceipt] * 2
        engine.acknowledge(*held)
        assert engine.total("plain") == 0


def test_acknowledgements_of_several_queues_count_together() -> None:
    """Each in its own."""
    with driven(PLAIN, OTHER) as engine:
        engine.send("plain", "a")
        engine.send("other", "b")
        engine.acknowledge(engine.take_one("plain"), engine.take_one("other"))
        assert engine.total("plain") == engine.total("other") == 0


def test_the_first_receive_is_remembered_until_it_is_taken_back() -> None:
    """Through later receives; one that is handed back uncounted was none."""
    with driven(PLAIN) as engine:
        engine.send("plain", "a")
        first = engine.take_one("plain")
        assert first.first_received_at_ms == BEGIN_MS
        engine.let_pass(1.0)
        engine.hand_back(first, uncounted=True)
        second = engine.take_one("plain")
        assert second.first_received_at_ms == BEGIN_MS + 1_000
        engine.let_pass(1.0)
        engine.hand_back(second)
        assert engine.take_one("plain").first_received_at_ms == BEGIN_MS + 1_000


def test_a_dead_letter_knows_whose_it_is() -> None:
    """By the name of the queue, which a new one of the same name does not inherit."""
    with driven(DEAD, LIMITED) as engine:
        engine.send("limited", "a")
        engine.take_one("limited", lease=1.0)
        engine.let_pass(2.0)
        assert engine.take("limited") == []
        letter = engine.take_one("dead", lease=1.0)
        assert letter.origin == "limited"
        assert letter.first_received_at_ms == engine.now_ms
        engine.let_pass(2.0)
        engine.do(lambda it: it.delete("limited"))
        engine.declare(LIMITED)
        assert engine.take_one("dead").origin is None


def test_a_message_keeps_its_deduplication_id_into_its_dead_letter_queue() -> None:
    """Given or made of the body; on a standard queue there is none."""
    with driven(LINE_DEAD, LIMITED_LINE, PLAIN) as engine:
        engine.send("limited-line", "a", group="g", key="k")
        assert engine.take_one("limited-line", lease=1.0).deduplication_id == "k"
        engine.let_pass(2.0)
        assert engine.take("limited-line") == []
        assert engine.take_one("line-dead").deduplication_id == "k"
        engine.send("plain", "a", key="k")
        assert engine.take_one("plain").deduplication_id is None


def test_with_deduplication_by_group_one_id_counts_in_each_group() -> None:
    """Source: Amazon SQS, SetQueueAttributes, `DeduplicationScope`."""
    with driven(BY_GROUP) as engine:
        assert not engine.sent("by-group", "1", key="k", group="a").duplicate
        assert not engine.sent("by-group", "2", key="k", group="b").duplicate
        assert engine.sent("by-group", "3", key="k", group="a").duplicate
        assert {one.deduplication_id for one in engine.take("by-group")} == {"k"}


def test_deduplication_by_group_is_for_fifo_queues() -> None:
    """Anywhere else it would mean nothing."""
    with driven() as engine, pytest.raises(LimitExceeded, match="deduplication_by_group is True"):
        engine.declare(QueueSpec(name="plain", deduplication_by_group=True))


@pytest.mark.parametrize("spec", [PLAIN, LINE], ids=["standard", "FIFO"])
def test_a_lease_can_end_at_once(spec: QueueSpec) -> None:
    """The message is ready, and its receipt stays good until somebody receives it."""
    with driven(spec) as engine:
        engine.send(spec.name, "a", group="g")
        held = engine.take_one(spec.name)
        engine.engine.became_ready.clear()
        assert engine.do(lambda it: it.change_visibility(held, 0, engine.now_ms)) is None
        assert spec.name in engine.engine.became_ready
        assert engine.depth(spec.name).ready == 1
        again = engine.take_one(spec.name)
        assert again.receive_count == 2
        assert isinstance(engine.do(lambda it: it.change_visibility(held, 5, engine.now_ms)), StaleReceipt)


def test_an_ended_lease_is_not_changed() -> None:
    """Whoever wants it has to receive it; 12 hours are the most."""
    with driven(PLAIN) as engine:
        engine.send("plain", "a")
        held = engine.take_one("plain", lease=1.0)
        assert engine.do(lambda it: it.change_visibility(held, 43_200, engine.now_ms)) is None
        engine.let_pass(43_200.0)
        assert isinstance(engine.do(lambda it: it.change_visibility(held, 5, engine.now_ms)), StaleReceipt)
        for wrong in (-1, 43_201):
            with pytest.raises(LimitExceeded, match="lease is"):
                engine.do(lambda it, wrong=wrong: it.change_visibility(held, wrong, engine.now_ms))  # type: ignore[misc]


def test_a_queue_says_what_it_is() -> None:
    """Exactly what was declared, when, and when that changed."""
    spec = QueueSpec(
        name="all",
        fifo=True,
        content_deduplication=True,
        deduplication_by_group=True,
        delay=1.5,
        retention=60.0,
        dead_letter_queue="line-dead",
        max_receives=3,
        allowed_sources=("a", "b"),
        largest_message=2_048,
    )
    with driven(LINE_DEAD) as engine:
        engine.let_pass(1.0)
        engine.declare(spec)
        table = engine.engine.queue_table
        assert table.described("all") == spec
        assert table.described("line-dead") == LINE_DEAD
        assert table.sources("line-dead") == ["all"]
        assert table.times_ms("all") == (BEGIN_MS + 1_000, BEGIN_MS + 1_000)
        engine.let_pass(1.0)
        engine.declare(spec)
        assert table.times_ms("all") == (BEGIN_MS + 1_000, BEGIN_MS + 1_000)
        engine.declare(QueueSpec(name="all", fifo=True))
        assert table.times_ms("all") == (BEGIN_MS + 1_000, BEGIN_MS + 2_000)
        for look in (table.described, table.times_ms):
            with pytest.raises(QueueNotFound):
                look("none")


def test_deleting_a_queue_takes_along_what_was_said_of_it() -> None:
    """Nothing of it is left for a later queue."""
    with driven(PLAIN) as engine:
        execute = engine.connection.execute
        execute("INSERT INTO sqs_queue (queue, attributes, tags) SELECT id, '{}', '{}' FROM queue")
        engine.do(lambda it: it.delete("plain"))
        assert execute("SELECT count(*) FROM sqs_queue").get == 0


def test_a_message_may_be_faster_than_its_queue() -> None:
    """A delay of its own counts, 0 too; without one, the queue's. Source: Amazon SQS, SendMessage, `DelaySeconds`."""
    with driven(QueueSpec(name="slow", delay=60.0)) as engine:
        messages = [engine.message(body) for body in ("at once", "later")]
        outgoing = [Outgoing(message=messages[0], delay=0.0), Outgoing(message=messages[1])]
        assert engine.do(lambda it: it.send("slow", outgoing, engine.now_ms)) == [None, None]
        assert engine.bodies("slow") == ["at once"]
        engine.let_pass(60.0)
        assert "later" in engine.bodies("slow")


def test_a_receive_may_take_all_of_a_group_first() -> None:
    """As Amazon SQS does; otherwise it takes from as many groups as there are. Source: Amazon SQS, ReceiveMessage."""
    for by_group, expected in ((True, ["a1", "a2", "a3", "b1"]), (False, ["a1", "a2", "b1", "b2"])):
        with driven(LINE) as engine:
            for body in ("a1", "b1", "a2", "b2", "a3"):
                engine.sent("line", body, group=body[0])
            now_ms = engine.now_ms
            ask = partial(Engine.receive, queue="line", limit=4, lease=9.0, now_ms=now_ms, by_group=by_group)
            assert bodies_of(engine.do(ask)) == expected


def test_a_queue_may_forget_what_was_sent() -> None:
    """Its own, and no other's: the same id is no duplicate then."""
    with driven(LINE, LINE_DEAD) as engine:
        for queue in ("line", "line-dead"):
            engine.sent(queue, "x", key="1")
        table = engine.engine.queue_table
        engine.do(lambda _: table.forget(table.named("line").id))
        assert not engine.sent("line", "x", key="1").duplicate
        assert engine.sent("line-dead", "x", key="1").duplicate


def test_what_others_keep_of_a_queue_can_change_it_too() -> None:
    """The time of its last change is that one then."""
    with driven(PLAIN, OTHER) as engine:
        engine.let_pass(1.0)
        table = engine.engine.queue_table
        engine.do(lambda _: table.note_changed(table.named("plain").id, engine.now_ms))
        assert table.times_ms("plain") == (BEGIN_MS, BEGIN_MS + 1_000)
        assert table.times_ms("other") == (BEGIN_MS, BEGIN_MS)


def test_a_message_is_as_large_as_amazon_counts_it() -> None:
    """Bytes before base64, the texts of types, and nothing of what only Amazon may name. Source: Amazon SQS, quotas."""
    with driven(QueueSpec(name="small", largest_message=1_024)) as engine:
        for attributes, types, size in (
            ({"k": "\u00e9"}, None, 3),
            ({"k": "1"}, {"k": "Number.int"}, 12),
            ({"k": base64.b64encode(b"x" * 100).decode()}, {"k": "Binary"}, 107),
            ({"k": base64.b64encode(b"x" * 101).decode()}, {"k": "Binary"}, 108),
            ({"k": base64.b64encode(b"x" * 102).decode()}, {"k": "Binary"}, 109),
            ({"AWS.TraceHeader": "x" * 500}, None, 0),
        ):
            for more, refused in ((0, False), (1, True)):
                body = engine.message("a" * (1_024 - size + more))
                one = Outgoing(message=replace(body, attributes=attributes, attribute_types=types))
                (result,) = engine.do(partial(Engine.send, queue="small", messages=[one], now_ms=engine.now_ms))
                assert isinstance(result, LimitExceeded) is refused


def test_a_deduplication_id_that_is_no_text_any_more_stops_nothing() -> None:
    """It has no checksum: what can be read of it is told, and the message is received."""
    with driven(LINE) as engine:
        engine.sent("line", "a", key="key")
        engine.connection.execute("UPDATE message SET deduplication_id = CAST(x'6bff79' AS TEXT)")
        assert engine.take_one("line").deduplication_id == "k\ufffdy"
