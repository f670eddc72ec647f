"""One leader, by the store alone: taken over only after its version stood still for its whole length."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from typing_extensions import override

from redrive.clock import ManualClock
from redrive.errors import StoreUnavailable
from redrive.leadership import LENGTH, Leadership
from redrive.sqlite.writer import InlineDatabase
from redrive.store import LEADERS, Entry, Namespace, Store
from redrive.stores.sqlite import SqliteStore


class Moody(SqliteStore):
    """A store that can be away, and slow."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(InlineDatabase(ManualClock()))
        self.clock = clock
        self.away = False
        self.loses_answers = False
        self.get_takes = 0.0
        self.put_takes = 0.0
        self.calls = 0

    def _called(self) -> None:
        self.calls += 1
        if self.away:
            raise StoreUnavailable("moody", "it is away")

    @override
    async def get(self, namespace: Namespace, key: str) -> Entry | None:
        self._called()
        self.clock.advance(self.get_takes)
        return await super().get(namespace, key)

    @override
    async def put(self, *arguments: Any, **options: Any) -> int:
        self._called()
        version = await super().put(*arguments, **options)
        self.clock.advance(self.put_takes)
        if self.loses_answers:
            raise StoreUnavailable("moody", "the answer was lost")
        return version

    @override
    async def delete(self, *arguments: Any, **options: Any) -> None:
        self._called()
        await super().delete(*arguments, **options)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[Moody]:
    store = Moody(clock)
    yield store
    await store.close()


def candidate(store: Store, clock: ManualClock, name: str) -> Leadership:
    return Leadership(store, clock, task="healer/payments", holder=name)


def leads(one: Leadership) -> bool:
    """Asked anew each time, which a type checker does not expect of a property."""
    return one.leads


async def test_the_first_to_ask_leads(store: Moody, clock: ManualClock) -> None:
    """The second does not, however often it asks, as long as the first renews."""
    first, second = candidate(store, clock, "a"), candidate(store, clock, "b")
    assert not leads(first)
    assert await first.held()
    assert leads(first)
    for _ in range(50):
        clock.advance(1.0)
        assert await first.held()
        assert not await second.held()
        assert not leads(second)


async def test_tasks_are_led_one_by_one(store: Moody, clock: ManualClock) -> None:
    """Who leads one does not lead another."""
    assert await candidate(store, clock, "a").held()
    assert await Leadership(store, clock, task="healer/mail", holder="b").held()


async def test_a_dead_leader_is_followed_after_its_length(store: Moody, clock: ManualClock) -> None:
    """Counted from when the follower first saw it stand still, by the follower's own clock."""
    assert await candidate(store, clock, "a").held()
    second = candidate(store, clock, "b")
    clock.advance(1_000)
    assert not await second.held()
    clock.advance(LENGTH - 0.001)
    assert not await second.held()
    clock.advance(0.001)
    assert await second.held()


async def test_a_renewal_begins_the_watch_anew(store: Moody, clock: ManualClock) -> None:
    """Almost is not enough."""
    first, second = candidate(store, clock, "a"), candidate(store, clock, "b")
    await first.held()
    assert not await second.held()
    clock.advance(LENGTH - 0.5)
    assert await first.held()
    clock.advance(0.5)
    assert not await second.held()
    clock.advance(LENGTH - 0.5)
    assert not await second.held()


async def test_a_leader_that_was_followed_stops(store: Moody, clock: ManualClock) -> None:
    """It learns so at its next step, and waits like everybody."""
    first, second = candidate(store, clock, "a"), candidate(store, clock, "b")
    await first.held()
    await second.held()
    clock.advance(LENGTH)
    assert await second.held()
    assert not await first.held()
    assert not leads(first)
    clock.advance(1.0)
    assert not await first.held()


async def test_only_one_follows(store: Moody, clock: ManualClock) -> None:
    """Of ten that waited."""
    await candidate(store, clock, "a").held()
    others = [candidate(store, clock, f"b{number}") for number in range(10)]
    for one in others:
        assert not await one.held()
    clock.advance(LENGTH)
    assert [await one.held() for one in others].count(True) == 1


async def test_who_resigns_is_followed_at_once(store: Moody, clock: ManualClock) -> None:
    """And resigning twice, or without leading, is fine."""
    first, second = candidate(store, clock, "a"), candidate(store, clock, "b")
    await first.held()
    assert not await second.held()
    await first.resign()
    await first.resign()
    await second.resign()
    assert not leads(first)
    assert await second.held()
    assert not await first.held()


