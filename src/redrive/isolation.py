"""Suspects: messages that were running when a worker died run one at a time, in a process of their own.

Only what takes a process down that nothing else ran in is charged a crash; its neighbours of the first time are not.
What is behind others in a process that dies runs again at once, in a new one: starting one for each would keep those
that do no harm waiting. No lane of a pump waits for them: a suspect is taken over whole, with its lease and its
settlement.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

from redrive.broker import Forward, Return, Settlement
from redrive.calling import Held
from redrive.cell import Cell, how_it_ended
from redrive.consumer import Consumer
from redrive.errors import (
    BrokerError,
    BrokerUnavailable,
    OutcomeUnknown,
    RedriveError,
    StaleReceipt,
    StoreError,
    VersionConflict,
)
from redrive.message import Delivery
from redrive.runtime import Runtime
from redrive.sagas.turns import turns_for
from redrive.store import SUSPECTS
from redrive.wire import delivery_to_json, settlement_from_json

_log = logging.getLogger("redrive.isolation")
_START_AGAIN = 5.0
_AROUND = 10.0
_SETTLE_AGAIN = 0.5


class Isolation:
    """Runs suspects in a child process that opens the application anew; one at a time.

    One at a time, because two would share the machine's memory: when it runs out, the wrong one may be killed.
    """

    def __init__(self, runtime: Runtime, consumers: Sequence[Consumer[Any]], command: Sequence[str]) -> None:
        """Be ready to start the child.

        Args:
            runtime: of this worker.
            consumers: whose messages may be suspects.
            command: what starts the child: it says that it is ready, then reads one delivery a line and answers with
                one settlement a line.
        """
        self._runtime = runtime
        self._consumers = {consumer.queue: consumer for consumer in consumers}
        self._command = command
        self._cell: Cell | None = None
        self._doubted: set[str] = set()
        """Ids of messages with which a process died that others had used before."""
        self._held: dict[str, Delivery] = {}
        self._waiting: asyncio.Queue[Delivery] = asyncio.Queue()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to run what is taken over."""
        self._tasks = [asyncio.create_task(self._running()), asyncio.create_task(self._extending())]

    async def run(self, delivery: Delivery) -> Settlement | None:
        """Take a suspect over; returns at once. None: its settlement is made here, when its turn has ended."""
        if self._stopping:
            return Return(delivery=delivery, uncounted=True)
        self._held[delivery.receipt] = delivery
        self._idle.clear()
        self._waiting.put_nowait(delivery)
        return None

    async def stop(self, grace: float) -> None:
        """Hand back what waits; let what runs end within `grace` seconds, else kill its process and hand it back.

        To be stopped is no crash of a message.
        """
        self._stopping = True
        while not self._waiting.empty():
            await self._hand_back(self._waiting.get_nowait())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._idle.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._end_cell()
        for delivery in list(self._held.values()):
            await self._hand_back(delivery)

    async def _running(self) -> None:
        while True:
            delivery = await self._waiting.get()
            if delivery.receipt not in self._held:
                continue  # its lease was lost while it waited
            try:
                settlement = await self._alone(delivery)
            except RedriveError as error:
                _log.warning("message %s is handed back: %s", delivery.message.id, error)
                settlement = self._again(delivery)
            except Exception:  # noqa: BLE001 - an outermost loop: logged, counted, survived
                _log.exception("running message %s of %s alone raised", delivery.message.id, delivery.queue)
                settlement = self._again(delivery)
            await self._settle(settlement)
            self._let_go(delivery)
            if self._waiting.empty():
                await self._end_cell()

    def _again(self, delivery: Delivery) -> Settlement:
        self._runtime.counters.loop_errors += 1
        return Return(delivery=delivery, delay=_START_AGAIN)

    async def _hand_back(self, delivery: Delivery) -> None:
        await self._settle(Return(delivery=delivery, uncounted=True))
        self._let_go(delivery)

    def _let_go(self, delivery: Delivery) -> None:
        self._held.pop(delivery.receipt, None)
        if not self._held:
            self._idle.set()

    async def _alone(self, delivery: Delivery) -> Settlement | None:
        """One suspect's turn; its settlement, or that of a crash when it takes a process down that it had to itself."""
        consumer = self._consumers[delivery.queue]
        turns = turns_for(self._runtime, consumer)
        if delivery.message.notes.crashes or delivery.message.id in self._doubted:
            await self._end_cell()  # one has died with it before: this one it has to itself
        while True:
            if self._cell is None and not await self._start_cell():
                return turns.back(delivery, _START_AGAIN)
            used = self._cell is not None and self._cell.used
            answer, status = await self._ask(consumer, delivery)
            if answer is not None:
                settlement = settlement_from_json(answer, delivery)
            elif used:
                self._doubted.add(delivery.message.id)  # but whoever was there before may be to blame
                continue
            else:
                reason = how_it_ended(status)
                _log.warning("message %s took its process down: %s", delivery.message.id, reason)
                settlement = await turns.crashed(Held(delivery), reason)
            if not _comes_back(settlement, delivery):
                self._doubted.discard(delivery.message.id)
                await self._clear(delivery)
            return settlement

    async def _start_cell(self) -> bool:
        self._cell = await Cell.start(self._command)
        if await self._cell.ready():
            return True
        _log.error("the process for suspects did not start: %s", how_it_ended(await self._end_cell()))
        return False

    async def _ask(self, consumer: Consumer[Any], delivery: Delivery) -> tuple[str | None, int]:
        """What the process answers; without an answer, how it ended."""
        assert self._cell is not None  # noqa: S101 - it was started
        answer = await self._cell.ask(delivery_to_json(delivery), _patience(consumer))
        return answer, 0 if answer is not None else await self._end_cell()

    async def _end_cell(self) -> int:
        cell, self._cell = self._cell, None
        return 0 if cell is None else await cell.end()

    async def _settle(self, settlement: Settlement | None) -> None:
        """Settle; a broker that is away is tried again until the lease has run out, and then the message returns."""
        if settlement is None:
            return
        give_up = self._runtime.clock.monotonic() + self._consumers[settlement.delivery.queue].lease
        while True:
            try:
                (refused,) = await self._runtime.broker.settle([settlement])
                if isinstance(refused, (BrokerUnavailable, OutcomeUnknown)):
                    raise refused
            except BrokerError as error:
                self._runtime.counters.loop_errors += 1
                _log.warning("message %s cannot be settled: %s", settlement.delivery.message.id, error)
                if self._runtime.clock.monotonic() >= give_up:
                    return
                await asyncio.sleep(_SETTLE_AGAIN)
            else:
                if refused is not None:
                    _log.warning("%s", refused)
                return

    async def _extending(self) -> None:
        pause = min([one.lease for one in self._consumers.values()], default=30.0) / 3
        while True:
            await asyncio.sleep(pause)
            try:
                await self._extend()
            except BrokerError as error:
                self._runtime.counters.loop_errors += 1
                _log.warning("leases of suspects cannot be extended: %s", error)
            except Exception:  # noqa: BLE001 - an outermost loop: logged, counted, survived
                self._runtime.counters.loop_errors += 1
                _log.exception("extending leases of suspects raised")

    async def _extend(self) -> None:
        for consumer in self._consumers.values():
            held = [one for one in self._held.values() if one.queue == consumer.queue]
            if not held:
                continue
            most = self._runtime.broker.capabilities.max_batch
            for start in range(0, len(held), most):
                await self._extend_batch(held[start : start + most], consumer.lease)

    async def _extend_batch(self, held: Sequence[Delivery], lease: float) -> None:
        for one, error in zip(held, await self._runtime.broker.extend(held, lease=lease), strict=True):
            if isinstance(error, StaleReceipt) and one.receipt in self._held:
                _log.warning("%s", error)
                self._let_go(one)

    async def _clear(self, delivery: Delivery) -> None:
        key = f"{delivery.queue}/{delivery.message.id}"
        with contextlib.suppress(StoreError, VersionConflict):
            entry = await self._runtime.store.get(SUSPECTS, key)
            if entry is not None:
                await self._runtime.store.delete(SUSPECTS, key, if_version=entry.version)


def _patience(consumer: Consumer[Any]) -> float:
    """How long a turn may take: the handler's time, the degraded handler's, and what is written around them."""
    return consumer.timeout * (2 if consumer.degraded_handlers else 1) + _AROUND


def _comes_back(settlement: Settlement | None, delivery: Delivery) -> bool:
    """Whether the message will be received again from this queue: it stays a suspect until it is dead or done."""
    match settlement:
        case None | Return():
            return True
        case Forward(queue=queue):
            return queue == delivery.queue
        case _:
            return False
