"""A partner of the shop, a service of somebody else: agrees to something for an order, takes it back, can be broken.

    POST /{agree}      {"order_id": "…", "items": {…}} under an `Idempotency-Key` header: 201, or 200 if agreed before,
                       or 409 {"error": "out of oat milk"}: a business answer
    POST /{take_back}  {"order_id": "…"} likewise: takes back what was agreed to for the order, if anything was
    GET  /ledger       {"mode", "done", "undone", "shelf", "entries"}; ?limit= shows the last few entries
    GET  /health       200, or what the present fault makes of it: for canaries
    PUT  /faults       {"mode": "none" | "down" | "slow" | "refuse"}

`down` answers 503 before anything is entered. `slow` enters first and answers `SLOW` seconds later: whoever dies while
waiting cannot know, and asks again under the same key. `refuse` is no fault but the answer no.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from doorkeeper import EXPLANATIONS, GUARDS, checked_key, limit_of, read
from entries import Ask, Ledger, Mode, Refused
from server import told_to_stop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

SLOW = 3.0
"""Seconds between entering and answering, when calls are slow: within what the shop waits for."""


class Faults(BaseModel):
    """How the partner misbehaves."""

    mode: Mode


async def agree(request: Request) -> Response:
    """Agree to what is asked for, or say why not."""
    ask, ledger = await read(request, Ask), _ledger(request)
    key = checked_key(request.headers.get("idempotency-key", ""))
    if ledger.mode == "down":
        return _out_of_order()
    try:
        before = ledger.find(key, "done", ask.order_id)
        answer = JSONResponse(before) if before else JSONResponse(ledger.agree(ask, key), 201)
    except Refused as no:
        answer = JSONResponse({"error": str(no)}, 409)
    return await _in_time(request, answer)


async def take_back(request: Request) -> Response:
    """Take back what was agreed to."""
    ask, ledger = await read(request, Ask), _ledger(request)
    key = checked_key(request.headers.get("idempotency-key", ""))
    if ledger.mode == "down":
        return _out_of_order()
    before = ledger.find(key, "undone", ask.order_id)
    answer = JSONResponse(before) if before else JSONResponse(ledger.take_back(ask, key), 201)
    return await _in_time(request, answer)


async def get_health(request: Request) -> Response:
    """Say whether calls are answered."""
    return _out_of_order() if _ledger(request).mode == "down" else JSONResponse({"status": "well"})


async def get_ledger(request: Request) -> Response:
    """Show the ledger, oldest entry first."""
    ledger = _ledger(request)
    entries = ledger.newest(limit_of(request))
    return JSONResponse({"mode": ledger.mode, **ledger.totals(), "shelf": ledger.shelf(), "entries": entries})


async def put_faults(request: Request) -> Response:
    """Break the partner, or mend it."""
    faults = await read(request, Faults)
    _ledger(request).mode = faults.mode
    return JSONResponse(faults.model_dump())


def partner(name: str, ledger: type[Ledger], *, agreeing: str, taking_back: str) -> Starlette:
    """The service of a partner; `{NAME}_DATABASE` names its ledger (default: {name}.db beside this module)."""

    @asynccontextmanager
    async def open_service(service: Starlette) -> AsyncIterator[None]:
        path = Path(os.environ.get(f"{name.upper()}_DATABASE", Path(__file__).with_name(f"{name}.db")))
        service.state.stopping = asyncio.Event()
        with closing(ledger(path)) as service.state.ledger:
            yield

    return Starlette(
        routes=[
            Route(f"/{agreeing}", agree, methods=["POST"]),
            Route(f"/{taking_back}", take_back, methods=["POST"]),
            Route("/ledger", get_ledger),
            Route("/health", get_health),
            Route("/faults", put_faults, methods=["PUT"]),
        ],
        middleware=GUARDS,
        exception_handlers=EXPLANATIONS,
        lifespan=open_service,
    )


def _ledger(request: Request) -> Ledger:
    ledger: Ledger = request.app.state.ledger
    return ledger


async def _in_time(request: Request, answer: Response) -> Response:
    if _ledger(request).mode == "slow":
        await told_to_stop(request.app.state.stopping, within=SLOW)
    return answer


def _out_of_order() -> Response:
    return JSONResponse({"error": "out of order"}, 503)
