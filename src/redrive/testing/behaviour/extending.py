# ruff: noqa: S101 - tests: assert is how they speak, and their numbers are the test
"""Extending: a lease that holds longer."""

from __future__ import annotations

import pytest

from redrive.broker import LONGEST_LEASE, Acknowledge, Broker
from redrive.errors import LimitExceeded, StaleReceipt
from redrive.testing.behaviour.ground import Ground, message, new_queue, send, settle


class Extending(Ground):
    """How leases are kept."""

    async def test_an_extended_lease_holds_longer(self, broker: Broker) -> None:
        """It ends the new time after the call; the receipt stays good."""
        queue = await new_queue(broker)
        await send(broker, queue, message(), message())
        (extended, plain) = await self._take_all(broker, queue, 2)
        await self.let_pass(self.lease * 0.5)
        assert await broker.extend([extended], lease=self.lease) == [None]
        await self.let_pass(self.lease * 0.7)
        assert [one.message.id for one in await self._take(broker, queue)] == [plain.message.id]
        assert await broker.settle([Acknowledge(delivery=extended)]) == [None]

    async def test_extensions_succeed_or_fail_one_by_one(self, broker: Broker) -> None:
        """A settled neighbour is answered as stale; the others are extended."""
        queue = await new_queue(broker)
        await send(broker, queue, message(), message(), message())
        first, second, third = await self._take_all(broker, queue, 3)
        await settle(broker, Acknowledge(delivery=second))
        results = await broker.extend([first, second, third], lease=self.lease * 3)
        assert [type(one) for one in results] == [type(None), StaleReceipt, type(None)]
        await self.let_pass(self.lease * 1.5)
        assert await self._take(broker, queue) == []

    async def test_an_impossible_extension_is_refused(self, broker: Broker) -> None:
        """An error; the lease stays as it was."""
        queue = await new_queue(broker)
        await send(broker, queue, message())
        (taken,) = await self._take(broker, queue)
        for lease in (0.0, LONGEST_LEASE + 1):
            with pytest.raises(LimitExceeded):
                await broker.extend([taken], lease=lease)
        assert await self._take(broker, queue) == []
        assert await broker.settle([Acknowledge(delivery=taken)]) == [None]
