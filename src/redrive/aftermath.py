"""After a worker's death: what was running becomes suspect, and what was held goes back at once.

In this order, so that nothing that may have killed a worker is received again before it is a suspect. A crash of the
supervisor in between leaves messages to their leases.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Collection, Sequence

from redrive.board import Board, Holding
from redrive.broker import Broker, Return
from redrive.clock import Clock, SteadyClock, SystemClock
from redrive.connections import connect
from redrive.errors import VersionConflict
from redrive.message import Delivery, Message
from redrive.store import ABSENT, SUSPECTS, Store

_log = logging.getLogger("redrive.supervisor")
_SUSPECT_FOR_MS = 24 * 3600 * 1000


async def accuse(address: str, running: Sequence[str]) -> None:
    """Write down what runs (`queue/message id`): from now on it runs alone. Waits for the broker's file."""
    await _do(address, running, [], running)


async def clean_up(board: Board, *, crashed: bool) -> None:
    """A child is gone, and can touch nothing any more: accuse what ran if it crashed, and hand back what it held."""
    running, held = board.running(), board.held()
    if held or (running and crashed):
        await _do(board.facts()["address"], running if crashed else [], held, running)


async def _do(address: str, suspects: Sequence[str], held: Sequence[Holding], running: Collection[str]) -> None:
    clock = SteadyClock(SystemClock())
    try:
        async with _connected(address, clock) as (broker, store):
            await _accuse(store, clock, suspects)
            await _hand_back(broker, held, running)
    except Exception as error:  # noqa: BLE001 - an outermost loop: the supervisor goes on, the leases run out
        _log.error("suspects cannot be written down: %s", error)


@contextlib.asynccontextmanager
async def _connected(address: str, clock: Clock) -> AsyncIterator[tuple[Broker, Store]]:
    broker, store = await asyncio.to_thread(connect, address, clock)
    try:
        yield broker, store
    finally:
        await broker.close()
        await store.close()


async def _accuse(store: Store, clock: Clock, suspects: Sequence[str]) -> None:
    for key in suspects:
        value = json.dumps({"v": 1, "at_ms": clock.now_ms()}).encode()
        with contextlib.suppress(VersionConflict):
            await store.put(SUSPECTS, key, value, if_version=ABSENT, expires_at_ms=clock.now_ms() + _SUSPECT_FOR_MS)


async def _hand_back(broker: Broker, held: Sequence[Holding], running: Collection[str]) -> None:
    """Ready now; a receive that led to nothing is not counted. What was settled already has a stale receipt."""
    returns = [
        Return(delivery=_delivery(one), uncounted=f"{one.queue}/{one.message_id}" not in running) for one in held
    ]
    most = broker.capabilities.max_batch
    for start in range(0, len(returns), most):
        await broker.settle(returns[start : start + most])


def _delivery(one: Holding) -> Delivery:
    """As much of a delivery as a hand-back needs; its content stays with the broker."""
    message = Message(id=one.message_id, body=b"", sent_at_ms=0, group=one.group)
    return Delivery(message=message, queue=one.queue, receipt=one.receipt, receive_count=1)
