"""`redrive.once`: any function takes effect once for each key, and every caller gets the one result."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import redrive
from redrive import App, OtherArguments, ResultNotKept, StillInProgress
from redrive.claims import KEPT_MS
from redrive.errors import ClaimLost, DeclarationError, NotOpen, StoreUnavailable
from redrive.store import Namespace
from tests.runtime.fakes import FailingStore, Order, opened, until, within

RACE = Path(__file__).with_name("racing.py")


class Receipt(BaseModel):
    """A result."""

    order: str
    number: int


@dataclass
class Plain:
    """A result that is a dataclass."""

    parts: tuple[int, ...]


async def test_a_later_call_gets_the_first_one_s_result() -> None:
    """Of its type, by the return annotation; the function does not run again for fourteen days."""
    app, ran = App("shop"), 0

    @redrive.once(app, key=lambda order: order.id)
    async def charge(order: Order) -> Receipt:
        nonlocal ran
        ran += 1
        return Receipt(order=order.id, number=ran)

    async with app.test() as t:
        first = await charge(Order(id="7"))
        assert await charge(Order(id="7")) == first == Receipt(order="7", number=1)
        assert (await charge(Order(id="8"))).number == 2
        t.clock.advance(KEPT_MS / 1000)
        assert (await charge(Order(id="7"))).number == 3


async def test_fifty_tasks_that_race_for_one_key_have_one_effect() -> None:
    """All of them get its result."""
    app, effects, callers = App("shop"), 0, 0

    def key(order: Order) -> str:
        nonlocal callers
        callers += 1
        return order.id

    @app.once(key=key)
    async def charge(order: Order) -> Receipt:
        nonlocal effects
        effects += 1
        await until(lambda: callers == 50)  # all of them are waiting for this one
        return Receipt(order=order.id, number=effects)

    async with app.test():
        results = await asyncio.gather(*(charge(Order(id="7")) for _ in range(50)))
        assert effects == 1
        assert results == [Receipt(order="7", number=1)] * 50


async def test_fifty_tasks_of_which_the_first_ones_fail_have_one_effect() -> None:
    """A failure frees the key, and the next one tries."""
    app, tries, effects = App("shop"), 0, 0

    @app.once(key=lambda order: order.id)
    async def charge(order: Order) -> str:
        nonlocal tries, effects
        tries += 1
        await asyncio.sleep(0)
        if tries < 4:
            raise ConnectionError
        effects += 1
        return order.id

    async with app.test():
        results = await asyncio.gather(*(charge(Order(id="7")) for _ in range(50)), return_exceptions=True)
        assert effects == 1
        assert [type(one) for one in results].count(ConnectionError) == 3
        assert results.count("7") == 47


@pytest.mark.e2e
async def test_four_processes_that_race_for_one_key_have_one_effect(tmp_path: Path) -> None:
    """Each with fifty tasks on one file; the effect is a line that it appends to another one."""
    database, effects = tmp_path / "shop.db", tmp_path / "effects"
    command = [sys.executable, str(RACE), f"sqlite:{database}", str(effects)]
    racers = [_racer(command) for _ in range(4)]
    try:
        for one in racers:
            assert one.stdout is not None
            assert await asyncio.to_thread(one.stdout.readline) == "ready\n"
        told = await asyncio.gather(*(asyncio.to_thread(one.communicate, "go\n", 30) for one in racers))
    finally:
        for one in racers:
            one.kill()
            one.wait()
    results = [result for out, _ in told for result in json.loads(out)]
    assert len(results) == 200
    assert len({json.dumps(one) for one in results}) == 1
    assert len(effects.read_text().splitlines()) == 1


def _racer(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def test_another_call_under_the_same_key_is_refused() -> None:
    """One of the two callers is wrong; nothing is done. The order of keyword arguments makes no other call."""
    app, ran = App("shop"), []

    @app.once(key=lambda **given: given["id"])
    async def charge(**given: Any) -> None:
        ran.append(given)

    async with app.test():
        await charge(id="7", amount=3)
        await charge(amount=3, id="7")
        with pytest.raises(OtherArguments, match=r"once:shop:.*charge:7"):
            await charge(id="7", amount=4)
        assert len(ran) == 1


async def test_what_counts_can_be_named() -> None:
    """An argument that is no JSON is refused before anything is done, with the remedy; `compare` is it."""
    app, ran = App("shop"), []

    async def charge(connection: object, order: Order) -> str:
        ran.append(connection)
        return order.id

    careless = app.once(key=lambda _connection, order: order.id, name="careless")(charge)
    careful = app.once(key=lambda _connection, order: order.id, compare=lambda _connection, order: order)(charge)
    async with app.test():
        with pytest.raises(DeclarationError, match="compare="):
            await careless(object(), Order(id="7"))
        assert not ran
        assert await careful(object(), Order(id="7")) == await careful(object(), Order(id="7")) == "7"
        with pytest.raises(OtherArguments):
            await careful(object(), Order(id="7", drink="mocha"))
        assert len(ran) == 1


async def test_an_exception_frees_the_key() -> None:
    """It reaches the caller as it is, and the next call runs; so does a call after one that was cancelled."""
    app, ran = App("shop"), 0

    @app.once(key=str)
    async def charge(_id: str) -> int:
        nonlocal ran
        ran += 1
        if ran == 1:
            raise LookupError
        if ran == 2:
            await asyncio.Event().wait()
        return ran

    async with app.test():
        with pytest.raises(LookupError):
            await charge("7")
        task = asyncio.create_task(charge("7"))
        await until(lambda: ran == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await within(charge("7")) == 3


async def test_who_waits_too_long_is_told() -> None:
    """The error says the key and the time; the one at work is not disturbed."""
    app, go = App("shop"), asyncio.Event()

    @app.once(key=str, wait=0.05)
    async def charge(id_: str) -> str:
        await go.wait()
        return id_

    async with app.test():
        first = asyncio.create_task(charge("7"))
        await asyncio.sleep(0)
        with pytest.raises(StillInProgress, match=r"'once:shop:.*:7' is still in progress elsewhere after 0.05 s"):
            await charge("7")
        go.set()
        assert await first == "7"


@pytest.mark.usefixtures("failing_store")
async def test_the_claim_is_extended_while_the_function_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function may take longer than its lease, and nobody takes it over; a store that is away does not end that."""
    app, ran, go = App("shop"), 0, asyncio.Event()
    extended = 0

    @app.once(key=str, lease=1.0, wait=0.01)
    async def charge(_id: str) -> int:
        nonlocal ran
        ran += 1
        await go.wait()
        return ran

    def extends(call: str, _namespace: Namespace, _key: str, value: bytes) -> bool:
        nonlocal extended
        extended += call == "put" and b'"claimed"' in value
        return extended == 2

    async with opened(app, tmp_path, monkeypatch):
        store: FailingStore = app.runtime.store  # type: ignore[assignment]
        first = asyncio.create_task(charge("7"))
        await until(lambda: ran)
        store.fails = extends
        await until(lambda: extended == 5)  # a third of the lease after one another: over one lease in all
        with pytest.raises(StillInProgress):
            await charge("7")
        go.set()
        assert await first == 1


