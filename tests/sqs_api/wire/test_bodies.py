"""What unfinished requests may take together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redrive.sqs_api import bodies
from redrive.sqs_api.bodies import LARGEST, Bodies
from redrive.sqs_api.calls import Refused


class Sender:
    """A client that sends a part of its body, and the rest when it is told to."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.rest = asyncio.Event()
        self._began = False

    async def receive(self) -> dict[str, Any]:
        if not self._began:
            self._began = True
            return {"type": "http.request", "body": b"x" * self._size, "more_body": True}
        await self.rest.wait()
        return {"type": "http.request", "body": b"", "more_body": False}


async def test_many_unfinished_bodies_take_no_more_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is refused, and read again once others have ended."""
    monkeypatch.setattr(bodies, "TOGETHER", 2 * LARGEST)
    reading = Bodies()
    first, second, third, fourth = (Sender(LARGEST) for _ in range(4))
    held = [asyncio.ensure_future(reading.read(one.receive)) for one in (first, second)]
    await asyncio.sleep(0)
    with pytest.raises(Refused, match="RequestThrottled"):
        await reading.read(third.receive)
    for one in (first, second, fourth):
        one.rest.set()
    assert [len(body) for body in await asyncio.gather(*held)] == [LARGEST, LARGEST]
    assert len(await reading.read(fourth.receive)) == LARGEST
