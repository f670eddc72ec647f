"""A client that costs little: HTTP/1.1 on one connection, AWS JSON 1.0 written by hand.

An SDK takes longer for a request than the servers that are measured; with one, it would be the SDK that is measured.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self
from urllib.parse import urlsplit

_SIGNED = (
    "AWS4-HMAC-SHA256 Credential=bench/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, "
    "Signature=0000000000000000000000000000000000000000000000000000000000000000"
)
"""Nobody checks it here; moto reads the region out of it."""
_OK = 200


class Refused(Exception):
    """The server answered with an error."""


class Client:
    """One connection; one request at a time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = (
            f"POST / HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/x-amz-json-1.0\r\n"
            f"Authorization: {_SIGNED}\r\nX-Amz-Date: 20260101T000000Z\r\nX-Amz-Target: AmazonSQS."
        )

    async def __aenter__(self) -> Self:
        await self._connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def call(self, operation: str, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever SQS takes
        """Ask, and wait for the answer.

        Raises:
            Refused: If it is an error.
        """
        body = json.dumps(request)
        text = f"{self._head}{operation}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        self._writer.write(text.encode())
        status, answer, closes = await self._answer()
        if closes:
            self._writer.close()
            await self._connect()
        if status != _OK:
            raise Refused(answer.decode(errors="replace"))
        found: dict[str, Any] = json.loads(answer) if answer else {}
        return found

    async def _connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=2**24)

    async def _answer(self) -> tuple[int, bytes, bool]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        fields = dict(line.split(":", 1) for line in head.split("\r\n")[1:] if ":" in line)
        closes = "close" in fields.get("connection", "")
        if "chunked" in fields.get("transfer-encoding", ""):
            return status, await self._chunks(), closes
        return status, await self._reader.readexactly(int(fields.get("content-length", "0"))), closes

    async def _chunks(self) -> bytes:
        found = b""
        while True:
            size = int((await self._reader.readline()).split(b";")[0], 16)
            found += (await self._reader.readexactly(size + 2))[:-2]
            if not size:
                return found
