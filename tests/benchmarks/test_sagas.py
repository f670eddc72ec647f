"""The bench of sagas runs, and counts what it measures; how fast is read by people, not tested."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.running import kept, script


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ("SQLite", 7),
        ("interrupted", 3),
        pytest.param("PostgreSQL", 7, marks=pytest.mark.long),
        pytest.param("wait on timers", 8, marks=pytest.mark.long),
    ],
)
def test_the_short_form_measures_redrive(lines: str, count: int) -> None:
    """Each line gives a number that is not negative, or says what is not installed; so does DBOS where it is beside."""
    found = kept("sagas.py", "--only", lines)["sagas"]
    assert len(found) == count
    for one in found:
        for number in (one["redrive"], one["dbos"]):
            assert number is None or ("installed" in number if isinstance(number, str) else number >= 0)
    if lines != "PostgreSQL":
        assert all(isinstance(one["redrive"], float) for one in found)


def test_a_line_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    """A typing error ends with what could have been meant, not with an empty table."""
    done = script("sagas.py", "--short", "--folder", str(tmp_path), "--only", "teleport")
    assert done.returncode == 2
    assert "'teleport'" in done.stderr
    assert "one client waits, /s" in done.stderr
