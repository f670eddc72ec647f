"""Queues in the engine: how they are declared, what they may be told, and how they go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redrive.broker import QueueSpec
from redrive.errors import LimitExceeded, QueueConflict, QueueNotFound
from redrive.message import Notes
from tests.sqlite.driven import driven

PLAIN = QueueSpec(name="plain")
DEAD = QueueSpec(name="dead")
LINE = QueueSpec(name="line", fifo=True)
FULL = QueueSpec(
    name="full",
    fifo=True,
    content_deduplication=True,
    delay=900.0,
    retention=1_209_600.0,
    dead_letter_queue="full-dead",
    max_receives=1_000,
    allowed_sources=tuple(f"source-{number}" for number in range(10)),
    largest_message=1_048_576,
)
FULL_DEAD = QueueSpec(name="full-dead", fifo=True, allowed_sources=("full",))


@pytest.mark.parametrize(
    "spec",
    [
        QueueSpec(name="x", delay=0.0),
        QueueSpec(name="x", retention=60.0, largest_message=1_024, allowed_sources=()),
        QueueSpec(name="x", dead_letter_queue="dead", max_receives=1),
        QueueSpec(name="x", dead_letter_queue="dead", max_receives=1_000),
        QueueSpec(name="x" * 80),
        QueueSpec(name="AZaz09_-"),
        FULL,
    ],
    ids=str,
)
def test_a_queue_may_be_whatever_the_limits_allow(spec: QueueSpec) -> None:
    """Up to each limit, and with everything at once; declaring it again writes nothing."""
    with driven(DEAD, FULL_DEAD) as engine:
        engine.declare(spec)
        before = engine.connection.total_changes()
        engine.declare(spec)
        assert engine.connection.total_changes() == before
        assert spec.name in engine.engine.queues()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (QueueSpec(name=""), "name of a queue"),
        (QueueSpec(name="x" * 81), "name of a queue"),
        (QueueSpec(name="a.fifo"), "name of a queue"),
        (QueueSpec(name="é"), "name of a queue"),
        (QueueSpec(name="x", content_deduplication=True), "content_deduplication"),
        (QueueSpec(name="x", delay=-0.001), "delay of a queue"),
        (QueueSpec(name="x", delay=900.001), "delay of a queue"),
        (QueueSpec(name="x", retention=59.999), "retention"),
        (QueueSpec(name="x", retention=1_209_600.001), "retention"),
        (QueueSpec(name="x", largest_message=1_023), "largest_message"),
        (QueueSpec(name="x", largest_message=1_048_577), "largest_message"),
        (QueueSpec(name="x", allowed_sources=tuple("abcdefghijk")), "allowed_sources"),
        (QueueSpec(name="x", dead_letter_queue="dead"), "max_receives"),
        (QueueSpec(name="x", max_receives=1), "max_receives"),
        (QueueSpec(name="x", dead_letter_queue="dead", max_receives=0), "max_receives"),
        (QueueSpec(name="x", dead_letter_queue="dead", max_receives=1_001), "max_receives"),
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_named(spec: QueueSpec, words: str) -> None:
    """With what it is; and nothing is made, not what was declared before it in the same call either."""
    with driven(DEAD) as engine:
        with pytest.raises(LimitExceeded) as caught:
            engine.declare(PLAIN, spec)
        assert str(caught.value).startswith(words)
        assert engine.engine.queues() == ["dead"]


def test_names_are_sorted() -> None:
    """As texts."""
    with driven(*(QueueSpec(name=name) for name in ("b", "a", "C", "10", "9"))) as engine:
        assert engine.engine.queues() == ["10", "9", "C", "a", "b"]


def test_a_dead_letter_queue_may_be_declared_with_its_source() -> None:
    """Before or behind it."""
    source = QueueSpec(name="source", dead_letter_queue="dead", max_receives=1)
    for specs in ((source, DEAD), (DEAD, source)):
        with driven(*specs) as engine:
            assert engine.engine.queues() == ["dead", "source"]


def test_a_dead_letter_queue_that_is_nowhere_is_named() -> None:
    """It neither exists nor is declared beside."""
    with driven(PLAIN) as engine, pytest.raises(QueueNotFound, match="'nowhere'"):
        engine.declare(QueueSpec(name="source", dead_letter_queue="nowhere", max_receives=1))


@pytest.mark.parametrize("allowed", [(), ("another",), None, ("source",), ("another", "source")])
@pytest.mark.parametrize("together", [False, True])
def test_a_queue_takes_the_dead_letters_of_those_it_allows(allowed: tuple[str, ...] | None, *, together: bool) -> None:
    """Declared before or in the same call. Source: Amazon SQS, RedriveAllowPolicy."""
    source = QueueSpec(name="source", dead_letter_queue="picky", max_receives=1)
    picky = QueueSpec(name="picky", allowed_sources=allowed)
    with driven(PLAIN) as engine:
        if not together:
            engine.declare(picky)
        if allowed is None or "source" in allowed:
            engine.declare(source, picky)
            assert "source" in engine.engine.queues()
        else:
            with pytest.raises(QueueConflict, match=r"'picky' does not take the dead letters of 'source'"):
                engine.declare(source, picky)
            assert "source" not in engine.engine.queues()


@pytest.mark.parametrize("fifo", [False, True])
def test_a_queue_never_changes_its_kind(*, fifo: bool) -> None:
    """It is told what it is and what it cannot become, and keeps what it holds."""
    with driven(QueueSpec(name="kind", fifo=fifo)) as engine:
        engine.send("kind", "x", group="a")
        words = (
            r"is a FIFO queue and cannot become a standard" if fifo else r"is a standard queue and cannot become a FIFO"
        )
        with pytest.raises(QueueConflict, match=words):
            engine.declare(PLAIN, QueueSpec(name="kind", fifo=not fifo))
        assert engine.engine.queues() == ["kind"]
        assert engine.bodies("kind") == ["x"]


@pytest.mark.parametrize("fifo", [False, True])
def test_dead_letters_stay_among_their_kind(*, fifo: bool) -> None:
    """The other kind is refused by name."""
    with driven(QueueSpec(name="dead", fifo=not fifo)) as engine:
        with pytest.raises(QueueConflict, match="'dead' is not of the kind of 'source'"):
            engine.declare(QueueSpec(name="source", fifo=fifo, dead_letter_queue="dead", max_receives=1))
        assert engine.engine.queues() == ["dead"]


def test_every_setting_may_change() -> None:
    """Each by itself, and it counts from then on."""
    with driven(DEAD, PLAIN) as engine:
        engine.send("plain", "x")
        engine.declare(replace(PLAIN, delay=5.0))
        engine.send("plain", "y")
        assert engine.bodies("plain") == ["x"]
        engine.declare(replace(PLAIN, largest_message=1_024))
        assert [str(one)[:4] for one in engine.send("plain", "z" * 1_025)] == ["size"]
        engine.declare(replace(PLAIN, dead_letter_queue="dead", max_receives=1))
        engine.let_pass(60)
        engine.take("plain")
        engine.let_pass(60)
        assert engine.take("plain") == []
        assert engine.total("dead") == 2
        engine.declare(PLAIN)
        assert engine.send("plain", "z" * 1_025) == [None]
        for _ in range(3):
            assert len(engine.take("plain")) == 1
            engine.let_pass(60)


def test_a_line_may_begin_to_look_at_content() -> None:
    """And stop again."""
    with driven(LINE) as engine:
        engine.declare(replace(LINE, content_deduplication=True))
        assert engine.do(lambda it: it._queues.named("line")).content_deduplication
        engine.declare(LINE)
        assert not engine.do(lambda it: it._queues.named("line")).content_deduplication


def test_the_allowed_sources_may_change() -> None:
    """Who is a source already may be told no with its next declaration."""
    source = QueueSpec(name="source", dead_letter_queue="dead", max_receives=1)
    with driven(DEAD, source) as engine:
        engine.declare(replace(DEAD, allowed_sources=("another",)))
        with pytest.raises(QueueConflict, match="allowed_sources"):
            engine.declare(source)
        engine.declare(replace(DEAD, allowed_sources=("another", "source")))
        engine.declare(source)


def test_a_purge_tells_how_many_there_were() -> None:
    """Ready, delayed, in flight: all of this queue, and nothing of another one; receipts are stale."""
    with driven(PLAIN, DEAD) as engine:
        engine.send("plain", "1", "2", notes=Notes(attempts=1))
        engine.send("plain", "3", delay=60.0)
        engine.send("dead", "4")
        engine.take("plain", 1)
        assert engine.do(lambda it: it.purge("plain")) == 3
        assert engine.total("plain") == 0
        assert engine.do(lambda it: it.purge("plain")) == 0
        engine.let_pass(60)
        assert engine.take("plain") == engine.take("plain", ids=["m1"]) == []
        assert engine.bodies("dead") == ["4"]


@pytest.mark.parametrize("queue", ["plain", "line"])
def test_a_deleted_queue_leaves_nothing(queue: str) -> None:
    """It says how many messages went with it; a new one of its name begins from nothing."""
    with driven(PLAIN, LINE, DEAD) as engine:
        engine.send(queue, "1", "2", group="a")
        engine.send("dead", "3", group="a")
        engine.take(queue, 1)
        assert engine.do(lambda it: it.delete(queue)) == 2
        assert queue not in engine.engine.queues()
        for asked in (engine.take, engine.total, lambda name: engine.do(lambda it: it.delete(name))):
            with pytest.raises(QueueNotFound, match=f"'{queue}'"):
                asked(queue)
        engine.declare(PLAIN, LINE)
        assert engine.take(queue) == []
        assert engine.next_in(queue) is None
        assert engine.bodies("dead") == ["3"]


def test_changes_of_a_queue_that_holds_messages_leave_those_of_others_alone() -> None:
    """A retention counts for one queue."""
    with driven(PLAIN, DEAD) as engine:
        engine.send("plain", "1")
        engine.send("dead", "2")
        engine.declare(replace(PLAIN, retention=60.0))
        engine.let_pass(60)
        assert (engine.total("plain"), engine.total("dead")) == (0, 1)
