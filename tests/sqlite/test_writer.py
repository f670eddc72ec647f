"""The one writer: groups what waits, keeps apart what fails, and says unknown where it does not know."""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from redrive.broker import Acknowledge, Broker, Outgoing, QueueSpec
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import ManualClock
from redrive.errors import BrokerUnavailable, DatabaseUnusable, OutcomeUnknown, QueueNotFound, StoreUnavailable
from redrive.message import Message
from redrive.sqlite.database import connect
from redrive.sqlite.session import LONGEST
from redrive.sqlite.signals import Neighbours, Signals
from redrive.sqlite.turn import turn_for
from redrive.sqlite.writer import FileDatabase, Tables
from redrive.store import ABSENT, CIRCUITS
from redrive.stores.sqlite import SqliteStore

DEADLINE = 10.0


def outgoing(body: bytes = b"1", number: int = 0) -> Outgoing:
    return Outgoing(message=Message(id=f"m{number}", body=body, sent_at_ms=1))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def database(short_path: Path, clock: ManualClock) -> Iterator[FileDatabase]:
    database = FileDatabase(str(short_path / "w.db"), clock)
    yield database
    database.close()


@pytest.fixture
async def broker(database: FileDatabase) -> SqliteBroker:
    broker = SqliteBroker(database)
    await broker.declare([QueueSpec(name="orders")])
    return broker


def stored(path: str) -> list[str]:
    """The ids of all messages in the file, read by a connection of its own."""
    connection = connect(path)
    ids = [one for (one,) in connection.execute("SELECT id FROM message ORDER BY id")]
    connection.close()
    return ids


async def until(done: threading.Event) -> None:
    async with asyncio.timeout(DEADLINE):
        assert await asyncio.to_thread(done.wait, DEADLINE)


def _sockets(database: FileDatabase) -> list[Path]:
    return list(Path(f"{database.path}-wake").iterdir())


class _Held:
    """The writer, held up by a piece of work until it is let go: what is asked meanwhile waits together."""

    def __init__(self, database: FileDatabase) -> None:
        self._database = database
        self._reached, self._go = threading.Event(), threading.Event()

    def _wait(self, _: Tables) -> None:
        self._reached.set()
        self._go.wait(DEADLINE)

    async def __aenter__(self) -> None:
        self._future = self._database.run(self._wait)
        await until(self._reached)

    async def __aexit__(self, *_: object) -> None:
        self._go.set()
        await self._future


async def test_calls_that_wait_together_share_a_commit(database: FileDatabase, broker: Broker) -> None:
    """Five hundred sends at once are one transaction, and each is answered."""
    commits: list[int] = []

    def counting() -> bool:
        commits.append(1)
        return False

    async with _Held(database):
        database._session.tables.connection.set_commit_hook(counting)
        sends = [asyncio.ensure_future(broker.send("orders", [outgoing(number=number)])) for number in range(500)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*sends) == [[None]] * 500
    database._session.tables.connection.set_commit_hook(None)
    assert len(commits) <= 2
    assert len(stored(database.path)) == 500


class _Commits:
    """How many transactions were committed, or rolled back, since it was made."""

    def __init__(self, database: FileDatabase) -> None:
        self.committed = self.rolled_back = 0
        connection = database._session.tables.connection
        connection.set_commit_hook(self._commit)
        connection.set_rollback_hook(self._roll_back)

    def _commit(self) -> bool:
        self.committed += 1
        return False

    def _roll_back(self) -> None:
        self.rolled_back += 1


async def test_a_transaction_takes_no_more_than_some_milliseconds_of_work(database: FileDatabase) -> None:
    """Other processes wait for it: what does not fit is done in the next ones, in order."""
    done: list[int] = []

    def slow(number: int, _: Tables) -> None:
        until = time.monotonic() + LONGEST / 2
        while time.monotonic() < until:
            pass
        done.append(number)

    async with _Held(database):
        commits = _Commits(database)
        works = [database.run(functools.partial(slow, number)) for number in range(20)]
    await asyncio.gather(*works)
    assert done == list(range(20))
    assert commits.committed >= 10


