"""The documentation's figures come from what a run kept, and from nowhere else."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.running import BENCHMARKS, script

DOCS = BENCHMARKS.parent / "docs"
WHERE = {
    "at": "2026-01-02T03:04:05+00:00",
    "machine": {"processor": "abacus", "cores": 2, "memory_gib": 1, "kernel": "Linux 6-x", "file_system": "ext4 on /x"},
    "versions": {"redrive": "0"},
    "durability": {"synchronous": 2},
    "load": [0.1, 0.1, 0.1],
    "load_after": [0.2, 0.1, 0.1],
    "short": False,
}
OWN = {"name": "drain", "unit": "/s", "target": "≥ 30,000", "redrive": 54_321.0, "met": True, "syncs_per_1000": 2.0}
PEER = {"name": "Abacus", "drained": 10.0, "drained_ratio": 5_432.1, "sent": 9.0, "sent_ratio": 2.0, "p50": 7.0}
BENCH = {
    **WHERE,
    "repeat": 5,
    "results": [OWN, {"name": "FIFO", "unit": "", "target": "", "failed": "TypeError"}],
    "peers": [{**PEER, "crash": "is lost"}, {"name": "Slate", "crash": "", "missing": "not installed: slate"}],
}
TRIAL = {"wasted": 24, "handled": 500, "lost": 0, "dead": 0, "waiting": 0, "seconds": 14.5, "handlers": 9.0}
OUTAGE = {
    **WHERE,
    "outage": {},
    "results": [
        {"name": "redrive", "policy": "circuit", **TRIAL, "processor": 1.0, "canaries": 14, "after_canary": 12.25},
        {"name": "Slate", "policy": "wipes", "missing": "not installed: slate"},
    ],
}
SAMPLE = {"paid": 1.0, "dead": 0.0, "waiting": 2.0, "parked": 1.0, "served": 1.0, "invocations": 3.0, "seconds": 0.5}
SHIFT = {"paid": 1_000, "dead": 77, "wasted": 2, "invocations": 9, "seconds": 1.0, "deepest": 5, "served": 8}
POLICIES = {
    **WHERE,
    "plan": {"orders": 1_000, "per_second": 10.0, "down_at": 1.0, "down_for": 2.0, "lease": 10.0},
    "results": [
        {
            "policy": "circuit",
            "title": "redrive & co.",
            **SHIFT,
            "caught_up": 16.0,
            "samples": [{"at": float(at), **SAMPLE} for at in range(6)],
        }
    ],
}
SAGAS = {
    **WHERE,
    "repeat": 3,
    "sagas": [
        {"name": "64 clients wait", "asked": "≥ 10 times DBOS", "redrive": 1_500.0, "dbos": 120.0},
        {"name": "drained", "asked": "", "redrive": "failed", "dbos": None},
    ],
}


def report(folder: Path, document: dict[str, Any]) -> tuple[str, str]:
    """The page after a report, and what it printed."""
    if not (folder / "benchmarks.md").exists():
        shutil.copy(DOCS / "benchmarks.md", folder)
    (folder / "kept.json").write_text(json.dumps(document))
    done = script("report.py", str(folder / "kept.json"), "--docs", str(folder))
    assert done.returncode == 0, done.stderr
    return (folder / "benchmarks.md").read_text("utf-8"), done.stdout


def test_figures_stand_in_the_page_with_where_they_are_from(tmp_path: Path) -> None:
    """Number, target and machine; what could not be measured says so; a second report changes nothing more."""
    page, _ = report(tmp_path, BENCH)
    assert "| drain | 54,321 | /s | ≥ 30,000 | met | 2.00 |" in page
    assert "| FIFO | not measured |" in page
    assert "| Abacus | 10.0 | 5,432 | 9.00 | 2.00 | 7.00 | is lost |" in page
    assert "not measured: it is not installed" in page
    assert "Measured on 2026-01-02: abacus, 2 cores" in page
    assert report(tmp_path, BENCH)[0] == page


def test_an_outage_stands_in_the_page(tmp_path: Path) -> None:
    """Calls, messages and seconds, and how many of the calls were canaries."""
    page, _ = report(tmp_path, OUTAGE)
    assert "| redrive | circuit | 24 | 500 | 0 | 0 | 0 | 14.5 |" in page
    assert "24 calls 14 were canaries; its last message was handled 12.2 s after" in page


def test_policies_have_a_table_a_picture_and_a_short_table_for_the_readme(tmp_path: Path) -> None:
    """The picture is well-formed, and says in words what it shows."""
    page, printed = report(tmp_path, POLICIES)
    assert "| dead: wait for a person | 77 |" in page
    assert "| **redrive & co.** | 1,000 | 77 | 2 | 16 |" in printed
    picture = ET.parse(tmp_path / "four-policies.svg").getroot()  # noqa: S314 - our own
    assert "redrive & co.: 1000 paid, 77 dead" in (picture.findtext("{*}desc") or "")


def test_sagas_stand_in_the_page_beside_dbos(tmp_path: Path) -> None:
    """Both numbers and how many times DBOS's redrive's is; what failed says so."""
    page, _ = report(tmp_path, SAGAS)
    assert "| 64 clients wait | ≥ 10 times DBOS | 1,500 | 120 | 12.5 |" in page
    assert "| drained |  | failed |  |  |" in page


@pytest.mark.parametrize("document", [BENCH, OUTAGE, POLICIES, SAGAS], ids=["bench", "outage", "policies", "sagas"])
def test_a_short_run_is_no_figure(document: dict[str, Any], tmp_path: Path) -> None:
    """It shows that something runs, so the page does not take it."""
    shutil.copy(DOCS / "benchmarks.md", tmp_path)
    (tmp_path / "kept.json").write_text(json.dumps({**document, "short": True}))
    done = script("report.py", str(tmp_path / "kept.json"), "--docs", str(tmp_path))
    assert done.returncode == 2
    assert "short run" in done.stderr
    assert (tmp_path / "benchmarks.md").read_text("utf-8") == (DOCS / "benchmarks.md").read_text("utf-8")
