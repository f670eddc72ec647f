"""A worker child's pulse: what its board says of it while it runs.

Three things, none of which waits for another: the loop turns; the broker answers, asked if nothing else did; and every
turn ends. A turn that outlives its time and cannot be cancelled takes its worker down, and is the only suspect.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Collection, Sequence
from typing import Any

from redrive.board import Board
from redrive.broker import Broker
from redrive.consumer import Consumer
from redrive.errors import BrokerError

_log = logging.getLogger("redrive.worker")
_BEAT_EVERY = 1.0
_ASK_EVERY = 5.0
_ASK_AFTER = 10.0
_DEAF = 70
"""Exit code of a worker with a turn that does not end; it says so to nobody, so that it counts as a crash."""


class Pulse:
    """Beats until it is cancelled."""

    def __init__(self, board: Board, broker: Broker, consumers: Sequence[Consumer[Any]]) -> None:
        self._board, self._broker = board, broker
        self._patience = {one.queue: longest_turn(one) for one in consumers}
        self._overdue: set[int] = set()
        """At the last beat. A process that was stopped for long and wakes gives its turns one beat to end."""

    async def run(self) -> None:
        """Beat."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            tasks.create_task(self._ask())

    async def _beat(self) -> None:
        while True:
            now = time.monotonic()
            self._board.beat(now)
            overdue = set(self._board.overdue(self._patience, now))
            if still := overdue & self._overdue:
                self._give_up(still)
            self._overdue = overdue
            await asyncio.sleep(_BEAT_EVERY)

    async def _ask(self) -> None:
        """A worker whose queues are paused, or whose lanes are all busy, has nothing to ask of its broker for long."""
        while True:
            if time.monotonic() - self._board.last_answer() > _ASK_AFTER:
                try:
                    await self._broker.queues()
                except BrokerError:
                    pass  # what this means, others say
                except Exception:  # noqa: BLE001 - an outermost loop: logged and survived
                    _log.exception("asking the broker raised")
            await asyncio.sleep(_ASK_EVERY)

    def _give_up(self, slots: Collection[int]) -> None:
        self._board.blame(slots)
        running = ", ".join(self._board.running())
        _log.error("a handler outlived its timeout and cannot be cancelled; this worker is replaced: %s", running)
        sys.stderr.flush()
        os._exit(_DEAF)  # a clean end would wait for it for ever


def longest_turn(consumer: Consumer[Any]) -> float:
    """Seconds after which a turn cannot end by itself any more: its handlers' time, and a lease for what is written."""
    return consumer.timeout * (2 if consumer.degraded_handlers else 1) + consumer.lease
