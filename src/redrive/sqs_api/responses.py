"""An answer on its way out."""

from __future__ import annotations

from typing import NamedTuple

Headers = list[tuple[bytes, bytes]]


class Response(NamedTuple):
    """Status, headers and body of an HTTP response."""

    status: int
    headers: Headers
    body: bytes


def response(status: int, kind: bytes, body: bytes, *more: tuple[bytes, bytes]) -> Response:
    """With its type and length."""
    return Response(status, [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *more], body)


def visible(text: str) -> bytes:
    """Text that may stand in a header: what HTTP cannot say there becomes a question mark."""
    return "".join(one if " " <= one <= "~" else "?" for one in text).encode("ascii")
