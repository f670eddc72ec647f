"""Processes on one file, killed again and again: what was promised to the living is kept."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
KILLED = {"producer", "consumer", "mover", "worker"}
CAUGHT_BY = {
    "AnswersBeforeItWrites": "lost",
    "LeasesTooShort": "leased twice",
    "SpreadsGroups": "overtaken",
    "GivesUpLate": "died late",
    "GivesUpEarly": "died early",
    "ForgetsWhatWasSent": "sent twice",
    "AcknowledgesLater": "came back",
}


def loop(folder: Path, *, kills: int, seed: int, options: tuple[str, ...] = (), timeout: float = 150) -> dict[str, Any]:
    """Run one loop in a process of its own, which has no threads and so may fork; its report."""
    logs = folder / f"logs-{seed}"
    logs.mkdir()
    command = [sys.executable, "-m", "tests.crash.loop", os.fspath(folder), os.fspath(logs)]
    command += ["--seed", str(seed), "--kills", str(kills), *options]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            said, complained = process.communicate(timeout=timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # nothing that it started outlives it
    assert process.returncode == 0, f"seed {seed}: {complained[-4000:]}"
    report: dict[str, Any] = json.loads(said.splitlines()[-1])
    print(json.dumps(report))  # noqa: T201 - `pytest -rP` shows it: kills, messages, how long callers waited
    return report


def assert_nothing_is_wrong(report: dict[str, Any], kills: int) -> None:
    """And that all of it was put to the test."""
    seed = f"seed {report['seed']}"
    assert report["violations"] == [], seed
    assert report["complaints"] == [], seed
    assert set(report["integrity"]) == {"ok"}, seed
    assert sum(report["kills"].values()) >= kills, seed
    _, committing, checkpointing = report["mid_turn"]
    assert committing > kills / 20, report["mid_turn"]
    assert checkpointing > 0, report["mid_turn"]
    counts = report["counts"]
    assert counts["messages received"] > 5 * kills, counts
    for what in ("duplicates sent", "dead letters seen", "handled by the shop", "checkpoints"):
        assert counts[what] > kills / 10, counts
    for what in ("receives without an answer", "sends without an answer", "moved by tasks"):
        assert counts[what] > 0, counts


@pytest.mark.e2e
@pytest.mark.timeout(170)
def test_three_hundred_kills_break_no_promise(short_path: Path) -> None:
    """Producers, consumers, movers, workers and their healers, killed at random moments: the checker finds nothing.

    Nothing answered is lost, no lease is given twice, groups keep their order, a message is dead after exactly three
    receives, what is sent twice is one; nobody sees a locked database, and the file is whole all the time.
    """
    report = loop(short_path, kills=300, seed=random.randrange(10**6))  # noqa: S311 - repeatable by --randomly-seed
    assert_nothing_is_wrong(report, 300)
    assert set(report["kills"]) > KILLED  # and what `redrive worker` runs, or `redrive worker` itself


@pytest.mark.e2e
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_nine_thousand_kills_break_no_promise(short_path: Path) -> None:
    """The same for half an hour, on one file that grows old."""
    seed = random.randrange(10**6)  # noqa: S311 - repeatable by --randomly-seed
    reports = []
    for number in range(30):
        reports.append(loop(short_path, kills=300, seed=seed + number))
        assert_nothing_is_wrong(reports[-1], 300)
    assert sum(sum(one["kills"].values()) for one in reports) >= 9_000


@pytest.mark.e2e
@pytest.mark.parametrize(("broken", "kind"), CAUGHT_BY.items())
def test_the_checker_catches(short_path: Path, broken: str, kind: str) -> None:
    """Each broken broker is found out by what it breaks, within some seconds of the same loop."""
    options = ("--unsupervised", "--every", "0.15", "--broken", broken)
    report = loop(short_path, kills=15, seed=random.randrange(10**6), options=options, timeout=50)  # noqa: S311 - as above
    assert kind in {one.partition(":")[0] for one in report["violations"]}, report
