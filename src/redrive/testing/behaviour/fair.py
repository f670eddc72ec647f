# ruff: noqa: S101 - tests: assert is how they speak
"""Fairness on standard queues: the messages of one group do not make those of another wait.

Source: Amazon SQS developer guide, "Amazon SQS fair queues".
"""

from __future__ import annotations

from redrive.broker import Acknowledge, Broker
from redrive.message import Delivery
from redrive.testing.behaviour.ground import Ground, message, new_queue, promises, receive, send, settle

_BURST = 40
_FEW = 8
"""How many of a burst may be received before the others have their turn."""


class Fair(Ground):
    """Who comes next, when one sends much more than the others."""

    async def test_a_burst_of_one_group_does_not_make_another_wait(self, broker: Broker) -> None:
        """What another sends behind the burst is among the next few that are received."""
        promises(broker, "ordered")  # whoever knows groups
        queue = await new_queue(broker)
        await send(broker, queue, *(message(b"%d" % number, group="noisy") for number in range(_BURST)))
        assert {one.message.group for one in await self._next(broker, queue, 4)} == {"noisy"}
        await send(broker, queue, message(b"quiet", group="quiet"), message(b"silent", group="silent"))
        following = [one.message.group for one in await self._next(broker, queue, _FEW)]
        assert {"quiet", "silent"} <= set(following)
        assert following.count("noisy") == len(following) - 2  # nobody has to wait for nothing

    async def test_groups_take_turns(self, broker: Broker) -> None:
        """Two bursts, one behind the other, are received side by side."""
        promises(broker, "ordered")
        queue = await new_queue(broker)
        for group in ("first", "second"):
            await send(broker, queue, *(message(b"%d" % number, group=group) for number in range(_BURST)))
        received = [one.message.group for one in await self._next(broker, queue, _BURST)]
        assert abs(received.count("first") - received.count("second")) <= _FEW

    async def test_who_was_away_gets_no_arrears(self, broker: Broker) -> None:
        """One that comes late has its turn like the others, and not all that it missed at once."""
        promises(broker, "ordered")
        queue = await new_queue(broker)
        await send(broker, queue, *(message(b"%d" % number, group="steady") for number in range(_BURST)))
        await self._next(broker, queue, _BURST // 2)
        await send(broker, queue, *(message(b"%d" % number, group="late") for number in range(_BURST)))
        received = [one.message.group for one in await self._next(broker, queue, _BURST // 2)]
        assert received.count("steady") >= len(received) // 2 - _FEW

    async def test_everything_is_received_in_the_end(self, broker: Broker) -> None:
        """Fairness is a matter of order: nothing is left out, within groups or without one."""
        promises(broker, "ordered")
        queue = await new_queue(broker)
        sent = [message(b"%d" % number, group=[None, "a", "b", "b"][number % 4]) for number in range(_BURST)]
        await send(broker, queue, *sent)
        received = await self._next(broker, queue, _BURST)
        assert {one.message.id for one in received} == {one.id for one in sent}
        assert await self._take(broker, queue) == []

    async def _next(self, broker: Broker, queue: str, count: int) -> list[Delivery]:
        """The next ones, received one by one and acknowledged."""
        taken: list[Delivery] = []
        for _ in range(count):
            one = await receive(broker, queue, limit=1, lease=self.lease)
            await settle(broker, *(Acknowledge(delivery=delivery) for delivery in one))
            taken += one
        return taken
