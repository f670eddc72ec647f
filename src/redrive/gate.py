"""One worker's gate to one dependency: lets calls through or not, and learns from what becomes of them.

Invariants:
    1. No more than `concurrency` calls are under way at once, less one for each that failed since the last success (one
       always may): so `concurrency` is the most that an outage can waste before the circuit trips.
    2. Whoever waits for a place looks at the circuit again before going through.
    3. A call's result counts only in the generation that it began in.
    4. A permit to try while half-open expires after twice the call's timeout: it cannot wedge.
    5. A trip opens this gate at once. The shared circuit opens when this worker is the only one, when a second one
       reports within ten seconds, or when the canary fails too.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from redrive import circuit as rules
from redrive.circuit import Circuit, CircuitPolicy, State, Window
from redrive.circuits import SharedCircuit
from redrive.clock import Clock
from redrive.errors import Unavailable
from redrive.faults import Faults
from redrive.telemetry import Counters

_log = logging.getLogger("redrive.dependency")
_BUDGET_SHARE = 0.1
_BUDGET_LIMIT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Leave to make one call."""

    subject: str
    """Whose call it is: a message id, or a name for what is no message."""
    generation: int
    state: State
    began: float


class Gate:
    """One worker's view of one dependency. One loop."""

    def __init__(
        self,
        name: str,
        *,
        policy: CircuitPolicy,
        concurrency: int,
        timeout: float,
        has_canary: bool,
        shared: SharedCircuit,
        clock: Clock,
        random: Random,
        worker: str,
        counters: Counters,
        faults: Faults,
    ) -> None:
        self.name, self.timeout = name, timeout
        self.shared, self.faults = shared, faults
        self.alone = True
        """Whether this is the only worker; kept up to date by the worker's heartbeat."""
        self.peer_failures = 0
        """Failed calls of the other workers; kept up to date by the heartbeat."""
        self.ask: Callable[[], Awaitable[bool]] | None = None
        """Runs the canary; set by the healer."""
        self._policy, self._concurrency, self._has_canary = policy, concurrency, has_canary
        self._clock, self._random, self._worker, self._counters = clock, random, worker, counters
        self._window = Window(policy)
        self._generation = 0
        self._tripped_until: float | None = None
        self._trial_until: float | None = None
        self._busy = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._confirming: asyncio.Task[None] | None = None
        self._budget = _BUDGET_LIMIT
        self.loop: asyncio.AbstractEventLoop | None = None
        """The worker's loop, for handlers in threads; set when the application opens."""
        self.sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
        """How to wait; in virtual time it takes none."""
        self.redacted: Callable[[str], str] = str
        """Makes the text of a failure one that may be written."""

    async def enter(self, subject: str) -> Permit:
        """Leave for one call; waits for a place while `concurrency` calls are under way.

        Raises:
            Unavailable: If the circuit does not let it through.
        """
        await self._look()
        while self._busy >= self._limit():
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.append(place)
            await self._placed(place)
            try:
                await self._look()
            except BaseException:
                self._wake(1)  # the place was given to one who does not take it: to the next
                raise
        if self.shared.view.state is State.HALF_OPEN:
            self._trial_until = self._clock.monotonic() + 2 * self.timeout
        self._busy += 1
        self._counters.calls[self.name] += 1
        self._budget = min(_BUDGET_LIMIT, self._budget + _BUDGET_SHARE)
        return Permit(
            subject=subject,
            generation=self.shared.view.generation,
            state=self.shared.view.state,
            began=self._clock.monotonic(),
        )

    async def pause(self, ceiling: float) -> None:
        """Wait before another try, with full jitter up to `ceiling` seconds."""
        await self.sleep(self._random.random() * ceiling)

    async def leave(self, permit: Permit, *, ok: bool | None, reason: str = "") -> None:
        """What became of the call: it was answered, it failed, or (None) it says nothing about the dependency."""
        self._busy -= 1
        if ok is False:
            self._counters.failures[self.name] += 1
        if permit.state is State.HALF_OPEN and permit.generation == self.shared.view.generation:
            self._trial_until = None
            await self._tried(permit, ok=ok, reason=reason)
        elif permit.state is State.CLOSED and permit.generation == self.shared.view.generation and ok is not None:
            now = self._clock.monotonic()
            if self._window.record(ok=ok, subject=permit.subject, now=now) and self._tripped_until is None:
                await self._trip(reason)
        self._wake(self._limit() - self._busy)

    def unavailable(self, permit: Permit, reason: str) -> Unavailable:
        """The error for a call that was made and failed."""
        explained = permit.state is State.HALF_OPEN and not self._has_canary
        return Unavailable(self.name, reason, circuit_open=self._refusal() is not None, counted=not explained)

    async def state(self) -> State:
        """The circuit as this worker has to take it now: closed, half-open, or open for whatever reason.

        Raises:
            StoreError: If the store is away and nothing is known.
        """
        self._follow(await self.shared.read())
        if self._refusal() is not None:
            return State.OPEN
        return State.HALF_OPEN if self.shared.view.state is State.HALF_OPEN else State.CLOSED

    @property
    def open_here(self) -> bool:
        """Whether a call would be refused now."""
        return self._refusal() is not None

    def may_try_again(self) -> bool:
        """Draw one retry from the budget: a tenth of the calls, ten at most in a row."""
        if self._budget < 1:
            return False
        self._budget -= 1
        return True

    async def _look(self) -> None:
        self._follow(await self.shared.read())
        if reason := self._refusal():
            raise Unavailable(self.name, reason, circuit_open=True, counted=False)

    def _follow(self, circuit: Circuit) -> None:
        """A new generation begins: what this worker saw of the former one does not count (invariant 3)."""
        if circuit.generation != self._generation:
            self._generation = circuit.generation
            self._window.clear()
            self._tripped_until = self._trial_until = None
            self._wake(len(self._queue))

    def _refusal(self) -> str | None:
        now = self._clock.monotonic()
        match self.shared.view.state:
            case State.OPEN | State.FORCED_OPEN as state:
                return f"its circuit is {state.value} ({self.shared.view.reason})"
            case State.HALF_OPEN if self._trial_until is not None and now < self._trial_until:
                return "its circuit is half-open and a call is on trial"
            case State.CLOSED if self._tripped_until is not None:
                if now < self._tripped_until:
                    return "its circuit is open in this worker"
                self._tripped_until = None
                self._window.clear()
        return None

    async def _tried(self, permit: Permit, *, ok: bool | None, reason: str) -> None:
        if ok is None:
            return
        now_ms = self._clock.now_ms()
        generation = permit.generation

        def change(circuit: Circuit) -> Circuit:
            if ok:
                return rules.succeeded(circuit, generation=generation, owner=self._worker, now_ms=now_ms)
            return rules.failed(
                circuit,
                self._policy,
                generation=generation,
                owner=self._worker,
                reason=reason,
                now_ms=now_ms,
                random=self._random.random(),
            )

        self._follow(await self.shared.change(change))

    async def _trip(self, reason: str) -> None:
        """Invariant 5."""
        self._tripped_until = self._clock.monotonic() + max(1.0, self._policy.probe_every / 4)
        now_ms = self._clock.now_ms()
        circuit = await self.shared.change(
            lambda circuit: rules.report(
                circuit,
                self._policy,
                worker=self._worker,
                alone=self.alone,
                reason=reason,
                now_ms=now_ms,
                random=self._random.random(),
            )
        )
        self._follow(circuit)
        self._wake(len(self._queue))
        if circuit.state is State.CLOSED and self.ask is not None and self._confirming is None:
            self._confirming = asyncio.create_task(self._confirm(self.ask, reason))

    async def _confirm(self, ask: Callable[[], Awaitable[bool]], reason: str) -> None:
        try:
            if not await ask():
                now_ms = self._clock.now_ms()
                self._follow(
                    await self.shared.change(
                        lambda circuit: rules.trip(
                            circuit,
                            self._policy,
                            owner=self._worker,
                            reason=reason,
                            now_ms=now_ms,
                            random=self._random.random(),
                        )
                    )
                )
        finally:
            self._confirming = None

    def _limit(self) -> int:
        """How many calls may be under way now (invariant 1)."""
        return max(1, self._concurrency - self._window.in_a_row)

    async def _placed(self, place: asyncio.Future[None]) -> None:
        try:
            await place
        except asyncio.CancelledError:
            if place in self._queue:
                self._queue.remove(place)
            elif place.done():
                self._wake(1)  # the place was given to one who left: to the next
            raise

    def _wake(self, count: int) -> None:
        while count > 0 and self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                count -= 1
