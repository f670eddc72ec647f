"""The body of a request, read in full: up to a size, and within a time."""

from __future__ import annotations

import asyncio

from redrive.sqs_api.calls import Refused
from redrive.sqs_api.polls import ClientGone, Receive

LARGEST = 4 * 1024 * 1024
"""Bytes of a request: a message of 1 MiB, each byte of which a client may write as three, and what is around it."""
WITHIN = 20.0
"""Seconds in which a body has to arrive."""
_DRAINED = 32 * 1024 * 1024
"""Bytes of what is too large that are read all the same, so that its client comes to read the answer."""


async def body(receive: Receive) -> bytes:
    """The body of a request.

    Raises:
        ClientGone: If the client hung up before its end.
        Refused: If it is too large or too slow.
    """
    try:
        async with asyncio.timeout(WITHIN):
            return await _read(receive)
    except TimeoutError:
        raise Refused("RequestTimeout", f"The body did not arrive within {WITHIN:g} seconds.") from None


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more and size <= _DRAINED:
        event = await receive()
        if event["type"] != "http.request":
            raise ClientGone
        size, more = size + len(event["body"]), event["more_body"]
        if size <= LARGEST:
            parts.append(event["body"])
    if size > LARGEST:
        raise Refused("RequestEntityTooLarge", f"A request may have {LARGEST} bytes.")
    return b"".join(parts)
