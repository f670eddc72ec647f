"""The payment system: a service of somebody else, which can be broken on purpose.

    python payments.py --port 8001

    POST /charges   {"order_id": "…", "amount": 3.90} under an `Idempotency-Key` header: 201, or 200 if charged before
    GET  /charges   {"calls": 12, "charges": [{"order_id", "amount", "key", "at_ms"}, …]}; ?limit= shows the last few
    POST /refunds   {"order_id": "…"} likewise: pays back what was charged for the order and not paid back yet
    GET  /refunds   {"charged": 7, "refunded": 1, "refunds": […]}; ?order_id= counts those of one order
    PUT  /faults    {"mode": "none" | "down" | "hang" | "slow" | "flaky" | "refuse"}
    GET  /faults

What a caller may rely on, whatever the fault:

1. One key is charged once. Repeated, it is answered with the first charge; for another order or amount, with 422.
2. A charge that was answered with 200 or 201 is on disk: `kill -9` forgets no charge, no call and no fault.
3. After a refund nothing is charged for its order any more (410), also where nothing had been charged before it: a call
   that was given up on cannot book late. Two refunds under two keys are two entries, so that they can be seen.
4. An amount of 0.00 is a canary: answered as any other call would be, never booked and never counted.

What no caller can know is whether a call that failed was booked, and the faults see to both: `down` and `hang` fail
before the charge is booked, `slow` books it and answers when most callers have gone, `flaky` does either by chance.
`refuse` is no fault but a business answer, that the card has no money; what was charged before stays charged.

`PAYMENTS_DATABASE` names the ledger (default: payments.db beside this module); `PAYMENTS_SEED` repeats what is flaky.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import time
from contextlib import asynccontextmanager, closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from doorkeeper import EXPLANATIONS, GUARDS, BadRequest, checked_key, limit_of, read
from server import main, told_to_stop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

Mode = Literal["none", "down", "hang", "slow", "flaky", "refuse"]

HANG = 30.0
"""Seconds without an answer, when calls hang."""

SLOW = 2.0
"""Seconds between booking and answer, when calls are slow."""

FLAKY_BEFORE, FLAKY_AFTER = 0.25, 0.5
"""Of flaky calls a quarter fails before the charge is booked, and another quarter after it."""


class Charge(BaseModel):
    """What a caller asks for."""

    order_id: Annotated[str, Field(min_length=1, max_length=60)]
    amount: Annotated[Decimal, Field(ge=0, max_digits=8, decimal_places=2)]


class Refund(BaseModel):
    """For which order everything is paid back."""

    order_id: Annotated[str, Field(min_length=1, max_length=60)]


class Booked(TypedDict):
    """A charge or a refund as the ledger has it."""

    order_id: str
    amount: float
    key: str
    at_ms: int


class Faults(BaseModel):
    """How the payment system misbehaves."""

    mode: Mode


async def post_charge(request: Request) -> Response:
    """Take a charge, or fail in the way that the present fault wants."""
    ledger: Ledger = request.app.state.ledger
    try:
        charge = await read(request, Charge)
    except BadRequest:
        ledger.count_call()
        raise
    if charge.amount:
        ledger.count_call()
    key = request.headers.get("idempotency-key", "")

    def decide() -> Response:
        return _decide(ledger, charge, key, card_is_good=mode != "refuse")

    mode = ledger.mode
    return await _answer(request, decide, mode)


async def post_refund(request: Request) -> Response:
    """Pay back, or fail in the way that the present fault wants; no card refuses money."""
    ledger: Ledger = request.app.state.ledger
    refund = await read(request, Refund)
    key = checked_key(request.headers.get("idempotency-key", ""))
    return await _answer(request, lambda: _pay_back(ledger, refund, key), ledger.mode)


async def _answer(request: Request, decide: Callable[[], Response], mode: Mode) -> Response:
    stopping: asyncio.Event = request.app.state.stopping
    luck: float = request.app.state.chance.random() if mode == "flaky" else 1.0
    if mode == "hang":
        await told_to_stop(stopping, within=HANG)
    if mode in {"down", "hang"} or luck < FLAKY_BEFORE:
        return _out_of_order()
    answer = decide()
    if mode == "slow":
        await told_to_stop(stopping, within=SLOW)
    return _out_of_order() if luck < FLAKY_AFTER else answer


def _decide(ledger: Ledger, charge: Charge, key: str, *, card_is_good: bool) -> Response:
    """Book the charge, unless its key was booked before or there is a reason not to."""
    booked = ledger.find(checked_key(key)) if charge.amount else None
    if booked is not None:
        return _repeated(booked, charge)
    if not card_is_good:
        return JSONResponse({"error": "the card was refused"}, 402)
    if not charge.amount:
        return JSONResponse({"status": "nothing to charge"})
    if ledger.has_refund(charge.order_id):
        return JSONResponse({"error": "this order was refunded"}, 410)
    return JSONResponse(ledger.book(charge, key), 201)


def _pay_back(ledger: Ledger, refund: Refund, key: str) -> Response:
    before = ledger.find_refund(key)
    if before is None:
        return JSONResponse(ledger.pay_back(refund.order_id, key), 201)
    if before["order_id"] != refund.order_id:
        raise BadRequest(422, "Idempotency-Key: this one was used for another order", "Idempotency-Key")
    return JSONResponse(before)


def _repeated(booked: Booked, charge: Charge) -> Response:
    if (booked["order_id"], booked["amount"]) != (charge.order_id, float(charge.amount)):
        raise BadRequest(422, "Idempotency-Key: this one was used for another order or amount", "Idempotency-Key")
    return JSONResponse(booked)


def _out_of_order() -> Response:
    return JSONResponse({"error": "the payment system is out of order"}, 503)


async def get_charges(request: Request) -> Response:
    """Show the ledger, oldest charge first."""
    ledger: Ledger = request.app.state.ledger
    return JSONResponse({"calls": ledger.calls, "charges": ledger.newest(limit_of(request))})


async def get_refunds(request: Request) -> Response:
    """Show how much was charged and paid back, and the refunds, oldest first; of one order if it is named."""
    ledger: Ledger = request.app.state.ledger
    order_id = request.query_params.get("order_id")
    return JSONResponse({**ledger.totals(order_id), "refunds": ledger.refunds(order_id, limit_of(request))})


async def put_faults(request: Request) -> Response:
    """Break the payment system, or mend it. Calls that hang already go on hanging."""
    faults = await read(request, Faults)
    request.app.state.ledger.mode = faults.mode
    return JSONResponse(faults.model_dump())


async def get_faults(request: Request) -> Response:
    """Say how the payment system misbehaves."""
    return JSONResponse({"mode": request.app.state.ledger.mode})


class Ledger:
    """What the payment system must not forget, in one SQLite file (WAL, `synchronous=FULL`).

    Every call is one statement, committed when it returns. They run on the event loop: it takes a few milliseconds,
    and nothing can come between looking a key up and booking it.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def book(self, charge: Charge, key: str) -> Booked:
        """Write a charge down, under a key that was not used before."""
        at_ms = time.time_ns() // 1_000_000
        row = (charge.order_id, int(charge.amount * 100), key, at_ms)
        self._db.execute("INSERT INTO charges (order_id, cents, key, at_ms) VALUES (?, ?, ?, ?)", row)
        return _booked(row)

    def find(self, key: str) -> Booked | None:
        """The charge that was booked under a key."""
        row = self._db.execute("SELECT order_id, cents, key, at_ms FROM charges WHERE key = ?", (key,)).fetchone()
        return None if row is None else _booked(row)

    def has_refund(self, order_id: str) -> bool:
        """Whether an order was refunded, of something or of nothing."""
        return self._db.execute("SELECT 1 FROM refunds WHERE order_id = ?", (order_id,)).fetchone() is not None

    def pay_back(self, order_id: str, key: str) -> Booked:
        """Write a refund of what is left to be paid back for an order, under a key that was not used before."""
        (cents,) = self._db.execute(LEFT_TO_PAY_BACK, {"order_id": order_id}).fetchone()
        row = (order_id, cents, key, time.time_ns() // 1_000_000)
        self._db.execute("INSERT INTO refunds (order_id, cents, key, at_ms) VALUES (?, ?, ?, ?)", row)
        return _booked(row)

    def find_refund(self, key: str) -> Booked | None:
        """The refund that was written under a key."""
        row = self._db.execute("SELECT order_id, cents, key, at_ms FROM refunds WHERE key = ?", (key,)).fetchone()
        return None if row is None else _booked(row)

    def refunds(self, order_id: str | None, limit: int | None) -> list[Booked]:
        """The last refunds, or all of them, oldest first."""
        facts = {"order_id": order_id, "limit": -1 if limit is None else limit}
        return [_booked(row) for row in reversed(self._db.execute(REFUNDS, facts).fetchall())]

    def totals(self, order_id: str | None) -> dict[str, int]:
        """How many charges there are, and how many refunds of something."""
        charged, refunded = self._db.execute(REFUND_TOTALS, {"order_id": order_id}).fetchone()
        return {"charged": charged, "refunded": refunded}

    def newest(self, limit: int | None) -> list[Booked]:
        """The last charges, or all of them, oldest first."""
        newest_first = "SELECT order_id, cents, key, at_ms FROM charges ORDER BY seq DESC LIMIT ?"
        rows = self._db.execute(newest_first, (-1 if limit is None else limit,)).fetchall()
        return [_booked(row) for row in reversed(rows)]

    def count_call(self) -> None:
        """Count a request that wants to charge something."""
        self._db.execute("UPDATE state SET calls = calls + 1")

    @property
    def calls(self) -> int:
        """How many requests wanted to charge something, since the ledger was made."""
        return int(self._db.execute("SELECT calls FROM state").fetchone()[0])

    @property
    def mode(self) -> Mode:
        """The present fault; it outlives the process, as an outage would."""
        mode: Mode = self._db.execute("SELECT mode FROM state").fetchone()[0]
        return mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._db.execute("UPDATE state SET mode = ?", (mode,))


def _booked(row: tuple[str, int, str, int]) -> Booked:
    order_id, cents, key, at_ms = row
    return {"order_id": order_id, "amount": cents / 100, "key": key, "at_ms": at_ms}


SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS charges (
    seq      INTEGER PRIMARY KEY,
    order_id TEXT    NOT NULL,
    cents    INTEGER NOT NULL CHECK (cents > 0),
    key      TEXT    NOT NULL UNIQUE,
    at_ms    INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS refunds (
    seq      INTEGER PRIMARY KEY,
    order_id TEXT    NOT NULL,
    cents    INTEGER NOT NULL CHECK (cents >= 0),
    key      TEXT    NOT NULL UNIQUE,
    at_ms    INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS state (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    calls INTEGER NOT NULL,
    mode  TEXT    NOT NULL CHECK (mode IN ('none', 'down', 'hang', 'slow', 'flaky', 'refuse'))
) STRICT;
INSERT INTO state (one, calls, mode) VALUES (1, 0, 'none') ON CONFLICT DO NOTHING;
"""

LEFT_TO_PAY_BACK = """
SELECT (SELECT coalesce(sum(cents), 0) FROM charges WHERE order_id = :order_id)
     - (SELECT coalesce(sum(cents), 0) FROM refunds WHERE order_id = :order_id)
"""

REFUNDS = """
SELECT order_id, cents, key, at_ms FROM refunds
WHERE :order_id IS NULL OR order_id = :order_id ORDER BY seq DESC LIMIT :limit
"""

REFUND_TOTALS = """
SELECT (SELECT count(*) FROM charges WHERE :order_id IS NULL OR order_id = :order_id),
       (SELECT count(*) FROM refunds WHERE cents > 0 AND (:order_id IS NULL OR order_id = :order_id))
"""


@asynccontextmanager
async def open_service(service: Starlette) -> AsyncIterator[None]:
    """Open the ledger for as long as the service runs."""
    path = Path(os.environ.get("PAYMENTS_DATABASE", Path(__file__).with_name("payments.db")))
    service.state.stopping = asyncio.Event()
    service.state.chance = random.Random(os.environ.get("PAYMENTS_SEED"))  # noqa: S311 - a seed has to repeat it
    with closing(Ledger(path)) as service.state.ledger:
        yield


service = Starlette(
    routes=[
        Route("/charges", post_charge, methods=["POST"]),
        Route("/charges", get_charges),
        Route("/refunds", post_refund, methods=["POST"]),
        Route("/refunds", get_refunds),
        Route("/faults", put_faults, methods=["PUT"]),
        Route("/faults", get_faults),
    ],
    middleware=GUARDS,
    exception_handlers=EXPLANATIONS,
    lifespan=open_service,
)

if __name__ == "__main__":
    main(service, name="payments", port=8001)
