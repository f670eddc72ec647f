# ruff: noqa: S101 - tests: assert is how they speak
"""What the tests of a broker stand on: its fixture and its time, and messages and queues that nobody else has."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import ClassVar

import pytest

from redrive.broker import Broker, Capabilities, Outgoing, QueueSpec, Sent, Settlement
from redrive.errors import BrokerError, StaleReceipt
from redrive.message import NOTHING, Delivery, Failure, Message, Notes, message_id

DEADLINE = 10.0
"""Seconds of real time within which whatever is waited for has to happen."""
SENT_AT_MS = 1_700_000_000_123
"""An original send time long past: a broker has to keep it, not make its own."""

NOTED = replace(NOTHING, attempts=2, bounces=1, forwards=3, degraded_at_ms=SENT_AT_MS + 5).noting(
    Failure(
        at_ms=SENT_AT_MS + 9, kind="raised", error="ValueError", text="naïve \0 \ud800 ☕", traceback="line 1\nline 2"
    ),
    reason="2 of 3 attempts",
)
"""Notes with everything in them."""


class Ground:
    """The fixture `broker`, and how time passes for it."""

    pytestmark: ClassVar[object] = pytest.mark.asyncio

    lease: float = 30.0
    """Length of the leases and delays in these tests, in seconds; short where time is real."""
    deadline: float = DEADLINE
    """Seconds of real time within which whatever is waited for has to happen."""
    patience: float = 60.0
    """The longest time that a test may let pass at once, in seconds; what takes longer is skipped. Raise it where time
    can be made to pass faster."""

    @pytest.fixture
    def broker(self) -> Broker:
        """An open broker; the subclass provides it and closes it."""
        missing = "a subclass of BrokerSuite has to have a fixture `broker`"
        raise NotImplementedError(missing)

    async def let_pass(self, seconds: float) -> None:
        """Let time pass for the broker."""
        await asyncio.sleep(seconds)

    async def reopened(self, broker: Broker) -> Broker:
        """Another broker on what this one has kept, as after a crash or a restart; the subclass closes both."""
        pytest.skip(f"{type(self).__name__} does not say how to open {type(broker).__name__} anew")

    async def _let_pass_long(self, seconds: float) -> None:
        """Let time pass that not everybody has."""
        if seconds > self.patience:
            pytest.skip(f"takes {seconds:g} s, and the patience of {type(self).__name__} is {self.patience:g} s")
        await self.let_pass(seconds)

    async def _take(self, broker: Broker, queue: str, limit: int = 10) -> list[Delivery]:
        return await receive(broker, queue, limit=limit, lease=self.lease)

    async def _take_all(self, broker: Broker, queue: str, count: int) -> list[Delivery]:
        """As many as there have to be, in as many receives as that takes, in the order of their bodies."""
        taken: list[Delivery] = []
        for _ in range(count * 2):
            taken += await self._take(broker, queue)
            if len(taken) >= count:
                break
        assert len(taken) == count
        return sorted(taken, key=lambda one: one.message.body)


def message(
    body: bytes = b"1",
    *,
    attributes: dict[str, str] | None = None,
    attribute_types: dict[str, str] | None = None,
    group: str | None = None,
    notes: Notes = NOTHING,
) -> Message:
    """A message with an id of its own."""
    return Message(
        id=message_id(SENT_AT_MS, secrets.token_bytes(10)),
        body=body,
        sent_at_ms=SENT_AT_MS,
        attributes={} if attributes is None else attributes,
        attribute_types=attribute_types,
        group=group,
        notes=notes,
    )


async def new_queue(
    broker: Broker,
    *,
    fifo: bool = False,
    content_deduplication: bool = False,
    delay: float = 0.0,
    retention: float | None = None,
    dead_letter_queue: str | None = None,
    max_receives: int | None = None,
    allowed_sources: tuple[str, ...] | None = None,
) -> str:
    """A queue that nobody used before."""
    spec = QueueSpec(
        name=f"suite-{secrets.token_hex(8)}",
        fifo=fifo,
        content_deduplication=content_deduplication,
        delay=delay,
        retention=retention,
        dead_letter_queue=dead_letter_queue,
        max_receives=max_receives,
        allowed_sources=allowed_sources,
    )
    await broker.declare([spec])
    return spec.name


async def send(broker: Broker, queue: str, *messages: Message, delay: float | None = None) -> None:
    """Send to a standard queue, all of it."""
    results = await broker.send(queue, [Outgoing(message=one, delay=delay) for one in messages])
    assert results == [None] * len(messages)


async def send_in_line(broker: Broker, queue: str, *messages: Message) -> list[Sent]:
    """Send to a FIFO queue, all of it, each message under its own id."""
    return await send_once(broker, queue, *((one, one.id) for one in messages))


async def send_once(broker: Broker, queue: str, *messages: tuple[Message, str | None]) -> list[Sent]:
    """Send to a FIFO queue, each message with its deduplication id; what became of them."""
    outgoing = [Outgoing(message=one, deduplication_id=key) for one, key in messages]
    results = await broker.send(queue, outgoing)
    sent = [one for one in results if isinstance(one, Sent)]
    assert len(sent) == len(messages), results
    return sent


async def receive(
    broker: Broker, queue: str, *, lease: float, limit: int = 10, ids: Sequence[str] | None = None
) -> list[Delivery]:
    """Receive what is ready now."""
    return await broker.receive(queue, limit=min(limit, broker.capabilities.max_batch), lease=lease, ids=ids)


async def settle(broker: Broker, *settlements: Settlement) -> None:
    """Settle, all of it."""
    assert await broker.settle(settlements) == [None] * len(settlements)


async def settle_down(broker: Broker, queue: str) -> None:
    """What was asked before is on its way: two calls were answered since."""
    await asyncio.sleep(0)
    for _ in range(2):
        await broker.depth(queue)


def assert_stale(results: Sequence[BrokerError | None], delivery: Delivery | None = None) -> None:
    """All of them are StaleReceipt, and name the message."""
    for one in results:
        assert isinstance(one, StaleReceipt), results
        if delivery is not None:
            assert (one.queue, one.message_id) == (delivery.queue, delivery.message.id)


def promises(broker: Broker, promise: str) -> None:
    """Skip the test of a promise that this broker does not make."""
    assert promise in {one.name for one in fields(Capabilities)}
    if not getattr(broker.capabilities, promise):
        pytest.skip(f"{type(broker).__name__} does not promise {promise!r}")
