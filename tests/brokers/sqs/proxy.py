"""A proxy in front of an SQS endpoint that spoils what it is told to spoil; real sockets on both sides."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple


class Request(NamedTuple):
    """What a client asked."""

    action: str
    head: bytes
    body: dict[str, Any]


class Answer(NamedTuple):
    """What it is answered; None as `status`: the connection is cut instead."""

    status: int | None
    body: dict[str, Any]


Ask = Callable[[Request], Awaitable[Answer]]
Fault = Callable[[Request, Ask], Awaitable[Answer]]
CUT = Answer(None, {})


class Proxy:
    """Passes requests on, but for those that a fault waits for."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._faults: deque[tuple[str, Fault]] = deque()
        self.asked: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()
        self.requests: list[Request] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spoil(self, action: str, fault: Fault, *, times: int = 1) -> None:
        """Let the next requests for this action go wrong."""
        self._faults.extend([(action, fault)] * times)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer on one connection, until it ends or `end` ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            async with closing(writer):
                await self._answer_all(reader, writer)
        except asyncio.CancelledError:
            pass  # by `end`
        finally:
            self._serving.discard(task)

    async def end(self) -> None:
        """Cut all connections, on both sides."""
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _request(reader):
                self.asked[request.action] += 1
                self.requests.append(request)
                self._changed.set()
                answer = await self._fault_for(request.action)(request, self._ask)
                if answer.status is None:
                    return
                writer.write(_answer(answer))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass

    async def until_asked(self, action: str) -> None:
        """Wait for the first request of this kind."""
        while not self.asked[action]:
            self._changed.clear()
            await self._changed.wait()

    def _fault_for(self, action: str) -> Fault:
        for index, (wanted, fault) in enumerate(self._faults):
            if wanted == action:
                del self._faults[index]
                return fault
        return as_it_is

    async def _ask(self, request: Request) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        async with closing(writer):
            return await self._asked(request, reader, writer)

    async def _asked(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
        body = json.dumps(request.body).encode()
        writer.write(
            b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-amz-json-1.0\r\n"
            + f"X-Amz-Target: AmazonSQS.{request.action}\r\nContent-Length: {len(body)}\r\n".encode()
            + _authorization(request.head)
            + b"Connection: close\r\n\r\n"
            + body
        )
        status = int((await reader.readuntil(b"\r\n")).split()[1])
        head = await reader.readuntil(b"\r\n\r\n")
        raw = await reader.readexactly(_length(head))
        return Answer(status, json.loads(raw or b"{}"))


@asynccontextmanager
async def proxy_for(upstream: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(upstream)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=4 * 2**20)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()


@asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


# Faults


async def as_it_is(request: Request, ask: Ask) -> Answer:
    return await ask(request)


async def cut_before(request: Request, ask: Ask) -> Answer:  # noqa: ARG001 - a fault
    """The connection ends; nothing was done."""
    return CUT


async def cut_after(request: Request, ask: Ask) -> Answer:
    """It was done, and the answer is lost."""
    await ask(request)
    return CUT


def refusing(code: str, status: int = 400, text: str = "no") -> Fault:
    """Nothing is done, and that is the answer."""

    async def refuse(request: Request, ask: Ask) -> Answer:  # noqa: ARG001 - a fault
        return Answer(status, {"__type": f"com.amazonaws.sqs#{code}", "message": text})

    return refuse


def saying(body: dict[str, Any]) -> Fault:
    """Nothing is done, and this is the answer."""

    async def say(request: Request, ask: Ask) -> Answer:  # noqa: ARG001 - a fault
        return Answer(200, body)

    return say


def failing_in_part(*places: int, code: str = "InternalError", sender_fault: bool = False) -> Fault:
    """The entries at these places are not done, and said to have failed."""

    async def fail(request: Request, ask: Ask) -> Answer:
        entries = request.body["Entries"]
        good = [entry for place, entry in enumerate(entries) if place not in places]
        failed = [
            {"Id": entries[place]["Id"], "Code": code, "Message": "no", "SenderFault": sender_fault}
            for place in places
            if place < len(entries)
        ]
        answer = Answer(200, {}) if not good else await ask(request._replace(body={**request.body, "Entries": good}))
        return answer._replace(body={**answer.body, "Failed": [*answer.body.get("Failed", []), *failed]})

    return fail


def answering(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Fault:
    """It is done, and the answer is changed."""

    async def changed(request: Request, ask: Ask) -> Answer:
        answer = await ask(request)
        return answer._replace(body=change(answer.body))

    return changed


# HTTP


async def _request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    body = json.loads(await reader.readexactly(_length(head)) or b"{}")
    target = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"x-amz-target:"))
    return Request(target.rpartition(b".")[2].strip().decode(), head, body)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _authorization(head: bytes) -> bytes:
    """Moto takes the region and the account from there."""
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"authorization:"):
            return line + b"\r\n"
    return b""


def _answer(answer: Answer) -> bytes:
    body = json.dumps(answer.body).encode()
    head = (
        f"HTTP/1.1 {answer.status} X\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
