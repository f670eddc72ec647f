"""The board of a worker: what it says outlives whoever wrote it; and the two that write on it, witness and pulse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import redrive.pulse
from redrive import App, BrokerUnavailable
from redrive.aftermath import clean_up
from redrive.board import Board, Holding
from redrive.broker import Acknowledge, Depth, Outgoing, QueueSpec
from redrive.clock import SystemClock
from redrive.connections import connect
from redrive.errors import QueueNotFound
from redrive.message import Message, message_id
from redrive.pulse import Pulse, longest_turn
from redrive.store import SUSPECTS, Store
from redrive.testing import FaultyBroker
from redrive.witness import Witness
from tests.runtime.fakes import Order, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "board"
    path.touch()
    return path


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[tuple[FaultyBroker, Store]]:
    broker, store = connect(f"sqlite:{tmp_path / 'test.db'}", SystemClock())
    await broker.declare([QueueSpec(name="orders"), QueueSpec(name="lines", fifo=True)])
    yield FaultyBroker(broker), store
    await broker.close()
    await store.close()


def message(number: int, group: str | None = None) -> Outgoing:
    one = Message(id=message_id(number, bytes(10)), body=b"{}", sent_at_ms=number, group=group)
    return Outgoing(message=one, deduplication_id=one.id)


def test_what_runs_and_what_is_held_is_read_by_another(path: Path) -> None:
    """Each with what it takes to name it; what ended or was let go is not there any more."""
    writes, reads = Board(path), Board(path)
    one, other = Holding("orders", "a", None, "1.aa"), Holding("lines", "b/ü", "table-4", "2.bb")
    slots = [writes.begin("orders", "a"), writes.begin("lines", "b/ü")]
    for holding in (one, other):
        writes.hold(holding)
    assert sorted(reads.running()) == ["lines/b/ü", "orders/a"]
    assert sorted(reads.held()) == sorted([one, other])
    writes.end(slots[0])
    writes.let_go("1.aa")
    writes.let_go("1.aa")
    assert (reads.running(), reads.held()) == (["lines/b/ü"], [other])


def test_facts_and_times_are_read_by_another(path: Path) -> None:
    """None of them before it was said; an address may be as long as a path, in any letters."""
    writes, reads = Board(path), Board(path)
    assert (reads.facts(), reads.last_beat(), reads.last_answer(), reads.said()) == ({}, 0.0, 0.0, None)
    assert not reads.is_leaving()
    address = f"sqlite:/{'ü' * 2000}\udcff"
    writes.introduce(address=address, timeout=300.0)
    writes.beat(1.5)
    writes.answered(2.5)
    writes.leave()
    writes.say(75, "away: ü")
    assert reads.facts() == {"address": address, "timeout": 300.0}
    assert (reads.last_beat(), reads.last_answer(), reads.said(), reads.is_leaving()) == (1.5, 2.5, 75, True)
    assert reads.why() == "away: ü"
    assert reads.facts() == {"address": address, "timeout": 300.0}


def test_what_has_no_room_is_left_to_its_lease(path: Path) -> None:
    """A receipt that is too long, and the message after the last slot; one that is let go makes room."""
    board = Board(path)
    board.hold(Holding("orders", "a", None, "x" * 1_100))
    for number in range(5000):
        board.hold(Holding("orders", "a", None, str(number)))
    assert len(board.held()) == 4096
    board.let_go("7")
    board.hold(Holding("orders", "last", None, "last"))
    assert Holding("orders", "last", None, "last") in board.held()


def test_only_what_took_the_worker_down_is_blamed(path: Path) -> None:
    """Of three that run, the one that is overdue."""
    board = Board(path)
    began = [board.begin("orders", "a"), board.begin("slow", "b"), board.begin("unknown", "c")]
    later = board._turns[began[0]][1] + 10
    assert board.overdue({"orders": 5.0, "slow": 50.0}, later) == [began[0]]
    board.blame([began[0]])
    assert Board(path).running() == ["orders/a"]


async def test_a_witness_writes_down_what_is_held(path: Path, embedded: tuple[FaultyBroker, Store]) -> None:
    """From the receive until it is settled or lost, whatever is tried in between."""
    board = Board(path)
    witness = Witness(embedded[0], board)
    await witness.send("orders", [message(1), message(2)])
    first, second = await witness.receive("orders", limit=2, lease=30)
    assert {one.receipt for one in board.held()} == {first.receipt, second.receipt}
    await witness.extend([first, second], lease=30)
    await witness.settle([Acknowledge(delivery=first)])
    assert [one.message_id for one in board.held()] == [second.message.id]
    await witness.purge("orders")
    await witness.extend([second], lease=30)
    assert board.held() == []


async def test_a_refusal_is_an_answer_and_an_outage_is_none(path: Path, embedded: tuple[FaultyBroker, Store]) -> None:
    """What counts for readiness is whether the broker was reached."""
    board, (broker, _) = Board(path), embedded
    witness = Witness(broker, board)
    broker.refuse("depth")
    with pytest.raises(BrokerUnavailable):
        await witness.depth("orders")
    assert board.last_answer() == 0.0
    broker.recover()
    with pytest.raises(QueueNotFound):
        await witness.depth("nothing")
    assert board.last_answer() > 0.0


async def test_a_worker_that_has_nothing_to_ask_asks_all_the_same(
    path: Path, embedded: tuple[FaultyBroker, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It beats, and its broker answers now and then; a broker that is away keeps neither from going on."""
    monkeypatch.setattr(redrive.pulse, "_ASK_AFTER", 0.0)
    monkeypatch.setattr(redrive.pulse, "_ASK_EVERY", 0.01)
    monkeypatch.setattr(redrive.pulse, "_BEAT_EVERY", 0.01)
    board, (broker, _) = Board(path), embedded
    broker.refuse("queues")
    pulse = asyncio.create_task(Pulse(board, Witness(broker, board), []).run())
    await until(lambda: broker.injected.total() > 2)
    beat = board.last_beat()
    assert board.last_answer() == 0.0
    broker.recover()
    await until(board.last_answer)
    await until(lambda: board.last_beat() > beat)
    pulse.cancel()
    await asyncio.gather(pulse, return_exceptions=True)


