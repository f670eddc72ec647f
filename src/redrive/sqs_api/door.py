"""The endpoint as an ASGI application: what stands between a socket and one call of the service.

Whatever a client sends is answered, and with an error that says whose fault it is. A 500 is a fault of redrive's; it
is logged, and counted in `/metrics`.
"""

from __future__ import annotations

import binascii
import hmac
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from redrive.sqs_api import awsquery
from redrive.sqs_api.awsjson import AwsJson
from redrive.sqs_api.awsquery import AwsQuery
from redrive.sqs_api.bodies import Bodies
from redrive.sqs_api.calls import Caller, Refused, Service
from redrive.sqs_api.contract import Contract, Operation, Request
from redrive.sqs_api.exposition import KIND, exposition
from redrive.sqs_api.forms import parameters
from redrive.sqs_api.hosts import Hosts, public_parts
from redrive.sqs_api.polls import ClientGone, Polls, Receive
from redrive.sqs_api.responses import Response, response
from redrive.sqs_api.signatures import Message, named_key, verify

Send = Callable[[Any], Awaitable[None]]
Scope = Mapping[str, Any]

_WAITING = "ReceiveMessage"
_TEXT = b"text/plain; charset=utf-8"
_CLOSE = (b"connection", b"close")
_NO_UPGRADE = b"this endpoint speaks HTTP/1.1 only: send no Upgrade header\n"
_MOST_CALLERS = 1_000
_log = logging.getLogger("redrive.sqs_api")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How an endpoint looks."""

    host: str = "127.0.0.1"
    """What it is bound to."""
    account: str = "000000000000"
    """The account of all queues: twelve digits."""
    region: str = "us-east-1"
    """The region of all queues."""
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Secrets by the ids of their keys; empty: signatures are not checked."""
    public_url: str | None = None
    """Where clients find it, `https://sqs.example.net`, behind a proxy that speaks TLS; None: where they ask."""

    def __post_init__(self) -> None:
        """Look at the public address before anything is opened.

        Raises:
            DeclarationError: If it cannot be one.
        """
        if self.public_url is not None:
            public_parts(self.public_url, signed=bool(self.keys))


@dataclass(slots=True)
class _Asked:
    """One request on its way."""

    scope: Scope
    headers: Mapping[bytes, bytes]
    receive: Receive
    body: bytes = b""
    operation: Operation | None = None


