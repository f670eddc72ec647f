# ruff: noqa: S101, PLR2004 - tests: assert is how they speak, and their numbers are the test
"""Browsing: messages are looked at and not received."""

from __future__ import annotations

from redrive.broker import Broker
from redrive.testing.behaviour.ground import Ground, message, new_queue, promises, send


class Looking(Ground):
    """How messages are seen."""

    async def test_browsing_counts_no_receive(self, broker: Broker) -> None:
        """Messages are looked at as they are, and stay ready."""
        promises(broker, "browses")
        queue = await new_queue(broker)
        sent = message(b"body", attributes={"a": "b"}, group="g")
        await send(broker, queue, sent)
        for _ in range(2):
            page = await broker.browse(queue)
            assert (page.messages, page.cursor) == ([sent], None)
        (taken,) = await self._take(broker, queue)
        assert taken.receive_count == 1

    async def test_browsing_turns_pages(self, broker: Broker) -> None:
        """Page after page shows each message once, oldest first, and the last page says so."""
        promises(broker, "browses")
        queue = await new_queue(broker)
        sent = [message(b"%d" % number) for number in range(7)]
        for one in sent:
            await send(broker, queue, one)
        seen: list[str] = []
        cursor = None
        for _ in range(4):
            page = await broker.browse(queue, cursor=cursor, limit=3)
            assert len(page.messages) <= 3
            seen += [one.id for one in page.messages]
            cursor = page.cursor
            if cursor is None:
                break
        assert cursor is None
        assert seen == [one.id for one in sent]
