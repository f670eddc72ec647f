"""The healer of one dependency: asks the canary, lets one message try, then brings back what is parked.

It is level-triggered: each step looks at what is, not at what happened. Parked messages and a circuit that lets calls
through always mean that a redrive runs, whoever parked them and whatever was missed in between.

    open       canary due -> ask it: good -> half-open, bad -> wait longer. No canary: half-open when it is due.
    half-open  one parked message is the trial; nothing parked and a good canary -> closed.
    closed     a redrive: at most what was there when it began, at the rate of the ramp.

One leader among all workers does it. A leader that dies is followed within a leadership's length; what it had taken
out of a parked queue comes back when the lease ends.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redrive import circuit as rules
from redrive.circuit import Circuit, State
from redrive.circuits import CACHED_FOR
from redrive.dependency import Dependency
from redrive.errors import DeclarationError
from redrive.gate import Gate
from redrive.leadership import Leadership
from redrive.moves import move
from redrive.ramp import Ramp
from redrive.runtime import Runtime

_log = logging.getLogger("redrive.healer")
IDLE = 1.0
"""Seconds between looks while there is nothing to do."""
_RARELY = 10.0
"""The same for looking into parked queues that were empty, where a look is a request that is paid for."""
_SOON = 0.05


@dataclass(frozen=True, slots=True)
class Parked:
    """A queue whose messages wait for this dependency."""

    queue: str
    parked: str


@dataclass(slots=True)
class _Redrive:
    left: int
    ramp: Ramp
    failures: int


class Healer:
    """Heals one dependency, as long as this process leads."""

    def __init__(
        self,
        runtime: Runtime,
        dependency: Dependency[Any],
        parked: Sequence[Parked],
        *,
        recover_within: float | None = None,
        leadership: Leadership | None = None,
    ) -> None:
        if dependency.gate is None:
            raise DeclarationError(f"dependency {dependency.name!r}", "has no gate", "open the application first")
        self.name = dependency.name
        self._runtime, self._dependency, self._parked = runtime, dependency, parked
        self._gate: Gate = dependency.gate
        self._recover_within = recover_within
        self._leadership = leadership or Leadership(
            runtime.store, runtime.clock, task=f"heal/{runtime.app}/{dependency.name}", holder=runtime.worker
        )
        self._redrive: _Redrive | None = None
        self._trial: tuple[int, float] | None = None
        self._empty: tuple[int, float] | None = None
        """The circuit's generation in which nothing was parked, and when to look again."""
        self._gate.ask = self.ask

    async def ask(self) -> bool:
        """Ask the canary; a dependency without one is taken to be as its circuit says: not healthy."""
        return self._dependency.canary is not None and await self._dependency.probe(self._runtime.resources)

    async def step(self) -> float:
        """Do what is due now; seconds until it should be called again.

        Raises:
            BrokerError: If the broker is away.
            StoreError: If the store is away.
        """
        if not await self._leadership.held():
            self._redrive = None
            return IDLE
        circuit = await self._gate.shared.read(fresh=True)
        now_ms = self._runtime.clock.now_ms()
        if circuit.until_ms is not None and now_ms >= circuit.until_ms:
            circuit = await self._change(lambda old: self._automatic(old, now_ms))
        match circuit.state:
            case State.FORCED_OPEN:
                self._redrive = None
                return IDLE
            case State.OPEN:
                self._redrive = None
                return await self._probe(circuit, now_ms)
            case State.HALF_OPEN:
                return await self._try_one(circuit)
            case _:
                return await self._bring_back(circuit.generation)

    async def resign(self) -> None:
        """Let another worker lead at once."""
        await self._leadership.resign()

    async def _probe(self, circuit: Circuit, now_ms: int) -> float:
        left = ((circuit.probe_at_ms or 0) - now_ms) / 1000
        if left > 0:
            return min(IDLE, left)
        if self._dependency.canary is None:
            healthy = True
        else:  # a canary that hangs may take longer than this process leads
            until_ms = now_ms + int(2000 * self._dependency.timeout)
            await self._change(lambda old: rules.probing(old, until_ms=until_ms))
            healthy = await self.ask()
        if healthy:
            now_ms = self._runtime.clock.now_ms()
            why = "time to try" if self._dependency.canary is None else "the canary passed"
            await self._change(
                lambda old: rules.probe_passed(old, owner=self._runtime.worker, reason=why, now_ms=now_ms)
            )
            return 0.0
        _log.info("canary of %s failed: %s", self._dependency.name, self._dependency.probe_error)
        after = await self._change(  # the wait counts from when the canary was sent: a hanging one must not add to it
            lambda old: rules.probe_failed(
                old,
                self._dependency.circuit,
                reason=self._dependency.probe_error[:300],
                now_ms=now_ms,
                random=self._runtime.random.random(),
            )
        )
        return min(IDLE, max(0.0, ((after.probe_at_ms or 0) - now_ms) / 1000))

    async def _try_one(self, circuit: Circuit) -> float:
        """Let one parked message be the trial; another one only when the first had time to end."""
        now = self._runtime.clock.monotonic()
        if not self._gate.alone and self._runtime.clock.now_ms() - circuit.changed_at_ms < CACHED_FOR * 1000:
            return _SOON  # a worker that still believes it is open would only park the trial again
        if self._trial is not None and self._trial[0] == circuit.generation and now < self._trial[1]:
            return _SOON
        for one in self._parked:
            if await move(self._runtime.broker, one.parked, one.queue, limit=1):
                self._trial = (circuit.generation, now + 2 * self._dependency.timeout)
                return _SOON
        if self._dependency.canary is not None:
            generation, now_ms = circuit.generation, self._runtime.clock.now_ms()
            await self._change(
                lambda old: rules.succeeded(
                    old,
                    generation=generation,
                    owner=self._runtime.worker,
                    reason="the canary passed and nothing is parked",
                    now_ms=now_ms,
                )
            )
        return IDLE

    async def _bring_back(self, generation: int) -> float:
        now = self._runtime.clock.monotonic()
        failures = self._runtime.counters.failures[self._dependency.name] + self._gate.peer_failures
        if self._redrive is None:
            if self._empty is not None and self._empty[0] == generation and now < self._empty[1]:
                return IDLE
            left = sum([(await self._runtime.broker.depth(one.parked)).ready for one in self._parked])
            if not left:
                rest = 0.0 if self._runtime.broker.capabilities.browses else _RARELY
                self._empty = (generation, now + rest)
                return IDLE
            self._redrive = self._begin(left, now, failures)
        redrive = self._redrive
        redrive.ramp = redrive.ramp.step(now, failures=max(0, failures - redrive.failures))
        redrive.failures = failures
        moved = await self._move(min(redrive.ramp.allowance, redrive.left))
        redrive.ramp = redrive.ramp.spend(moved)
        redrive.left -= moved
        if redrive.left <= 0 or (not moved and redrive.ramp.allowance):
            self._redrive = None
            return 0.0 if moved else IDLE
        return max(_SOON, redrive.ramp.wait())

    def _begin(self, left: int, now: float, failures: int) -> _Redrive:
        rate = self._dependency.max_rate
        _log.info("bringing back %d messages parked for %s, up to %g/s", left, self._dependency.name, rate)
        if self._recover_within is not None and left / rate > self._recover_within:
            _log.warning(
                "%d messages wait for %s: at %g/s that takes %.0f s, longer than recover_within=%g; raise max_rate",
                left,
                self._dependency.name,
                rate,
                left / rate,
                self._recover_within,
            )
        return _Redrive(left=left, ramp=Ramp.begin(now, maximum=rate), failures=failures)

    async def _move(self, allowance: int) -> int:
        moved, most = 0, self._runtime.broker.capabilities.max_batch
        for one in self._parked:
            while moved < allowance:
                part = min(allowance - moved, most)
                done = await move(self._runtime.broker, one.parked, one.queue, limit=part)
                moved += done
                if done < part:
                    break
        return moved

    async def _change(self, change: Any) -> Circuit:  # noqa: ANN401 - a Change
        return await self._gate.shared.change(change)

    def _automatic(self, circuit: Circuit, now_ms: int) -> Circuit:
        return rules.automatic(
            circuit,
            self._dependency.circuit,
            owner=self._runtime.worker,
            now_ms=now_ms,
            random=self._runtime.random.random(),
        )