class Door:
    """The application."""

    def __init__(self, service: Service, contract: Contract, settings: Settings) -> None:
        self._service, self._settings = service, settings
        self._json, self._query = AwsJson(contract), AwsQuery(contract)
        self._hosts = Hosts(settings.host, signed=bool(settings.keys), public_url=settings.public_url)
        self._polls, self._bodies = Polls(), Bodies()
        self._callers: dict[tuple[str, str, str | None], Caller] = {}
        self._answers: Counter[tuple[str, int]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        asked = _Asked(scope, dict(scope["headers"]), receive)
        try:
            answer = await self._answer(asked)
        except ClientGone:
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    def stop(self) -> None:
        """Answer the polls that wait, so that the server can stop."""
        self._polls.stop()

    async def _answer(self, asked: _Asked) -> Response:
        method, path = asked.scope["method"], asked.scope["path"]
        if method in {"GET", "HEAD"} and path == "/health":
            return response(200, _TEXT, b"ok\n")
        if method in {"GET", "HEAD"} and path == "/metrics":
            return await self._metrics(asked)
        if method not in {"GET", "POST"}:
            return response(405, _TEXT, b"use GET or POST\n", (b"allow", b"GET, POST"), _CLOSE)
        if b"upgrade" in asked.headers and b"upgrade" in asked.headers.get(b"connection", b"").lower():
            return response(400, _TEXT, _NO_UPGRADE, _CLOSE)  # the parser takes what follows for the other protocol
        answer = await self._by_protocol(asked)
        self._answers[asked.operation.name if asked.operation else "none", answer.status] += 1
        return answer

    async def _by_protocol(self, asked: _Asked) -> Response:
        request_id = str(uuid.uuid4())
        protocol = self._json if b"x-amz-target" in asked.headers else self._query
        try:
            base_url = self._hosts.base_url(asked.headers)
            if asked.scope["method"] == "POST":
                asked.body = await self._bodies.read(asked.receive)
            if protocol is self._json:
                return await self._by_json(asked, base_url, request_id)
            return await self._by_query(asked, base_url, request_id)
        except Refused as refused:
            return self._refusal(protocol, refused, request_id)
        except ClientGone:
            raise
        except Exception:  # noqa: BLE001 - the outermost place: it is logged, counted and answered
            name = asked.operation.name if asked.operation else "a request"
            _log.exception("%s failed; its request id is %s", name, request_id)
            return protocol.refusal(Refused("InternalFailure", "The request failed; the log says why."), request_id)

    async def _by_json(self, asked: _Asked, base_url: str, request_id: str) -> Response:
        caller = self._caller(asked, base_url, "json")
        asked.operation = operation = self._json.operation(asked.headers[b"x-amz-target"])
        request = self._json.request(operation, asked.body)
        return self._json.answer(operation, await self._call(asked, operation, request, caller), request_id)

    async def _by_query(self, asked: _Asked, base_url: str, request_id: str) -> Response:
        given = parameters(asked.scope["query_string"])
        if asked.body:
            given |= parameters(asked.body)
        if "Action" not in given:
            return awsquery.unknown()
        caller = self._caller(asked, base_url, "query")
        asked.operation = operation = self._query.operation(given["Action"])
        request = self._query.request(operation, given, asked.scope["path"], base_url)
        return self._query.answer(operation, await self._call(asked, operation, request, caller), request_id)

    async def _call(self, asked: _Asked, operation: Operation, request: Request, caller: Caller) -> Mapping[str, Any]:
        if operation.name == "SendMessage" and (trace := asked.headers.get(b"x-amzn-trace-id")):
            request.setdefault("MessageSystemAttributes", {}).setdefault("AWSTraceHeader", _text(trace))
        call = self._service.call(operation.name, request, caller)
        return await (self._polls.run(call, asked.receive) if operation.name == _WAITING else call)

    def _caller(self, asked: _Asked, base_url: str, protocol: Literal["json", "query"]) -> Caller:
        """Who asks, checked if there are keys."""
        if self._settings.keys:
            scope = asked.scope
            message = Message(scope["method"], scope["raw_path"], scope["query_string"], asked.headers, asked.body)
            key: str | None = verify(message, self._settings.keys, time.time())
        else:
            key = named_key(asked.headers.get(b"authorization"))
        found = self._callers.get((base_url, protocol, key))
        if found is None:
            account, region = self._settings.account, self._settings.region
            found = Caller(account=account, region=region, base_url=base_url, protocol=protocol, access_key=key)
            if len(self._callers) < _MOST_CALLERS:
                self._callers[base_url, protocol, key] = found
        return found

    def _refusal(self, protocol: AwsJson | AwsQuery, refused: Refused, request_id: str) -> Response:
        answer = protocol.refusal(refused, request_id)
        if refused.code in {"RequestEntityTooLarge", "RequestTimeout"}:
            answer.headers.append(_CLOSE)
        return answer

    async def _metrics(self, asked: _Asked) -> Response:
        """With keys, by Basic authentication with one of them: a scraper cannot sign."""
        try:
            self._hosts.base_url(asked.headers)
        except Refused as refused:
            return response(403, _TEXT, f"{refused.message}\n".encode())
        if self._settings.keys and not _knows_a_key(asked.headers.get(b"authorization", b""), self._settings.keys):
            return response(
                401,
                _TEXT,
                b"authenticate by HTTP Basic with a key's id and its secret\n",
                (b"www-authenticate", b'Basic realm="redrive"'),
            )
        try:
            return response(200, KIND, exposition(await self._service.metrics(), self._answers))
        except Exception:  # noqa: BLE001 - likewise
            _log.exception("the metrics failed")
            return response(500, _TEXT, b"the metrics failed; the log says why\n")


def _text(header: bytes) -> dict[str, str]:
    return {"DataType": "String", "StringValue": header.decode("latin-1")}


def _knows_a_key(authorization: bytes, keys: Mapping[str, str]) -> bool:
    scheme, _, text = authorization.partition(b" ")
    try:
        name, _, secret = binascii.a2b_base64(text).partition(b":") if scheme.lower() == b"basic" else (b"", b"", b"")
    except ValueError:
        return False
    expected = keys.get(name.decode("utf-8", "replace"))
    return expected is not None and hmac.compare_digest(secret, expected.encode())
