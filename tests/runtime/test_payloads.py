"""Bodies that do not fit, and messages that are too old: dead at once, and nobody else's trouble."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from redrive import App, Reject
from redrive.operations import Operations
from tests.runtime.fakes import Order, put

pytestmark = pytest.mark.usefixtures("any_broker")

BAD = {
    "not JSON": b"{",
    "empty": b"",
    "not UTF-8": b'{"id":"\xff"}',
    "wrong type": b'{"id":7}',
    "missing": b'{"drink":"tea"}',
    "NaN": b'{"id":"1","n":NaN}',
    "twice": b'{"id":"1","id":"2"}',
    "surrogate": b'{"id":"\\ud800"}',
    "deep": b"[" * 1000 + b"]" * 1000,
    "very deep": b"[" * 200_000 + b"]" * 200_000,
    "NUL": b'\x00{"id":"1"}',
    "a list": b"[]",
    "trailing": b'{"id":"1"} x',
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
async def test_a_body_that_does_not_fit_is_dead_at_once_and_its_neighbours_are_handled(body: bytes) -> None:
    """Dead in the first turn, never retried, with what is wrong in its record; what stands beside it is handled."""
    app = App("test")
    queue = app.queue("orders", Order)
    ran: list[str] = []

    @queue.consumer()
    async def handle(order: Order) -> None:
        ran.append(order.id)

    async with app.test() as t:
        await queue.send(Order(id="before"))
        identity = await put(t, queue, body)
        await queue.send(Order(id="after"))
        await t.advance(3600)
        (dead,) = await t.dead(queue)
        assert (dead.id, dead.body) == (identity, body)
        record = dead.notes.failure
        assert record is not None
        assert record.reason.startswith("the body does not fit the queue's type: not a message for queue 'orders'")
        assert (record.last.kind, record.total, dead.notes.attempts) == ("payload", 1, 0)
        assert sorted(ran) == ["after", "before"]
        (letter,) = [one async for one in Operations.of(app, who="me").letters()]
        assert await Operations.of(app, who="me").body(letter) == body


class Strict(BaseModel):
    """Its validator is buggy."""

    id: str

    @field_validator("id")
    @classmethod
    def check(cls, value: str) -> str:
        if value == "bug":
            raise KeyError("a bug in the validator")
        return value


async def test_a_validator_that_raises_what_it_should_not_is_an_attempt() -> None:
    """A bug in the type is a bug: tried again, then dead with every attempt, and no neighbour suffers."""
    app = App("test")
    queue = app.queue("orders", Strict)
    ran: list[str] = []

    @queue.consumer(max_attempts=2)
    async def handle(order: Strict) -> None:
        ran.append(order.id)

    async with app.test() as t:
        await put(t, queue, b'{"id":"bug"}')
        await put(t, queue, b'{"id":"1"}')
        await t.advance(60)
        (dead,) = await t.dead(queue)
        assert dead.notes.attempts == 2
        assert dead.notes.failure is not None
        assert dead.notes.failure.last.error == "KeyError"
        assert ran == ["1"]


async def test_an_envelope_is_opened_and_one_that_cannot_be_is_dead() -> None:
    """`decode=` unwraps foreign bodies; a ValueError of it means that the body does not fit."""
    app = App("test")

    def unwrap(body: bytes) -> bytes:
        document = json.loads(body)
        if "detail" not in document:
            raise ValueError("it has no detail")
        return json.dumps(document["detail"]).encode()

    queue = app.queue("orders", Order, decode=unwrap)
    ran: list[str] = []

    @queue.consumer()
    async def handle(order: Order) -> None:
        ran.append(order.id)

    async with app.test() as t:
        await put(t, queue, b'{"detail":{"id":"1"}}')
        await put(t, queue, b'{"id":"2"}')
        await t.drain()
        assert ran == ["1"]
        (dead,) = await t.dead(queue)
        assert dead.notes.failure is not None
        assert "it has no detail" in dead.notes.failure.reason


def an_ageing_app() -> tuple[App[None], Any, list[str], list[Exception]]:
    app = App("test")
    queue = app.queue("orders", Order)
    ran: list[str] = []
    raises: list[Exception] = []

    @queue.consumer(max_age=60.0)
    async def handle(order: Order) -> None:
        ran.append(order.id)
        if raises:
            raise raises[0]

    return app, queue, ran, raises


async def test_a_message_older_than_max_age_is_dead_rather_than_handled() -> None:
    """At exactly its age it is handled, after it no more, and the reason says how old it was."""
    app, queue, ran, _ = an_ageing_app()
    async with app.test() as t:
        await queue.send(Order(id="young"), delay=60.0)
        await queue.send(Order(id="old"), delay=61.0)
        await t.advance(120)
        assert ran == ["young"]
        (dead,) = await t.dead(queue)
        assert dead.notes.failure is not None
        assert dead.notes.failure.reason == "older than max_age: 61 s old, over max_age=60"


async def test_what_a_person_sends_back_gets_its_age_anew_and_keeps_its_time() -> None:
    """A redrive by hand begins `max_age` again; the original send time stays."""
    app, queue, ran, raises = an_ageing_app()
    async with app.test() as t:
        await queue.send(Order(id="1"))
        sent_at_ms = t.sent(queue)[0].sent_at_ms
        raises.append(Reject("not yet"))
        await t.drain()
        t.clock.advance(1000)
        raises.clear()
        operations = Operations.of(app, who="me")
        (letter,) = [one async for one in operations.letters()]
        await operations.redrive(letter)
        assert (await t.waiting(queue))[0].sent_at_ms == sent_at_ms
        t.clock.advance(59)
        await t.drain()
        assert ran == ["1", "1"]
        assert not await t.dead(queue)
