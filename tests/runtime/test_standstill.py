"""A worker that may receive and not settle: it stops receiving, says so once, and goes on when it may."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

import redrive.app
import redrive.standstill
from redrive import App, Reject
from redrive.broker import Acknowledge, Broker, Forward, Outgoing, Results, Return, Settlement
from redrive.errors import BrokerError, BrokerUnavailable, NotPermitted
from redrive.relay import Relay
from redrive.testing import PlainBroker
from tests.runtime.fakes import Order, opened, until, working

LEASE = 1.0


class Strict(Relay):
    """A broker that does not let everybody settle."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.denied: tuple[type[Settlement], ...] = ()
        self.denies_target = False
        self.asked: Counter[str] = Counter()

    async def settle(self, settlements: Sequence[Settlement]) -> Results:
        results = [await self._one(one) for one in settlements]
        refused = [one for one in results if isinstance(one, BrokerUnavailable)]
        if len(refused) == len(results):  # as Amazon SQS's adapter tells it
            raise refused[0]
        return results

    async def _one(self, one: Settlement) -> BrokerError | None:
        self.asked[type(one).__name__] += 1
        if isinstance(one, Forward) and self.denies_target:
            return NotPermitted(self.address, "test:Send", one.queue)
        if isinstance(one, self.denied):
            if isinstance(one, Forward):  # sent, then not deleted
                await self._broker.send(one.queue, [Outgoing(message=one.message)])
            return NotPermitted(self.address, "test:Settle", one.delivery.queue, not isinstance(one, Return))
        (result,) = await self._broker.settle([one])
        return result


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> list[Strict]:
    """What applications opened get; what is not permitted is asked for often."""
    found: list[Strict] = []
    open_it = vars(redrive.app)["connect"]

    def connected(*arguments: object) -> object:
        broker, store = open_it(*arguments)
        found.append(Strict(PlainBroker(broker)))
        return found[-1], store

    monkeypatch.setattr(redrive.app, "connect", connected)
    monkeypatch.setattr(redrive.standstill, "ASK_EVERY", 0.1)
    return found


class Shop:
    """An application that writes down what it handles."""

    def __init__(self) -> None:
        self.app: App[None] = App("test")
        self.queue = self.app.queue("orders", Order)
        self.handled: Counter[str] = Counter()
        self.rejects = False

        @self.queue.consumer(lease=LEASE, concurrency=1)
        async def handle(order: Order) -> None:
            self.handled[order.id] += 1
            if self.rejects:
                raise Reject("no such drink")

    async def empty(self) -> bool:
        return (await self.app.runtime.broker.depth("orders")).total == 0


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR and "receive" in one.message]


async def test_a_worker_that_may_not_delete_handles_one_message_and_stops_receiving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brokers: list[Strict], caplog: pytest.LogCaptureFixture
) -> None:
    """While it asks again and again, the lease ends and nothing is handled twice; then all of it is, once."""
    shop = Shop()
    async with opened(shop.app, tmp_path, monkeypatch):
        (broker,) = brokers
        broker.denied = (Acknowledge,)
        await shop.queue.send_many([Order(id=str(number)) for number in range(5)])
        async with working(shop.app):
            await until(lambda: broker.asked["Acknowledge"] >= 15)  # so many times 0.1 s: the lease is over
            assert shop.handled.total() == 1
            (said,) = _errors(caplog)
            assert "may not call test:Settle on queue 'orders'" in said
            assert "allow it in the identity's policy" in said
            broker.denied = ()
            await until(shop.empty)
        assert shop.handled == Counter({str(number): 1 for number in range(5)})
        assert len(_errors(caplog)) == 1


async def test_a_dead_letter_that_cannot_leave_its_queue_is_sent_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brokers: list[Strict]
) -> None:
    """What was forwarded is only deleted when that is permitted at last, however often it was asked for."""
    shop = Shop()
    shop.rejects = True
    async with opened(shop.app, tmp_path, monkeypatch):
        (broker,) = brokers
        broker.denied = (Forward, Acknowledge)
        await shop.queue.send(Order(id="1"))
        async with working(shop.app):
            await until(lambda: broker.asked["Acknowledge"] >= 4)
            assert broker.asked["Forward"] == 1
            broker.denied = ()
            await until(shop.empty)
        assert (await broker.depth("orders-dead")).total == 1


async def test_a_worker_that_may_not_change_a_lease_stops_receiving_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brokers: list[Strict], caplog: pytest.LogCaptureFixture
) -> None:
    """A message that is to be retried comes back when its lease ends, and not before the worker may say when."""
    app: App[None] = App("test")
    queue = app.queue("orders", Order)
    turns: list[str] = []

    @queue.consumer(lease=LEASE, max_attempts=100)
    async def handle(order: Order) -> None:
        turns.append(order.id)
        raise OSError("no water")

    async with opened(app, tmp_path, monkeypatch):
        (broker,) = brokers
        broker.denied = (Return,)
        await queue.send(Order(id="1"))
        async with working(app):
            await until(lambda: broker.asked["Return"] >= 15)
            assert turns == ["1"]
            assert len(_errors(caplog)) == 1


async def test_a_target_that_may_not_be_sent_to_holds_nobody_else_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brokers: list[Strict]
) -> None:
    """A dead letter stays where it is; what can be handled is handled."""
    shop = Shop()
    async with opened(shop.app, tmp_path, monkeypatch):
        (broker,) = brokers
        broker.denies_target = True
        async with working(shop.app):
            shop.rejects = True
            await shop.queue.send(Order(id="1"))
            await until(lambda: broker.asked["Forward"] >= 1)
            shop.rejects = False
            await shop.queue.send(Order(id="2"))
            await until(lambda: shop.handled["2"] == 1)
