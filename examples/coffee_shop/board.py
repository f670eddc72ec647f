"""What the page shows: the orders, and what the system does now."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

import httpx

from redrive.errors import RedriveError
from server import told_to_stop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orders import Order, ServedOrder, Shop
    from redrive.operations import Operations
    from tracking import Tracking

PERIOD = 0.25
"""Seconds between two looks, while somebody watches."""

HEARTBEAT = 15.0
"""Seconds after which a watcher hears something even if nothing changes, so that one who left is noticed."""

MEMORY = 1000
"""How many orders the front door remembers until they are served."""

SHOWN = 60
"""How many orders a watcher sees."""


class Board:
    """Looks at the shop's table, at redrive and at the payment system, once for everybody who watches."""

    def __init__(self, shop: Shop, operations: Operations, tracking: Tracking | None = None) -> None:
        self._shop, self._operations, self._tracking = shop, operations, tracking
        self._accepted: OrderedDict[str, tuple[Order, int]] = OrderedDict()
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._status: dict[str, object] = {}

    def accept(self, order: Order) -> None:
        """Remember an order until it is served, so that whoever ordered can see it at once."""
        self._accepted[order.order_id] = (order, time.time_ns() // 1_000_000)
        if len(self._accepted) > MEMORY:
            self._accepted.popitem(last=False)

    def order(self, order_id: str) -> dict[str, object] | None:
        """One order; None if it is not known, or not handled yet and forgotten since."""
        served = self._shop.table.get(order_id)
        if served is not None:
            return _served(served)
        accepted = self._accepted.get(order_id)
        return None if accepted is None else _queued(*accepted)

    def orders(self, limit: int) -> list[dict[str, object]]:
        """The newest orders: those that wait, then those that were served last."""
        for order_id in self._shop.table.among(self._accepted):
            del self._accepted[order_id]
        waiting = [_queued(*accepted) for accepted in reversed(self._accepted.values())]
        return (waiting + [_served(row) for row in self._shop.table.newest(limit)])[:limit]

    async def status(self) -> dict[str, object]:
        """What the system does now, or did up to `PERIOD` ago."""
        async with self._looking:
            if time.monotonic() - self._looked_at >= PERIOD:
                queue, payments = await asyncio.gather(self._look_at_queue(), self._look_at_payments())
                self._status = {**queue, "payments": payments}
                self._looked_at = time.monotonic()
            return self._status

    async def changes(self, stopping: asyncio.Event) -> AsyncIterator[str]:
        """Server-sent events `orders`, `status` and `deliveries`: everything at first, then what changed."""
        seen: dict[str, object] = {}
        spoke_at = time.monotonic()
        yield "retry: 1000\n\n"
        while not stopping.is_set():
            now: dict[str, object] = {"orders": self.orders(SHOWN), "status": await self.status()}
            if self._tracking is not None:
                now["deliveries"] = await self._tracking.view()
            news = "".join(_event(name, view) for name, view in now.items() if seen.get(name) != view)
            if news or time.monotonic() - spoke_at > HEARTBEAT:
                yield news or ": nothing new\n\n"
                seen, spoke_at = now, time.monotonic()
            await told_to_stop(stopping, within=PERIOD)

    async def _look_at_queue(self) -> dict[str, object]:
        try:
            view = await self._operations.overview()
        except RedriveError:
            return {"queue": None, "circuit": None, "handler_runs": None}
        queue, circuit = view.queues["orders"], view.dependencies["payments"]
        return {
            "queue": {
                "ready": queue.ready,
                "in_flight": queue.in_flight,
                "delayed": queue.delayed,
                "parked": queue.parked,
                "dead": queue.dead,
            },
            "circuit": {"state": circuit.state, "next_canary_in": circuit.next_canary_in},
            "handler_runs": view.handler_runs,
        }

    async def _look_at_payments(self) -> dict[str, object]:
        http = self._shop.gateway.http
        try:
            faults, charges = await asyncio.gather(
                http.get("/faults", timeout=0.5), http.get("/charges", params={"limit": 0}, timeout=0.5)
            )
            return {"reachable": True, "mode": faults.json()["mode"], "calls": charges.json()["calls"]}
        except (httpx.HTTPError, ValueError, LookupError, TypeError):  # nobody, or somebody else
            return {"reachable": False, "mode": None, "calls": None}


def _queued(order: Order, accepted_at_ms: int) -> dict[str, object]:
    return _view(order, status="queued", payment=None, at_ms=accepted_at_ms, times_served=0)


def _served(row: ServedOrder) -> dict[str, object]:
    facts = {"payment": row.payment, "at_ms": row.served_at_ms, "times_served": row.times_served}
    return _view(row.order, status="served", **facts)


def _view(order: Order, **facts: object) -> dict[str, object]:
    return {**order.model_dump(), "total": float(order.total), **facts}


def _event(name: str, view: object) -> str:
    return f"event: {name}\ndata: {json.dumps(view)}\n\n"
