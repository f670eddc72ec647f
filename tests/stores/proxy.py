"""A real TCP proxy in front of DynamoDB's stand-in, that does to requests what networks and AWS do to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, as it came."""

    operation: str
    """As the protocol names it: `PutItem`."""
    head: bytes
    body: bytes


Answer = Callable[[Request], Awaitable[bytes | None]]
"""What becomes of a request: the bytes to answer with; None: the connection is cut."""


class Proxy:
    """Passes requests on, unless there is a trouble for them; troubles are used up in order, one request each."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._behind = (str(parts.hostname), parts.port or 80)
        self.troubles: list[tuple[str, Answer]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.always: Answer | None = None
        """What becomes of every request that no trouble is for; None: it is passed on."""
        self.seen: Counter[str] = Counter()
        self.url = ""

    def on(self, operation: str, *answers: Answer) -> None:
        """The next requests for an operation come to this."""
        self.troubles += [(operation, answer) for answer in answers]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def passed_on(self, request: Request) -> bytes:
        """What the other side answers."""
        reader, writer = await asyncio.open_connection(*self._behind)
        try:
            writer.write(request.head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + request.body)
            return await reader.read()
        finally:
            writer.close()

    async def answer_lost(self, request: Request) -> None:
        """It happens, and nobody hears of it."""
        await self.passed_on(request)

    async def request_lost(self, _: Request) -> None:
        """It does not happen, and nobody knows."""

    async def never(self, _: Request) -> None:
        """Nothing comes, for as long as one waits."""
        await asyncio.Event().wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            request = await _read(reader)
            if (answer := await self._what_becomes_of(request)(request)) is not None:
                writer.write(answer)
                await writer.drain()
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass  # whoever asked has gone, or the test ends
        finally:
            self._tasks.discard(task)
            writer.close()

    def _what_becomes_of(self, request: Request) -> Answer:
        self.seen[request.operation] += 1
        for trouble in self.troubles:
            if trouble[0] == request.operation:
                self.troubles.remove(trouble)
                return trouble[1]
        return self.always or self.passed_on


def refused(code: str, message: str = "", *, status: int = 400) -> Answer:
    """An error as DynamoDB writes it; nothing happens."""

    async def answer(_: Request) -> bytes:
        body = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message}).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.0\r\nConnection: close\r\n"
        return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body

    return answer


def changed(proxy: Proxy, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Answer:
    """What the other side answers, changed: `change` is given the request and the answer."""

    async def answer(request: Request) -> bytes:
        asked = json.loads(request.body)
        head, _, body = (await proxy.passed_on(request)).partition(b"\r\n\r\n")
        said = json.loads(body)
        change(asked, said)
        body = json.dumps(said).encode()
        kept = [
            line for line in head.split(b"\r\n") if not line.lower().startswith((b"content-length", b"x-amz-crc32"))
        ]
        return b"\r\n".join([*kept, b"Content-Length: %d" % len(body), b"", body])

    return answer


async def garbage(_: Request) -> bytes:
    """What some middle box says in place of DynamoDB."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n<html></h"


async def _read(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:] if line)
    lower = {name.lower(): value for name, value in fields.items()}
    body = await reader.readexactly(int(lower.get("content-length", 0)))
    return Request(operation=lower.get("x-amz-target", "").rpartition(".")[2], head=head, body=body)
