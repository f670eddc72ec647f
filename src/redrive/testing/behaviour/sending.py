# ruff: noqa: S101, PLR2004 - tests: assert is how they speak, and their numbers are the test
"""Sending: what was put in is what comes out."""

from __future__ import annotations

from redrive.broker import Broker, Outgoing
from redrive.errors import LimitExceeded
from redrive.message import MAX_BODY
from redrive.testing.behaviour.ground import NOTED, Ground, message, new_queue, promises, send


class Sending(Ground):
    """How messages enter a standard queue."""

    async def test_a_message_arrives_as_it_was_sent(self, broker: Broker) -> None:
        """Id, body, attributes, group, original send time and notes are those of the sender."""
        queue = await new_queue(broker)
        sent = message(b'{"n": 1}', attributes={"trace": "abc"}, group="table 4")
        await send(broker, queue, sent)
        (delivery,) = await self._take(broker, queue)
        assert delivery.message == sent
        assert delivery.queue == queue
        assert delivery.receive_count == 1

    async def test_notes_travel_with_a_sent_message(self, broker: Broker) -> None:
        """A message that is sent with notes arrives with them."""
        promises(broker, "annotates_retry")
        queue = await new_queue(broker)
        await send(broker, queue, message(notes=NOTED))
        (delivery,) = await self._take(broker, queue)
        assert delivery.message.notes == NOTED

    async def test_bodies_of_every_kind_arrive_unchanged(self, broker: Broker) -> None:
        """Empty, NUL, UTF-8, no text at all, and the largest there may be."""
        queue = await new_queue(broker)
        bodies = [b"", b"\0", b"a\0b", "☕ naïve 𝄞 \u2028".encode(), bytes(range(256)), b"x" * MAX_BODY]
        sent = {one.id: one for one in map(message, bodies)}
        for one in sent.values():
            await send(broker, queue, one)
        received = await self._take_all(broker, queue, len(bodies))
        assert {one.message.id: one.message.body for one in received} == {one.id: one.body for one in sent.values()}

    async def test_attributes_with_odd_characters_arrive_unchanged(self, broker: Broker) -> None:
        """Quotes, controls, other scripts, nothing at all."""
        queue = await new_queue(broker)
        values = ['"', "'", "\\", "a\nb\tc", "☕ 𝄞", "", " ", "{}", "null", "%s ?1 :x", "\u2028", "x" * 1_000]
        sent = message(attributes={f"name.{number}-x_y": value for number, value in enumerate(values)})
        await send(broker, queue, sent)
        (delivery,) = await self._take(broker, queue)
        assert delivery.message.attributes == sent.attributes

    async def test_types_of_attributes_arrive_unchanged(self, broker: Broker) -> None:
        """Numbers, bytes in base64, and labels; what has no type is a plain string."""
        queue = await new_queue(broker)
        attributes = {"n": "-12.50", "b": "AAH/", "s": "plain", "l": "{}"}
        types = {"n": "Number", "b": "Binary.png", "l": "String.json"}
        sent = [message(b"typed", attributes=attributes, attribute_types=types), message(attributes=attributes)]
        await send(broker, queue, *sent)
        received = {one.message.id: one.message for one in await self._take_all(broker, queue, 2)}
        assert received == {one.id: one for one in sent}

    async def test_a_batch_arrives_whole(self, broker: Broker) -> None:
        """Everything in one call arrives, once."""
        queue = await new_queue(broker)
        sent = [message(b"%d" % number) for number in range(min(237, broker.capabilities.max_batch))]
        await send(broker, queue, *sent)
        received = await self._take_all(broker, queue, len(sent))
        assert {one.message.id: one.message for one in received} == {one.id: one for one in sent}
        assert await self._take(broker, queue) == []

    async def test_what_is_out_of_limits_is_refused_singly(self, broker: Broker) -> None:
        """A body too large, delays that cannot be and a group that is no text are answered so; the others are sent."""
        queue = await new_queue(broker)
        good, last = message(b"good"), message(b"last")
        results = await broker.send(
            queue,
            [
                Outgoing(message=good),
                Outgoing(message=message(b"x" * (MAX_BODY + 1))),
                Outgoing(message=message(), delay=broker.capabilities.max_delay + 1),
                Outgoing(message=message(), delay=-1.0),
                Outgoing(message=message(group="\ud800")),
                Outgoing(message=last),
            ],
        )
        assert [type(one) for one in results] == [type(None), *[LimitExceeded] * 4, type(None)]
        assert str(MAX_BODY) in str(results[1])
        received = await self._take_all(broker, queue, 2)
        assert {one.message.id for one in received} == {good.id, last.id}
        assert (await broker.depth(queue)).total == 2

    async def test_a_delayed_message_waits(self, broker: Broker) -> None:
        """It is received when its delay is over, not before; the others do not wait for it."""
        queue = await new_queue(broker)
        late, prompt = message(), message()
        await send(broker, queue, late, delay=self.lease)
        await send(broker, queue, prompt)
        assert [one.message.id for one in await self._take(broker, queue)] == [prompt.id]
        await self.let_pass(self.lease * 0.5)
        assert await self._take(broker, queue) == []
        await self.let_pass(self.lease * 0.6)
        assert late.id in [one.message.id for one in await self._take(broker, queue)]
