"""`redrive serve`, killed again and again under load: what it had answered is there when it is back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.sqs_api.killed.loop import Loop, Report, forget_the_log, told


def assert_nothing_is_wrong(report: Report, kills: int) -> None:
    """And that all of it was put to the test."""
    print(told(report))  # noqa: T201 - `pytest -rP` shows it
    seed = f"seed {report.seed}"
    assert report.complaints == [], seed
    assert report.violations == [], seed
    assert report.kills == kills
    for what in ("acknowledge across a kill", "kills during the move", "queues deleted", "sent twice", "unknown"):
        assert report.counts[what] > 0, (seed, what, report.counts)


@pytest.mark.e2e
def test_eight_kills_break_no_promise(tmp_path: Path) -> None:
    """Queues, attributes, tags, purges, deletions, messages, leases, order, duplicates and a move are as answered.

    A receipt from before a kill deletes after it, a lease goes on hiding its message, and the move keeps to its rate.
    """
    report = Loop(tmp_path, seed=random.randrange(10**6)).run(8)  # noqa: S311 - repeatable by --randomly-seed
    assert_nothing_is_wrong(report, 8)


@pytest.mark.e2e
@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_hundred_kills_break_no_promise(tmp_path: Path) -> None:
    """The same on a file that grows old."""
    report = Loop(tmp_path, seed=random.randrange(10**6)).run(200)  # noqa: S311 - as above
    assert_nothing_is_wrong(report, 200)
    for what in ("dead", "sends unknown", "receives unknown", "settlements unknown", "sent again"):
        assert report.counts[what] > 0, (what, report.counts)


@pytest.mark.e2e
def test_a_server_that_forgets_is_found_out(tmp_path: Path) -> None:
    """Whose file, after a kill, is one from before its last answers; what those were is chance: it has three tries."""
    report = forgetful(tmp_path / "0")
    for number in (1, 2):
        if not (report.complaints and report.violations):
            report = forgetful(tmp_path / str(number))
    assert report.complaints
    assert {one.partition(":")[0] for one in report.violations} & {"lost", "came back"}


def forgetful(folder: Path) -> Report:
    folder.mkdir()
    return Loop(folder, seed=random.randrange(10**6), between=forget_the_log).run(2)  # noqa: S311 - as above
