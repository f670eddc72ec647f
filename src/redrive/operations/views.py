"""What operators are shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """One queue, with what waits behind it."""

    name: str
    ready: int
    in_flight: int
    delayed: int
    parked: int
    dead: int
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyView:
    """One dependency and its circuit."""

    name: str
    state: str
    generation: int
    reason: str
    owner: str
    changed_at_ms: int
    next_canary_in: float | None
    """Seconds until the next probe; None unless open."""
    failed_probes: int
    until_ms: int | None
    calls: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """One worker, as it last said."""

    name: str
    app: str
    alive: bool
    pid: int
    at_ms: int
    queues: list[str]
    counters: dict[str, Any]

    @property
    def runs(self) -> int:
        """Handler runs since it started."""
        return int(self.counters["runs"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything at once."""

    queues: dict[str, QueueView]
    dependencies: dict[str, DependencyView]
    workers: list[WorkerView] = field(default_factory=list)

    @property
    def handler_runs(self) -> int:
        """Handler runs of all workers of the last day."""
        return sum(worker.runs for worker in self.workers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedView:
    """One parked queue."""

    queue: str
    dependency: str
    parked_queue: str
    count: int
    oldest_sent_at_ms: int | None
    """None: nothing is parked, or the broker shows no message that is not received."""
