"""Engines that are broken on purpose are found out by the same tests that the real one passes."""

from __future__ import annotations

from typing import Any

import pytest

from redrive.sagas import bodies, record
from redrive.sagas.journal import Journal, StepRecord
from redrive.sagas.record import key_of
from redrive.store import SAGAS
from tests.sagas import test_limits
from tests.sagas.plans import Act, Plan
from tests.sagas.test_random import BACKWARD, FORWARD, everything_cut

TRIED = Plan(items=((Act(failures=2, effect_before_failure=True),), (Act(failures=2),), (Act(rejected=True),)))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_FIRST_PAUSE", 0.0)


async def test_an_intent_that_is_written_after_the_body_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A death in the body leaves an effect that nobody knows of, or an attempt that was never counted."""

    async def not_yet(self: Any, _longest: float, **_unless: object) -> None:
        self.record.changed()

    monkeypatch.setattr(bodies.Bodies, "write", not_yet)
    assert [one for plan in (TRIED, BACKWARD) for one in await everything_cut(plan)] != []


async def test_attempts_that_begin_anew_after_a_crash_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than the policy says."""
    read = Journal.from_json.__func__  # type: ignore[attr-defined]

    def forgetful(cls: type[Journal], value: bytes) -> Any:
        journal = read(cls, value)
        for one in journal.steps:
            one.attempts = 0
        return journal

    monkeypatch.setattr(Journal, "from_json", classmethod(forgetful))
    assert any("too often" in one for one in await everything_cut(TRIED))


async def test_undo_in_the_order_of_start_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thing first is the wrong way round."""
    monkeypatch.setattr(Journal, "to_undo", lambda self: (one for one in self.steps if one.wants_undo))
    assert any("begun" in one for one in await everything_cut(BACKWARD))


async def test_an_undo_that_leaves_out_what_nobody_knows_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its effect stands."""
    wanted: Any = vars(StepRecord)["wants_undo"].fget
    monkeypatch.setattr(StepRecord, "wants_undo", property(lambda self: self.result is not None and wanted(self)))
    plan = Plan(items=((Act(failures=3, effect_before_failure=True),),))
    assert any("stands" in one for one in await everything_cut(plan))


async def test_a_wake_up_that_is_acknowledged_before_its_journal_is_written_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody wakes what sleeps without a due entry."""

    async def unwritten(_self: Any, _record: Any, _work: Any) -> bool:
        return True

    monkeypatch.setattr("redrive.sagas.turns.SagaTurns._waits", unwritten)
    monkeypatch.setattr(Journal, "due_at_ms", lambda _self: None)
    assert any("ended" in one for one in await everything_cut(FORWARD))


async def test_a_worker_that_ignores_versions_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes over the one that took over."""
    put = record.Record._put

    async def regardless(self: record.Record, unless: Any) -> None:
        entry = await self._store.get(SAGAS, key_of(self.journal.saga, self.journal.id))
        self._version = 0 if entry is None else entry.version
        await put(self, unless)

    monkeypatch.setattr(record.Record, "_put", regardless)
    with pytest.raises(AssertionError):
        await test_limits.test_a_worker_whose_instance_was_taken_over_writes_nothing_and_does_not_go_on()
