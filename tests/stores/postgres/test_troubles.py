"""What the store on PostgreSQL makes of lost answers, silence, kills and restarts of a real server."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence

import psycopg
import pytest
from tools.services import Postgres

from redrive.clock import ManualClock
from redrive.errors import StoreUnavailable, VersionConflict
from redrive.store import ABSENT, CLAIMS, TIMERS
from redrive.stores.postgres import PostgresStore
from redrive.stores.postgres.connections import Connection
from redrive.stores.postgres.jobs import Job
from tests.stores.postgres.conftest import Open
from tests.stores.postgres.wire import Wire


@pytest.fixture
async def wire(server: Postgres) -> AsyncIterator[Wire]:
    async with Wire(server.port).running() as wire:
        yield wire


@pytest.fixture
async def far(opened: Open, server: Postgres, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> PostgresStore:
    """A store at the other end of the wire, with one connection, on which the first sweep is done."""
    monkeypatch.setattr("redrive.stores.postgres.lanes.LANES", 1)
    far = opened(url=server.url.replace(str(server.port), str(wire.port)))
    await far.put(CLAIMS, "first", b"value", if_version=ABSENT)
    await far.get(CLAIMS, "first")
    return far


@pytest.fixture
def key() -> str:
    return secrets.token_hex(8)


# A write whose answer was lost


async def test_a_put_finds_its_own_version_and_is_no_conflict(far: PostgresStore, wire: Wire, key: str) -> None:
    """The answer was lost, the put is made again, its condition fails because of itself: it happened."""
    wire.lose_next_answer()
    version = await far.put(CLAIMS, key, b"mine", if_version=ABSENT)
    entry = await far.get(CLAIMS, key)
    assert entry is not None
    assert (entry.version, entry.value) == (version, b"mine")
    wire.lose_next_answer()
    changed = await far.put(CLAIMS, key, b"changed", if_version=version)
    assert await far.put(CLAIMS, key, b"again", if_version=changed) not in {version, changed}


async def test_a_lost_answer_and_another_writer_leave_it_open(
    far: PostgresStore, other: PostgresStore, wire: Wire, key: str
) -> None:
    """Ours happened and was replaced, or did not: to call it a conflict would claim that nothing was written."""

    async def overtaken() -> None:
        entry = await other.get(CLAIMS, key)
        assert entry is not None
        await other.put(CLAIMS, key, b"theirs", if_version=entry.version)

    wire.lose_next_answer(overtaken)
    with pytest.raises(StoreUnavailable, match="may have happened"):
        await far.put(CLAIMS, key, b"ours", if_version=ABSENT)
    entry = await other.get(CLAIMS, key)
    assert entry is not None
    assert entry.value == b"theirs"


async def test_a_delete_whose_answer_was_lost_is_not_known(far: PostgresStore, wire: Wire, key: str) -> None:
    """Absence has no version: it may have been this delete or another one."""
    version = await far.put(CLAIMS, key, b"value", if_version=ABSENT)
    wire.lose_next_answer()
    with pytest.raises(StoreUnavailable, match="may have happened"):
        await far.delete(CLAIMS, key, if_version=version)
    assert await far.get(CLAIMS, key) is None


async def test_a_read_whose_answer_was_lost_is_read_again(far: PostgresStore, wire: Wire, key: str) -> None:
    """Of every kind, and nobody notices."""
    await far.put(TIMERS, key, b"value", if_version=ABSENT, due_at_ms=7)
    wire.lose_next_answer()
    assert await far.get(TIMERS, key) is not None
    wire.lose_next_answer()
    assert [one.key for one in await far.due(TIMERS, before_ms=7, limit=5)] == [key]


# A server that goes and comes


async def _add_one(store: PostgresStore, key: str) -> bool:
    """Whether it is known to have happened."""
    while True:
        try:
            entry = await store.get(CLAIMS, key)
            assert entry is not None
            await store.put(CLAIMS, key, b"%d" % (int(entry.value) + 1), if_version=entry.version)
        except VersionConflict:
            continue
        except StoreUnavailable:
            return False
        return True


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_a_restart_in_the_middle_heals(server: Postgres, store: PostgresStore, key: str, end: str) -> None:
    """By SIGKILL or in order, while twenty write: what was answered counts once, all else at most once."""
    await store.put(CLAIMS, key, b"0", if_version=ABSENT)
    started = asyncio.Event()

    async def adding() -> int:
        done = 0
        for _ in range(10):
            done += await _add_one(store, key)
            started.set()
        return done

    writers = [asyncio.create_task(adding()) for _ in range(20)]
    await started.wait()
    await asyncio.to_thread(getattr(server, end))
    await asyncio.to_thread(server.start)
    known = sum(await asyncio.gather(*writers))
    entry = await store.get(CLAIMS, key)
    assert entry is not None
    assert known <= int(entry.value) <= 200
    assert known > 20


async def test_a_short_outage_is_waited_out(server: Postgres, store: PostgresStore, key: str) -> None:
    """A call that comes while the server is away is answered once it is back; nobody notices."""
    version = await store.put(CLAIMS, key, b"before", if_version=ABSENT)
    await asyncio.to_thread(server.stop)
    waiting = asyncio.create_task(store.put(CLAIMS, key, b"after", if_version=version))
    await asyncio.to_thread(server.start)
    changed = await waiting
    entry = await store.get(CLAIMS, key)
    assert entry is not None
    assert (entry.value, entry.version) == (b"after", changed)


async def test_nobody_there_is_unavailable(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port at which nothing listens: the first call says so, with the place and without the password."""
    monkeypatch.setattr("redrive.stores.postgres.lanes.PATIENCE", 0.0)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    store = opened(url=f"postgresql://somebody:hidden@127.0.0.1:{port}/shop")
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}") as caught:
        await store.get(CLAIMS, "key")
    assert "hidden" not in str(caught.value)


