"""Orders, the table that remembers them and the gateway that pays them."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any, get_args

import httpx
import pytest
from pydantic import ValidationError

from orders import EXTRA, PRICES, Choice, Drink, Gateway, Order, OrderTable, Payment, Size, open_shop
from payments import service

from .conftest import visiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

ORDER = Order(order_id="one", customer="Ada", drink="mocha", size="large")


@pytest.fixture
def table(tmp_path: Path) -> Iterator[OrderTable]:
    with closing(OrderTable(tmp_path / "shop.db")) as opened:
        yield opened


def test_the_body_on_the_queue_has_just_the_fields() -> None:
    """The price is worked out, not sent."""
    assert json.loads(ORDER.model_dump_json()) == {
        "order_id": "one",
        "customer": "Ada",
        "drink": "mocha",
        "size": "large",
    }
    assert ORDER.total == Decimal("4.90")


def test_everything_on_the_menu_has_a_price() -> None:
    """Each drink and size can be charged for."""
    assert set(PRICES) == set(get_args(Drink))
    assert set(EXTRA) == set(get_args(Size))
    assert all(price > 0 for price in PRICES.values())


def test_unknown_fields_are_ignored() -> None:
    """A producer that is ahead of the shop may send more."""
    assert Order.model_validate({**ORDER.model_dump(), "milk": "oat"}) == ORDER


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("customer", ""),
        ("customer", "   "),
        ("customer", "x" * 61),
        ("customer", "Ada\x00"),
        ("customer", "Ada\nLovelace"),
        ("customer", 7),
        ("drink", "tea"),
        ("drink", None),
        ("size", "Large"),
        ("order_id", ""),
        ("order_id", "one two"),
        ("order_id", "é"),
        ("order_id", "x" * 61),
    ],
)
def test_what_cannot_be_served_is_no_order(field: str, value: object) -> None:
    """A wrong value is refused, and named."""
    with pytest.raises(ValidationError) as caught:
        Order.model_validate({**ORDER.model_dump(), field: value})
    assert [problem["loc"] for problem in caught.value.errors()] == [(field,)]


@pytest.mark.parametrize("customer", ["Ada", " Ada ", "محمد", "👩\u200d👩\u200d👧", "O'Hara <b>", "x" * 60])
def test_people_may_be_called_what_they_like(customer: str) -> None:
    """Names are taken as they are, without the space around them."""
    assert Choice(customer=customer, drink="latte", size="small").customer == customer.strip()


@pytest.mark.parametrize(
    ("payments", "final"),
    [
        (["paid"], "paid"),
        (["refused"], "refused"),
        (["pending"], "pending"),
        (["pending", "pending", "paid"], "paid"),
        (["pending", "refused"], "refused"),
        (["paid", "pending"], "paid"),
        (["paid", "refused"], "paid"),
        (["refused", "paid"], "refused"),
    ],
)
def test_a_coffee_is_served_once_and_its_payment_settles(
    table: OrderTable, payments: list[Payment], final: Payment
) -> None:
    """However often an order comes, one cup is handed out at the first time, and a settled payment stays."""
    for at_ms, payment in enumerate(payments, start=1000):
        table.serve(ORDER, payment=payment, at_ms=at_ms)
    served = table.get("one")
    assert served is not None
    assert (served.order, served.payment, served.served_at_ms, served.times_served) == (ORDER, final, 1000, 1)


def test_many_workers_serve_a_coffee_once(tmp_path: Path) -> None:
    """Workers that open a new file and serve the same orders at the same time hand out one cup for each."""
    wanted = [ORDER.model_copy(update={"order_id": f"order-{n}"}) for n in range(20)]
    ready, failures = threading.Barrier(6), []

    def work() -> None:
        try:
            ready.wait()
            with closing(OrderTable(tmp_path / "shop.db")) as table:
                for order in wanted:
                    table.serve(order, payment="pending", at_ms=1)
                    table.serve(order, payment="paid", at_ms=2)
        except Exception as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
    with closing(OrderTable(tmp_path / "shop.db")) as table:
        served = table.newest(100)
        assert {(row.times_served, row.payment) for row in served} == {(1, "paid")}
        assert len(served) == 20


def test_many_may_open_a_new_table_at_once(tmp_path: Path) -> None:
    """Worker and front door start together: none fails because the other is making the file."""
    failures = []

    def open_one(path: Path, ready: threading.Barrier) -> None:
        try:
            ready.wait()
            OrderTable(path).close()
        except Exception as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    for n in range(80):
        ready = threading.Barrier(6)
        openers = [threading.Thread(target=open_one, args=(tmp_path / f"{n}.db", ready)) for _ in range(6)]
        for opener in openers:
            opener.start()
        for opener in openers:
            opener.join()
    assert not failures


def test_a_table_that_cannot_be_made_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a table in use is waited for."""
    monkeypatch.setattr("orders.time.sleep", lambda _: pytest.fail("waited"))
    (tmp_path / "shop.db").write_text("no database " * 100)
    with pytest.raises(sqlite3.DatabaseError):
        OrderTable(tmp_path / "shop.db")


