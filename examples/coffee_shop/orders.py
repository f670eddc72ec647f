"""What the shop sells, what it remembers and whom it calls: the order, the table of orders, the payment gateway.

Two processes open this: the worker, which serves orders, and the front door, which shows them.

1. A coffee is handed out once, however often its order comes back.
2. A payment moves from pending to paid or refused; after that it stays.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import httpx
from pydantic import BaseModel, StringConstraints

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

Drink = Literal["espresso", "macchiato", "cortado", "flat white", "cappuccino", "latte", "mocha", "filter"]
Size = Literal["small", "medium", "large"]
Payment = Literal["pending", "paid", "refused"]
Answer = Literal["paid", "refused"]

PRICES: dict[Drink, Decimal] = {
    "espresso": Decimal("2.20"),
    "macchiato": Decimal("2.60"),
    "cortado": Decimal("2.90"),
    "flat white": Decimal("3.40"),
    "cappuccino": Decimal("3.30"),
    "latte": Decimal("3.60"),
    "mocha": Decimal("3.90"),
    "filter": Decimal("2.50"),
}
EXTRA: dict[Size, Decimal] = {"small": Decimal("0.00"), "medium": Decimal("0.50"), "large": Decimal("1.00")}

PATIENCE = 5.0
"""Seconds to wait for another process that writes to the table."""

HERE = Path(__file__).parent


class Choice(BaseModel):
    """What a customer decides."""

    customer: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")
    ]
    drink: Drink
    size: Size

    @property
    def total(self) -> Decimal:
        """The price."""
        return PRICES[self.drink] + EXTRA[self.size]


class Order(Choice):
    """A choice with a name of its own: the body of a message on the queue `orders`."""

    order_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,60}$")]


@asynccontextmanager
async def open_shop() -> AsyncIterator[Shop]:
    """Open what the handlers use; redrive does it once for each worker.

    `SHOP_DATABASE` names the file (default: shop.db beside this module), `PAYMENTS_URL` the payment system.
    """
    path = Path(os.environ.get("SHOP_DATABASE", HERE / "shop.db"))
    url = os.environ.get("PAYMENTS_URL", "http://127.0.0.1:8001")
    with closing(OrderTable(path)) as table:
        async with httpx.AsyncClient(base_url=url, timeout=10.0) as http:
            yield Shop(table=table, gateway=Gateway(http))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """What a handler has at hand."""

    table: OrderTable
    gateway: Gateway

    async def served(self, order: Order, *, payment: Payment) -> None:
        """Hand the coffee out if it is still to be had, and write down how the payment stands. Safe to repeat."""
        self.table.serve(order, payment=payment, at_ms=time.time_ns() // 1_000_000)


class Gateway:
    """The payment system, as the shop calls it; how long a call may take is said where it is used."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def charge(self, order: Order, *, key: str) -> Answer:
        """Charge for the order; the same key never charges twice, so a call without an answer may be repeated.

        A refused card is a result and not an exception: the payment system works, and its circuit must stay closed.

        Raises:
            httpx.HTTPError: If the payment system gives no answer, or another than yes or no.
        """
        response = await self._post(order.order_id, order.total, key)
        return "refused" if response.status_code == httpx.codes.PAYMENT_REQUIRED else "paid"

    async def charge_nothing(self) -> None:
        """Charge 0.00, which is never booked; any answer that `charge` could use is a good one.

        Raises:
            httpx.HTTPError: As `charge`.
        """
        await self._post("canary", Decimal("0.00"), "canary")

    async def refund(self, order_id: str, *, key: str) -> None:
        """Pay back what was charged for the order; nothing is charged for it afterwards. Safe to repeat.

        Raises:
            httpx.HTTPError: If the payment system gives no answer, or another than yes.
        """
        headers = {"Idempotency-Key": key}
        response = await self.http.post("/refunds", json={"order_id": order_id}, headers=headers)
        response.raise_for_status()

    async def _post(self, order_id: str, amount: Decimal, key: str) -> httpx.Response:
        charge = {"order_id": order_id, "amount": float(amount)}  # two decimals survive the way through a float
        response = await self.http.post("/charges", json=charge, headers={"Idempotency-Key": key})
        if response.status_code != httpx.codes.PAYMENT_REQUIRED:
            response.raise_for_status()
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedOrder:
    """An order whose coffee was handed out."""

    order: Order
    payment: Payment
    served_at_ms: int
    times_served: int
    """How many cups were handed out for it: 1, if invariant 1 holds."""


