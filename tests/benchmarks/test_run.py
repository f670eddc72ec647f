"""The benchmarks run; how fast is read by people, not tested."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "benchmarks" / "run.py"


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUN), "--short", "--folder", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


@pytest.mark.parametrize("row", ["128 at a time", "drain, async", "import"])
def test_the_short_form_measures_redrive_and_keeps_what_it_found(row: str, tmp_path: Path) -> None:
    """A row gives a number above zero, and the JSON says on what machine and how durable it was."""
    if "128" in row and importlib.util.find_spec("huey") is None:
        pytest.skip("huey, the peer, is not installed; `python3 tools/bootstrap.py bench` does it")
    kept = tmp_path / "kept.json"
    done = run(tmp_path / "files", "--only", row, "--json", str(kept))
    assert done.returncode == 0, done.stderr
    found = json.loads(kept.read_text("utf-8"))
    assert found["results"][0]["redrive"] > 0
    assert found["durability"]["journal_mode"] == "wal"
    assert found["machine"]["cores"] >= 1
    assert not list((tmp_path / "files").iterdir())


def test_a_row_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    """A typing error ends with what could have been meant, not with an empty table."""
    done = run(tmp_path / "files", "--only", "teleport")
    assert done.returncode == 2
    assert "'teleport'" in done.stderr
    assert "drain, async handler" in done.stderr
