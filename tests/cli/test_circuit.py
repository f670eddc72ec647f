"""`redrive circuit`."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cafe

FIELDS = [
    "dependency", "state", "generation", "reason", "owner", "changed_at_ms", "until_ms", "next_canary_in_ms",
    "failed_probes", "calls", "failures",
]  # fmt: skip


def test_ls_lists_dependencies(cafe: Cafe) -> None:
    """Their states, since when and why."""
    header, line = cafe.run("circuit", "ls").stdout.splitlines()
    assert header.split() == ["DEPENDENCY", "STATE", "SINCE", "NEXT", "CANARY", "CALLS", "FAILURES", "REASON"]
    assert line.split()[:2] == ["payments", "forced-open"]
    assert line.endswith("for the test")
    (document,) = cafe.json("circuit", "ls")
    assert list(document) == FIELDS
    assert document["state"] == "forced-open"


def test_show_shows_one(cafe: Cafe) -> None:
    """The same facts, one a line."""
    assert "state          forced-open\n" in cafe.run("circuit", "show", "payments").stdout
    assert cafe.json("circuit", "show", "payments") == cafe.json("circuit", "ls")


def test_a_circuit_is_held_and_given_back(cafe: Cafe) -> None:
    """Open until told otherwise, closed for some minutes, then automatic again."""
    (held,) = cafe.json("circuit", "open", "payments", "--reason", "migration")
    assert (held["state"], held["reason"], held["until_ms"]) == ("forced-open", "migration", None)
    (held,) = cafe.json("circuit", "close", "payments", "--minutes", "1.5")
    assert (held["state"], held["reason"]) == ("forced-closed", "by hand")
    assert held["until_ms"] - held["changed_at_ms"] == 90_000
    assert "until" in cafe.run("circuit", "show", "payments").stdout
    (given_back,) = cafe.json("circuit", "auto", "payments")
    assert given_back["state"] == "closed"
    cafe.run("circuit", "open", "payments")
    (given_back,) = cafe.json("circuit", "auto", "payments")
    assert given_back["state"] == "open"
    assert 0 <= given_back["next_canary_in_ms"] <= 60_000


def test_what_was_done_is_said(cafe: Cafe) -> None:
    """In a sentence, with how long it lasts."""
    assert "is held open until `redrive circuit auto`" in cafe.run("circuit", "open", "payments").stdout
    assert "is held closed until 5 min have passed" in cafe.run("circuit", "close", "payments", "--minutes", "5").stdout
    assert "is automatic again: closed" in cafe.run("circuit", "auto", "payments").stdout


@pytest.mark.parametrize("command", ["show", "open", "close", "auto"])
def test_an_unknown_dependency_is_named(cafe: Cafe, command: str) -> None:
    """With those that are known; nothing is made."""
    line = cafe.refused("circuit", command, "printers", code=3)
    assert "known are: payments" in line
    assert len(cafe.json("circuit", "ls")) == 1


@pytest.mark.parametrize("minutes", ["0", "-1", "inf", "nan", "long"])
def test_minutes_are_checked(cafe: Cafe, minutes: str) -> None:
    """A circuit is not held for ever by a slip of the hand."""
    assert "no number over 0" in cafe.run("circuit", "open", "payments", "--minutes", minutes, code=2).stderr