async def test_a_late_finisher_is_told() -> None:
    """Its lease ended and another one did the work: that one's result counts, for both."""
    app, ran, go = App("shop"), 0, asyncio.Event()

    @app.once(key=str, lease=30)
    async def charge(_id: str) -> int:
        nonlocal ran
        mine = ran = ran + 1
        if mine == 1:
            await go.wait()
        return mine

    async with app.test() as t:
        first = asyncio.create_task(charge("7"))
        await until(lambda: ran == 1)
        t.clock.advance(31)
        assert await charge("7") == 2
        go.set()
        with pytest.raises(ClaimLost):
            await first
        assert await charge("7") == 2


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("x" * 33_000, "has 33002 bytes of JSON, over the limit of 32768"),
        (object(), "cannot be kept as JSON"),
        ({1: {"a", object()}}, "cannot be kept as JSON"),
    ],
    ids=["too large", "no JSON", "no JSON within"],
)
async def test_a_result_that_cannot_be_kept_is_said(given: object, problem: str) -> None:
    """To the first caller as to the later ones; the work is done, and is not done again."""
    app, ran = App("shop"), 0

    @app.once(key=str)
    async def charge(_id: str) -> Any:
        nonlocal ran
        ran += 1
        return given

    async with app.test():
        for _ in range(3):
            with pytest.raises(ResultNotKept, match=problem):
                await charge("7")
        assert ran == 1


