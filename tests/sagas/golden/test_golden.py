"""Journals that the first release wrote: every later one reads them and goes on with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from redrive.errors import NewerRecord
from redrive.harness import Harness
from redrive.sagas.journal import Journal, State
from redrive.sagas.record import key_of
from redrive.sagas.waking import wake
from redrive.store import ABSENT, SAGAS
from tests.sagas.golden.shop import GoldenShop

GOLDEN: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("journal-1.json").read_text())


def stored(name: str) -> bytes:
    """A journal as it stands in a store."""
    return json.dumps(GOLDEN[name]).encode()


async def put(t: Harness[Any], name: str) -> Journal:
    """Put a journal into the store, due as it was."""
    journal = Journal.from_json(stored(name))
    key = key_of("orders", name)
    await t.runtime.store.put(SAGAS, key, stored(name), if_version=ABSENT, due_at_ms=journal.due_at_ms())
    return journal


@pytest.mark.parametrize("name", GOLDEN)
def test_what_is_read_is_what_would_be_written(name: str) -> None:
    """Field by field: none is lost, none is renamed, and no default has changed its meaning."""
    again = json.loads(Journal.from_json(stored(name)).to_json())
    assert again == GOLDEN[name]


async def test_what_ran_when_its_worker_died_is_taken_over_and_completes() -> None:
    """What was done is not done again; what was begun is tried once more, under the same key."""
    shop = GoldenShop()
    async with shop.app.test(resources=shop.services) as t:
        await put(t, "running")
        await t.advance(120)
        journal = await shop.saga.journal("running")
        assert journal is not None
        assert journal.state is State.COMPLETED
        assert shop.services.names() == ["reserve/1", "book/1", "confirm/1"]
        assert {one.name: one.attempts for one in journal.steps} == {
            "charge": 1,
            "reserve": 2,
            "book": 2,
            "confirm": 1,
        }
        assert journal.result == [
            "receipt of running/charge/1",
            "2023",
            "receipt of running/reserve/1",
            "receipt of running/book/1",
            "not asked",
            "receipt of running/confirm/1",
        ]


async def test_what_waits_takes_its_signal() -> None:
    """And goes on."""
    shop = GoldenShop()
    async with shop.app.test(resources=shop.services) as t:
        await put(t, "waiting")
        await shop.saga.signal("waiting", "approved", "by ann")
        await t.advance(1)
        journal = await shop.saga.journal("waiting")
        assert journal is not None
        assert (journal.state, journal.result[4]) == (State.COMPLETED, "by ann")
        assert shop.services.names() == ["confirm/1"]


async def test_what_waits_and_hears_nothing_is_undone_when_its_time_is_over() -> None:
    """In the order that the journal has."""
    shop = GoldenShop()
    async with shop.app.test(resources=shop.services) as t:
        await put(t, "waiting")
        await t.advance(3700)
        assert shop.services.undone == ["waiting/book/1", "waiting/reserve/1", "waiting/charge/1"]


async def test_what_was_being_undone_is_undone_to_its_end() -> None:
    """With the attempts that it has made."""
    shop = GoldenShop()
    async with shop.app.test(resources=shop.services) as t:
        await put(t, "undoing")
        await t.advance(120)
        journal = await shop.saga.journal("undoing")
        assert journal is not None
        assert journal.state is State.UNDONE
        assert shop.services.undone == ["undoing/reserve/1", "undoing/charge/1"]
        assert shop.services.given["undoing/reserve/1"] == "receipt of undoing/reserve/1"
        assert journal.steps[1].undo is not None
        assert journal.steps[1].undo.attempts == 1 + GOLDEN["undoing"]["steps"][1]["undo"]["attempts"]


async def test_what_is_stuck_stays_so_until_a_person_lets_it_go_on() -> None:
    """A wake-up alone does nothing."""
    shop = GoldenShop()
    async with shop.app.test(resources=shop.services) as t:
        journal = await put(t, "stuck")
        await wake(t.runtime, journal)
        await t.advance(3 * 86_400)
        assert shop.services.calls == []
        entry = await t.runtime.store.get(SAGAS, key_of("orders", "stuck"))
        assert entry is not None
        journal.go_on()
        await t.runtime.store.put(SAGAS, entry.key, journal.to_json(), if_version=entry.version)
        await wake(t.runtime, journal)
        await t.advance(1)
        assert shop.services.undone == ["stuck/reserve/1", "stuck/charge/1"]


@pytest.mark.parametrize("name", ["completed", "undone"])
async def test_what_has_ended_is_not_begun_again(name: str) -> None:
    """By the payload that it began with."""
    shop = GoldenShop()
    async with shop.app.test(resources=shop.services) as t:
        await put(t, name)
        await shop.orders.send(name)
        await t.advance(60)
        assert shop.services.calls == []
        assert await t.dead(shop.orders) == []


def test_a_journal_of_a_later_format_is_left_for_a_newer_worker() -> None:
    """It is neither guessed at nor stuck."""
    with pytest.raises(NewerRecord):
        Journal.from_json(json.dumps({**GOLDEN["running"], "v": 2}).encode())


async def test_the_wake_up_of_a_journal_of_a_later_format_comes_back_untouched() -> None:
    """Every half minute, until somebody knows the format."""
    shop = GoldenShop()
    async with shop.app.test(resources=shop.services) as t:
        later = json.dumps({**GOLDEN["running"], "v": 2, "something": "new"}).encode()
        key = key_of("orders", "running")
        await t.runtime.store.put(SAGAS, key, later, if_version=ABSENT)
        await shop.orders.send("running")
        await t.advance(1800)
        entry = await t.runtime.store.get(SAGAS, key)
        assert entry is not None
        assert entry.value == later
        assert len(await t.waiting(shop.orders)) == 1
        assert shop.services.calls == []
