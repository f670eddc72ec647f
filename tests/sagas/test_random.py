"""Random sagas, cut off at random: whatever happens, what is promised holds."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redrive.sagas import record
from redrive.sagas.journal import Deed, Journal
from redrive.sagas.record import key_of
from redrive.store import SAGAS
from tests.sagas.cutting import Cut, Fate, live, mortal
from tests.sagas.plans import ATTEMPTS, Act, Carried, Other, Plan, faults_of

acts = st.builds(
    Act,
    failures=st.sampled_from([0, 0, 0, 1, 2, ATTEMPTS]),
    effect_before_failure=st.booleans(),
    rejected=st.sampled_from([False, False, False, True]),
    later=st.sampled_from([0, 0, 1, 3]),
    undo_failures=st.integers(0, 3),
    caught=st.sampled_from([False, False, True]),
)
others = st.builds(
    Other, kind=st.sampled_from(["sleep", "wait", "fact", "return"]), seconds=st.sampled_from([0, 3, 30])
)
items = st.one_of(st.tuples(acts), st.lists(acts, min_size=2, max_size=3).map(tuple), others)
plans = st.builds(
    Plan,
    items=st.lists(items, min_size=1, max_size=6).map(tuple),
    deadline=st.sampled_from([None, None, 1.0, 20.0]),
    signals=st.lists(st.sampled_from([0.0, 1.0, 10.0]), max_size=3).map(tuple),
    cancelled_at=st.sampled_from([None, None, 0.0, 2.0, 12.0]),
)
cuts = st.dictionaries(st.integers(1, 25), st.sampled_from(list(Cut)), max_size=4)
deaths = st.dictionaries(st.integers(1, 15), st.sampled_from([Cut.BEFORE, Cut.AFTER]), max_size=3)


async def carried_out(plan: Plan, fate: Fate) -> list[str]:
    """Carry a plan out to its end; what is wrong with that."""
    carried = Carried(plan, fate)
    async with carried.app.test(**mortal(fate)) as t:
        await carried.queue.send("o")
        moments = sorted({*plan.signals, *([] if plan.cancelled_at is None else [plan.cancelled_at])})
        passed = 0.0
        for moment in moments:
            await live(t, fate, moment - passed)
            passed = moment
            for _ in range(plan.signals.count(moment)):
                with contextlib.suppress(BaseException):
                    await carried.saga.signal("o", "go", moment)
            if plan.cancelled_at == moment:
                await _cancel(t)
        await live(t, fate, 3600)
        return faults_of(carried, await carried.saga.journal("o"))


async def _cancel(t: Any) -> None:
    store = t.runtime.store._store
    entry = await store.get(SAGAS, key_of("plans", "o"))
    if entry is not None and not (journal := Journal.from_json(entry.value)).is_settled:
        journal.cancelled = Deed(what="cancel", by="ann", at_ms=t.clock.now_ms())
        due = journal.due_at_ms()
        await store.put(SAGAS, entry.key, journal.to_json(), if_version=entry.version, due_at_ms=due)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_FIRST_PAUSE", 0.0)


quick = settings(max_examples=25, suppress_health_check=list(HealthCheck))
thorough = settings(max_examples=3000, suppress_health_check=list(HealthCheck))


@pytest.mark.usefixtures("_impatient")
@quick
@given(plans)
async def test_every_saga_ends_and_what_is_promised_holds(plan: Plan) -> None:
    """Undone in reverse, nothing that never began, nothing twice, no attempt too many."""
    assert await carried_out(plan, Fate()) == []


@pytest.mark.usefixtures("_impatient")
@quick
@given(plans, cuts, deaths)
async def test_every_saga_ends_likewise_when_its_turns_are_cut_off(
    plan: Plan, writes: dict[int, Cut], bodies: dict[int, Cut]
) -> None:
    """Killed before and after writes and in bodies, refused by the store, answered by nobody."""
    assert await carried_out(plan, Fate(writes=writes, bodies=bodies)) == []


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("_impatient")
@thorough
@given(plans, cuts, deaths)
async def test_thousands_of_sagas_end_likewise(plan: Plan, writes: dict[int, Cut], bodies: dict[int, Cut]) -> None:
    """The same, for longer."""
    assert await carried_out(plan, Fate(writes=writes, bodies=bodies)) == []


async def everything_cut(plan: Plan) -> list[str]:
    """A death at every write and in every body of a plan, one at a time; what is wrong with any of them."""
    whole = Fate()
    found = await carried_out(plan, whole)
    for cut in Cut:
        for number in range(1, whole.written + 1):
            found += [f"{cut} write {number}: {one}" for one in await carried_out(plan, Fate(writes={number: cut}))]
    for cut in (Cut.BEFORE, Cut.AFTER):
        for number in range(1, whole.begun + 1):
            found += [f"{cut} body {number}: {one}" for one in await carried_out(plan, Fate(bodies={number: cut}))]
    return found


FORWARD = Plan(
    items=(
        (Act(failures=1),),
        (Act(), Act(later=1)),
        Other(kind="sleep"),
        Other(kind="wait"),
        Other(kind="return"),
        (Act(),),
    ),
    signals=(1.0,),
)
BACKWARD = Plan(items=((Act(undo_failures=1),), (Act(), Act(failures=3)), (Act(rejected=True),)))
LATE = Plan(items=((Act(),), Other(kind="sleep", seconds=30), (Act(),)), deadline=20.0)
CANCELLED = Plan(items=((Act(),), (Act(),), Other(kind="wait", seconds=900), (Act(),)), cancelled_at=12.0)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("plan", [FORWARD, BACKWARD, LATE, CANCELLED], ids=["forward", "backward", "late", "cancelled"])
async def test_a_death_at_every_single_point_is_survived(plan: Plan) -> None:
    """Before and after each write, in each body before and after its effect."""
    assert await everything_cut(plan) == []