async def test_a_result_is_what_its_annotation_says() -> None:
    """For the first caller too; one that does not fit the annotation is not kept."""
    app = App("shop")

    @app.once(key=str)
    async def parts(_id: str) -> Plain:
        return Plain(parts=(1, 2))

    @app.once(key=str)
    async def number(_id: str) -> int:
        return "no number"  # type: ignore[return-value]

    async with app.test():
        assert await parts("7") == await parts("7") == Plain(parts=(1, 2))
        with pytest.raises(ResultNotKept, match="cannot be kept"):
            await number("7")


async def test_functions_do_not_share_keys() -> None:
    """Unless they have one name."""
    app, ran = App("shop"), []

    @app.once(key=str)
    async def one(_id: str) -> None:
        ran.append("one")

    @app.once(key=str)
    async def other(_id: str) -> None:
        ran.append("other")

    @app.once(key=str, name=one.__qualname__)
    async def renamed(_id: str) -> None:
        ran.append("renamed")

    async with app.test():
        for function in (one, other, renamed):
            await function("7")
        assert ran == ["one", "other"]


async def test_what_it_sends_leaves_when_it_has_returned() -> None:
    """Inside a handler too, whatever becomes of the handler: when that runs again, the function does not."""
    app = App("shop")
    orders, receipts = app.queue("orders", Order), app.queue("receipts", Receipt)
    ran = 0

    @app.once(key=lambda order: order.id)
    async def charge(order: Order) -> None:
        await receipts.send(Receipt(order=order.id, number=1))

    @orders.consumer(max_attempts=3)
    async def handle(order: Order) -> None:
        nonlocal ran
        ran += 1
        await charge(order)
        await receipts.send(Receipt(order=order.id, number=2))
        if ran < 3:
            raise RuntimeError

    async with app.test() as t:
        await orders.send(Order(id="7"))
        await t.advance(600)
        assert ran == 3
        assert [json.loads(one.body)["number"] for one in t.sent(receipts)] == [1, 2]


async def test_without_the_store_nothing_is_done(failing_store: None) -> None:  # noqa: ARG001 - it is put in place
    """The work must not be done unguarded."""
    app, ran = App("shop"), []

    @app.once(key=str)
    async def charge(id_: str) -> None:
        ran.append(id_)

    async with app.test() as t:
        store: FailingStore = t.runtime.store  # type: ignore[assignment]
        store.away()
        with pytest.raises(StoreUnavailable):
            await charge("7")
        store.back()
        assert not ran


def test_a_plain_function_is_once_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In threads that race, without an event loop; an exception frees its key."""
    monkeypatch.setenv("REDRIVE_BROKER", f"sqlite:{tmp_path / 'shop.db'}")
    app, lock, effects = App("shop"), threading.Lock(), 0

    @app.once(key=lambda order: order.id)
    def charge(order: Order) -> Receipt:
        nonlocal effects
        with lock:
            effects += 1
        if effects == 1:
            raise LookupError
        return Receipt(order=order.id, number=effects)

    with pytest.raises(LookupError):
        charge(Order(id="7"))
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: charge(Order(id="7")), range(50)))
    assert results == [Receipt(order="7", number=2)] * 50
    assert effects == 2
    app.blocking(app.close)


async def test_misuse_is_said_before_anything_is_done() -> None:
    """A generator, a key that is none, a return annotation that cannot be read, an application that is not open."""
    app, ran = App("shop"), []

    async def numbers(_id: str) -> Any:
        yield 1

    with pytest.raises(DeclarationError, match="more than one result"):
        app.once(key=str)(numbers)
    with pytest.raises(DeclarationError, match="lease"):
        app.once(key=str, lease=0.1)(redrive.current)

    @app.once(key=lambda _id: None)
    async def keyless(id_: str) -> None:
        ran.append(id_)

    async def unread(id_: str) -> Nowhere:  # type: ignore[name-defined]  # noqa: F821 - which is the point
        ran.append(id_)

    @app.once(key=str)
    async def fine(id_: str) -> None:
        ran.append(id_)

    with pytest.raises(NotOpen):
        await fine("7")
    async with app.test():
        with pytest.raises(TypeError, match="key="):
            await keyless("7")
        with pytest.raises(DeclarationError, match="return annotation"):
            await app.once(key=str)(unread)("7")
    assert not ran
