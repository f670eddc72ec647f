"""Calls that may wait: a long poll ends when its client goes away, and when the endpoint stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

Receive = Callable[[], Awaitable[Any]]
Result = Mapping[str, Any]

_WATCH_AFTER = 0.02
"""Seconds after which a call is a poll that waits: most are answered sooner, and nobody has to watch them."""
_NOTHING: Result = {}


class ClientGone(Exception):
    """Whoever asked has hung up: there is nobody to answer."""


class Polls:
    """The calls that wait at this moment."""

    def __init__(self) -> None:
        self._open: set[_Poll] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._open)

    async def run(self, call: Coroutine[Any, Any, Result], receive: Receive) -> Result:
        """Wait for a call as long as its client does; nothing, if the endpoint stops meanwhile.

        Args:
            call: cancelled when the client has gone or the endpoint stops.
            receive: the connection's; the request has been read from it in full.

        Raises:
            ClientGone: If the client hung up.
        """
        if self._stopping:
            call.close()
            return _NOTHING
        poll = _Poll(call, receive)
        self._open.add(poll)
        try:
            return await poll.result()
        finally:
            self._open.discard(poll)

    def stop(self) -> None:
        """Answer all that wait, and all that would."""
        self._stopping = True
        for poll in self._open:
            poll.end()


class _Poll:
    """One call, and the watch on its client."""

    def __init__(self, call: Coroutine[Any, Any, Result], receive: Receive) -> None:
        loop = asyncio.get_running_loop()
        self._call = loop.create_task(call)
        self._receive = receive
        self._gone = self._ended = False
        self._watch: asyncio.Task[None] | None = None
        self._timer = loop.call_later(_WATCH_AFTER, self._begin_to_watch)

    async def result(self) -> Result:
        try:
            return await self._call
        except asyncio.CancelledError:
            if self._gone:
                raise ClientGone from None
            if self._ended and self._call.cancelled():
                return _NOTHING
            raise
        finally:
            self._timer.cancel()
            if self._watch is not None:
                self._watch.cancel()

    def end(self) -> None:
        self._ended = True
        self._call.cancel()

    def _begin_to_watch(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._call.cancel()
