"""The front door: a page, and an HTTP interface that validates an order, sends it to the queue and answers.

    python shop.py --port 8000

    POST /orders              {"customer", "drink", "size"}: 202 {"order_id"}, or what is wrong and in which field
    GET  /orders?limit=20     the newest orders, first those that wait
    GET  /orders/{order_id}   its "status" (queued, served) and "payment" (null, pending, paid, refused)
    GET  /menu                drinks and sizes with their prices
    GET  /status              what the system does now
    GET  /events              both of the last, as they change
    PUT  /faults              {"mode"}, passed on to the payment system: the button that breaks it

Nothing here waits for payments or serves a coffee; the worker does (app.py). So the door stays open whatever is down,
except the queue itself: then an order is refused with 503 rather than taken and lost.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app import app, orders
from board import Board
from doorkeeper import EXPLANATIONS, GUARDS, BadRequest, limit_of, read, read_bytes
from orders import EXTRA, PRICES, Choice, Order, open_shop
from redrive.errors import BrokerError, OutcomeUnknown
from redrive.operations import Operations
from server import main

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request


async def post_order(request: Request) -> Response:
    """Take an order: once this answers 202, it is on disk in the queue."""
    choice = await read(request, Choice)
    order = Order(order_id=secrets.token_hex(8), **choice.model_dump())
    try:
        await orders.send(order)
    except OutcomeUnknown:
        return _come_back(f"the order may have been taken; look at /orders/{order.order_id} before you order again")
    except BrokerError:
        return _come_back("the queue does not answer, so the order was not taken; try again")
    request.app.state.board.accept(order)
    return JSONResponse({"order_id": order.order_id}, 202, {"Location": f"/orders/{order.order_id}"})


def _come_back(error: str) -> Response:
    return JSONResponse({"error": error}, 503, {"Retry-After": "1"})


async def get_orders(request: Request) -> Response:
    """Show the newest orders."""
    limit = limit_of(request)
    return JSONResponse(request.app.state.board.orders(20 if limit is None else min(limit, 500)))


async def get_order(request: Request) -> Response:
    """Show one order."""
    order = request.app.state.board.order(request.path_params["order_id"])
    if order is None:
        raise BadRequest(404, "no such order, or not handled yet and ordered before this front door was opened")
    return JSONResponse(order)


async def get_menu(_request: Request) -> Response:
    """Show what there is."""
    drinks = [{"name": name, "price": float(price)} for name, price in PRICES.items()]
    sizes = [{"name": name, "extra": float(extra)} for name, extra in EXTRA.items()]
    return JSONResponse({"drinks": drinks, "sizes": sizes})


async def get_status(request: Request) -> Response:
    """Show what the system does now."""
    return JSONResponse(await request.app.state.board.status())


async def get_events(request: Request) -> Response:
    """Tell a page what changes, until it leaves or the server stops."""
    changes = request.app.state.board.changes(request.app.state.stopping)
    return StreamingResponse(changes, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def put_faults(request: Request) -> Response:
    """Break the payment system, or mend it."""
    http = request.app.state.shop.gateway.http
    try:
        answer = await http.put("/faults", content=await read_bytes(request), timeout=1.0)
    except httpx.HTTPError:
        return _come_back("the payment system cannot be reached")
    return Response(answer.content, answer.status_code, media_type="application/json")


@asynccontextmanager
async def open_site(site: Starlette) -> AsyncIterator[None]:
    """Open the queue to send to and the shop's table to read from."""
    async with app, open_shop() as shop:
        site.state.stopping = asyncio.Event()
        site.state.shop = shop
        site.state.board = Board(shop, Operations.of(app))
        yield


site = Starlette(
    routes=[
        Route("/orders", post_order, methods=["POST"]),
        Route("/orders", get_orders),
        Route("/orders/{order_id}", get_order),
        Route("/menu", get_menu),
        Route("/status", get_status),
        Route("/events", get_events),
        Route("/faults", put_faults, methods=["PUT"]),
        Mount("/", StaticFiles(directory=Path(__file__).with_name("static"), html=True)),
    ],
    middleware=GUARDS,
    exception_handlers=EXPLANATIONS,
    lifespan=open_site,
)

if __name__ == "__main__":
    main(site, name="shop", port=8000)
