"""A queue that may be received from and not settled: nothing more is received until settling is allowed again.

Credentials that may receive but not delete would let each message be handled again and again, until it has been
received too often. What was handled meanwhile is kept and asked for again every so often: once the broker does it,
that message leaves, and receiving goes on. Nothing is lost: a worker that stops before leaves it to its lease.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeGuard

from redrive.broker import Acknowledge, Forward, Results, Return, Settlement
from redrive.errors import BrokerError, BrokerUnavailable, NotPermitted, OutcomeUnknown
from redrive.message import Delivery
from redrive.runtime import Runtime

_log = logging.getLogger("redrive.worker")
ASK_EVERY = 30.0
"""Seconds between two looks at whether settling is allowed by now."""


class Standstill:
    """Whether one queue's consumer stands still, because what it receives cannot be settled."""

    def __init__(self, runtime: Runtime, queue: str) -> None:
        self._runtime, self._queue = runtime, queue
        self._left: list[Settlement] = []
        self._asks_at = 0.0
        self.is_on = False
        """Whether nothing shall be received now."""

    def keep(self, settlements: Sequence[Settlement], results: Results) -> bool:
        """Keep what may not be settled, if anything; whether a standstill begins here, which is logged once."""
        refused = [(one, why) for one, why in zip(settlements, results, strict=True) if self.has(why)]
        self._left += [_left_of(one, why) for one, why in refused]
        if not refused or self.is_on:
            return False
        self.is_on = True
        self._wait()
        _log.error(
            "nothing more is received from %s, since what is handled cannot be settled: %s; tried again every %g s",
            self._queue,
            refused[0][1],
            ASK_EVERY,
        )
        return True

    def has(self, error: BrokerError | None) -> TypeGuard[NotPermitted]:
        """Whether an error makes a settlement wait here; not one about the queue that it is forwarded to."""
        return isinstance(error, NotPermitted) and error.queue == self._queue

    def take(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Take what is kept here and was received once more, on a receive that was under way; the others."""
        others = []
        for delivery in deliveries:
            known = [one for one in self._left if one.delivery.message == delivery.message]
            self._left += [replace(one, delivery=delivery) for one in known]  # by its latest receipt it can be settled
            if not known:
                others.append(delivery)
        return others

    def pause(self) -> float:
        """Seconds until it is time to ask; 0 and less: it is."""
        return self._asks_at - self._runtime.clock.monotonic()

    async def ask(self) -> None:
        """Settle what is left; if all of it can be, the standstill is over.

        Raises:
            BrokerError: If the broker is away; everything is kept.
        """
        most = self._runtime.broker.capabilities.max_batch
        while self._left:
            asked = self._left[:most]
            results = await self._settled(asked)
            again = [one for one, why in zip(asked, results, strict=True) if _may_pass(why)]
            self._left[: len(asked)] = again
            if again:
                self._wait()
                return
        self.is_on = False
        _log.warning("messages of %s can be settled again; receiving goes on", self._queue)

    async def _settled(self, settlements: Sequence[Settlement]) -> Results:
        try:
            return await self._runtime.broker.settle(settlements)
        except NotPermitted as error:
            return [error] * len(settlements)

    def _wait(self) -> None:
        self._asks_at = self._runtime.clock.monotonic() + ASK_EVERY


def _may_pass(error: BrokerError | None) -> bool:
    return isinstance(error, (BrokerUnavailable, OutcomeUnknown))


def _left_of(settlement: Settlement, error: NotPermitted) -> Settlement:
    """What is still to be done: a forward that could not be deleted was sent, and must not be sent again."""
    if not isinstance(settlement, Forward):
        return settlement
    if error.removing:
        return Acknowledge(delivery=settlement.delivery)
    return Return(delivery=settlement.delivery)
