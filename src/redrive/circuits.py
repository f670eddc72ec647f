"""The shared circuits in the store: read through a short cache, changed by compare-and-swap."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from redrive.circuit import Circuit, State
from redrive.clock import Clock
from redrive.errors import NewerRecord, StoreError, VersionConflict
from redrive.fingerprint import one_line
from redrive.store import ABSENT, CIRCUITS, Store

_log = logging.getLogger("redrive.circuit")
CACHED_FOR = 1.0
"""Seconds for which a worker believes what it read."""

Change = Callable[[Circuit], Circuit]


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitChange:
    """A circuit went from one state to another, as observers are told."""

    dependency: str
    before: State
    after: Circuit


class SharedCircuit:
    """One dependency's circuit, as this process sees it. Store away: the last view stands, each worker on its own."""

    def __init__(
        self, name: str, store: Store, clock: Clock, observe: Callable[[CircuitChange], None] | None = None
    ) -> None:
        self._name, self._store, self._clock = name, store, clock
        self._observe = observe
        self._read_at: float | None = None
        self._seen = False
        self.view = Circuit()
        """The circuit as last read or written here."""

    async def read(self, *, fresh: bool = False) -> Circuit:
        """The circuit, at most a second old; `fresh`: as it is now. Store away: the last view."""
        now = self._clock.monotonic()
        if not fresh and self._read_at is not None and now - self._read_at < CACHED_FOR:
            return self.view
        try:
            entry = await self._store.get(CIRCUITS, self._name)
            self._see(Circuit() if entry is None else Circuit.from_json(entry.value))
        except (StoreError, NewerRecord) as error:
            _log.warning("circuit of %s cannot be read, the last view stands: %s", self._name, error)
        self._read_at = now
        return self.view

    async def change(self, change: Change) -> Circuit:
        """Apply a pure change to what stands in the store; the circuit as it is then. Store away: nothing changes."""
        while True:
            try:
                entry = await self._store.get(CIRCUITS, self._name)
                before = Circuit() if entry is None else Circuit.from_json(entry.value)
                self._see(before)
                after = change(before)
                if after is not before:
                    version = ABSENT if entry is None else entry.version
                    await self._store.put(CIRCUITS, self._name, after.to_json(), if_version=version)
            except VersionConflict:
                continue
            except (StoreError, NewerRecord) as error:
                _log.warning("circuit of %s cannot be written: %s", self._name, error)
                return self.view
            self._read_at = self._clock.monotonic()
            self._see(after)
            return after

    def _see(self, circuit: Circuit) -> None:
        before, self.view = self.view, circuit
        first, self._seen = not self._seen, True
        if circuit.state is before.state and circuit.generation == before.generation:
            return
        if first:  # nothing changed just now: this process has just begun to look
            _log.info("circuit of %s is %s (%s)", self._name, circuit.state.value, one_line(circuit.reason))
            return
        old, new, why = before.state.value, circuit.state.value, one_line(circuit.reason)
        _log.warning("circuit of %s: %s -> %s (%s)", self._name, old, new, why)
        if self._observe is not None:
            self._observe(CircuitChange(dependency=self._name, before=before.state, after=circuit))
