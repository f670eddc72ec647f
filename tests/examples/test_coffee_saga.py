"""A delivery as a saga, with its real partners in this process, in virtual time; and how the page shows it."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import courier
import payments
import stock
from app import app, deliver, deliveries
from app import courier as the_courier
from delivery import DeliveringShop, ParcelTable, Partner, recipe
from orders import Gateway, Order, OrderTable
from redrive.testing import outage
from tracking import Tracking

from .conftest import visiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LATTE = Order(order_id="one", customer="Ada", drink="latte", size="medium")
NOBODY = httpx.AsyncClient(base_url="http://127.0.0.1:1")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[DeliveringShop]:
    """The shop, its partners behind real HTTP interfaces but no sockets."""
    async with AsyncExitStack() as stack:
        bank, shelf, rides = [
            await stack.enter_async_context(visiting(one.service)) for one in (payments, stock, courier)
        ]
        yield DeliveringShop(
            table=stack.enter_context(closing(OrderTable(folder / "shop.db"))),
            gateway=Gateway(bank),
            stock=Partner(shelf, agreeing="/reservations", taking_back="/releases"),
            courier=Partner(rides, agreeing="/bookings", taking_back="/cancellations"),
            parcels=stack.enter_context(closing(ParcelTable(folder / "shop.db"))),
        )


@pytest.fixture
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DeliveringShop]:
    for name in ("STOCK", "COURIER", "PAYMENTS"):
        monkeypatch.setenv(f"{name}_DATABASE", str(tmp_path / f"{name}.db"))
    async with opened(tmp_path) as shop:
        yield shop


async def shown(shop: DeliveringShop, order: Order = LATTE) -> dict[str, Any]:
    row = await Tracking(shop, deliver).delivery(order.order_id)
    assert row is not None
    return row


def states(row: dict[str, Any]) -> list[str]:
    return [step["state"] for step in row["steps"]]


async def test_all_of_it(shop: DeliveringShop) -> None:
    """Paid, made, driven and handed over: the page names the rider."""
    async with app.test(resources=shop) as t:
        shop.parcels.accept(LATTE)
        assert ((await shown(shop))["state"], states(await shown(shop))) == ("queued", ["next"] * 4)
        await deliveries.send(LATTE)
        await t.drain()
        row = await shown(shop)
    assert (row["state"], states(row), row["rider"]) == ("completed", ["done"] * 4, courier.RIDERS[0])
    assert (row["account"], row["times_handed_over"]) == ({"charged": 1, "refunded": 0}, 1)


async def test_none_of_it(shop: DeliveringShop) -> None:
    """Without oat milk: the page says why, and that what was charged was refunded."""
    await shop.stock.http.put("/faults", json={"mode": "refuse"})
    async with app.test(resources=shop) as t:
        await deliveries.send(LATTE)
        await t.drain()
        row = await shown(shop)
    assert (row["state"], row["because"]) == ("undone", "out of oat milk")
    assert states(row) == ["undone", "rejected", "undone", "next"]
    assert (row["account"], row["times_handed_over"]) == ({"charged": 1, "refunded": 1}, 0)


async def test_a_courier_who_comes_back_in_time_is_waited_for(shop: DeliveringShop) -> None:
    """Eight minutes without him: the delivery is parked, and goes on by itself."""
    async with app.test(resources=shop) as t:
        async with outage(the_courier, minutes=8):
            await deliveries.send(LATTE)
            await t.advance(60)
            row = await shown(shop)
            assert (row["state"], row["parked_for"]) == ("running", "courier")
            assert states(row) == ["done", "done", "parked", "next"]
        await t.advance(60)
        assert states(await shown(shop)) == ["done"] * 4


async def test_coffee_that_would_be_cold_is_refunded(shop: DeliveringShop) -> None:
    """After ten minutes without a courier everything is undone, also what could be undone at once."""
    async with app.test(resources=shop) as t:
        async with outage(the_courier, minutes=12):
            await deliveries.send(LATTE)
            await t.advance(11 * 60)
        await t.advance(120)
        row = await shown(shop)
    assert (row["state"], row["because"]) == ("undone", "its deadline has passed")
    assert row["account"] == {"charged": 1, "refunded": 1}
    ledger = (await shop.stock.http.get("/ledger")).json()
    assert (ledger["done"], ledger["undone"], ledger["shelf"]) == (1, 1, stock.FULL)


async def test_a_partner_that_is_not_there_is_said_so(shop: DeliveringShop) -> None:
    """Whatever is not running, the page is told of the rest."""
    without = DeliveringShop(
        table=shop.table,
        gateway=Gateway(NOBODY),
        stock=shop.stock,
        courier=Partner(NOBODY, agreeing="/bookings", taking_back="/cancellations"),
        parcels=shop.parcels,
    )
    async with app.test(resources=shop):
        shop.parcels.accept(LATTE)
        view: Any = await Tracking(without, deliver).view()
    assert [row["account"] for row in view["deliveries"]] == [None]
    assert (view["partners"]["payments"], view["partners"]["courier"]) == (None, None)
    assert view["partners"]["stock"] == {"mode": "none", "done": 0, "undone": 0, "shelf": stock.FULL}


def test_all_milk_is_oat_milk() -> None:
    """A latte takes both, by its size; an espresso takes beans alone."""
    assert recipe(LATTE) == {"beans": 2, "oat milk": 2}
    assert recipe(LATTE.model_copy(update={"drink": "espresso", "size": "small"})) == {"beans": 1}


def test_a_parcel_is_handed_over_once(tmp_path: Path) -> None:
    """However often it is asked for."""
    with closing(ParcelTable(tmp_path / "shop.db")) as parcels:
        parcels.accept(LATTE)
        parcels.accept(LATTE)
        parcels.hand_over(LATTE, "Rosa")
        parcels.hand_over(LATTE, "Mei")
        (parcel,) = parcels.newest(10, since_ms=0)
        assert (parcel.order, parcel.times_handed_over) == (LATTE, 1)
