"""The dependency of the outage bench: a small HTTP server on loopback that is dead at first and heals by itself.

    python -m outages.unwell --dead 60 --capacity 50 [--hangs 0.05]

    POST /orders/17   handles an order: 503 after `hangs` seconds while dead, then 200, `capacity` a second at most
    GET  /canary      answers as the above, and handles nothing
    GET  /facts       how it stands, as JSON; this and the next are no calls
    GET  /log         all that it saw

The outage begins with the first call, so that nobody wastes a part of it starting up. Once it is well it does one thing
at a time, each in 1/capacity seconds; whoever calls more often waits in line, and is not refused.

It prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any


class Unwell:
    """The server's state. One loop."""

    def __init__(self, *, dead: float, capacity: float, hangs: float) -> None:
        self._dead, self._each, self._hangs = dead, 1.0 / capacity, hangs
        self._free_at = 0.0
        """When whoever comes next has his turn, on the monotonic clock."""
        self._began: float | None = None
        self.calls: list[tuple[float, str, int]] = []
        """When each call came, in seconds since the first one, what it asked for, and the status of its answer."""
        self.handled: list[tuple[float, int]] = []
        """When each order was handled, and which."""

    async def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """The status and the body for one request."""
        if path == "/facts":
            return 200, self.facts()
        if path == "/log":
            return 200, {"calls": self.calls, "handled": self.handled}
        if self._began is None:
            self._began = time.monotonic()
        at = time.monotonic() - self._began
        status = 503 if at < self._dead else 200
        self.calls.append((at, path, status))
        if status != 200:  # noqa: PLR2004 - HTTP's own
            await asyncio.sleep(self._hangs)
            return status, {"error": "out of order"}
        self._free_at = max(self._free_at, time.monotonic()) + self._each
        await asyncio.sleep(self._free_at - time.monotonic())
        if path != "/canary":
            self.handled.append((time.monotonic() - self._began, int(path.rpartition("/")[2])))
        return status, {}

    def facts(self) -> dict[str, Any]:
        """How it stands; all times are seconds since the first call."""
        return {
            "now": 0.0 if self._began is None else time.monotonic() - self._began,
            "last_call": self.calls[-1][0] if self.calls else 0.0,
            "handled": len({number for _, number in self.handled}),
        }


async def _serve(unwell: Unwell, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, kept open for as many requests as its client likes."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            await reader.readexactly(int(headers.get("content-length", "0")))
            status, document = await unwell.answer(lines[0].split()[1])
            body = json.dumps(document).encode()
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # its client has gone
    finally:
        writer.close()


async def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dead", type=float, required=True, help="seconds of the outage")
    parser.add_argument("--capacity", type=float, required=True, help="calls a second that it can answer when well")
    parser.add_argument("--hangs", type=float, default=0.05, help="seconds that a failing call takes")
    options = parser.parse_args()
    unwell = Unwell(dead=options.dead, capacity=options.capacity, hangs=options.hangs)
    server = await asyncio.start_server(lambda reader, writer: _serve(unwell, reader, writer), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
