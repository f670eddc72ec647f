# ruff: noqa: S101, PLR2004 - tests: assert is how they speak, and their numbers are the test
"""FIFO queues: what is sent twice within five minutes is there once.

Source: Amazon SQS, "Exactly-once processing in Amazon SQS": the deduplication interval is 5 minutes.
"""

from __future__ import annotations

from redrive.broker import Acknowledge, Broker, Outgoing
from redrive.errors import LimitExceeded
from redrive.testing.behaviour.ground import Ground, message, new_queue, promises, send_once, settle

FIVE_MINUTES = 300.0


class Deduplicated(Ground):
    """When a message is a duplicate, and what its sender is told."""

    async def test_the_same_id_is_sent_once(self, broker: Broker) -> None:
        """The second sender is told the id and the sequence of the first one; nothing is sent this time."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        first, second = message(b"first", group="a"), message(b"second", group="b")
        (sent,) = await send_once(broker, queue, (first, "key"))
        (again,) = await send_once(broker, queue, (second, "key"))
        assert (sent.id, sent.duplicate) == (first.id, False)
        assert (again.id, again.sequence, again.duplicate) == (first.id, sent.sequence, True)
        assert [one.message for one in await self._take(broker, queue)] == [first]
        assert (await broker.depth(queue)).total == 1

    async def test_a_duplicate_in_the_same_call_is_one_too(self, broker: Broker) -> None:
        """Its neighbours are sent."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        messages = [message(b"%d" % number, group=f"g{number}") for number in range(3)]
        sent = await send_once(broker, queue, *zip(messages, ("one", "one", "two"), strict=True))
        assert [one.duplicate for one in sent] == [False, True, False]
        assert {one.message.id for one in await self._take_all(broker, queue, 2)} == {messages[0].id, messages[2].id}

    async def test_a_handled_message_is_still_remembered(self, broker: Broker) -> None:
        """That it is gone does not make the next one with its id another message."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        await send_once(broker, queue, (message(group="a"), "key"))
        (taken,) = await self._take(broker, queue)
        await settle(broker, Acknowledge(delivery=taken))
        (again,) = await send_once(broker, queue, (message(group="a"), "key"))
        assert (again.id, again.duplicate) == (taken.message.id, True)
        assert await self._take(broker, queue) == []

    async def test_after_five_minutes_an_id_is_new(self, broker: Broker) -> None:
        """Counted from the first send: a duplicate meanwhile does not make it longer."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        await send_once(broker, queue, (message(group="a"), "key"))
        await self._let_pass_long(FIVE_MINUTES - 2)
        (early,) = await send_once(broker, queue, (message(group="a"), "key"))
        assert early.duplicate
        await self._let_pass_long(3)
        late = message(group="a")
        (sent,) = await send_once(broker, queue, (late, "key"))
        assert (sent.id, sent.duplicate) == (late.id, False)
        assert (await broker.depth(queue)).total == 2

    async def test_the_same_content_is_sent_once(self, broker: Broker) -> None:
        """On a queue that is declared so, the body stands for the id, attributes or not."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True, content_deduplication=True)
        first = message(b"same", group="a", attributes={"n": "1"})
        (sent,) = await send_once(broker, queue, (first, None))
        (again,) = await send_once(broker, queue, (message(b"same", group="b"), None))
        (other,) = await send_once(broker, queue, (message(b"other", group="a"), None))
        assert (again.id, again.sequence, again.duplicate) == (first.id, sent.sequence, True)
        assert not other.duplicate
        assert (await broker.depth(queue)).total == 2

    async def test_an_id_goes_before_content(self, broker: Broker) -> None:
        """The same body under two ids is sent twice, also on a queue that looks at content."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True, content_deduplication=True)
        body = message(b"same", group="a"), message(b"same", group="b")
        sent = await send_once(broker, queue, (body[0], "one"), (body[1], "two"))
        assert [one.duplicate for one in sent] == [False, False]
        assert (await broker.depth(queue)).total == 2

    async def test_without_id_or_content_a_message_is_refused(self, broker: Broker) -> None:
        """Singly; the error names what is missing."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        refused, sent = await broker.send(
            queue,
            [
                Outgoing(message=message(group="a")),
                Outgoing(message=message(group="a"), deduplication_id="key"),
            ],
        )
        assert isinstance(refused, LimitExceeded)
        assert "deduplication" in str(refused)
        assert not isinstance(sent, LimitExceeded)
        assert (await broker.depth(queue)).total == 1

    async def test_another_queue_knows_nothing_of_it(self, broker: Broker) -> None:
        """What is a duplicate is each queue's own business; on a standard queue nothing is."""
        promises(broker, "ordered")
        queues = [await new_queue(broker, fifo=True), await new_queue(broker, fifo=True)]
        for queue in queues:
            (sent,) = await send_once(broker, queue, (message(group="a"), "key"))
            assert not sent.duplicate
        plain = await new_queue(broker)
        twice = [Outgoing(message=message(), deduplication_id="key") for _ in range(2)]
        assert await broker.send(plain, twice) == [None, None]
        assert (await broker.depth(plain)).total == 2

    async def test_a_refused_message_is_not_remembered(self, broker: Broker) -> None:
        """Who sends it anew, as it should be, has sent it."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        (refused,) = await broker.send(queue, [Outgoing(message=message(), deduplication_id="key")])
        assert isinstance(refused, LimitExceeded)
        (sent,) = await send_once(broker, queue, (message(group="a"), "key"))
        assert not sent.duplicate

    async def test_duplicates_are_known_after_a_restart(self, broker: Broker) -> None:
        """And the answer names the first one then, too."""
        promises(broker, "ordered")
        queue = await new_queue(broker, fifo=True)
        (sent,) = await send_once(broker, queue, (message(group="a"), "key"))
        again = await self.reopened(broker)
        (duplicate,) = await send_once(again, queue, (message(group="a"), "key"))
        assert (duplicate.id, duplicate.sequence, duplicate.duplicate) == (sent.id, sent.sequence, True)
        (fresh,) = await send_once(again, queue, (message(group="a"), "another"))
        assert fresh.sequence > sent.sequence
