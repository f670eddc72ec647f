"""One client's connection: uvicorn's, with limits on a head that does not end, and a word to all who wait for it.

uvicorn reads on until the head of a request is complete, however long that takes and however much it is; and of
several requests on their way it tells only the last that the client has gone.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

LARGEST_HEAD = 64 * 1024
"""Bytes of a request before its body, as far as they come in pieces; SQS has no request near it."""
HEAD_WITHIN = 20.0
"""Seconds in which the head of a request has to arrive, from the connection's start or the request's first byte."""


class Connection(HttpToolsProtocol):
    """The protocol that the server makes for each connection."""

    _head_since: float | None = None
    """When the loop's clock saw the head begin; None while no head is incomplete."""
    _head_size = 0
    _cycles: tuple[RequestResponseCycle, ...] = ()
    """The requests that were not answered when the last one came, and that one."""

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head_since = self.loop.time()

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_since, self._head_size = self.loop.time(), 0

    @override
    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head_since = None
        self._cycles = (*(one for one in self._cycles if not one.response_complete), self.cycle)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for cycle in self._cycles:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_since is not None:
            self._head_size += len(data)
            if self._head_size > LARGEST_HEAD and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

    def end_if_slow(self) -> None:
        """Hang up on a client that does not come to the end of a head."""
        if self._head_since is not None and self.loop.time() > self._head_since + HEAD_WITHIN:
            self.transport.close()
