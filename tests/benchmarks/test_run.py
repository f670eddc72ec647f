"""The benchmarks run, and count what they measure; how fast is read by people, not tested."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.running import kept, script


@pytest.mark.parametrize(
    "row", ["batches of", "drain, async", "two worker processes ÷", "1,000,000 waiting ÷", "import"]
)
def test_the_short_form_measures_redrive_and_keeps_what_it_found(row: str) -> None:
    """A row gives a number above zero, and the JSON says on what machine and how durable it was."""
    found = kept("run.py", "--only", row)
    assert all(one["redrive"] > 0 for one in found["results"])
    assert found["results"]
    assert found["durability"]["journal_mode"] == "wal"
    assert found["machine"]["cores"] >= 1


@pytest.mark.parametrize(
    ("name", "peers"),
    [("SQL", 3), pytest.param(" on ", 6, marks=[pytest.mark.long, pytest.mark.timeout(400)])],
    ids=["those without RabbitMQ", "all"],
)
def test_peers_are_measured_or_said_to_be_missing(name: str, peers: int) -> None:
    """Each of them has its numbers, and how far it is from redrive's, or the reason why it has none."""
    first, *found = kept("run.py", "--only", name, timeout=390)["peers"]
    assert first["name"] == "redrive"
    assert len(found) == peers
    for one in found:
        if "missing" in one:
            assert "installed" in one["missing"]
        else:
            assert min(one["drained"], one["sent"], one["p50"]) > 0
            assert one["drained_ratio"] == pytest.approx(first["drained"] / one["drained"])


def test_a_row_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    """A typing error ends with what could have been meant, not with an empty table."""
    done = script("run.py", "--short", "--folder", str(tmp_path), "--only", "teleport")
    assert done.returncode == 2
    assert "'teleport'" in done.stderr
    assert "drain, async handler" in done.stderr
