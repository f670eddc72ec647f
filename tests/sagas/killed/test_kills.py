"""Real workers, killed before and after every commit and inside every body: each saga ends as it should.

Two processes on one address; an independent ledger of the services. In the long form every point is tried, and a
thousand random pairs and triples of them; in the quick one, a sample.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
from tools.services import Missing, postgres

from tests.sagas.killed.judge import faults_of
from tests.sagas.killed.shop import Point

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ORDERS = ("completed", "undone", "stuck")
SEED = 7
Trials = list[tuple[str, list[Point]]]
Run = Callable[[Trials], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a PostgreSQL of these tests' own; without fsync, for no power is cut."""
    try:
        with postgres(durable=False) as started:
            yield started.url
    except Missing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest) -> str:
    """Where a trial's queues and journals are, by its folder and number: all in one file, or journals elsewhere."""
    file = "sqlite:{folder}/trial.db"
    if request.param == "sqlite":
        return file
    server = request.getfixturevalue("server")
    return f"{file}?store_url={quote(server, safe=':/[]')}%3Ftable%3D{{name}}"


@pytest.fixture
def run(address: str) -> Iterator[Run]:
    """Runs trials on one kind of store."""
    with tempfile.TemporaryDirectory(prefix="r-") as folder:

        def run(trials: Trials) -> list[dict[str, Any]]:
            asked = [
                {"order": order, "points": [asdict(one) for one in points], "address": address}
                for order, points in trials
            ]
            mine = Path(folder) / str(len(list(Path(folder).iterdir())))
            mine.mkdir()
            command = [sys.executable, "-m", "tests.sagas.killed.trial", str(mine)]
            ended = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
            assert ended.returncode == 0, ended.stderr
            found: list[dict[str, Any]] = json.loads(ended.stdout.splitlines()[-1])
            return found

        yield run


def faults(outcomes: list[dict[str, Any]]) -> list[str]:
    """Of all trials, each with its points."""
    return [f"{one['order']} {one.get('points')}: {fault}" for one in outcomes for fault in faults_of(one)]


def every_point(outcome: dict[str, Any], *, stops: bool = False) -> list[Point]:
    """Each that a trial without kills came to."""
    return [
        Point(kind=kind, number=number, after=after, stops=stops)
        for kind, count in outcome["counts"].items()
        for number in range(1, count + 1)
        for after in (False, True)
    ]


def test_a_sample_of_kills_is_survived(run: Run) -> None:
    """For each way to end: without a kill, then a few single, double and triple kills, and a zombie."""
    whole = run([(order, []) for order in ORDERS])
    assert faults(whole) == []
    random = Random(SEED)  # noqa: S311 - repeatable on purpose
    trials: Trials = []
    for outcome in whole:
        points = every_point(outcome)
        trials += [(outcome["order"], random.sample(points, count)) for count in (1, 1, 2, 3)]
        bodies = [one for one in every_point(outcome, stops=True) if one.kind == "body"]
        trials.append((outcome["order"], random.sample(bodies, 1)))
    outcomes = run(trials)
    assert faults(outcomes) == []
    assert sum(one["fired"] for one in outcomes) > len(trials), "the switch killed"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_kill_at_every_point_is_survived(run: Run) -> None:
    """Before and after every write and settlement, and inside every step and undo before and after its effect."""
    trials: Trials = [
        (one["order"], [point]) for one in run([(order, []) for order in ORDERS]) for point in every_point(one)
    ]
    outcomes = run(trials)
    assert faults(outcomes) == []
    assert all(one["fired"] == 1 for one in outcomes), "every point was come to"


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_thousand_random_double_and_triple_kills_are_survived(run: Run) -> None:
    """Each counted from the one before it."""
    random = Random(SEED)  # noqa: S311 - repeatable on purpose
    points = {one["order"]: every_point(one) for one in run([(order, []) for order in ORDERS])}
    trials: Trials = [
        (order, random.choices(points[order], k=random.choice([2, 3]))) for order in random.choices(ORDERS, k=1000)
    ]
    assert faults(run(trials)) == []


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_worker_that_is_stopped_for_longer_than_its_lease_does_nothing_when_it_wakes(run: Run) -> None:
    """At every point: another takes over and ends the saga; the zombie writes nothing and begins nothing."""
    wholes = run([(order, []) for order in ORDERS])
    outcomes = run([(one["order"], [point]) for one in wholes for point in every_point(one, stops=True)])
    assert faults(outcomes) == []
