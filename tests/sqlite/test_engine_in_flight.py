"""At most 120,000 messages of a queue are in flight.

Source: Amazon SQS quotas, "In-flight messages per queue", standard and FIFO.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from redrive.broker import Outgoing, QueueSpec
from redrive.sqlite.engine import MOST_IN_FLIGHT
from tests.sqlite.driven import LEASE, Driven, bodies_of, driven

PLAIN = QueueSpec(name="plain")
LINE = QueueSpec(name="line", fifo=True)
OTHER = QueueSpec(name="other")
OTHER_LINE = QueueSpec(name="other-line", fifo=True)
KINDS = ["plain", "line"]


@contextmanager
def only_three() -> Iterator[Driven]:
    """An engine that lets three messages of a queue be in flight."""
    with pytest.MonkeyPatch.context() as patch, driven(PLAIN, LINE, OTHER, OTHER_LINE) as engine:
        patch.setattr("redrive.sqlite.engine.MOST_IN_FLIGHT", 3)
        yield engine


def fill(engine: Driven, queue: str, count: int) -> None:
    """Each in a group of its own."""
    for number in range(count):
        engine.send(queue, str(number), group=f"g{number}")


@pytest.mark.parametrize("queue", KINDS)
def test_nothing_more_is_given_at_the_limit(queue: str) -> None:
    """A receive gives what is left of it, and then nothing, until something is settled."""
    with only_three() as engine:
        fill(engine, queue, 6)
        for other in ("other", "other-line"):
            engine.send(other, "x", group="x")
        first = engine.take(queue, 2)
        assert engine.bodies(queue, 10) == ["2"]
        assert engine.take(queue, 1) == []
        assert engine.bodies("other") == engine.bodies("other-line") == ["x"]
        engine.acknowledge(first[0])
        assert engine.bodies(queue, 10) == ["3"]
        assert engine.take(queue) == []


@pytest.mark.parametrize("queue", KINDS)
def test_a_lease_that_ended_is_not_in_flight(queue: str) -> None:
    """In its last millisecond it is."""
    with only_three() as engine:
        fill(engine, queue, 6)
        engine.take(queue, 3)
        engine.let_pass(LEASE - 0.001)
        assert engine.take(queue) == []
        engine.let_pass(0.001)
        assert len(engine.take(queue)) == 3


@pytest.mark.parametrize("queue", KINDS)
def test_what_was_handed_back_is_not_in_flight(queue: str) -> None:
    """With a delay or without one."""
    with only_three() as engine:
        fill(engine, queue, 6)
        first, second, _ = engine.take(queue, 3)
        engine.hand_back(first)
        engine.hand_back(second, delay=LEASE)
        assert len(engine.take(queue)) == 2


@pytest.mark.long
@pytest.mark.parametrize("queue", KINDS)
def test_the_limit_is_120000(queue: str) -> None:
    """With as many messages as that, in earnest."""
    assert MOST_IN_FLIGHT == 120_000
    with driven(PLAIN, LINE) as engine:
        everything = [engine.message(str(number), f"g{number}") for number in range(MOST_IN_FLIGHT + 5)]
        outgoing = [Outgoing(message=one, deduplication_id=one.id) for one in everything]
        engine.do(lambda it: it.send(queue, outgoing, engine.now_ms))
        taken = []
        while some := engine.take(queue, 10_000, lease=43_200.0):
            taken += some
        assert len(taken) == MOST_IN_FLIGHT
        assert len(set(bodies_of(taken))) == MOST_IN_FLIGHT
        depth = engine.depth(queue)
        assert (depth.ready, depth.in_flight) == (5, MOST_IN_FLIGHT)
        engine.acknowledge(taken[0])
        assert len(engine.take(queue)) == 1
