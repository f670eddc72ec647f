"""Who may come in, and what they may bring: the checks that every service makes before it looks at a request.

Loopback is no protection by itself: any page that a browser shows may send requests to it. So a name that is not ours
(DNS rebinding) and a change that another page asks for are turned away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse

from redrive.errors import PayloadError
from redrive.payload import check_json

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 16 * 1024
"""Bytes; an order has about 100."""

Shape = TypeVar("Shape", bound=BaseModel)


class BadRequest(Exception):
    """What the client sent cannot be used; `field` says where, if it is one field."""

    def __init__(self, status: int, error: str, field: str | None = None) -> None:
        super().__init__(status, error, field)
        self.status, self.error, self.field = status, error, field


async def read(request: Request, shape: type[Shape]) -> Shape:
    """The request's body, checked.

    Raises:
        BadRequest: If it is too large (413), not JSON (400) or does not fit the shape (422).
    """
    body = await read_bytes(request)
    try:
        shaped = shape.model_validate_json(body)
        check_json("orders", body)  # as strict as the queue: a key that stands twice is read differently by others
    except ValidationError as error:
        raise _explained(error) from None
    except PayloadError as error:
        raise BadRequest(400, error.problem) from None
    return shaped


async def read_bytes(request: Request) -> bytes:
    """The request's body, as it is.

    Raises:
        BadRequest: If it is too large (413).
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise BadRequest(413, f"the body is over the limit of {MAX_BODY} bytes")
    return bytes(body)


def _explained(error: ValidationError) -> BadRequest:
    """The first thing that is wrong, in a sentence; what was sent is not repeated."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    message = problem["msg"][0].lower() + problem["msg"][1:]
    if problem["type"] == "json_invalid":
        return BadRequest(400, f"the body is not JSON that can be read: {message}")
    if not problem["loc"]:
        return BadRequest(422, f"the body does not fit: {message}")
    field = ".".join(str(part) for part in problem["loc"])
    return BadRequest(422, f"{field}: {message}", field)


def limit_of(request: Request) -> int | None:
    """How many things the query asks for; None if it does not say.

    Raises:
        BadRequest: If that is no whole number.
    """
    limit = request.query_params.get("limit")
    if limit is None:
        return None
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= 9):  # noqa: PLR2004 - what SQLite counts to
        raise BadRequest(400, "limit: a whole number is wanted, from 0 on", "limit")
    return int(limit)


def checked_key(key: str) -> str:
    """An idempotency key that can be used.

    Raises:
        BadRequest: If there is none, or it is too long (400).
    """
    if not 1 <= len(key) <= 200:  # noqa: PLR2004 - said in the message
        raise BadRequest(400, "Idempotency-Key: send this header, with 1 to 200 characters", "Idempotency-Key")
    return key


async def explain(_request: Request, error: Exception) -> JSONResponse:
    """Answer a request that cannot be used, in JSON like everything else."""
    if isinstance(error, BadRequest):
        place = {} if error.field is None else {"field": error.field}
        return JSONResponse({"error": error.error, **place}, error.status)
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail.lower()}, error.status_code, error.headers)
    return JSONResponse({"error": "this went wrong here, not with you; the log says how"}, 500)


class OwnPagesOnly:
    """Turns away changes that the page of another origin asks for; programs send no `Origin` and may pass."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] == "http" and scope["method"] not in {"GET", "HEAD"}:
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and origin != f"{scope['scheme']}://{headers.get('host')}":
                refusal = JSONResponse({"error": f"pages of {origin!r} may not change anything here"}, 403)
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)


class StrictHeaders:
    """Tells browsers to trust nothing but this server: no foreign or inline code, no frames, no guessing of types."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and mark the answer."""

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(STRICT)
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self.app(scope, receive, send_marked)


STRICT = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
GUARDS = [
    Middleware(StrictHeaders),
    Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"]),
    Middleware(OwnPagesOnly),
]
EXPLANATIONS = {BadRequest: explain, HTTPException: explain, Exception: explain}
