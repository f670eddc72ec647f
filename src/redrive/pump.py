"""The pump of one queue: receives in batches, runs turns in lanes, settles and extends in batches.

Invariants:
    1. Nothing is held that cannot start soon: what waits in hand is bounded by how fast turns were lately.
    2. Everything in hand has its lease extended until its turn ends; what cannot be extended any more is not started.
    3. An exception in a loop of the pump is logged with ids, counted, and survived; the message comes back.
    4. When it stops, what has not started is handed back at once.
    5. Of one group of a FIFO queue one message is handled at a time, and none after one that comes back.
    6. While settling is not permitted nothing is received: it would be handled again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redrive.board import Board
from redrive.broker import Acknowledge, Forward, Results, Return, Settlement
from redrive.calling import Held
from redrive.claims import Claims
from redrive.consumer import Consumer
from redrive.errors import (
    BrokerError,
    BrokerUnavailable,
    ClaimLost,
    NotPermitted,
    OutcomeUnknown,
    StaleReceipt,
    StoreError,
)
from redrive.message import Delivery
from redrive.order import Order, let_through
from redrive.runtime import Runtime
from redrive.standstill import Standstill
from redrive.store import CONTROLS, SUSPECTS
from redrive.turn import Turns

_log = logging.getLogger("redrive.worker")
_LONG_POLL = 20.0
_MOST_IN_HAND = 500
_AHEAD = 0.25
_LONGEST_BACKOFF = 5.0
_SETTLE_AGAIN = 0.1
_LOOK_AGAIN = 0.1
_PASSING = (BrokerUnavailable, OutcomeUnknown)
"""What may be another time, if a broker says it of one settlement among others."""

Isolate = Callable[[Delivery], Awaitable[Settlement | None]]
"""Runs one suspect's turn in a process of its own."""


