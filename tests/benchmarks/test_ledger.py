"""No figure without a count: the ledger refuses whatever was not handled exactly once."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.running import BENCHMARKS


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("ledger"), importlib.import_module("workload")


def test_what_was_handled_once_each_is_good(tmp_path: Path, modules: tuple[Any, Any]) -> None:
    """Also where another process wrote a part of it."""
    ledger, workload = modules
    mine, another = ledger.Ledger.make(tmp_path, 3), ledger.Ledger(tmp_path)
    mine.handled(workload.order(0))
    another.handled(workload.order(1))
    mine.verify(range(2))
    assert mine.holds(range(2))
    assert not mine.holds(range(3))
    assert mine.began > 0
    assert mine.count == 2


@pytest.mark.parametrize("handled", [(0,), (0, 1, 1), (0, 2), (0, 1, 2)], ids=["missing", "twice", "other", "more"])
def test_what_was_not_is_refused(handled: tuple[int, ...], tmp_path: Path, modules: tuple[Any, Any]) -> None:
    """One that is missing, one that came twice, one that nobody sent."""
    ledger, workload = modules
    book = ledger.Ledger.make(tmp_path, 3)
    for number in handled:
        book.handled(workload.order(number))
    with pytest.raises(ledger.Miscounted):
        book.verify(range(2))


def test_waiting_for_what_never_comes_ends(tmp_path: Path, modules: tuple[Any, Any]) -> None:
    """And says how many did not come."""
    ledger, workload = modules
    book = ledger.Ledger.make(tmp_path, 3)
    book.handled(workload.order(1))
    with pytest.raises(ledger.Miscounted, match="2 of 3"):
        book.wait(range(3), patience=0.0)
