"""The front door takes what fits, names what does not, and stays open whatever else is down."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from redrive.errors import BrokerUnavailable, OutcomeUnknown

from .conftest import visiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from .conftest import Service

NOBODY = "http://127.0.0.1:1"
ORDER = {"customer": "Ada", "drink": "mocha", "size": "large"}


@pytest.fixture
def shop_environment(tmp_path: Path) -> dict[str, str]:
    return {
        "REDRIVE_BROKER": f"sqlite:{tmp_path / 'coffee.db'}",
        "SHOP_DATABASE": str(tmp_path / "shop.db"),
        "PAYMENTS_URL": NOBODY,
        "STOCK_URL": NOBODY,
        "COURIER_URL": NOBODY,
    }


@pytest.fixture
async def door(shop_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """The front door with an empty queue, no worker and no payment system."""
    for name, value in shop_environment.items():
        monkeypatch.setenv(name, value)
    import board  # noqa: PLC0415 - found by then
    from shop import site  # noqa: PLC0415 - makes the application

    monkeypatch.setattr(board, "PERIOD", 0.0)  # every look is a new one

    async with visiting(site) as client:
        yield client


async def ready(door: httpx.AsyncClient) -> int:
    number: int = (await door.get("/status")).json()["queue"]["ready"]
    return number


async def test_an_order_is_queued_and_known_at_once(door: httpx.AsyncClient) -> None:
    """A good order is answered with 202 and its id, waits in the queue, and can be looked at."""
    answer = await door.post("/orders", json=ORDER)
    order_id = answer.json()["order_id"]
    assert (answer.status_code, answer.headers["location"]) == (202, f"/orders/{order_id}")
    shown = (await door.get(f"/orders/{order_id}")).json()
    assert {**shown, "at_ms": 0} == {
        **ORDER,
        "order_id": order_id,
        "total": 4.9,
        "status": "queued",
        "payment": None,
        "at_ms": 0,
        "times_served": 0,
    }
    assert (await door.get("/orders")).json() == [shown]
    assert await ready(door) == 1


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ('{"customer": "Ada", "size": "large"}', 422, "drink"),
        ('{"customer": "Ada", "drink": "tea", "size": "large"}', 422, "drink"),
        ('{"customer": "Ada", "drink": ["mocha"], "size": "large"}', 422, "drink"),
        ('{"customer": "Ada", "drink": "mocha", "size": "huge"}', 422, "size"),
        ('{"customer": "", "drink": "mocha", "size": "large"}', 422, "customer"),
        ('{"customer": 7, "drink": "mocha", "size": "large"}', 422, "customer"),
        ('{"customer": NaN, "drink": "mocha", "size": "large"}', 422, "customer"),
        ('{"customer": "A\\u0000", "drink": "mocha", "size": "large"}', 422, "customer"),
        ('{"customer": "' + "x" * 61 + '", "drink": "mocha", "size": "large"}', 422, "customer"),
        ('{"customer": "\\ud800", "drink": "mocha", "size": "large"}', 400, None),
        (b'{"customer": "\xff", "drink": "mocha", "size": "large"}', 400, None),
        ('{"customer": "Ada", "customer": "Bob", "drink": "mocha", "size": "large"}', 400, None),
        ("null", 422, None),
        ("[]", 422, None),
        ("{", 400, None),
        ("", 400, None),
        ("[" * 1000 + "]" * 1000, 400, None),
        ('{"customer": ' * 1000 + "1" + "}" * 1000, 400, None),
        ('{"customer": "' + "x" * 20_000 + '", "drink": "mocha", "size": "large"}', 413, None),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_bad_input_is_named_and_not_queued(
    door: httpx.AsyncClient, body: str | bytes, status: int, field: str | None
) -> None:
    """What is no order is refused in a sentence, with the field where there is one, and nothing is queued."""
    answer = await door.post("/orders", content=body)
    assert (answer.status_code, answer.json().get("field")) == (status, field)
    assert answer.json()["error"]
    assert (await door.get("/orders")).json() == []
    assert await ready(door) == 0


async def test_a_body_that_never_ends_is_cut_off(door: httpx.AsyncClient) -> None:
    """The limit holds without a Content-Length, too."""

    async def flood() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1000

    assert (await door.post("/orders", content=flood())).status_code == 413


@pytest.mark.parametrize("failure", [BrokerUnavailable("sqlite", "closed"), OutcomeUnknown("sqlite", "disk")], ids=repr)
async def test_an_order_that_was_not_queued_is_not_taken(
    door: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """When the queue does not take it, the customer is asked to come back, and the order is not shown."""
    import app  # noqa: PLC0415

    async def send(_order: object) -> str:
        raise failure

    monkeypatch.setattr(app.orders, "send", send)
    answer = await door.post("/orders", json=ORDER)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (await door.get("/orders")).json() == []


async def test_the_door_is_open_without_payments(door: httpx.AsyncClient) -> None:
    """Without a payment system the page is told so, orders are taken, and only the button fails."""
    status = (await door.get("/status")).json()
    assert status["payments"] == {"reachable": False, "mode": None, "calls": None}
    assert status["circuit"] == {"state": "closed", "next_canary_in": None}
    answer = await door.put("/faults", json={"mode": "hang"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (await door.post("/orders", json=ORDER)).status_code == 202


async def test_a_delivery_is_queued_and_known_at_once(door: httpx.AsyncClient) -> None:
    """It is answered with 202 and its id, and shown with all its steps to come, whoever of the partners is there."""
    answer = await door.post("/deliveries", json=ORDER)
    order_id = answer.json()["order_id"]
    assert (answer.status_code, answer.headers["location"]) == (202, f"/deliveries/{order_id}")
    shown = (await door.get(f"/deliveries/{order_id}")).json()
    assert (shown["state"], [step["state"] for step in shown["steps"]]) == ("queued", ["next"] * 4)
    view = (await door.get("/deliveries")).json()
    assert (view["deliveries"], view["partners"]) == ([shown], dict.fromkeys(("payments", "stock", "courier")))
    assert (await door.get("/orders")).json() == []


async def test_partners_that_are_not_there_cannot_be_broken(door: httpx.AsyncClient) -> None:
    """Stock that is not running is said so; a partner that nobody knows is not found."""
    assert (await door.put("/faults/stock", json={"mode": "down"})).status_code == 503
    assert (await door.put("/faults/baker", json={"mode": "down"})).status_code == 404


async def test_where_no_worker_runs_none_is_killed(door: httpx.AsyncClient) -> None:
    """The button says so; the front door itself is no worker."""
    assert (await door.post("/kill", json={})).status_code == 503


async def test_orders_can_be_limited(door: httpx.AsyncClient) -> None:
    """The newest come first, as many as wanted."""
    ids = [(await door.post("/orders", json=ORDER)).json()["order_id"] for _ in range(3)]
    limited = (await door.get("/orders", params={"limit": 2})).json()
    assert [order["order_id"] for order in limited] == ids[:0:-1]
    assert (await door.get("/orders", params={"limit": "two"})).json()["field"] == "limit"


async def test_what_is_not_there_is_not_found(door: httpx.AsyncClient) -> None:
    """Unknown orders and pages are 404, wrong methods 405, all in JSON."""
    for path in ("/orders/nothing", "/deliveries/nothing", "/nothing", "/../app.py", "/%2e%2e/app.py"):
        answer = await door.get(path)
        assert (answer.status_code, bool(answer.json()["error"])) == (404, True), path
    assert (await door.delete("/orders")).status_code == 405


async def test_the_menu_has_prices(door: httpx.AsyncClient) -> None:
    """The page learns from the shop what there is."""
    menu: dict[str, Any] = (await door.get("/menu")).json()
    assert {"name": "mocha", "price": 3.9} in menu["drinks"]
    assert {"name": "large", "extra": 1.0} in menu["sizes"]


@pytest.mark.parametrize(
    "path", ["/", "/shop.css", "/shop.js", "/words.js", "/deliveries.js", "/favicon.svg", "/orders"]
)
async def test_browsers_are_told_to_trust_nothing_else(door: httpx.AsyncClient, path: str) -> None:
    """Everything is served under a policy that forbids foreign and inline code."""
    answer = await door.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_other_pages_may_not_order(door: httpx.AsyncClient) -> None:
    """A page of another origin may neither order nor break payments; a name that is not ours is not served."""
    foreign = {"Origin": "http://evil.example"}
    assert (await door.post("/orders", json=ORDER, headers=foreign)).status_code == 403
    assert (await door.put("/faults", json={"mode": "down"}, headers=foreign)).status_code == 403
    assert (await door.post("/kill", json={}, headers=foreign)).status_code == 403
    assert (await door.get("/", headers={"Host": "evil.example"})).status_code == 400
    assert (await door.post("/orders", json=ORDER, headers={"Origin": "http://127.0.0.1"})).status_code == 202


@pytest.mark.e2e
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_watchers_do_not_hold_the_shop_up(
    start: Callable[..., Service], shop_environment: dict[str, str], stop: signal.Signals
) -> None:
    """Told to stop while pages listen, the front door is gone within a second or so, with exit code 0."""
    shop = start("shop.py", **shop_environment)
    with httpx.stream("GET", f"{shop.url}/events") as events:
        lines = events.iter_lines()
        while not next(lines).startswith("event: status"):
            pass
        stopped_at = time.monotonic()
        os.kill(shop.process.pid, stop)
        for _ in lines:
            pass
    assert shop.process.wait(timeout=10) == 0
    assert time.monotonic() - stopped_at < 2