async def test_a_wrong_password_is_unavailable(server: Postgres, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be changed on the server a moment later; it is not shown."""
    monkeypatch.setattr("redrive.stores.postgres.lanes.PATIENCE", 0.0)
    store = opened(url=server.url.replace("a%20password", "swordfish"))
    with pytest.raises(StoreUnavailable, match="password authentication failed") as caught:
        await store.get(CLAIMS, "key")
    assert "swordfish" not in str(caught.value)


async def test_silence_is_unavailable(
    server: Postgres, store: PostgresStore, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stands still holds nobody for ever, and goes on later; what it had got may have happened."""
    monkeypatch.setattr("redrive.stores.postgres.lanes.LANES", 1)  # and it is connected
    await store.put(CLAIMS, "another", b"value", if_version=ABSENT)
    await store.get(CLAIMS, "another")
    monkeypatch.setattr("redrive.stores.postgres.connections.ANSWER_TIMEOUT", 0.1)
    monkeypatch.setattr("redrive.stores.postgres.lanes.PATIENCE", 0.0)
    server.pause()
    try:
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(store.put(CLAIMS, key, b"value", if_version=ABSENT), 10)
    finally:
        server.resume()
    monkeypatch.undo()
    assert await store.get(CLAIMS, "another") is not None


async def test_closing_ends_what_is_under_way(
    server: Postgres, store: PostgresStore, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that waits for its answer is answered with StoreUnavailable, and does not hold the closing up."""
    monkeypatch.setattr("redrive.stores.postgres.lanes.LANES", 1)  # and it is connected
    await store.put(CLAIMS, key, b"value", if_version=ABSENT)
    await store.get(CLAIMS, key)
    asked, ask = asyncio.Event(), store._lanes._ask

    async def noted(connection: Connection, jobs: Sequence[Job]) -> None:
        asked.set()
        await ask(connection, jobs)

    store._lanes._ask = noted
    server.pause()
    try:
        waiting = asyncio.create_task(store.get(CLAIMS, key))
        await asyncio.wait_for(asked.wait(), 10)
        await asyncio.wait_for(store.close(), 2)
        with pytest.raises(StoreUnavailable, match="closed"):
            await waiting
    finally:
        server.resume()


# What is not an outage


async def test_what_is_refused_takes_nobody_with_it(
    store: PostgresStore, sql: psycopg.AsyncConnection, table: str
) -> None:
    """One put that the database does not take, among thirty: the others are written."""
    await store.declare()
    await sql.execute(f"""ALTER TABLE "{table}" ADD CHECK (key <> 'refused')""".encode())
    keys = [f"key {number}" for number in range(15)] + ["refused"] + [f"key {number}" for number in range(15, 30)]
    results = await asyncio.gather(
        *(store.put(CLAIMS, key, b"value", if_version=ABSENT) for key in keys), return_exceptions=True
    )
    refused = results.pop(15)
    assert isinstance(refused, StoreUnavailable)
    assert "violates check constraint" in str(refused)
    assert all(isinstance(one, int) for one in results)


async def test_a_conflict_undoes_nothing(store: PostgresStore) -> None:
    """Puts and deletes that conflict share a statement with others, which are written all the same."""
    stands = await store.put(CLAIMS, "stands", b"value", if_version=ABSENT)
    goes = await store.put(CLAIMS, "goes", b"value", if_version=ABSENT)
    results = await asyncio.gather(
        store.put(CLAIMS, "new", b"value", if_version=ABSENT),
        store.put(CLAIMS, "stands", b"value", if_version=ABSENT),
        store.put(CLAIMS, "absent", b"value", if_version=stands),
        store.delete(CLAIMS, "also absent", if_version=stands),
        store.delete(CLAIMS, "goes", if_version=goes),
        return_exceptions=True,
    )
    assert [type(one) for one in results] == [int, VersionConflict, VersionConflict, VersionConflict, type(None)]
    assert await store.get(CLAIMS, "new") is not None
    assert await store.get(CLAIMS, "goes") is None


async def test_a_table_that_is_dropped_is_an_outage(
    store: PostgresStore, sql: psycopg.AsyncConnection, table: str, key: str
) -> None:
    """Said at once and in words, while workers run; made again, it works again."""
    await store.declare()
    await sql.execute(f'ALTER TABLE "{table}" RENAME TO "{table}-away"'.encode())
    with pytest.raises(StoreUnavailable, match="its table does not exist"):
        await store.put(CLAIMS, key, b"value", if_version=ABSENT)
    await sql.execute(f'ALTER TABLE "{table}-away" RENAME TO "{table}"'.encode())
    await store.put(CLAIMS, key, b"value", if_version=ABSENT)


# Side by side


async def test_two_processes_that_write_the_same_entries_go_on(store: PostgresStore, other: PostgresStore) -> None:
    """In whatever order each asks: nobody waits for ever, and no step is lost."""
    keys = [f"key {number}" for number in range(8)]
    for key in keys:
        await store.put(CLAIMS, key, b"0", if_version=ABSENT)
    orders = [(one, keys[:: 1 if one is store else -1]) for one in (store, other) for _ in range(5)]

    async def adding(one: PostgresStore, order: list[str]) -> None:
        assert all(await asyncio.gather(*(_add_one(one, key) for key in order)))

    await asyncio.wait_for(asyncio.gather(*(adding(one, order) for one, order in orders)), 30)
    for key in keys:
        entry = await store.get(CLAIMS, key)
        assert entry is not None
        assert entry.value == b"10"


async def test_many_calls_share_a_transaction(store: PostgresStore, sql: psycopg.AsyncConnection, table: str) -> None:
    """Two hundred puts at once are a few commits, and each is its own put."""
    await store.declare()
    versions = await asyncio.gather(
        *(store.put(CLAIMS, f"{number}", b"%d" % number, if_version=ABSENT) for number in range(200))
    )
    assert len(set(versions)) == 200
    found = await sql.execute(f'SELECT xmin::text FROM "{table}"'.encode())  # noqa: S608 - a name of our own
    transactions = [xmin async for (xmin,) in found]
    assert len(transactions) == 200
    assert len(set(transactions)) <= 8
    entries = await asyncio.gather(*(store.get(CLAIMS, f"{number}") for number in range(200)))
    assert [entry and entry.value for entry in entries] == [b"%d" % number for number in range(200)]


async def test_a_caller_that_goes_away_leaves_the_others(store: PostgresStore) -> None:
    """Its call is done or not; whoever shares its statement is answered."""
    await store.declare()
    calls = [asyncio.create_task(store.put(CLAIMS, f"{one}", b"value", if_version=ABSENT)) for one in range(10)]
    await asyncio.sleep(0)
    calls[3].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(one, int) for one in results].count(False) == 1


async def test_expired_entries_are_deleted_an_hour_later(
    store: PostgresStore, clock: ManualClock, sql: psycopg.AsyncConnection, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By some write after that; what lives stays."""
    monkeypatch.setattr("redrive.stores.postgres.lanes.LANES", 1)  # a read comes after the sweep of the write before
    expires_at_ms = clock.now_ms() + 1_000
    await store.put(CLAIMS, "expires", b"value", if_version=ABSENT, expires_at_ms=expires_at_ms)
    await store.put(CLAIMS, "stays", b"value", if_version=ABSENT)
    keys = f'SELECT key FROM "{table}" ORDER BY key'.encode()  # noqa: S608 - a name of our own
    kept = []
    for seconds in (1_800, 1_900):
        clock.advance(seconds)
        await store.put(CLAIMS, f"after {seconds}", b"value", if_version=ABSENT)
        await store.get(CLAIMS, "stays")
        kept.append([key async for (key,) in await sql.execute(keys)])
    assert kept == [["after 1800", "expires", "stays"], ["after 1800", "after 1900", "stays"]]


@pytest.mark.parametrize("order", [1, -1])
async def test_keys_of_any_characters_keep_their_order(store: PostgresStore, order: int) -> None:
    """NUL too, which PostgreSQL's text cannot hold."""
    keys = sorted(["", "\0", "\0\0", "\1", "\1\1", "\0\1", "\1\0", "\2", "a\0", "a\1", "a", "a\0b", "ä", "\U0001f980"])
    for key in keys[::order]:
        await store.put(TIMERS, key, key.encode(), if_version=ABSENT, due_at_ms=1)
    assert [one.key for one in await store.due(TIMERS, before_ms=1, limit=100)] == keys
    assert [one.key for one in await store.scan(TIMERS, after="\1")] == keys[keys.index("\1") + 1 :]
    entry = await store.get(TIMERS, "a\0")
    assert entry is not None
    assert entry.value == b"a\0"


@pytest.mark.long
async def test_many_kills_lose_nothing(server: Postgres, store: PostgresStore, other: PostgresStore) -> None:
    """Twelve kills of the server, forty writers: each entry stands at the last answer, or one try after it."""
    ended = asyncio.Event()

    async def writing(one: PostgresStore, key: str) -> tuple[str, int, int, bool]:
        """The last value that was answered, the last that was tried, and whether a conflict was claimed."""
        known, tried, version = 0, 0, ABSENT
        while not ended.is_set():
            tried = known + 1
            try:
                version = await one.put(CLAIMS, key, b"%d" % tried, if_version=version)
            except VersionConflict:
                return key, known, tried, True
            except StoreUnavailable:
                return key, known, tried, False  # nothing is known: it goes no further
            known = tried
        return key, known, tried, False

    writers = [asyncio.create_task(writing(one, secrets.token_hex(8))) for one in (store, other) for _ in range(20)]
    for _ in range(12):
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await store.put(CLAIMS, secrets.token_hex(8), b"value", if_version=ABSENT)
    ended.set()
    for key, known, tried, conflict in await asyncio.gather(*writers):
        assert not conflict
        entry = await store.get(CLAIMS, key)
        stands = 0 if entry is None else int(entry.value)
        assert known <= stands <= tried
        assert known > 0
