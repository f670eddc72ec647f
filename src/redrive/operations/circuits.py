"""Dependencies: their circuits, and what is parked for them."""

from __future__ import annotations

import asyncio
from typing import Literal

from redrive import circuit as rules
from redrive.circuit import Circuit, CircuitPolicy, State
from redrive.circuits import SharedCircuit
from redrive.errors import NotFound
from redrive.manifest import manifests
from redrive.moves import move
from redrive.operations.ground import PARKED, Ground
from redrive.operations.views import DependencyView, ParkedView, WorkerView
from redrive.store import CIRCUITS

_PART = 100


class CircuitOperations(Ground):
    """Dependencies: their circuits, and what is parked for them."""

    async def parked(self, dependency: str | None = None) -> list[ParkedView]:
        """The parked queues, of one dependency or of all."""
        views = []
        for name in await self._broker.queues():
            queue, found, need = name.partition(PARKED)
            if found and dependency in {None, need}:
                count = (await self._broker.depth(name)).total
                shown = count and self._broker.capabilities.browses
                first = (await self._broker.browse(name, limit=1)).messages if shown else []
                views.append(
                    ParkedView(
                        queue=queue,
                        dependency=need,
                        parked_queue=name,
                        count=count,
                        oldest_sent_at_ms=first[0].sent_at_ms if first else None,
                    )
                )
        return views

    async def redrive_parked(
        self, dependency: str, queue: str | None = None, *, limit: int | None = None, rate: float | None = None
    ) -> int:
        """Move parked messages back by hand, at most what is there now; how many. The healer does it by itself.

        Args:
            dependency: what they wait for.
            queue: of this queue alone.
            limit: at most so many.
            rate: messages a second; None: as fast as the broker goes.
        """
        moved = 0
        for view in await self.parked(dependency):
            if queue is None or view.queue == queue:
                left = view.count if limit is None else min(view.count, limit - moved)
                moved += await self._redrive_parked(view, left, rate)
        return moved

    async def circuit(self, name: str) -> DependencyView:
        """One dependency and its circuit.

        Raises:
            OperationRefused: If no application on this broker has it.
        """
        known = await self._dependencies(await self._broker.queues())
        if name not in known:
            raise NotFound(f"dependency {name!r}", f"known are: {', '.join(sorted(known)) or 'none yet'}")
        return await self._dependency_view(name, await self.workers())

    async def force(
        self, name: str, state: Literal["open", "closed"], *, reason: str, minutes: float | None = None
    ) -> DependencyView:
        """Hold a circuit open or closed, until `automatic` or for some minutes."""
        await self.circuit(name)
        now = self._clock.now_ms()
        until = None if minutes is None else now + int(minutes * 60_000)
        target = State.FORCED_OPEN if state == "open" else State.FORCED_CLOSED
        await self._shared(name).change(
            lambda old: rules.forced(old, target, owner=self._who, reason=reason, now_ms=now, until_ms=until)
        )
        return await self.circuit(name)

    async def automatic(self, name: str) -> DependencyView:
        """Give a circuit back to its rules: what was forced open is probed, what was forced closed stays closed."""
        view = await self.circuit(name)
        policy = CircuitPolicy(probe_every=await self._probe_every(view.name))
        now = self._clock.now_ms()
        await self._shared(name).change(
            lambda old: rules.automatic(old, policy, owner=self._who, now_ms=now, random=self._random.random())
        )
        return await self.circuit(name)

    async def _dependencies(self, names: list[str]) -> list[str]:
        known = {name.partition(PARKED)[2] for name in names if PARKED in name}
        known |= {entry.key for entry in await self._store.scan(CIRCUITS, limit=1000)}
        for document in await manifests(self._store):
            known |= set(document["dependencies"])
        return sorted(known)

    async def _dependency_view(self, name: str, workers: list[WorkerView]) -> DependencyView:
        entry = await self._store.get(CIRCUITS, name)
        circuit = Circuit() if entry is None else Circuit.from_json(entry.value)
        left = None if circuit.probe_at_ms is None else max(0.0, (circuit.probe_at_ms - self._clock.now_ms()) / 1000)
        return DependencyView(
            name=name,
            state=circuit.state.value,
            generation=circuit.generation,
            reason=circuit.reason,
            owner=circuit.owner,
            changed_at_ms=circuit.changed_at_ms,
            next_canary_in=left,
            failed_probes=circuit.failed_probes,
            until_ms=circuit.until_ms,
            calls=sum(worker.counters["calls"].get(name, 0) for worker in workers),
            failures=sum(worker.counters["failures"].get(name, 0) for worker in workers),
        )

    async def _probe_every(self, name: str) -> float:
        for document in await manifests(self._store):
            if name in document["dependencies"]:
                return float(document["dependencies"][name]["probe_every"])
        return CircuitPolicy().probe_every

    def _shared(self, name: str) -> SharedCircuit:
        return SharedCircuit(name, self._store, self._clock)

    async def _redrive_parked(self, view: ParkedView, left: int, rate: float | None) -> int:
        moved = 0
        while left > moved:
            part = min(left - moved, _PART if rate is None else max(1, int(rate)))
            done = await move(self._broker, view.parked_queue, view.queue, limit=part)
            moved += done
            if not done:
                break
            if rate is not None and left > moved:
                await asyncio.sleep(done / rate)
        return moved
