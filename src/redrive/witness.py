"""The broker as a worker child sees it: what it holds and when it was answered stands on the board.

So the supervisor can hand back what a dead child held, and say whether a living one reaches its broker.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from redrive.board import Board, Holding
from redrive.broker import Broker, Results, Settlement
from redrive.errors import BrokerError, BrokerUnavailable, OutcomeUnknown, StaleReceipt
from redrive.message import Delivery
from redrive.relay import Relay

T = TypeVar("T")


class Witness(Relay):
    """Writes down what passes; changes nothing."""

    def __init__(self, broker: Broker, board: Board) -> None:
        super().__init__(broker)
        self._board = board

    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Sequence[str] | None = None
    ) -> list[Delivery]:
        """Take messages under a lease: from now on they are held."""
        deliveries = await super().receive(queue, limit=limit, lease=lease, wait=wait, ids=ids)
        for one in deliveries:
            self._board.hold(Holding(one.queue, one.message.id, one.message.group, one.receipt))
        return deliveries

    async def settle(self, settlements: Sequence[Settlement]) -> Results:
        """Settle: what is settled, or not ours any more, is not held."""
        results = await super().settle(settlements)
        for one, error in zip(settlements, results, strict=True):
            if error is None or isinstance(error, StaleReceipt):
                self._board.let_go(one.delivery.receipt)
        return results

    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Results:
        """Extend: what cannot be is not held."""
        results = await super().extend(deliveries, lease=lease)
        for one, error in zip(deliveries, results, strict=True):
            if isinstance(error, StaleReceipt):
                self._board.let_go(one.receipt)
        return results

    async def _pass(self, call: str, work: Callable[[], Awaitable[T]]) -> T:
        try:
            answer = await super()._pass(call, work)
        except (BrokerUnavailable, OutcomeUnknown):
            raise
        except BrokerError:  # a refusal is an answer too
            self._board.answered(time.monotonic())
            raise
        self._board.answered(time.monotonic())
        return answer
