"""What the page shows of deliveries: each saga as a row of steps, by its journal, and what the partners say."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

import httpx

from delivery import Parcel
from orders import Order
from redrive.errors import RedriveError
from redrive.sagas.journal import State, StepState, UndoState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from delivery import DeliveringShop
    from redrive.sagas.definition import SagaConsumer
    from redrive.sagas.journal import Journal, StepRecord, Undo

PERIOD = 0.25
"""Seconds between two looks, while somebody watches."""

SHOWN = 5
"""How many deliveries a watcher sees."""

FORGOTTEN_MS = 24 * 3600 * 1000
"""After a day a delivery is not shown any more; its journal is kept for two weeks."""

STEPS = ("charge", "reserve", "book", "confirm")
"""In the order of the page; what is not in a journal yet is still to come."""

Row = dict[str, object]


class Tracking:
    """Looks at deliveries and partners, once for everybody who watches."""

    def __init__(self, shop: DeliveringShop, saga: SagaConsumer[Order]) -> None:
        self._shop, self._saga = shop, saga
        self._settled: OrderedDict[str, Row] = OrderedDict()
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._view: Row = {}

    async def view(self) -> Row:
        """The newest deliveries (None: not known) and the partners, as of now or up to `PERIOD` ago."""
        async with self._looking:
            if time.monotonic() - self._looked_at >= PERIOD:
                rows, *partners = await asyncio.gather(
                    self._rows(), self._payments(), self._partner("stock"), self._partner("courier")
                )
                names = ("payments", "stock", "courier")
                self._view = {"deliveries": rows, "partners": dict(zip(names, partners, strict=True))}
                self._looked_at = time.monotonic()
            return self._view

    async def delivery(self, order_id: str) -> Row | None:
        """One delivery; None if it is not known. One whose taking nobody could confirm is known once it has begun.

        Raises:
            RedriveError: If the store of the journals is away.
        """
        parcel = self._shop.parcels.get(order_id)
        if parcel is None:
            journal = await self._saga.journal(order_id)
            if journal is None:
                return None
            order = Order.model_validate(journal.input)
            parcel = Parcel(order=order, accepted_at_ms=journal.sent_at_ms, times_handed_over=0)
        return await self._row(parcel)

    async def _rows(self) -> list[Row] | None:
        parcels = self._shop.parcels.newest(SHOWN, time.time_ns() // 1_000_000 - FORGOTTEN_MS)
        try:
            return list(await asyncio.gather(*map(self._row, parcels)))
        except RedriveError:
            return None

    async def _row(self, parcel: Parcel) -> Row:
        order_id = parcel.order.order_id
        if (settled := self._settled.get(order_id)) is not None:
            return settled
        journal = await self._saga.journal(order_id)
        row = row_of(parcel, journal, {name: one.needs for name, one in self._saga.steps.items()})
        row["account"] = await self._account(order_id)
        if journal is not None and journal.is_settled and row["account"] is not None:
            self._settled[order_id] = row
            if len(self._settled) > 2 * SHOWN:
                self._settled.popitem(last=False)
        return row

    async def _account(self, order_id: str) -> Row | None:
        """What the payment system has charged and refunded for one order."""
        totals = await _asked(self._shop.gateway.http, "/refunds", {"limit": "0", "order_id": order_id})
        return totals and {name: totals.get(name) for name in ("charged", "refunded")}

    async def _payments(self) -> Row | None:
        totals = await _asked(self._shop.gateway.http, "/refunds", {"limit": "0"})
        return totals and {"done": totals.get("charged"), "undone": totals.get("refunded")}

    async def _partner(self, name: str) -> Row | None:
        http = self._shop.stock.http if name == "stock" else self._shop.courier.http
        ledger = await _asked(http, "/ledger", {"limit": "0"})
        return ledger and {one: ledger.get(one) for one in ("mode", "done", "undone", "shelf")}


def row_of(parcel: Parcel, journal: Journal | None, needs: Mapping[str, Collection[str]]) -> Row:
    """A delivery as the page shows it.

    Args:
        parcel: what was ordered.
        journal: its saga's; None: nobody began it yet.
        needs: by step, the names of its dependencies.
    """
    order = parcel.order
    row: Row = {
        **order.model_dump(),
        "total": float(order.total),
        "at_ms": parcel.accepted_at_ms,
        "times_handed_over": parcel.times_handed_over,
    }
    if journal is None:
        steps = [{"name": name, "state": "next", "attempts": 0} for name in STEPS]
        return {**row, "state": "queued", "steps": steps, "because": None, "parked_for": None, "rider": None}
    return {
        **row,
        "state": journal.state.value,
        "steps": [shown_step(journal, name, needs.get(name, ())) for name in STEPS],
        "because": _because(journal),
        "parked_for": journal.parked_for,
        "rider": journal.result,
    }


def shown_step(journal: Journal, name: str, needs: Collection[str]) -> Row:
    """One step, in one word.

    next, started, again (waits for another try), parked, done, rejected, unknown, undoing, undone, skipped or stuck.
    """
    record = journal.step(name, 1)
    if record is None:
        return {"name": name, "state": "next", "attempts": 0}
    parked = journal.parked_for in needs
    if record.undo is not None:
        state = _backward(record.undo, parked=parked)
    elif journal.state is State.UNDOING and record.wants_undo and needs:
        state = "undoing"
    else:
        state = _forward(record, parked=parked)
    return {"name": name, "state": state, "attempts": record.attempts}


def _forward(record: StepRecord, *, parked: bool) -> str:
    if record.state is not StepState.STARTED:
        return record.state.value
    if parked:
        return "parked"
    if not record.began_at_ms:
        return "next"
    return "started" if record.due_at_ms is None else "again"


def _backward(undo: Undo, *, parked: bool) -> str:
    match undo.state:
        case UndoState.DONE:
            return "undone"
        case UndoState.SKIPPED:
            return "skipped"
        case UndoState.FAILED:
            return "stuck"
        case UndoState.STARTED:
            return "parked" if parked else "undoing"


def _because(journal: Journal) -> str | None:
    """Why it is undone or stuck: of a rejected step, what its partner said."""
    cause = journal.stuck or journal.cause
    if cause is None:
        return None
    said = [one.error.text for one in journal.steps if one.state is StepState.REJECTED and one.error is not None]
    return said[0] if said and journal.stuck is None else cause.reason


async def _asked(http: httpx.AsyncClient, path: str, query: Mapping[str, str]) -> Row | None:
    """What a partner says; None if it is nobody, or somebody else."""
    try:
        answer = (await http.get(path, params=query, timeout=0.5)).raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None
