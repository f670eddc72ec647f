"""The body of a request, read in full: up to a size, within a time, and within what all of them may take together."""

from __future__ import annotations

import asyncio

from redrive.sqs_api.calls import Refused
from redrive.sqs_api.polls import ClientGone, Receive

LARGEST = 4 * 1024 * 1024
"""Bytes of a request: a message of 1 MiB, each byte of which a client may write as three, and what is around it."""
WITHIN = 20.0
"""Seconds in which a body has to arrive."""
TOGETHER = 64 * 1024 * 1024
"""Bytes of all requests that are being read."""
_DRAINED = 32 * 1024 * 1024
"""Bytes of what is too large that are read all the same, so that its client comes to read the answer."""


class Bodies:
    """Reads bodies: whoever leaves many of them unfinished takes no more memory than `TOGETHER`."""

    def __init__(self) -> None:
        self._held = 0

    async def read(self, receive: Receive) -> bytes:
        """The body of a request.

        Raises:
            ClientGone: If the client hung up before its end.
            Refused: If it is too large or too slow, or too much is being read already.
        """
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(WITHIN):
                return await self._read(receive, parts)
        except TimeoutError:
            raise Refused("RequestTimeout", f"The body did not arrive within {WITHIN:g} seconds.") from None
        finally:
            self._held -= sum(map(len, parts))

    async def _read(self, receive: Receive, parts: list[bytes]) -> bytes:
        size, more = 0, True
        while more and size <= _DRAINED:
            event = await receive()
            if event["type"] != "http.request":
                raise ClientGone
            size, more = size + len(event["body"]), event["more_body"]
            if size <= LARGEST:
                self._held += len(event["body"])
                parts.append(event["body"])
            if self._held > TOGETHER:
                raise Refused("RequestThrottled", "Too many requests are being read at once; try again.")
        if size > LARGEST:
            raise Refused("RequestEntityTooLarge", f"A request may have {LARGEST} bytes.")
        return b"".join(parts)
