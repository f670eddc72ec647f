"""A wire to PostgreSQL that can lose an answer: the server has done it, and its client does not hear."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

Meanwhile = Callable[[], Awaitable[object]]


class Wire:
    """Passes everything on in both directions, until an answer is to be lost."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._meanwhile: list[Meanwhile] = []
        self.port = 0

    def lose_next_answer(self, meanwhile: Meanwhile | None = None) -> None:
        """Swallow what the server says next, and cut; `meanwhile` happens in between, and is waited for."""
        self._meanwhile.append(meanwhile or _nothing)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Wire]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        answers, to_server = await asyncio.open_connection("127.0.0.1", self._server)
        asks = asyncio.create_task(_copy(client, to_server))
        try:
            while data := await answers.read(1 << 16):
                if self._meanwhile:
                    await self._meanwhile.pop(0)()
                    break
                to_client.write(data)
        except OSError:
            pass
        finally:
            to_client.close()
            to_server.close()
            await asks


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
    target.close()


async def _nothing() -> None:
    pass
