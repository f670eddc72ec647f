"""Whoever watches a namespace on PostgreSQL is woken by whoever writes to it."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path

import psycopg
from tools.services import Postgres

from redrive.clock import ManualClock
from redrive.sqlite.writer import FileDatabase
from redrive.store import ABSENT, CLAIMS, SCHEDULES, TIMERS, Store, watching
from redrive.stores.postgres import PostgresStore
from redrive.stores.postgres.telling import QUIET
from redrive.stores.sqlite import SqliteStore
from redrive.testing.faulty import FaultyStore
from tests.stores.postgres.conftest import Open


async def _set(event: asyncio.Event) -> None:
    """Wait for it, and clear it."""
    await asyncio.wait_for(event.wait(), 10)
    event.clear()


async def _wakes_in_order(mine: Store, theirs: Store) -> None:
    """Each write to TIMERS sets the event of whoever watches it, and no other write does."""
    key = secrets.token_hex(8)
    with watching(mine, TIMERS) as timers, watching(mine, SCHEDULES) as schedules:
        version = await theirs.put(TIMERS, key, b"value", if_version=ABSENT, due_at_ms=5)
        await _set(timers)
        schedules.clear()
        await theirs.put(CLAIMS, key, b"value", if_version=ABSENT)
        await theirs.delete(TIMERS, key, if_version=version)
        await _set(timers)
        assert not schedules.is_set()
        await theirs.put(SCHEDULES, key, b"value", if_version=ABSENT)
        await _set(schedules)
        assert not timers.is_set()


async def test_a_write_wakes_another_process(opened: Open, store: PostgresStore, other: PostgresStore) -> None:
    """Puts and deletes in timed namespaces; the watcher of one is not woken for another."""
    with watching(store, TIMERS) as connected:
        await _set(connected)  # once it listens
        await _wakes_in_order(store, other)
        connected.clear()
        await _wakes_in_order(store, opened())


async def test_a_wake_up_is_prompt(store: PostgresStore, other: PostgresStore) -> None:
    """Of fifty writes one after the other, each is told of in half a second, and half of them in a twentieth."""
    await other.declare()
    took = []
    with watching(store, TIMERS) as changed:
        await _set(changed)
        for number in range(50):
            begun = time.monotonic()
            await other.put(TIMERS, f"{number}", b"value", if_version=ABSENT, due_at_ms=5)
            await _set(changed)
            took.append(time.monotonic() - begun)
    assert sorted(took)[25] < 0.05
    assert max(took) < 0.5


async def test_many_writes_are_told_of_together(store: PostgresStore, sql: psycopg.AsyncConnection) -> None:
    """A few notifications tell of a thousand writes: one at once, then one every hundredth of a second."""
    await store.declare()
    await sql.execute(f'LISTEN "{store._address.channel}"'.encode())
    begun = time.monotonic()
    for number in range(10):
        keys = [f"{number}/{one}" for one in range(100)]
        await asyncio.gather(*(store.put(TIMERS, key, b"value", if_version=ABSENT) for key in keys))
    longest = 2 + (time.monotonic() - begun) / QUIET
    heard = [one.payload async for one in sql.notifies(timeout=0.2)]
    assert 2 <= len(heard) <= longest
    assert set(heard) == {"timers"}


async def test_a_restart_of_the_server_is_survived(
    server: Postgres, store: PostgresStore, other: PostgresStore
) -> None:
    """Who watches is woken once it listens again, since something may have been missed, and is told of what follows."""
    with watching(store, TIMERS) as changed:
        await _set(changed)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await _set(changed)
        await other.put(TIMERS, "key", b"value", if_version=ABSENT, due_at_ms=5)
        await _set(changed)


async def test_closing_wakes_who_waits(store: PostgresStore) -> None:
    """It looks again, and is told that the store is closed."""
    with watching(store, TIMERS) as changed:
        await _set(changed)
        await store.close()
        await _set(changed)


async def test_the_embedded_store_wakes_too(tmp_path: Path) -> None:
    """In its own process, and in another one on the same file."""
    mine, theirs = (SqliteStore(FileDatabase(str(tmp_path / "store.db"), ManualClock())) for _ in range(2))
    await _wakes_in_order(mine, theirs)
    await _wakes_in_order(mine, mine)
    await mine.close()
    await theirs.close()


async def test_a_store_that_cannot_tell_is_polled(tmp_path: Path) -> None:
    """Its event is never set: whoever watches looks when its time is over."""
    store = FaultyStore(SqliteStore(FileDatabase(str(tmp_path / "store.db"), ManualClock())))
    with watching(store, TIMERS) as changed:
        await store.put(TIMERS, "key", b"value", if_version=ABSENT)
        assert not changed.is_set()
    await store.close()