class OrderTable:
    """The orders that were served, in one SQLite file (WAL, `synchronous=FULL`: what was served stays served).

    Its calls run on the event loop. Each is a statement or two on an index and a commit of a few milliseconds;
    a thread would cost about as much, and would let the calls of two handlers interleave.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
        self._prepare(time.monotonic() + PATIENCE)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def serve(self, order: Order, *, payment: Payment, at_ms: int) -> None:
        """Hand a coffee out, unless it was before, and settle the payment, if it is still pending.

        One transaction: a crash leaves all of it or nothing.
        """
        facts = {**order.model_dump(), "payment": payment, "at_ms": at_ms}
        with self._transaction():
            self._db.execute(WRITE_ORDER, facts)
            self._db.execute(HAND_OUT, facts)

    def get(self, order_id: str) -> ServedOrder | None:
        """The order, or None if it was not served yet."""
        row = self._db.execute(f"{READ} WHERE order_id = ?", (order_id,)).fetchone()
        return None if row is None else _served_order(row)

    def newest(self, limit: int) -> list[ServedOrder]:
        """The orders served last, newest first."""
        return [_served_order(row) for row in self._db.execute(f"{READ} ORDER BY seq DESC LIMIT ?", (limit,))]

    def among(self, order_ids: Iterable[str]) -> set[str]:
        """Those of the orders that were served."""
        rows = self._db.execute(AMONG, (json.dumps(list(order_ids)),))
        return {order_id for (order_id,) in rows}

    def _prepare(self, deadline: float) -> None:
        """Make the tables. While another process does, SQLite may refuse at once to switch to WAL, so wait here."""
        while True:
            try:
                self._db.executescript(SCHEMA)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    self._db.close()
                    raise
                time.sleep(0.01)
            else:
                return

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise


def _served_order(row: tuple[str, str, Drink, Size, Payment, int, int]) -> ServedOrder:
    order_id, customer, drink, size, payment, served_at_ms, times_served = row
    return ServedOrder(
        order=Order(order_id=order_id, customer=customer, drink=drink, size=size),
        payment=payment,
        served_at_ms=served_at_ms,
        times_served=times_served,
    )


# Nothing in `cups` forbids a second cup, on purpose: a shop that hands out two can be caught at it.
SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS orders (
    seq          INTEGER PRIMARY KEY,
    order_id     TEXT    NOT NULL UNIQUE,
    customer     TEXT    NOT NULL,
    drink        TEXT    NOT NULL,
    size         TEXT    NOT NULL CHECK (size IN ('small', 'medium', 'large')),
    payment      TEXT    NOT NULL CHECK (payment IN ('pending', 'paid', 'refused')),
    served_at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS cups (
    order_id TEXT    NOT NULL REFERENCES orders (order_id),
    at_ms    INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS cups_of_an_order ON cups (order_id);
"""

WRITE_ORDER = """
INSERT INTO orders (order_id, customer, drink, size, payment, served_at_ms)
VALUES (:order_id, :customer, :drink, :size, :payment, :at_ms)
ON CONFLICT (order_id) DO UPDATE SET payment = excluded.payment WHERE payment = 'pending'
"""

HAND_OUT = """
INSERT INTO cups (order_id, at_ms)
SELECT :order_id, :at_ms WHERE NOT EXISTS (SELECT 1 FROM cups WHERE order_id = :order_id)
"""

READ = """
SELECT order_id, customer, drink, size, payment, served_at_ms,
       (SELECT count(*) FROM cups WHERE cups.order_id = orders.order_id) AS times_served
FROM orders
"""

AMONG = "SELECT order_id FROM orders WHERE order_id IN (SELECT value FROM json_each(?))"
