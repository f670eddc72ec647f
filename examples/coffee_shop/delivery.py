"""What a delivery needs beside what the counter has: its recipe, two partners to call, and the table of deliveries.

1. A delivery is handed to its rider once, however often that is asked for.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from orders import HERE, PATIENCE, Drink, Order, OrderTable, Shop, Size, open_shop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PORTIONS: dict[Size, int] = {"small": 1, "medium": 2, "large": 3}
MILKLESS: set[Drink] = {"espresso", "filter"}


def recipe(order: Order) -> dict[str, int]:
    """What a drink takes from the stock; all milk here is oat milk."""
    portions = PORTIONS[order.size]
    return {"beans": portions} if order.drink in MILKLESS else {"beans": portions, "oat milk": portions}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveringShop(Shop):
    """What a handler and a step have at hand."""

    stock: Partner
    courier: Partner
    parcels: ParcelTable


@asynccontextmanager
async def open_delivering_shop() -> AsyncIterator[DeliveringShop]:
    """Open the counter and what deliveries need beside it; redrive does it once for each worker.

    `STOCK_URL` and `COURIER_URL` name the partners; the table is a part of `SHOP_DATABASE`.
    """
    path = Path(os.environ.get("SHOP_DATABASE", HERE / "shop.db"))
    async with AsyncExitStack() as stack:
        shop = await stack.enter_async_context(open_shop())
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=os.environ.get(name, url), timeout=10.0))
            for name, url in (("STOCK_URL", "http://127.0.0.1:8002"), ("COURIER_URL", "http://127.0.0.1:8003"))
        ]
        yield DeliveringShop(
            table=shop.table,
            gateway=shop.gateway,
            stock=Partner(clients[0], agreeing="/reservations", taking_back="/releases"),
            courier=Partner(clients[1], agreeing="/bookings", taking_back="/cancellations"),
            parcels=stack.enter_context(closing(ParcelTable(path))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a partner says."""

    agreed: bool
    words: str
    """What was agreed to, or why nothing was."""


class Partner:
    """Stock or courier, as the shop calls it; how long a call may take is said where it is used."""

    def __init__(self, http: httpx.AsyncClient, *, agreeing: str, taking_back: str) -> None:
        self.http = http
        self._agreeing, self._taking_back = agreeing, taking_back

    async def agree(self, order_id: str, items: dict[str, int], *, key: str) -> Answer:
        """Ask for something; the same key never gets it twice. A no is a result: the partner works.

        Raises:
            httpx.HTTPError: If the partner gives no answer, or another than yes or no.
        """
        response = await self._post(self._agreeing, {"order_id": order_id, "items": items}, key)
        if response.status_code == httpx.codes.CONFLICT:
            return Answer(agreed=False, words=response.json()["error"])
        what = response.raise_for_status().json()["what"]
        return Answer(agreed=True, words=", ".join(str(value) for value in what.values()))

    async def take_back(self, order_id: str, *, key: str) -> None:
        """Take back what was agreed to for the order, if anything was; it is agreed to no more. Safe to repeat.

        Raises:
            httpx.HTTPError: If the partner gives no answer, or another than yes.
        """
        (await self._post(self._taking_back, {"order_id": order_id}, key)).raise_for_status()

    async def must_be_well(self) -> None:
        """Ask for nothing.

        Raises:
            httpx.HTTPError: If the partner would not answer a call either.
        """
        (await self.http.get("/health")).raise_for_status()

    async def _post(self, path: str, body: dict[str, object], key: str) -> httpx.Response:
        return await self.http.post(path, json=body, headers={"Idempotency-Key": key})


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A delivery that was ordered."""

    order: Order
    accepted_at_ms: int
    times_handed_over: int
    """1 once a rider has it, if invariant 1 holds."""


class ParcelTable:
    """The deliveries, in the shop's SQLite file. How each of them stands is said by its saga's journal alone."""

    def __init__(self, path: Path) -> None:
        OrderTable(path).close()  # makes the file what it has to be
        self._db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def accept(self, order: Order) -> None:
        """Remember a delivery that was ordered, so that a page can show it."""
        self._db.execute(ACCEPT, {**order.model_dump(), "at_ms": time.time_ns() // 1_000_000})

    def hand_over(self, order: Order, rider: str) -> None:
        """Give the cup to the rider, unless it was before. One statement: a crash leaves all of it or nothing."""
        self._db.execute(HAND_OVER, (order.order_id, rider, time.time_ns() // 1_000_000))

    def newest(self, limit: int, since_ms: int) -> list[Parcel]:
        """The deliveries ordered last, newest first."""
        rows = self._db.execute(f"{READ} WHERE accepted_at_ms >= ? ORDER BY seq DESC LIMIT ?", (since_ms, limit))
        return [_parcel(row) for row in rows]

    def get(self, order_id: str) -> Parcel | None:
        """One delivery; None if it is not known here."""
        row = self._db.execute(f"{READ} WHERE order_id = ?", (order_id,)).fetchone()
        return None if row is None else _parcel(row)


def _parcel(row: tuple[str, str, Drink, Size, int, int]) -> Parcel:
    order_id, customer, drink, size, accepted_at_ms, times = row
    order = Order(order_id=order_id, customer=customer, drink=drink, size=size)
    return Parcel(order=order, accepted_at_ms=accepted_at_ms, times_handed_over=times)


# Nothing in `handed_over` forbids a second line, on purpose: as with the cups at the counter.
SCHEMA = """
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS deliveries (
    seq            INTEGER PRIMARY KEY,
    order_id       TEXT    NOT NULL UNIQUE,
    customer       TEXT    NOT NULL,
    drink          TEXT    NOT NULL,
    size           TEXT    NOT NULL,
    accepted_at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS handed_over (
    order_id TEXT    NOT NULL,
    rider    TEXT    NOT NULL,
    at_ms    INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS handed_over_of_an_order ON handed_over (order_id);
"""

ACCEPT = """
INSERT INTO deliveries (order_id, customer, drink, size, accepted_at_ms)
VALUES (:order_id, :customer, :drink, :size, :at_ms) ON CONFLICT DO NOTHING
"""

HAND_OVER = """
INSERT INTO handed_over (order_id, rider, at_ms)
SELECT ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM handed_over WHERE order_id = ?1)
"""

READ = """
SELECT order_id, customer, drink, size, accepted_at_ms,
       (SELECT count(*) FROM handed_over WHERE handed_over.order_id = deliveries.order_id) AS times
FROM deliveries
"""
