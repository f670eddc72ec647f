"""The front door: a page, and an HTTP interface that validates an order, sends it to the queue and answers.

    python shop.py --port 8000

    POST /orders                {"customer", "drink", "size"}: 202 {"order_id"}, or what is wrong and in which field
    GET  /orders?limit=20       the newest orders, first those that wait
    GET  /orders/{order_id}     its "status" (queued, served) and "payment" (null, pending, paid, refused)
    POST /deliveries            as /orders, but to be delivered: a saga
    GET  /deliveries            "deliveries", the newest, with the steps of their sagas; and the "partners"
    GET  /deliveries/{order_id} one of them
    GET  /menu                  drinks and sizes with their prices
    GET  /status                what the system does now
    GET  /events                orders, status and deliveries, as they change
    PUT  /faults                {"mode"}, passed on to the payment system: the button that breaks it
    PUT  /faults/{partner}      likewise to stock or courier
    POST /kill                  `kill -9` of a worker that runs: 200 {"killed": pid}

Nothing here waits for a partner or serves a coffee; the worker does (app.py). So the door stays open whatever is down,
except the queue itself: then an order is refused with 503 rather than taken and lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app import app, deliver, deliveries, orders
from board import Board
from delivery import open_delivering_shop
from doorkeeper import EXPLANATIONS, GUARDS, BadRequest, limit_of, read, read_bytes
from orders import EXTRA, PRICES, Choice, Order
from redrive.errors import BrokerError, OutcomeUnknown, RedriveError
from redrive.operations import Operations
from server import main
from tracking import Tracking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    from delivery import DeliveringShop
    from redrive import Queue


async def post_order(request: Request) -> Response:
    """Take an order: once this answers 202, it is on disk in the queue."""
    return await _take(request, orders, request.app.state.board.accept)


async def post_delivery(request: Request) -> Response:
    """Take an order to be delivered: likewise."""
    return await _take(request, deliveries, request.app.state.shop.parcels.accept)


async def _take(request: Request, queue: Queue[Order], accept: Callable[[Order], None]) -> Response:
    choice = await read(request, Choice)
    order = Order(order_id=secrets.token_hex(8), **choice.model_dump())
    try:
        await queue.send(order)
    except OutcomeUnknown:
        return _come_back(
            f"the order may have been taken; look at /{queue.name}/{order.order_id} before you order again"
        )
    except BrokerError:
        return _come_back("the queue does not answer, so the order was not taken; try again")
    accept(order)
    return JSONResponse({"order_id": order.order_id}, 202, {"Location": f"/{queue.name}/{order.order_id}"})


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


async def get_deliveries(request: Request) -> Response:
    """Show the newest deliveries."""
    return JSONResponse(await request.app.state.tracking.view())


async def get_delivery(request: Request) -> Response:
    """Show one delivery."""
    try:
        delivery = await request.app.state.tracking.delivery(request.path_params["order_id"])
    except RedriveError:
        return _come_back("the journals cannot be read now; try again")
    if delivery is None:
        raise BadRequest(404, "no such delivery, or not begun yet")
    return JSONResponse(delivery)


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
    """Break the payment system or another partner, or mend it."""
    shop: DeliveringShop = request.app.state.shop
    name = request.path_params.get("partner", "payment system")
    partners = {"payment system": shop.gateway.http, "stock": shop.stock.http, "courier": shop.courier.http}
    if name not in partners:
        raise BadRequest(404, f"there is no partner {name!r}; stock and courier are two")
    try:
        answer = await partners[name].put("/faults", content=await read_bytes(request), timeout=1.0)
    except httpx.HTTPError:
        return _come_back(f"the {name} cannot be reached")
    return Response(answer.content, answer.status_code, media_type="application/json")


async def post_kill(request: Request) -> Response:
    """Kill a worker of this machine in the middle of what it does; its supervisor starts another."""
    killed: set[int] = request.app.state.killed
    for worker in await request.app.state.operations.workers():
        here = worker.name.startswith(f"{socket.gethostname()}-{worker.pid}-")
        if worker.app == app.name and worker.alive and here and worker.pid not in killed:
            killed.add(worker.pid)  # it counts as alive for ten seconds
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
                return JSONResponse({"killed": worker.pid})
    return _come_back("no worker runs here yet; another one is about to")


@asynccontextmanager
async def open_site(site: Starlette) -> AsyncIterator[None]:
    """Open the queue to send to and the shop's table to read from."""
    async with app, open_delivering_shop() as shop:
        site.state.stopping = asyncio.Event()
        site.state.shop = shop
        site.state.killed = set()
        site.state.operations = Operations.of(app)
        site.state.tracking = Tracking(shop, deliver)
        site.state.board = Board(shop, site.state.operations, site.state.tracking)
        yield


site = Starlette(
    routes=[
        Route("/orders", post_order, methods=["POST"]),
        Route("/orders", get_orders),
        Route("/orders/{order_id}", get_order),
        Route("/deliveries", post_delivery, methods=["POST"]),
        Route("/deliveries", get_deliveries),
        Route("/deliveries/{order_id}", get_delivery),
        Route("/menu", get_menu),
        Route("/status", get_status),
        Route("/events", get_events),
        Route("/faults", put_faults, methods=["PUT"]),
        Route("/faults/{partner}", put_faults, methods=["PUT"]),
        Route("/kill", post_kill, methods=["POST"]),
        Mount("/", StaticFiles(directory=Path(__file__).with_name("static"), html=True)),
    ],
    middleware=GUARDS,
    exception_handlers=EXPLANATIONS,
    lifespan=open_site,
)

if __name__ == "__main__":
    main(site, name="shop", port=8000)
