"""What an operator can do, said once for the CLI, the console and programs.

It needs the broker and the store, and not the application's code: a worker leaves a manifest. With the code at hand,
bodies are checked against the queue's own type; without it, against the schema in the manifest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, Self

from redrive.annotations import annotated
from redrive.app import App
from redrive.clock import SteadyClock, SystemClock
from redrive.connections import connect
from redrive.operations.circuits import CircuitOperations
from redrive.operations.ground import Checked
from redrive.operations.letters import LetterOperations
from redrive.operations.queues import QueueOperations
from redrive.operations.saga_looks import Hindered
from redrive.operations.saga_views import InstanceView, SagaPage, SagaView
from redrive.operations.sagas import SagaDone, SagaOperations
from redrive.operations.views import DependencyView, Overview, ParkedView, QueueView, WorkerView


class Operations(QueueOperations, LetterOperations, CircuitOperations):
    """An operator's hands on one broker and store."""

    @classmethod
    def of(cls, app: App[Any], *, who: str | None = None) -> Self:
        """On an open application.

        Raises:
            NotOpen: If it is not.
        """
        runtime = app.runtime
        return cls(runtime.broker, runtime.store, clock=runtime.clock, app=app, who=who)

    @classmethod
    @asynccontextmanager
    async def open(cls, address: str, *, who: str | None = None) -> AsyncIterator[Self]:
        """On a broker's address, without the application's code."""
        clock = SteadyClock(SystemClock())
        broker, store = await asyncio.to_thread(connect, address, clock)
        try:
            yield cls(annotated(broker, store, clock), store, clock=clock, who=who)
        finally:
            await broker.close()
            await store.close()

    @cached_property
    def sagas(self) -> SagaOperations:
        """Sagas, on the same broker and store."""
        return SagaOperations(self._broker, self._store, clock=self._clock, app=self._app, who=self._who)

    async def overview(self) -> Overview:
        """Queues, dependencies and workers."""
        workers = await self.workers()
        names = await self._broker.queues()
        queues = [await self._queue_view(name, names) for name in await self._ours(names)]
        return Overview(
            queues={view.name: view for view in queues},
            dependencies={name: await self._dependency_view(name, workers) for name in await self._dependencies(names)},
            workers=workers,
        )


__all__ = [
    "Checked",
    "DependencyView",
    "Hindered",
    "InstanceView",
    "Operations",
    "Overview",
    "ParkedView",
    "QueueView",
    "SagaDone",
    "SagaOperations",
    "SagaPage",
    "SagaView",
    "WorkerView",
]
