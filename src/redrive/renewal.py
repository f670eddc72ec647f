"""Parked messages that have waited for long: sent again under their ids, before the broker would delete them.

Only a dependency that is away for a week leaves any, and only a broker that shows nothing and keeps nothing for ever
needs it. A look receives what is parked and hands it back at once, but for what is old: that goes behind the others
of the same queue, as a message with a new retention. Send, then settle: a crash in between leaves two of one id.
On a FIFO queue it would lose its place: there an alarm is raised instead.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from redrive.broker import Broker, Forward
from redrive.clock import Clock
from redrive.message import Delivery
from redrive.sweep import RENEWED_AFTER_MS, Sweep

_log = logging.getLogger("redrive.healer")
_LOOK_EVERY = 6 * 3600.0
_FIRST_LOOK = 600.0
"""Seconds before the first look: who restarts often does not look each time."""
_GO_ON = 60.0
"""Seconds until the next look where one found old messages and did not see all."""


class Renewal:
    """Keeps parked messages from expiring."""

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._broker, self._clock = broker, clock
        self._due: dict[str, float] = {}

    async def step(self, parked: str) -> int:
        """Look through a parked queue if that is due; how many messages were sent again. A look takes up to 15 s.

        Raises:
            BrokerError: If the broker is away.
        """
        if self._broker.capabilities.browses:
            return 0
        now = self._clock.monotonic()
        if now < self._due.setdefault(parked, now + _FIRST_LOOK):
            return 0
        if not (await self._broker.depth(parked)).ready:
            self._due[parked] = now + _LOOK_EVERY
            return 0
        renewed, complete = await self._look_through(parked)
        self._due[parked] = now + (_GO_ON if renewed and not complete else _LOOK_EVERY)
        return renewed

    async def _look_through(self, parked: str) -> tuple[int, bool]:
        """How many were sent again, and whether every message was seen."""
        old_in_line = renewed = 0
        seen: set[str] = set()
        before_ms = self._clock.now_ms() - RENEWED_AFTER_MS
        async with Sweep(self._broker, parked, self._clock) as sweep:
            while page := await sweep.page():
                old = [one for one in page if one.message.id not in seen and _arrived_at_ms(one) <= before_ms]
                seen |= {one.message.id for one in page}  # what was sent again comes by once more
                old_in_line += sum(one.sequence is not None for one in old)
                renewed += await self._renew(sweep, [one for one in old if one.sequence is None])
        if old_in_line:
            _log.error(
                "%d messages of %s have waited for a week, and the broker deletes old ones: heal what they wait for, "
                "or bring them back by hand; sent again they would lose their places",
                old_in_line,
                parked,
            )
        return renewed, sweep.complete

    async def _renew(self, sweep: Sweep, old: list[Delivery]) -> int:
        if not old:
            return 0
        for one in old:
            sweep.take(one)
        errors = await self._broker.settle([_again(one) for one in old])
        failed = [error for error in errors if error is not None]
        if failed:
            _log.error("%d messages of %s could not be sent again: %s", len(failed), old[0].queue, failed[0])
        return len(old) - len(failed)


def _again(delivery: Delivery) -> Forward:
    notes = delivery.message.notes
    message = replace(delivery.message, notes=notes.forwarded(notes.key))  # still parked: its key is still held
    return Forward(delivery=delivery, queue=delivery.queue, message=message)


def _arrived_at_ms(delivery: Delivery) -> int:
    """When it came into its queue; where the broker does not tell, when it was parked."""
    if delivery.arrived_at_ms is not None:
        return delivery.arrived_at_ms
    record = delivery.message.notes.failure
    return delivery.message.sent_at_ms if record is None else record.last.at_ms
