"""`redrive parked`."""

from __future__ import annotations

import pytest

from tests.cli.conftest import PARKED, Cafe


def test_a_broker_that_shows_nothing_is_said_to(cafe: Cafe, any_broker: str) -> None:
    """How many are parked is known there, since when is not, and a note says why."""
    result = cafe.run("parked", "ls")
    assert ("shows no message" in result.stderr) == (any_broker == "plain")
    (document,) = cafe.json("parked", "ls")
    assert document["count"] == 1
    assert (document["oldest_sent_at_ms"] is None) == (any_broker == "plain")
    if any_broker == "plain":
        assert "cannot be looked into" in cafe.refused("queue", "peek", "orders-parked-payments")


def test_ls_lists_what_waits(cafe: Cafe) -> None:
    """For which dependency, how many, since when."""
    header, line = cafe.run("parked", "ls").stdout.splitlines()
    assert header.split() == ["QUEUE", "DEPENDENCY", "PARKED", "OLDEST", "SENT"]
    assert line.split()[:3] == ["orders", "payments", "1"]
    (document,) = cafe.json("parked", "ls", "payments")
    assert document["oldest_sent_at_ms"] > 1_700_000_000_000
    assert {name: document[name] for name in ("queue", "dependency", "parked_queue", "count")} == {
        "queue": "orders",
        "dependency": "payments",
        "parked_queue": "orders-parked-payments",
        "count": 1,
    }


def test_redrive_moves_messages_back(cafe: Cafe) -> None:
    """Under their own ids, with their bodies; a second time there is nothing left."""
    command = ["parked", "redrive", "payments", "--queue", "orders", "--limit", "5", "--rate", "100"]
    assert cafe.json(*command) == [{"action": "redriven", "count": 1, "dependency": "payments", "queue": "orders"}]
    (message,) = cafe.messages()
    assert (message.id, message.body) == (cafe.parked, PARKED)
    assert cafe.run(*command).stdout == "redriven 0 messages\n"
    assert cafe.json("parked", "ls")[0]["oldest_sent_at_ms"] is None


def test_dry_run_moves_nothing(cafe: Cafe) -> None:
    """It counts what would be moved."""
    assert cafe.json("parked", "redrive", "payments", "--dry-run")[0]["count"] == 1
    assert cafe.messages() == []


@pytest.mark.parametrize("command", ["ls", "redrive"])
def test_an_unknown_dependency_is_named(cafe: Cafe, command: str) -> None:
    """With those that are known."""
    line = cafe.refused("parked", command, "printers", code=3)
    assert "'printers'" in line
    assert "payments" in line


def test_an_unknown_queue_is_named(cafe: Cafe) -> None:
    """Not taken for one in which nothing waits."""
    assert "'nowhere'" in cafe.refused("parked", "redrive", "payments", "--queue", "nowhere", code=3)


@pytest.mark.parametrize("option", [["--limit", "0"], ["--rate", "0"], ["--rate", "nan"], ["--rate", "fast"]])
def test_limits_are_checked(cafe: Cafe, option: list[str]) -> None:
    """Exit code 2, nothing moved."""
    assert option[1] in cafe.run("parked", "redrive", "payments", *option, code=2).stderr
    assert cafe.messages() == []