def test_the_table_survives_a_restart_and_shows_the_newest_first(tmp_path: Path) -> None:
    """What was served is on disk, in the order in which it was served first."""
    with closing(OrderTable(tmp_path / "shop.db")) as table:
        for n in range(3):
            table.serve(ORDER.model_copy(update={"order_id": f"order-{n}"}), payment="pending", at_ms=n)
        table.serve(ORDER.model_copy(update={"order_id": "order-0"}), payment="paid", at_ms=9)
    with closing(OrderTable(tmp_path / "shop.db")) as table:
        assert [row.order.order_id for row in table.newest(2)] == ["order-2", "order-1"]
        assert table.among(["order-0", "order-9"]) == {"order-0"}
        assert table.get("order-9") is None


async def test_a_shop_serves_what_its_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`open_shop` reads the environment when it opens, and `served` may be repeated."""
    monkeypatch.setenv("SHOP_DATABASE", str(tmp_path / "elsewhere.db"))
    monkeypatch.setenv("PAYMENTS_URL", "http://127.0.0.1:1")
    async with open_shop() as shop:
        for payment in ("pending", "paid", "pending"):
            await shop.served(ORDER, payment=payment)
        with pytest.raises(httpx.ConnectError):
            await shop.gateway.charge(ORDER, key="key")
    with closing(OrderTable(tmp_path / "elsewhere.db")) as table:
        served = table.get("one")
        assert served is not None
        assert (served.payment, served.times_served) == ("paid", 1)


@pytest.fixture
async def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setenv("PAYMENTS_DATABASE", str(tmp_path / "payments.db"))
    async with visiting(service) as client:
        yield client


async def charges(bank: httpx.AsyncClient) -> list[Any]:
    rows: list[Any] = (await bank.get("/charges")).json()["charges"]
    return rows


async def test_the_gateway_charges_the_price_once(bank: httpx.AsyncClient) -> None:
    """The same order and key, charged twice, are booked once and paid both times."""
    gateway = Gateway(bank)
    assert [await gateway.charge(ORDER, key="k"), await gateway.charge(ORDER, key="k")] == ["paid", "paid"]
    assert [(row["order_id"], row["amount"], row["key"]) for row in await charges(bank)] == [("one", 4.9, "k")]


async def test_a_refused_card_is_a_result(bank: httpx.AsyncClient) -> None:
    """A refusal is no exception, so that no circuit opens; and a canary that is refused found payments in health."""
    await bank.put("/faults", json={"mode": "refuse"})
    assert await Gateway(bank).charge(ORDER, key="k") == "refused"
    await Gateway(bank).charge_nothing()
    assert await charges(bank) == []


async def test_an_outage_is_an_error(bank: httpx.AsyncClient) -> None:
    """When payments are down, both a charge and a canary raise."""
    await bank.put("/faults", json={"mode": "down"})
    with pytest.raises(httpx.HTTPStatusError):
        await Gateway(bank).charge(ORDER, key="k")
    with pytest.raises(httpx.HTTPStatusError):
        await Gateway(bank).charge_nothing()


async def test_a_healthy_canary_leaves_no_trace(bank: httpx.AsyncClient) -> None:
    """A canary is neither booked nor counted."""
    await Gateway(bank).charge_nothing()
    assert (await bank.get("/charges")).json() == {"calls": 0, "charges": []}


async def test_a_key_that_was_used_for_something_else_is_an_error(bank: httpx.AsyncClient) -> None:
    """The gateway does not take the charge of another order for its own."""
    await Gateway(bank).charge(ORDER, key="k")
    with pytest.raises(httpx.HTTPStatusError):
        await Gateway(bank).charge(ORDER.model_copy(update={"order_id": "two"}), key="k")