async def test_a_crashed_worker_s_messages_come_back_at_once(path: Path, embedded: tuple[FaultyBroker, Store]) -> None:
    """What ran is suspect and counted as received; what only waited comes back uncounted; what was settled, not at all.

    On a FIFO queue the line goes on as well.
    """
    board, (broker, store) = Board(path), embedded
    board.introduce(address=broker.address, timeout=1.0)
    witness = Witness(broker, board)
    await witness.send("orders", [message(number) for number in range(3)])
    await witness.send("lines", [message(number, "table-4") for number in range(3, 5)])
    ran, waited, settled = await witness.receive("orders", limit=3, lease=30)
    await witness.receive("lines", limit=2, lease=30)
    board.begin("orders", ran.message.id)
    await broker.settle([Acknowledge(delivery=settled)])  # and it died before it could note that
    await clean_up(board, crashed=True)
    assert (await broker.depth("orders"), await broker.depth("lines")) == (Depth(ready=2), Depth(ready=2))
    again = {one.message.id: one.receive_count for one in await broker.receive("orders", limit=3, lease=30)}
    assert again == {ran.message.id: 2, waited.message.id: 1}
    assert await store.get(SUSPECTS, f"orders/{ran.message.id}") is not None
    assert await store.get(SUSPECTS, f"orders/{waited.message.id}") is None


async def test_a_worker_that_asked_to_be_replaced_leaves_no_suspects(
    path: Path, embedded: tuple[FaultyBroker, Store]
) -> None:
    """What it held comes back all the same."""
    board, (broker, store) = Board(path), embedded
    board.introduce(address=broker.address, timeout=1.0)
    witness = Witness(broker, board)
    await witness.send("orders", [message(1)])
    (delivery,) = await witness.receive("orders", limit=1, lease=30)
    board.begin("orders", delivery.message.id)
    await clean_up(board, crashed=False)
    assert await broker.depth("orders") == Depth(ready=1)
    assert await store.get(SUSPECTS, f"orders/{delivery.message.id}") is None


async def test_a_broker_that_is_away_leaves_it_to_the_leases(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The supervisor says so and goes on."""
    board = Board(path)
    board.introduce(address=f"sqlite:{tmp_path}", timeout=1.0)
    board.begin("orders", "a")
    await clean_up(board, crashed=True)
    assert "suspects cannot be written down" in caplog.text


def test_a_turn_has_its_handlers_time_and_a_lease() -> None:
    """Twice the handler's time where a degraded handler may run after it."""
    app: App[None] = App("test")
    payments = app.dependency("payments")
    queue = app.queue("orders", Order)

    @queue.consumer(needs=[payments], timeout=7, lease=5)
    async def handle(order: Order) -> None: ...

    assert longest_turn(handle) == 12

    @handle.degraded(payments)
    async def meanwhile(order: Order) -> None: ...

    assert longest_turn(handle) == 19