class Pump:
    """Moves the messages of one consumer."""

    def __init__(
        self,
        runtime: Runtime,
        consumer: Consumer[Any],
        turns: Turns,
        *,
        board: Board | None = None,
        isolate: Isolate | None = None,
    ) -> None:
        self._runtime, self._consumer, self._turns = runtime, consumer, turns
        self._board, self._isolate = board, isolate
        self._claims = Claims(runtime.store, runtime.clock)
        self._waiting: asyncio.Queue[Held] = asyncio.Queue()
        self._in_hand: dict[str, Held] = {}
        self._order = Order(fifo=consumer.fifo)
        self._standstill = Standstill(runtime, consumer.queue)
        self._settlements: list[Settlement] = []
        self._at_the_end: list[Settlement] = []
        self._rest: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._to_settle = asyncio.Event()
        self._stopping = asyncio.Event()
        self._average = 0.0
        self._controls_read_at = float("-inf")
        self._is_paused = False
        self._tasks: list[asyncio.Task[None]] = []
        self.stuck = asyncio.Event()
        """Set when a thread outlived its handler's timeout: the process should be replaced."""

    def start(self) -> None:
        """Begin to receive."""
        lanes = [self._lane() for _ in range(self._consumer.concurrency)]
        loops = [self._receiving(), self._settling(), self._extending(), *lanes]
        self._tasks = [asyncio.create_task(self._survive(loop)) for loop in loops]

    async def stop(self, grace: float) -> None:
        """Stop receiving, finish what runs within `grace` seconds, hand the rest back."""
        self._stopping.set()
        self._room.set()
        receiving, settling, extending, *lanes = self._tasks
        receiving.cancel()
        self._put_back_waiting()
        running = self._runtime.clock.monotonic() + grace
        while self._in_hand and self._runtime.clock.monotonic() < running and not self.stuck.is_set():
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, running - self._runtime.clock.monotonic())):
                    await self._room.wait()
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(receiving, *lanes, return_exceptions=True)
        for held in list(self._in_hand.values()):
            if held.began is None or not self._consumer.needs_threads:
                await self._abandon(held)  # a thread goes on until the process ends: its lease has to run out
        self._settlements += self._at_the_end
        self._to_settle.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await settling
        for task in (extending, *self._rest):
            task.cancel()
        await asyncio.gather(settling, extending, *self._rest, return_exceptions=True)

    async def _survive(self, loop: Awaitable[None]) -> None:
        try:
            await loop
        except asyncio.CancelledError:
            raise
        except BaseException:
            _log.critical(
                "a loop of the worker for %s ended; its messages come back", self._consumer.queue, exc_info=True
            )
            raise

    async def _receiving(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            room = self._most_in_hand() - len(self._in_hand)
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            try:
                if self._standstill.is_on and (pause := self._standstill.pause()) > 0:
                    await self._pause(pause)
                    continue
                if self._standstill.is_on:
                    await self._standstill.ask()
                    continue
                if await self._paused():
                    await self._pause(1.0)
                    continue
                if (room := await let_through(self._consumer, room, in_hand=len(self._in_hand))) <= 0:
                    await self._pause(_LOOK_AGAIN)
                    continue
                await self._receive(room)
                failures = 0
            except (BrokerError, StoreError) as error:
                failures += 1
                self._runtime.counters.loop_errors += 1
                if failures == 1:
                    _log.warning("cannot receive from %s: %s; trying again", self._consumer.queue, error)
                await self._pause(min(_LONGEST_BACKOFF, 0.1 * 2**failures) * (0.5 + self._runtime.random.random() / 2))
            except Exception:  # noqa: BLE001 - an outermost loop: logged, counted, survived
                self._runtime.counters.loop_errors += 1
                _log.exception("receiving from %s raised", self._consumer.queue)
                await self._pause(1.0)

    async def _receive(self, room: int) -> None:
        broker = self._runtime.broker
        limit = min(room, broker.capabilities.max_batch)
        deliveries = await broker.receive(
            self._consumer.queue, limit=limit, lease=self._consumer.lease, wait=_LONG_POLL
        )
        try:
            closed = bool(deliveries) and await self._closed_meanwhile()
        except asyncio.CancelledError:  # it stops: these are in nobody's hand yet
            self._hand_back(deliveries)
            raise
        if closed:
            self._hand_back(self._standstill.take(deliveries))
            return
        for delivery in deliveries:
            held = Held(delivery, leased_until=self._runtime.clock.monotonic() + self._consumer.lease)
            self._in_hand[delivery.receipt] = held
            if self._order.enter(held):
                self._waiting.put_nowait(held)

    def _hand_back(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._settle(self._turns.untouched(delivery))

    async def _closed_meanwhile(self) -> bool:
        """Whether the queue was paused or stands still, or the store went away, while the receive was waiting."""
        try:
            return self._standstill.is_on or await self._paused()
        except StoreError:
            return True

    def _most_in_hand(self) -> int:
        """The lanes, and as much again as they get done in a quarter of the lease (invariant 1)."""
        lanes = self._consumer.concurrency
        if not self._average:
            return lanes
        ahead = lanes * min(_AHEAD * self._consumer.lease, 1.0) / self._average
        return lanes + min(_MOST_IN_HAND, int(ahead))

    async def _paused(self) -> bool:
        """Whether an operator paused this queue; read once a second."""
        now = self._runtime.clock.monotonic()
        if now - self._controls_read_at >= 1.0:
            self._is_paused = await self._runtime.store.get(CONTROLS, f"paused/{self._consumer.queue}") is not None
            self._controls_read_at = now  # not before: while the store is away nothing is received
        return self._is_paused

    async def _lane(self) -> None:
        while True:
            held = await self._waiting.get()
            if held.delivery.receipt in self._in_hand and not await self._still_leased(held):
                self._in_hand.pop(held.delivery.receipt, None)
                self._room.set()
            if held.delivery.receipt not in self._in_hand:
                self._next_in_line(held, gone=False)
                continue  # its lease was lost while it waited
            began = held.began = self._runtime.clock.monotonic()
            settlement = await self._guarded(held)
            took = self._runtime.clock.monotonic() - began
            ours = held.delivery.receipt in self._in_hand
            self._average = took if not self._average else 0.9 * self._average + 0.1 * took
            if settlement is None:
                self._in_hand.pop(held.delivery.receipt, None)
                self._room.set()
            elif held.stuck:
                self._at_the_end.append(settlement)  # its thread still runs: nobody else may have it before we are gone
                self._in_hand.pop(held.delivery.receipt, None)
                self.stuck.set()
            else:
                self._settle(settlement)
            gone = ours and isinstance(settlement, (Acknowledge, Forward)) and not held.stuck
            self._next_in_line(held, gone=gone)

    async def _still_leased(self, held: Held) -> bool:
        """Invariant 2, after the loop stood still for longer than a lease: ask, rather than start."""
        if self._runtime.clock.monotonic() < held.leased_until:
            return True
        try:
            (error,) = await self._runtime.broker.extend([held.delivery], lease=self._consumer.lease)
        except BrokerError:
            return False
        held.leased_until = self._runtime.clock.monotonic() + self._consumer.lease
        return error is None

    async def _guarded(self, held: Held) -> Settlement | None:
        delivery = held.delivery
        try:
            if delivery.receive_count > 1 and self._isolate is not None and await self._suspect(delivery):
                return await self._isolate(delivery)
            slot = None if self._board is None else self._board.begin(delivery.queue, delivery.message.id)
            try:
                return await self._turns.turn(held)
            finally:
                if self._board is not None and slot is not None:
                    self._board.end(slot)
        except (StoreError, BrokerError) as error:
            _log.warning("message %s is handed back: %s", delivery.message.id, error)
            self._runtime.counters.loop_errors += 1
            return self._turns.back(delivery, 1.0)
        except Exception:  # noqa: BLE001 - an outermost loop: logged, counted, survived
            _log.exception("the turn of message %s of %s raised", delivery.message.id, delivery.queue)
            self._runtime.counters.loop_errors += 1
            return Return(delivery=delivery, delay=5.0)

    async def _suspect(self, delivery: Delivery) -> bool:
        return await self._runtime.store.get(SUSPECTS, f"{delivery.queue}/{delivery.message.id}") is not None

    async def _abandon(self, held: Held) -> None:
        """The turn was cut off: free its key, so that whoever receives the message need not wait for the claim."""
        if held.claim is not None:
            with contextlib.suppress(StoreError, BrokerError, ClaimLost):
                await self._claims.release(held.claim, hold=False)
        self._put_back(held)

    def _put_back_waiting(self) -> None:
        for behind in self._order.clear():
            self._put_back(behind)
        while not self._waiting.empty():
            self._put_back(self._waiting.get_nowait())

    def _put_back(self, held: Held) -> None:
        if held.began is None:
            self._settle(self._turns.untouched(held.delivery))
        else:
            self._settle(self._turns.back(held.delivery, 0.0))

    def _next_in_line(self, held: Held, *, gone: bool) -> None:
        """Invariant 5."""
        start, back = self._order.leave(held, gone=gone)
        if start is not None:
            self._waiting.put_nowait(start)
        for one in back:
            if one.delivery.receipt in self._in_hand:
                self._put_back(one)

    def _settle(self, settlement: Settlement) -> None:
        self._in_hand.pop(settlement.delivery.receipt, None)
        self._settlements.append(settlement)
        self._to_settle.set()
        self._room.set()

    async def _settling(self) -> None:
        while True:
            await self._to_settle.wait()
            self._to_settle.clear()
            while self._settlements:
                most = self._runtime.broker.capabilities.max_batch
                batch, self._settlements = self._settlements[:most], self._settlements[most:]
                if left := await self._settle_batch(batch):  # the others need not wait for these
                    self._keep(asyncio.create_task(self._settle_rest(left)))
            if self._stopping.is_set() and all(task.done() for task in self._tasks[3:]) and not self._settlements:
                if self._rest:
                    await asyncio.wait(self._rest)
                return

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._rest.add(task)
        task.add_done_callback(self._rest.discard)

    async def _settle_rest(self, batch: list[Settlement]) -> None:
        """Settle what could not be settled with its batch; until its leases have run out."""
        give_up = self._runtime.clock.monotonic() + self._consumer.lease
        pause = _SETTLE_AGAIN
        while batch and self._runtime.clock.monotonic() < give_up:
            await asyncio.sleep(pause)
            pause = min(2 * pause, 1.0)
            batch = await self._settle_batch(batch)

    async def _settle_batch(self, batch: list[Settlement]) -> list[Settlement]:
        """Settle; a broker that is away is tried again until the leases have run out, and then the messages return.

        Returns:
            What the broker could not do now, while it did the rest.
        """
        give_up = self._runtime.clock.monotonic() + self._consumer.lease
        pause = _SETTLE_AGAIN
        while True:
            try:
                results = await self._runtime.broker.settle(batch)
            except NotPermitted as error:
                if len(batch) > 1:  # it speaks for the first of them only
                    return [left for one in batch for left in await self._settle_batch([one])]
                return self._left_of(batch, [error])
            except BrokerError as error:
                self._runtime.counters.loop_errors += 1
                _log.warning("%d messages of %s cannot be settled: %s", len(batch), self._consumer.queue, error)
                if self._runtime.clock.monotonic() >= give_up:
                    return []
                await asyncio.sleep(pause)
                pause = min(2 * pause, 1.0)
            except Exception:  # noqa: BLE001 - an outermost loop: logged, counted, survived
                self._runtime.counters.loop_errors += 1
                _log.exception("settling %d messages of %s raised", len(batch), self._consumer.queue)
                singles = batch if len(batch) > 1 else ()  # one of them is to blame, the others are not
                return [left for one in singles for left in await self._settle_batch([one])]
            else:
                return self._left_of(batch, results)

    def _left_of(self, batch: list[Settlement], results: Results) -> list[Settlement]:
        """What may be another time, but for what is not permitted (invariant 6)."""
        if self._standstill.keep(batch, results):
            self._put_back_waiting()
        for refused in results:
            if refused is not None and not self._standstill.has(refused):
                _log.warning("%s", refused)
        return [
            one
            for one, error in zip(batch, results, strict=True)
            if isinstance(error, _PASSING) and not self._standstill.has(error)
        ]

    async def _extending(self) -> None:
        while True:
            await asyncio.sleep(self._consumer.lease / 3)
            try:
                await self._extend()
            except (BrokerError, StoreError) as error:
                self._runtime.counters.loop_errors += 1
                _log.warning("leases of %s cannot be extended: %s", self._consumer.queue, error)
            except Exception:  # noqa: BLE001 - an outermost loop: logged, counted, survived
                self._runtime.counters.loop_errors += 1
                _log.exception("extending leases of %s raised", self._consumer.queue)

    async def _extend(self) -> None:
        now = self._runtime.clock.monotonic()
        self._notice_slowness(now)
        held = [one for one in self._in_hand.values() if now < one.extend_until]
        if not held:
            return
        most = self._runtime.broker.capabilities.max_batch
        for start in range(0, len(held), most):
            await self._extend_batch(held[start : start + most], now)

    async def _extend_batch(self, held: list[Held], now: float) -> None:
        results = await self._runtime.broker.extend([one.delivery for one in held], lease=self._consumer.lease)
        for one, error in zip(held, results, strict=True):
            if error is None:
                one.leased_until = now + self._consumer.lease
            if isinstance(error, StaleReceipt):
                if self._in_hand.pop(one.delivery.receipt, None) is not None:  # not settled meanwhile
                    _log.warning("%s", error)
            elif one.claim is not None:
                try:
                    await self._claims.extend(one.claim)
                except ClaimLost as lost:
                    _log.warning("%s", lost)

    def _notice_slowness(self, now: float) -> None:
        """Where every lane is busy for longer than turns took lately, less can be held: the rest is for others."""
        running = [now - one.began for one in self._in_hand.values() if one.began is not None]
        if len(running) < self._consumer.concurrency:
            return
        self._average = max(self._average, min(running))
        while len(self._in_hand) > self._most_in_hand() and not self._waiting.empty():
            held = self._waiting.get_nowait()
            self._put_back(held)
            self._next_in_line(held, gone=False)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the pump is stopping."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