async def test_a_fault_among_many_costs_few_transactions(database: FileDatabase, broker: Broker) -> None:
    """It is looked for by halves: not every one of its neighbours is written alone."""

    def faulty(_: Tables) -> None:
        raise ZeroDivisionError

    async with _Held(database):
        commits = _Commits(database)
        before = [asyncio.ensure_future(broker.send(f"q{one}", [outgoing()])) for one in range(100)]
        await asyncio.sleep(0)
        fault = database.run(faulty)
        after = [asyncio.ensure_future(broker.send(f"q{one}", [outgoing()])) for one in range(100)]
        await asyncio.sleep(0)
    answers = await asyncio.gather(*before, *after, fault, return_exceptions=True)
    assert [type(one) for one in answers] == [QueueNotFound] * 200 + [ZeroDivisionError]
    assert commits.committed + commits.rolled_back < 30


async def test_a_fault_in_one_piece_of_work_does_not_disturb_the_others(database: FileDatabase, broker: Broker) -> None:
    """Its caller has the exception and nothing of it stays; its neighbours in the transaction are done."""

    def faulty(tables: Tables) -> None:
        tables.engine.send("orders", [outgoing(number=999)], tables.now_ms)
        message = "a bug"
        raise ZeroDivisionError(message)

    async with _Held(database):
        before = asyncio.ensure_future(broker.send("orders", [outgoing(number=1)]))
        await asyncio.sleep(0)
        fault = database.run(faulty)
        unknown = asyncio.ensure_future(broker.send("nowhere", [outgoing(number=2)]))
        after = asyncio.ensure_future(broker.send("orders", [outgoing(number=3)]))
        await asyncio.sleep(0)
    assert await before == [None]
    assert await after == [None]
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await fault
    with pytest.raises(QueueNotFound):
        await unknown
    assert stored(database.path) == ["m1", "m3"]


async def test_a_commit_that_raised_may_have_happened(database: FileDatabase, broker: Broker) -> None:
    """Unknown is said, never failed; the file is opened anew and works on."""
    database._session.tables.connection.set_commit_hook(lambda: True)  # SQLite turns the commit into an error
    with pytest.raises(OutcomeUnknown, match="try again under the same id"):
        await broker.send("orders", [outgoing(number=1)])
    assert await broker.send("orders", [outgoing(number=2)]) == [None]
    assert stored(database.path) == ["m2"]


