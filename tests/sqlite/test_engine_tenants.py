"""Fairness in the engine: rounds of tenants on standard queues."""

from __future__ import annotations

from redrive.broker import QueueSpec
from tests.sqlite.driven import LEASE, Driven, driven

PLAIN = QueueSpec(name="plain")
OTHER = QueueSpec(name="other")


def burst(engine: Driven, group: str, length: int, queue: str = "plain") -> None:
    engine.send(queue, *(f"{group}{number + 1}" for number in range(length)), group=group)


def test_tenants_take_turns() -> None:
    """One message of each, round by round, however many one of them has."""
    with driven(PLAIN) as engine:
        burst(engine, "a", 4)
        burst(engine, "b", 2)
        burst(engine, "c", 1)
        assert engine.drain("plain") == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_who_comes_behind_a_burst_is_next() -> None:
    """After the message that is being received, not after all of the burst."""
    with driven(PLAIN) as engine:
        burst(engine, "a", 1_000)
        assert len(engine.take("plain", 10)) == 10
        burst(engine, "b", 2)
        assert [engine.bodies("plain", 1) for _ in range(4)] == [["a11"], ["b1"], ["a12"], ["b2"]]


def test_who_was_away_begins_at_the_round_being_received() -> None:
    """He has no arrears: what he sends then alternates with the others'."""
    with driven(PLAIN) as engine:
        burst(engine, "b", 1)
        burst(engine, "a", 6)
        assert engine.bodies("plain", 4) == ["b1", "a1", "a2", "a3"]
        engine.send("plain", "b2", "b3", "b4", group="b")
        assert engine.drain("plain") == ["a4", "b2", "a5", "b3", "a6", "b4"]


def test_messages_without_a_group_go_into_the_next_round() -> None:
    """Each is a tenant of its own: a burst does not hold them up, nor do they hold up the tenants."""
    with driven(PLAIN) as engine:
        burst(engine, "a", 3)
        assert engine.bodies("plain", 1) == ["a1"]
        engine.send("plain", "x", "y")
        assert engine.drain("plain") == ["a2", "x", "y", "a3"]
        assert engine.count_of("tenant") == 1


def test_a_stream_without_groups_does_not_starve_a_tenant() -> None:
    """However many of them always wait."""
    with driven(PLAIN) as engine:
        engine.send("plain", *(f"x{number}" for number in range(10)))
        engine.send("plain", "a1", group="a")
        for number in range(20):
            if "a1" in engine.bodies("plain", 5):
                return
            engine.send("plain", *(f"y{number}{each}" for each in range(5)))
        raise AssertionError("the tenant was never served")


def test_without_groups_what_is_ready_longest_comes_first() -> None:
    """And what became ready at the same time in the order of the sends."""
    with driven(PLAIN) as engine:
        engine.send("plain", "1", "2")
        engine.send("plain", "late", delay=2.0)
        engine.send("plain", "soon", delay=1.0)
        engine.let_pass(1)
        engine.send("plain", "3")
        engine.let_pass(1)
        engine.send("plain", "4")
        assert engine.drain("plain") == ["1", "2", "soon", "3", "late", "4"]


def test_what_returns_keeps_its_round() -> None:
    """A message that failed is not put behind a burst that came meanwhile."""
    with driven(PLAIN) as engine:
        burst(engine, "a", 1)
        (taken,) = engine.take("plain", 1)
        burst(engine, "b", 5)
        engine.hand_back(taken)
        assert engine.bodies("plain", 2) == ["a1", "b1"]


def test_rounds_never_go_back() -> None:
    """A returned message of an early round lets nobody into rounds that are over."""
    with driven(PLAIN) as engine:
        burst(engine, "a", 5)
        (first,) = engine.take("plain", 1)
        engine.take("plain", 3)
        engine.hand_back(first)
        engine.take("plain", 1)
        burst(engine, "b", 1)
        assert engine.drain("plain") == ["a5", "b1"]


def test_queues_have_rounds_of_their_own() -> None:
    """A burst in one queue gives its tenant no place behind in another one."""
    with driven(PLAIN, OTHER) as engine:
        burst(engine, "a", 50)
        engine.take("plain", 25)
        burst(engine, "b", 2, "other")
        burst(engine, "a", 2, "other")
        assert engine.drain("other") == ["b1", "a1", "b2", "a2"]


def test_what_is_received_from_one_queue_is_no_progress_of_another() -> None:
    """A new tenant there does not stand behind rounds that were received here."""
    with driven(PLAIN, OTHER) as engine:
        burst(engine, "a", 10, "other")
        burst(engine, "a", 50)
        engine.take("plain", 25)
        burst(engine, "b", 1, "other")
        assert "b1" in engine.drain("other")[:2]


def test_tenants_of_another_queue_are_not_idle_by_what_is_received_here() -> None:
    """They keep their place behind what they have sent."""
    with driven(PLAIN, OTHER) as engine:
        burst(engine, "a", 5, "other")
        burst(engine, "a", 50)
        engine.take("plain", 25)
        engine.do(lambda it: it.sweep(engine.now_ms))
        engine.send("other", "last", group="a")
        burst(engine, "b", 2, "other")
        assert engine.drain("other")[-1] == "last"


def test_idle_tenants_are_forgotten_and_come_back_like_new_ones() -> None:
    """Those that still have something are kept, with their place."""
    with driven(PLAIN) as engine:
        burst(engine, "a", 3)
        burst(engine, "b", 1)
        engine.take("plain", 2)
        engine.do(lambda it: it.sweep(engine.now_ms))
        assert engine.count_of("tenant") == 1
        engine.send("plain", "a4", group="a")
        engine.send("plain", "b2", group="b")
        assert engine.drain("plain") == ["a2", "b2", "a3", "a4"]


def test_a_purge_forgets_tenants() -> None:
    """Nobody stands behind messages that are no more."""
    with driven(PLAIN, OTHER) as engine:
        burst(engine, "a", 100)
        burst(engine, "z", 1, "other")
        engine.do(lambda it: it.purge("plain"))
        assert engine.count_of("tenant") == 1
        burst(engine, "b", 2)
        burst(engine, "a", 2)
        assert engine.drain("plain") == ["b1", "a1", "b2", "a2"]


def test_a_delayed_message_has_its_round_from_when_it_was_sent() -> None:
    """Its tenant paid for it then."""
    with driven(PLAIN) as engine:
        engine.send("plain", "late", group="a", delay=LEASE)
        engine.send("plain", "second", group="a")
        burst(engine, "b", 2)
        engine.let_pass(LEASE)
        assert engine.drain("plain") == ["b1", "late", "second", "b2"]
