"""Looking through a queue that cannot be browsed: receive, look, hand back.

What is received is held until the sweep ends, since a queue may give again at once what it got back; then all of it is
ready at once. Held as a whole it keeps its order on a FIFO queue too, which is locked meanwhile: of each group no more
is seen than the broker gives at a time. A crash leaves what is held to its leases, which are short.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from types import TracebackType
from typing import Self

from redrive.broker import Broker, Return
from redrive.clock import Clock
from redrive.errors import BrokerError
from redrive.message import Delivery

LEASE = 30.0
"""Seconds for which a crash in the middle of a sweep hides messages at most."""
LONGEST = 15.0
"""Seconds after which a sweep receives no more."""
RENEWED_AFTER_MS = 7 * 24 * 3600 * 1000
"""Age at which a message is sent again, where the broker deletes old ones: half of the longest time that Amazon SQS
keeps one. Source: its quotas, "Message retention"."""
_MOST_HELD = 10_000
_SECOND_LOOK = 1.0


class Sweep:
    """One look through a queue: `async with` it, and turn its pages until there is none."""

    def __init__(self, broker: Broker, queue: str, clock: Clock) -> None:
        self._broker, self._queue, self._clock = broker, queue, clock
        self._held: dict[str, Delivery] = {}
        self._end = clock.monotonic() + LONGEST
        self.complete = False
        """Whether everything that is in the queue was seen, and nothing was in somebody else's hands."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held, self._held = list(self._held.values()), {}
        most = self._broker.capabilities.max_batch
        with contextlib.suppress(BrokerError):  # their leases end
            for start in range(0, len(held), most):
                await self._broker.settle([Return(delivery=one) for one in held[start : start + most]])

    async def page(self) -> list[Delivery]:
        """More of what is in the queue; empty when no more can be had now. The caller may `take` what is given.

        Raises:
            BrokerError: If the broker is away.
        """
        if len(self._held) >= _MOST_HELD or self._clock.monotonic() >= self._end:
            return []
        page = await self._receive(0.0)
        if not page and not await self._is_all():
            page = await self._receive(_SECOND_LOOK)  # a short poll may miss what is there
        return page

    def take(self, delivery: Delivery) -> None:
        """It is the caller's from now on: settle it."""
        self._held.pop(delivery.receipt, None)

    async def _receive(self, wait: float) -> list[Delivery]:
        limit = self._broker.capabilities.max_batch
        page = await self._broker.receive(self._queue, limit=limit, lease=LEASE, wait=wait)
        for one in page:  # without their bodies: they may be many
            self._held[one.receipt] = replace(one, message=replace(one.message, body=b""))
        return page

    async def _is_all(self) -> bool:
        depth = await self._broker.depth(self._queue)
        self.complete = not depth.ready and not depth.delayed and depth.in_flight <= len(self._held)
        return self.complete or not depth.ready