async def test_a_fault_of_the_writer_itself_leaves_nobody_waiting(
    database: FileDatabase, broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What became of the work is not known, and said so; the writer goes on."""

    def faulty() -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(database._session, "_tell", faulty)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(OutcomeUnknown, match="ZeroDivisionError"):
                await broker.send("orders", [outgoing(number=1)])
    assert "a fault in the writer" in caplog.text
    assert await broker.send("orders", [outgoing(number=2)]) == [None]


async def test_a_store_whose_commit_raised_is_unavailable(database: FileDatabase) -> None:
    """The store has a word of its own for it; redrive's own loops wait for that word."""
    store = SqliteStore(database)
    await database.run(lambda _: None)  # what it does first, it has done
    database._session.tables.connection.set_commit_hook(lambda: True)
    with pytest.raises(StoreUnavailable):
        await store.put(CIRCUITS, "key", b"value", if_version=ABSENT)
    await store.put(CIRCUITS, "key", b"value", if_version=ABSENT)


async def test_while_it_cannot_be_opened_anew_work_is_refused(
    database: FileDatabase, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time with the reason; and once it can, work goes on."""

    def away(path: str, _durability: str) -> None:
        raise DatabaseUnusable(path, "is away", "wait")

    with monkeypatch.context() as patch:
        patch.setattr("redrive.sqlite.session.connect", away)
        database._session.tables.connection.set_commit_hook(lambda: True)
        with pytest.raises(OutcomeUnknown):
            await broker.send("orders", [outgoing()])
        for _ in range(2):
            with pytest.raises(DatabaseUnusable, match="is away"):
                await broker.send("orders", [outgoing()])
    assert await broker.send("orders", [outgoing()]) == [None]


async def test_a_full_disk_refuses_sends_and_loses_nothing(database: FileDatabase, broker: Broker) -> None:
    """What was answered is there, the refusal says why, and once there is room again it goes on."""
    limit = database._session.tables.connection.pragma("page_count") + 60
    database._session.tables.connection.pragma("max_page_count", limit)
    sent: list[str] = []

    async def fill() -> None:
        for number in range(100):
            assert await broker.send("orders", [outgoing(b"x" * 20_000, number)]) == [None]
            sent.append(f"m{number}")

    with pytest.raises(BrokerUnavailable, match="disk is full; nothing was written"):
        await fill()
    assert 0 < len(sent) < 100
    assert stored(database.path) == sorted(sent)
    database._session.tables.connection.pragma("max_page_count", limit * 10)
    (delivery,) = await broker.receive("orders", limit=1, lease=30)
    assert await broker.settle([Acknowledge(delivery=delivery)]) == [None]
    sent.remove(delivery.message.id)
    assert await broker.send("orders", [outgoing(b"x", 101)]) == [None]
    assert stored(database.path) == sorted([*sent, "m101"])


async def test_closing_finishes_what_was_asked(database: FileDatabase, broker: Broker) -> None:
    """Whoever asked before is answered, and the work is on disk; whoever asks after is told."""
    async with _Held(database):
        sends = [asyncio.ensure_future(broker.send("orders", [outgoing(number=number)])) for number in range(50)]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(broker.close())
        await asyncio.sleep(0)
    await closing
    assert await asyncio.gather(*sends) == [[None]] * 50
    with pytest.raises(BrokerUnavailable):
        await broker.send("orders", [outgoing()])
    assert len(stored(database.path)) == 50


async def test_nobody_is_left_without_an_answer(tmp_path: Path, clock: ManualClock) -> None:
    """However a close and its callers meet, each call is answered or refused: none waits for ever."""
    for number in range(20):
        database = FileDatabase(str(tmp_path / f"{number}.db"), clock)
        closing = asyncio.create_task(asyncio.to_thread(database.close))
        futures: list[asyncio.Future[None]] = []
        while not closing.done():
            try:
                futures.append(database.run(lambda _: None))
            except BrokerUnavailable:
                break
            await asyncio.sleep(0)
        await closing
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*futures)


async def test_engine_time_goes_on_after_a_restart(tmp_path: Path, clock: ManualClock) -> None:
    """A wall clock that was turned back a year meanwhile turns nothing back: leases and delays end as before."""
    path = str(tmp_path / "w.db")
    clock.advance(366 * 86_400)
    broker = SqliteBroker(FileDatabase(path, clock))
    await broker.declare([QueueSpec(name="orders")])
    await broker.send("orders", [Outgoing(message=outgoing(number=1).message, delay=60.0), outgoing(number=2)])
    await broker.close()
    yesteryear = ManualClock(clock.now_ms() - 365 * 86_400_000)
    broker = SqliteBroker(FileDatabase(path, yesteryear))
    assert [one.message.id for one in await broker.receive("orders", limit=10, lease=30)] == ["m2"]
    yesteryear.advance(59)
    assert "m1" not in [one.message.id for one in await broker.receive("orders", limit=10, lease=30)]
    yesteryear.advance(2)
    assert "m1" in [one.message.id for one in await broker.receive("orders", limit=10, lease=30)]
    await broker.close()


async def test_nobody_s_time_is_behind_another_s(short_path: Path, clock: ManualClock) -> None:
    """Two processes with different clocks: once the one that is ahead has written, both stand there."""
    path = str(short_path / "w.db")
    ahead = ManualClock(clock.now_ms() + 3_600_000)
    behind, other = FileDatabase(path, clock), FileDatabase(path, ahead)
    assert await behind.run(lambda tables: tables.now_ms) == clock.now_ms()
    await SqliteBroker(other).declare([QueueSpec(name="orders")])
    assert await behind.run(lambda tables: tables.now_ms) == ahead.now_ms()
    behind.close()
    other.close()


async def test_transactions_wait_for_their_turn(database: FileDatabase, broker: Broker) -> None:
    """While another process has the advisory lock nothing is written, and then it is: nobody tries again and again."""
    turn = turn_for(database.path)
    turn.take()
    sending = asyncio.ensure_future(broker.send("orders", [outgoing()]))
    assert await asyncio.wait([sending], timeout=0.2) == (set(), {sending})
    turn.give()
    async with asyncio.timeout(DEADLINE):
        assert await sending == [None]
    turn.close()


async def test_a_cancelled_receive_hands_back_what_it_was_given(database: FileDatabase, broker: Broker) -> None:
    """At once, not when the lease ends, and uncounted: its work was on the way when it was cancelled."""
    await broker.send("orders", [outgoing()])
    async with _Held(database):
        waiting = asyncio.ensure_future(broker.receive("orders", limit=1, lease=600, wait=DEADLINE))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert waiting.cancelled()
    async with asyncio.timeout(DEADLINE):
        (delivery,) = await broker.receive("orders", limit=1, lease=30, wait=DEADLINE)
    assert delivery.receive_count == 1


async def test_a_fault_of_the_wake_up_is_not_the_message_s(database: FileDatabase, broker: Broker) -> None:
    """Somebody tidied the folder of sockets away: sends and receives go on, and closing does not hang."""
    shutil.rmtree(f"{database.path}-wake")
    async with asyncio.timeout(DEADLINE):
        assert await broker.send("orders", [outgoing()]) == [None]
        assert len(await broker.receive("orders", limit=1, lease=30)) == 1
    async with asyncio.timeout(2):
        await broker.close()


async def test_noise_on_the_socket_wakes_nobody_and_harms_nobody(database: FileDatabase) -> None:
    """Datagrams that are no names are passed over; those that follow are heard."""
    (own,) = _sockets(database)
    with database.signals.listening("orders") as changed, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for noise in (b"", b"\xff\xfe", b"\0", b"\n\n", os.urandom(3000)):
            sender.sendto(noise, str(own))
        sender.sendto(b"orders", str(own))
        async with asyncio.timeout(DEADLINE):
            await changed.wait()


async def test_sockets_of_the_dead_are_cleared_away(database: FileDatabase, broker: Broker) -> None:
    """A killed process leaves its socket; the next send removes it."""
    left = Path(f"{database.path}-wake") / "4711-dead"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
        gone.bind(str(left))
    assert left.exists()
    assert await broker.send("orders", [outgoing()]) == [None]
    assert not left.exists()


async def test_a_long_path_has_its_sockets_elsewhere(tmp_path: Path, clock: ManualClock) -> None:
    """A socket's path may have a hundred bytes; the database's may have more."""
    folder = tmp_path / ("f" * 120)
    folder.mkdir()
    signals = Signals()
    database = FileDatabase(str(folder / "w.db"), clock)
    neighbour = Neighbours(str(folder / "w.db"), signals)
    with signals.listening("orders") as changed:
        broker = SqliteBroker(database)
        await broker.declare([QueueSpec(name="orders")])
        await broker.send("orders", [outgoing()])
        async with asyncio.timeout(DEADLINE):
            await changed.wait()
    neighbour.close()
    await broker.close()


async def test_many_queues_at_once_wake_everybody(database: FileDatabase, broker: Broker) -> None:
    """More names than fit into a datagram: everybody looks."""
    signals = Signals()
    neighbour = Neighbours(database.path, signals)
    names = [f"{number}-{secrets.token_hex(30)}" for number in range(60)]
    await broker.declare([QueueSpec(name=name) for name in names])
    with signals.listening(names[-1]) as changed:
        async with _Held(database):
            sends = [asyncio.ensure_future(broker.send(name, [outgoing()])) for name in names]
            await asyncio.sleep(0)
        await asyncio.gather(*sends)
        async with asyncio.timeout(DEADLINE):
            await changed.wait()
    neighbour.close()


async def test_a_cancelled_caller_changes_nothing_for_the_others(database: FileDatabase, broker: Broker) -> None:
    """Its work is done or not; theirs is done."""
    async with _Held(database):
        cancelled = asyncio.ensure_future(broker.send("orders", [outgoing(number=1)]))
        kept = asyncio.ensure_future(broker.send("orders", [outgoing(number=2)]))
        await asyncio.sleep(0)
        cancelled.cancel()
    assert await kept == [None]
    assert "m2" in stored(database.path)
