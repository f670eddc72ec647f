"""Relays in virtual time: an application in memory, and the outbox in a real database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typing_extensions import override

from redrive import App
from redrive.broker import Broker, Outgoing, Sends
from redrive.errors import BrokerError
from redrive.harness import Harness
from redrive.leadership import Leadership
from redrive.outbox.addresses import source
from redrive.outbox.relaying import OutboxRelay
from redrive.relay import Relay


class Shop:
    """Two queues that messages are sent to by way of the outbox."""

    def __init__(self) -> None:
        self.app = App("shop")
        self.orders = self.app.queue("orders", dict[str, Any])
        self.lines = self.app.queue("lines", dict[str, Any], fifo=True)


class Moody(Relay):
    """A broker that refuses what it is told to refuse: all of a call, or one message of it."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.calls: list[tuple[str, list[Any]]] = []
        self.refuses_call: Callable[[str], BrokerError | None] = lambda _queue: None
        self.refuses: Callable[[Outgoing], BrokerError | None] = lambda _one: None

    @override
    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        self.calls.append((queue, [json.loads(one.message.body) for one in messages]))
        if error := self.refuses_call(queue):
            raise error
        errors = [self.refuses(one) for one in messages]
        good = [one for one, error in zip(messages, errors, strict=True) if error is None]
        answers = iter(await super().send(queue, good) if good else [])
        return [next(answers) if error is None else error for error in errors]


class Leads(Leadership):
    """There is one process."""

    @override
    async def held(self) -> bool:
        return True


@contextmanager
def moody(app: App[None]) -> Iterator[tuple[Harness[None], Callable[[], Moody]]]:
    """The application in memory, behind a moody broker."""
    made: list[Moody] = []

    def between(broker: Broker) -> Broker:
        made.append(Moody(broker))
        return made[0]

    yield app.test(broker=between), lambda: made[0]


def relay_of(harness: Harness[Any], address: str, *, leads: bool = True) -> OutboxRelay:
    """A relay of the application in memory."""
    runtime = harness.runtime
    leadership = Leads(runtime.store, runtime.clock, task="test", holder="test") if leads else None
    return OutboxRelay(runtime, source(address, Path()), name="0", leadership=leadership)
