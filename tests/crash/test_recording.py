"""A recorded broker is the broker that it was made from, and its log tells what happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from math import inf
from pathlib import Path

import pytest
from typing_extensions import override

from redrive.broker import Acknowledge, Broker, Forward, Outgoing, QueueSpec, Return
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import ManualClock
from redrive.errors import QueueNotFound
from redrive.message import Message
from redrive.sqlite.writer import InlineDatabase
from redrive.testing import History, Recorded, Recorder, remaining
from redrive.testing.broker_suite import BrokerSuite
from redrive.testing.history import Outcome


class TestRecorded(BrokerSuite):
    """It keeps the promises of every broker."""

    patience = inf

    @pytest.fixture
    async def broker(self, tmp_path: Path) -> AsyncIterator[Broker]:
        self.clock = ManualClock()
        with Recorder(tmp_path, "suite") as recorder:
            broker = Recorded(SqliteBroker(InlineDatabase(self.clock)), recorder)
            yield broker
            await broker.close()

    @override
    async def let_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)


@pytest.fixture
async def recorded(tmp_path: Path) -> AsyncIterator[Recorded]:
    with Recorder(tmp_path, "p") as recorder:
        broker = Recorded(SqliteBroker(InlineDatabase(ManualClock())), recorder)
        await broker.declare([QueueSpec(name="orders"), QueueSpec(name="lines", fifo=True)])
        yield broker
        await broker.close()


def outgoing(identity: str, body: bytes = b"1", group: str | None = None) -> Outgoing:
    message = Message(id=identity, body=body, sent_at_ms=1, group=group)
    return Outgoing(message=message, deduplication_id=None if group is None else "key")


async def test_what_was_done_is_read_back(recorded: Recorded, tmp_path: Path) -> None:
    """Sends with their numbers, leases with their receipts, and what became of them."""
    await recorded.send("orders", [outgoing("m1"), outgoing("m2")])
    await recorded.send("lines", [outgoing("m3", group="g")])
    await recorded.send("lines", [outgoing("m4", group="g")])
    one, two = await recorded.receive("orders", limit=10, lease=30.0)
    await recorded.extend([one], lease=60.0)
    results = await recorded.settle(
        [Acknowledge(delivery=one), Forward(delivery=two, queue="orders", message=two.message), Return(delivery=one)]
    )
    history = History.read(tmp_path)
    assert [(one.id, one.duplicate_of, one.outcome) for one in history.sends] == [
        ("m1", None, Outcome.DONE),
        ("m2", None, Outcome.DONE),
        ("m3", None, Outcome.DONE),
        ("m4", "m3", Outcome.DONE),
    ]
    assert history.sends[2].sequence == history.sends[3].sequence is not None
    assert [lease.key for lease in history.leases] == [("orders", "m1", one.receipt), ("orders", "m2", two.receipt)]
    assert [(one.seconds, one.outcome) for one in history.extends] == [(60.0, Outcome.DONE)]
    assert [error is None for error in results] == [True, True, False]
    assert [(one.kind, one.outcome) for one in history.settles] == [
        ("acknowledge", Outcome.DONE),
        ("forward", Outcome.DONE),
        ("return", Outcome.REFUSED),
    ]
    assert await remaining(recorded) == {"lines": ["m3"], "orders": ["m2"]}


async def test_an_error_that_says_so_is_a_refusal(recorded: Recorded, tmp_path: Path) -> None:
    """Nothing happened, and the log says so, with the error; it reaches the caller all the same."""
    with pytest.raises(QueueNotFound):
        await recorded.send("nowhere", [outgoing("m1")])
    (results,) = [await recorded.send("orders", [outgoing("m2", b"x" * 2_000_000)])]
    history = History.read(tmp_path)
    assert [one.outcome for one in history.sends] == [Outcome.REFUSED, Outcome.REFUSED]
    assert "QueueNotFound: " in history.raised[0].raised
    assert results != [None]


async def test_a_call_that_was_cancelled_may_have_been_done(recorded: Recorded, tmp_path: Path) -> None:
    """Its caller knows nothing, and so nobody does."""
    receiving = asyncio.ensure_future(recorded.receive("orders", limit=1, lease=30.0, wait=20.0))
    await asyncio.sleep(0)  # it has begun, and waits
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    (receive,) = History.read(tmp_path).receives
    assert not receive.call.answered
    assert receive.call.raised.startswith("CancelledError")


def test_a_process_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Two logs in one file would be no log of anybody."""
    with Recorder(tmp_path, "p"), pytest.raises(FileExistsError):
        Recorder(tmp_path, "p")


def test_a_death_bounds_what_was_under_way(tmp_path: Path) -> None:
    """A call without an answer was over when its process was gone."""
    with Recorder(tmp_path, "p", clock=lambda: 1.0) as dying:
        dying.did("send", queue="orders", messages=[["m1", None, None, "digest"]])
    with Recorder(tmp_path, "parent", clock=lambda: 5.0) as parent:
        parent.killed("p")
    (send,) = History.read(tmp_path).sends
    assert (send.call.began, send.call.ended, send.outcome) == (1.0, 5.0, Outcome.UNKNOWN)
