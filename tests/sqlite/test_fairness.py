"""Several processes hammer one file: nobody is told that it is locked, and everybody gets on.

The figures, such as how long a turn is waited for, are not tested: `hammer.py` prints them.
"""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from redrive.sqlite.database import connect
from tests.sqlite.hammer import together

MIB = 1024 * 1024


@pytest.mark.parametrize("ways", [["small", "small", "small"], ["round_trip", "round_trip"]])
def test_processes_that_ask_the_same_get_about_the_same(short_path: Path, ways: list[str]) -> None:
    """Nobody's work fails, and no process does less than a quarter of what another one does."""
    saw = together(str(short_path / "p.db"), 1.0, ways)
    calls = [one["calls"] for one in saw]
    assert min(calls) > 0.25 * max(calls), saw


def test_who_asks_for_little_is_not_crowded_out(short_path: Path) -> None:
    """Beside two processes that send thousands at a time, one that sends one after the other gets on."""
    one, *others = together(str(short_path / "p.db"), 1.0, ["one", "large", "large"])
    assert one["calls"] > 10
    assert min(other["calls"] for other in others) > 10
    assert max(other["longest_log"] for other in others) < 16 * MIB


def test_the_log_stays_short(short_path: Path) -> None:
    """However long two processes write without a pause; and who closes the file last leaves none."""
    path = short_path / "p.db"
    first, second = together(str(path), 1.5, ["small", "small"])
    assert 0 < max(first["longest_log"], second["longest_log"]) < 8 * MIB
    connect(str(path)).close()  # of two that close at the same moment neither may have been the last
    assert not path.with_name("p.db-wal").exists()
    connection = apsw.Connection(str(path))
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    assert connection.execute("SELECT count(*) FROM message").get == first["calls"] + second["calls"]
    connection.close()


def test_a_new_file_can_be_opened_by_many_at_once(short_path: Path) -> None:
    """One makes it, the others wait; nobody finds it locked, or half made and therefore somebody else's."""
    saw = together(str(short_path / "p.db"), 40, ["open"] * 4)
    assert [one["failed"] for one in saw] == [[]] * 4
