"""The outage benches run, and their numbers add up."""

from __future__ import annotations

import pytest

from tests.benchmarks.running import kept


def test_redrive_handles_all_that_waited() -> None:
    """Nothing is lost or dead, and most of what was wasted are canaries or the calls under way at the trip."""
    (found,) = kept("outage.py", "--only", "redrive")["results"]
    assert (found["handled"], found["twice"], found["lost"], found["dead"], found["waiting"]) == (20, 0, 0, 0, 0)
    assert 0 < found["canaries"] < found["wasted"]


@pytest.mark.parametrize(
    ("name", "peers"),
    [("Huey", 1), ("TaskIQ", 1), pytest.param("", 8, marks=[pytest.mark.long, pytest.mark.timeout(400)])],
    ids=["Huey", "TaskIQ", "all"],
)
def test_each_message_of_a_peer_is_somewhere(name: str, peers: int) -> None:
    """Handled, dead, waiting or lost; or the peer is missing, and says why."""
    found = kept("outage.py", "--only", name, timeout=390)["results"]
    assert len(found) == peers
    for one in found:
        if "missing" in one:
            assert "installed" in one["missing"]
        else:
            assert one["handled"] + one["lost"] + one["dead"] + one["waiting"] == 20
            assert one["wasted"] > 0


def test_four_policies_are_measured_side_by_side() -> None:
    """Every order is paid or dead under each of them, and only redrive's served coffee while payments were down."""
    found = kept("policies.py")["results"]
    assert [one["policy"] for one in found] == ["no-dlq", "dlq", "backoff", "circuit"]
    for one in found:
        assert one["paid"] + one["dead"] == 40
        assert one["booked"] == one["charges"] == one["paid"]
        assert one["samples"][-1]["invocations"] >= 40
    circuit = found[-1]
    assert circuit["paid"] == 40
    assert circuit["served"] > max(one["served"] for one in found[:-1])