async def test_resigning_late_takes_nothing_from_the_follower(store: Moody, clock: ManualClock) -> None:
    """The entry is the follower's by then."""
    first, second = candidate(store, clock, "a"), candidate(store, clock, "b")
    await first.held()
    await second.held()
    clock.advance(LENGTH)
    assert await second.held()
    await first.resign()
    clock.advance(LENGTH / 3)
    assert await second.held()
    assert await store.get(LEADERS, "healer/payments") is not None


async def test_leading_costs_one_write_in_two_seconds(store: Moody, clock: ManualClock) -> None:
    """In between, nothing is asked of the store."""
    leader = candidate(store, clock, "a")
    await leader.held()
    store.calls = 0
    for _ in range(60):
        clock.advance(0.1)
        assert await leader.held()
    assert store.calls <= 3


async def test_without_the_store_it_leads_on_and_stops_in_time(store: Moody, clock: ManualClock) -> None:
    """Until two thirds of its length: by the time that another may follow it has stopped for long."""
    leader = candidate(store, clock, "a")
    await leader.held()
    store.away = True
    clock.advance(LENGTH * 2 / 3 - 0.01)
    assert await leader.held()
    assert leads(leader)
    clock.advance(0.02)
    assert not await leader.held()
    assert not leads(leader)
    store.away = False
    assert await leader.held()


async def test_without_the_store_nobody_becomes_a_leader(store: Moody, clock: ManualClock) -> None:
    """Not knowing is not leading."""
    store.away = True
    assert not await candidate(store, clock, "a").held()
    leader = candidate(store, clock, "b")
    await leader.resign()


async def test_a_lost_answer_makes_no_second_leader(store: Moody, clock: ManualClock) -> None:
    """Its renewal was written and it does not know: it stops, and waits its turn."""
    first, second = candidate(store, clock, "a"), candidate(store, clock, "b")
    await first.held()
    clock.advance(LENGTH / 3)
    store.loses_answers = True
    assert await first.held()
    store.loses_answers = False
    clock.advance(0.1)
    assert not await first.held()
    assert not await second.held()
    clock.advance(LENGTH)
    assert [await first.held(), await second.held()].count(True) == 1


async def test_a_slow_answer_is_not_a_watch(store: Moody, clock: ManualClock) -> None:
    """A read that took ten seconds saw the version at its end, not for ten seconds."""
    first, second = candidate(store, clock, "a"), candidate(store, clock, "b")
    await first.held()
    clock.advance(1.0)
    store.get_takes = 10.0
    assert not await second.held()
    store.get_takes = 0.0
    assert not await second.held()
    clock.advance(LENGTH)
    assert await second.held()


async def test_a_renewal_that_took_too_long_is_none(store: Moody, clock: ManualClock) -> None:
    """It was written at once and answered after ten seconds: somebody may have followed since."""
    leader = candidate(store, clock, "a")
    store.put_takes = 10.0
    assert not await leader.held()
    store.put_takes = 0.0
    assert await leader.held()
    clock.advance(LENGTH / 3)
    store.put_takes = 10.0
    assert not await leader.held()


class ManyCandidates(RuleBasedStateMachine):
    """Whatever the store does and whoever stands still: two never lead at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.store = Moody(self.clock)
        self.candidates = [candidate(self.store, self.clock, name) for name in "abc"]
        self.leads_until = [0.0, 0.0, 0.0]

    def run(self, awaitable: Any) -> Any:
        import asyncio  # noqa: PLC0415 - a state machine is not async

        return asyncio.run(awaitable)

    @rule(which=st.integers(0, 2))
    def asks(self, which: int) -> None:
        answer = self.run(self.candidates[which].held())
        # "for at least a third of the length" from now
        self.leads_until[which] = self.clock.monotonic() + LENGTH / 3 if answer else 0.0

    @rule(which=st.integers(0, 2))
    def resigns(self, which: int) -> None:
        self.leads_until[which] = 0.0
        self.run(self.candidates[which].resign())

    @rule(seconds=st.sampled_from([0.1, 1.0, LENGTH / 3, LENGTH / 2, LENGTH, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(away=st.booleans(), loses_answers=st.booleans(), takes=st.sampled_from([0.0, 0.0, 2.5, 5.9, 10.0]))
    def the_store_changes(self, *, away: bool, loses_answers: bool, takes: float) -> None:
        self.store.away, self.store.loses_answers = away, loses_answers
        self.store.get_takes = self.store.put_takes = takes

    @invariant()
    def one_leads(self) -> None:
        assert sum(until > self.clock.monotonic() for until in self.leads_until) <= 1

    def teardown(self) -> None:
        self.run(self.store.close())


def test_two_never_lead() -> None:
    """Thousands of steps, other ones each time."""
    run_state_machine_as_test(ManyCandidates, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
