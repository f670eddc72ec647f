"""What the engine refuses, in which words: the value, the limit that it breaks, and the remedy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from redrive.broker import Forward, Outgoing, QueueSpec
from redrive.errors import RedriveError
from tests.sqlite.driven import Driven, driven

SPECS = (
    QueueSpec(name="dead"),
    QueueSpec(name="plain", dead_letter_queue="dead", max_receives=1, largest_message=1_024),
    QueueSpec(name="other"),
    QueueSpec(name="line", fifo=True),
    QueueSpec(name="picky", allowed_sources=("nobody",)),
)
LONG = "k" * 129


def send(queue: str, body: str = "x", *, group: str | None = None, key: str | None = None, delay: float = 0.0) -> Ask:
    def ask(engine: Driven) -> object:
        one = Outgoing(message=engine.message(body, group), deduplication_id=key, delay=delay)
        (answer,) = engine.do(lambda it: it.send(queue, [one], engine.now_ms))
        return answer

    return ask


def forward(engine: Driven) -> object:
    engine.send("other", "x" * 1_025)
    taken = engine.take_one("other")
    (answer,) = engine.settle(Forward(delivery=taken, queue="plain", message=taken.message))
    return answer


def declare(spec: QueueSpec) -> Ask:
    return lambda engine: engine.declare(spec)


def extend(engine: Driven) -> object:
    engine.send("plain", "x")
    return engine.extend(engine.take_one("plain"), lease=0.0)


def move_a_stray(engine: Driven) -> object:
    engine.send("dead", "x")
    engine.start_move("dead")
    engine.move()
    (task,) = engine.moves("dead")
    return task.failure


def move_twice(engine: Driven) -> object:
    engine.do(lambda it: it.moves.start("dead", None, None, engine.now_ms))
    engine.connection.execute("UPDATE move_task SET id = 'abc'")
    return engine.start_move("dead")


Ask = Callable[[Driven], object]
IDS = "1 to 128 ASCII letters, digits and punctuation marks, without spaces"
REFUSALS: dict[str, tuple[Ask, str]] = {
    "delay": (send("plain", delay=901.0), "delay is 901.0; it must be from 0 to 900 seconds"),
    "size": (
        send("plain", "x" * 1_025),
        (
            "size of the message is 1025; it must be at most 1024 bytes, attributes included; "
            "keep the content elsewhere, send its key"
        ),
    ),
    "size of a forward": (
        forward,
        (
            "size of the message is 1025; it must be at most 1024 bytes, attributes included; "
            "keep the content elsewhere, send its key"
        ),
    ),
    "no group": (
        send("line", key="k"),
        f"group is None; it must be {IDS}, on a FIFO queue: send(..., group=...), or --group",
    ),
    "group": (
        send("plain", group="\ud800"),
        "group is '\\ud800'; it must be text without half of a surrogate pair",
    ),
    "no deduplication id": (
        send("line", group="a"),
        ("deduplication id is None; it must be 1 to 128 characters, where the queue has no content_deduplication=True"),
    ),
    "deduplication id": (send("line", group="a", key=LONG), f"deduplication id is {LONG!r}; it must be {IDS}"),
    "receive attempt id": (
        lambda engine: engine.take("line", attempt="a b"),
        f"receive attempt id is 'a b'; it must be {IDS}",
    ),
    "limit": (lambda engine: engine.take("plain", 0), "limit is 0; it must be 1 or more"),
    "lease": (
        lambda engine: engine.take("plain", lease=43_200.5),
        "lease is 43200.5; it must be from 0 to 43200 seconds",
    ),
    "extension": (extend, "lease is 0.0; it must be over 0 and at most 43200 seconds"),
    "limit of a page": (
        lambda engine: engine.engine.browse("plain", cursor=None, limit=0),
        "limit is 0; it must be 1 or more",
    ),
    "cursor": (
        lambda engine: engine.engine.browse("plain", cursor="x", limit=1),
        "cursor is 'x'; it must be what the page before gave",
    ),
    "name": (
        declare(QueueSpec(name="a.b")),
        "name of a queue is 'a.b'; it must be 1 to 80 of the characters A-Z, a-z, 0-9, _ and -",
    ),
    "content deduplication": (
        declare(QueueSpec(name="x", content_deduplication=True)),
        "content_deduplication is True; it must be for FIFO queues: add fifo=True",
    ),
    "delay of a queue": (
        declare(QueueSpec(name="x", delay=901.0)),
        "delay of a queue is 901.0; it must be from 0 to 900 seconds",
    ),
    "retention": (
        declare(QueueSpec(name="x", retention=1.0)),
        "retention is 1.0; it must be from 60 to 1209600 seconds, or None to keep for ever",
    ),
    "largest message": (
        declare(QueueSpec(name="x", largest_message=1)),
        "largest_message is 1; it must be from 1024 to 1048576 bytes",
    ),
    "allowed sources": (
        declare(QueueSpec(name="x", allowed_sources=tuple("abcdefghijk"))),
        (
            "allowed_sources is ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k'); "
            "it must be at most 10 names, or None for every queue"
        ),
    ),
    "max receives": (
        declare(QueueSpec(name="x", max_receives=7)),
        "max_receives is 7; it must be from 1 to 1000, together with a dead_letter_queue",
    ),
    "dead-letter queue": (
        declare(QueueSpec(name="x", dead_letter_queue="nowhere", max_receives=1)),
        ("queue 'nowhere' does not exist; declare it with app.queue('nowhere', ...) and open the application"),
    ),
    "dead letters of the other kind": (
        declare(QueueSpec(name="x", dead_letter_queue="line", max_receives=1)),
        "queue 'line' is not of the kind of 'x'; use a FIFO queue for a FIFO queue",
    ),
    "dead letters that are not wanted": (
        declare(QueueSpec(name="x", dead_letter_queue="picky", max_receives=1)),
        "queue 'picky' does not take the dead letters of 'x'; add it to its allowed_sources",
    ),
    "becoming FIFO": (
        declare(QueueSpec(name="other", fifo=True)),
        ("queue 'other' is a standard queue and cannot become a FIFO queue; give the new one another name"),
    ),
    "becoming standard": (
        declare(QueueSpec(name="line")),
        ("queue 'line' is a FIFO queue and cannot become a standard queue; give the new one another name"),
    ),
    "rate of a move": (
        lambda engine: engine.start_move("dead", rate=501),
        "rate is 501; it must be from 1 to 500 messages a second, or None",
    ),
    "source of a move": (
        lambda engine: engine.start_move("other"),
        "queue 'other' is no queue's dead-letter queue; move from one that is",
    ),
    "move to itself": (
        lambda engine: engine.start_move("dead", "dead"),
        "queue 'dead' cannot be moved to itself; name another destination",
    ),
    "move to the other kind": (
        lambda engine: engine.start_move("dead", "line"),
        "queue 'line' is not of the kind of 'dead'; move FIFO to FIFO only",
    ),
    "second move": (
        move_twice,
        "queue 'dead' is being moved already, by task 'abc'; wait for it, or cancel it",
    ),
    "cancelling a move": (
        lambda engine: engine.cancel("abc"),
        "move task is 'abc'; it must be the id of a task that is running",
    ),
    "moving what died nowhere": (
        move_a_stray,
        "queue 'dead' holds message 'm1', which is no queue's dead letter; name a destination",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_refusal_says_what_is_wrong_and_what_to_do(what: str) -> None:
    """To the letter: people search for it."""
    ask, sentence = REFUSALS[what]
    with driven(*SPECS) as engine:
        try:
            said = ask(engine)
        except RedriveError as error:
            said = error
        assert str(said) == sentence
