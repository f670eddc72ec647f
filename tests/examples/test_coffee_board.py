"""What the page is told: orders from memory and table, and the state of queue, circuit and payments."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

import board
from board import Board
from orders import Gateway, Order, OrderTable, Shop
from redrive.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redrive.operations import Operations


class Redrive:
    """Stands in for `Operations`, whose numbers come from elsewhere."""

    def __init__(self) -> None:
        self.away = False
        self.looks = 0
        self.parked = 7

    async def overview(self) -> SimpleNamespace:
        self.looks += 1
        if self.away:
            raise BrokerUnavailable("sqlite:coffee.db", "closed")
        queue = SimpleNamespace(ready=1, in_flight=2, delayed=3, parked=self.parked, dead=4)
        circuit = SimpleNamespace(state="open", next_canary_in=2.5, calls=9, failures=9)
        return SimpleNamespace(queues={"orders": queue}, dependencies={"payments": circuit}, handler_runs=12)


class Bank:
    """Stands in for the payment system."""

    def __init__(self) -> None:
        self.answer: httpx.Response | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.answer is not None:
            return self.answer
        return httpx.Response(200, json={"mode": "hang"} if request.url.path == "/faults" else {"calls": 5})


@asynccontextmanager
async def standing(path: Path, redrive: Redrive, bank: Bank) -> AsyncIterator[tuple[Board, OrderTable]]:
    table = OrderTable(path / "shop.db")
    async with httpx.AsyncClient(transport=httpx.MockTransport(bank), base_url="http://payments") as http:
        shop = Shop(table=table, gateway=Gateway(http))
        yield Board(shop, cast("Operations", redrive)), table
    table.close()


def order(n: int) -> Order:
    return Order(order_id=f"order-{n}", customer="Ada", drink="mocha", size="large")


async def test_the_status_says_it_all(tmp_path: Path) -> None:
    """The strip's numbers come from redrive, and the calls from the payment system."""
    async with standing(tmp_path, Redrive(), Bank()) as (shown, _):
        assert await shown.status() == {
            "queue": {"ready": 1, "in_flight": 2, "delayed": 3, "parked": 7, "dead": 4},
            "circuit": {"state": "open", "next_canary_in": 2.5},
            "handler_runs": 12,
            "payments": {"reachable": True, "mode": "hang", "calls": 5},
        }


@pytest.mark.parametrize(
    "answer", [httpx.Response(500, text="no"), httpx.Response(200, json=[]), httpx.Response(200, json={})], ids=str
)
async def test_payments_that_cannot_be_understood_are_not_reachable(tmp_path: Path, answer: httpx.Response) -> None:
    """Whatever listens on that port, the page works."""
    bank = Bank()
    bank.answer = answer
    async with standing(tmp_path, Redrive(), bank) as (shown, _):
        assert (await shown.status())["payments"] == {"reachable": False, "mode": None, "calls": None}


async def test_a_queue_that_is_away_is_said_so(tmp_path: Path) -> None:
    """When redrive cannot look, the rest is still shown."""
    redrive = Redrive()
    redrive.away = True
    async with standing(tmp_path, redrive, Bank()) as (shown, _):
        status = await shown.status()
        assert (status["queue"], status["circuit"], status["handler_runs"]) == (None, None, None)
        assert status["payments"] == {"reachable": True, "mode": "hang", "calls": 5}


async def test_many_watchers_cost_one_look(tmp_path: Path) -> None:
    """However many ask at a time, redrive is asked once."""
    redrive = Redrive()
    async with standing(tmp_path, redrive, Bank()) as (shown, _):
        await asyncio.gather(*(shown.status() for _ in range(50)))
        assert redrive.looks == 1


async def test_an_order_is_known_before_it_is_handled(tmp_path: Path) -> None:
    """An accepted order is queued until the table has it; the waiting come first, the newest of them on top."""
    async with standing(tmp_path, Redrive(), Bank()) as (shown, table):
        assert shown.order("order-1") is None
        shown.accept(order(1))
        shown.accept(order(2))
        waiting = shown.order("order-1")
        assert waiting is not None
        assert waiting["at_ms"]
        assert {**waiting, "at_ms": 0} == {
            "order_id": "order-1",
            "customer": "Ada",
            "drink": "mocha",
            "size": "large",
            "total": 4.9,
            "status": "queued",
            "payment": None,
            "at_ms": 0,
            "times_served": 0,
        }
        table.serve(order(2), payment="pending", at_ms=7)
        served = shown.order("order-2")
        assert served is not None
        assert (served["status"], served["payment"], served["at_ms"]) == ("served", "pending", 7)
        assert [row["order_id"] for row in shown.orders(10)] == ["order-1", "order-2"]
        assert [row["order_id"] for row in shown.orders(1)] == ["order-1"]


async def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest orders that wait are forgotten first; they are safe in the queue."""
    monkeypatch.setattr(board, "MEMORY", 3)
    async with standing(tmp_path, Redrive(), Bank()) as (shown, _):
        for n in range(5):
            shown.accept(order(n))
        assert [row["order_id"] for row in shown.orders(10)] == ["order-4", "order-3", "order-2"]


async def test_a_watcher_hears_everything_and_then_what_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first events hold orders and status, later ones only what is new; a stop ends the stream."""
    monkeypatch.setattr(board, "PERIOD", 0.0)
    stopping = asyncio.Event()
    redrive = Redrive()
    async with standing(tmp_path, redrive, Bank()) as (shown, _):
        stream = shown.changes(stopping)
        assert await anext(stream) == "retry: 1000\n\n"
        assert [name for name, _ in _events(await anext(stream))] == ["orders", "status"]
        shown.accept(order(1))
        [(name, orders)] = _events(await anext(stream))
        assert (name, [row["order_id"] for row in orders]) == ("orders", ["order-1"])
        redrive.parked = 6
        [(name, status)] = _events(await anext(stream))
        assert (name, status["queue"]["parked"]) == ("status", 6)
        stopping.set()
        assert [rest async for rest in stream] == []


async def test_a_watcher_hears_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when nothing changes something is said now and then, which shows who has left."""
    monkeypatch.setattr(board, "PERIOD", 0.0)
    monkeypatch.setattr(board, "HEARTBEAT", 0.01)
    stopping = asyncio.Event()
    async with standing(tmp_path, Redrive(), Bank()) as (shown, _):
        stream = shown.changes(stopping)
        first = [await anext(stream) for _ in range(3)]
        assert first[2] == ": nothing new\n\n"


def _events(text: str) -> list[tuple[str, Any]]:
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]
