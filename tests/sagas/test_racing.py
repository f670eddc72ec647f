"""Two workers on one file: one instance is one instance."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

from redrive import App, Saga
from redrive.broker import Acknowledge, Results
from redrive.clock import SteadyClock, SystemClock
from redrive.connections import connect
from redrive.relay import Relay
from redrive.sagas.journal import State
from tests.sagas.running import Shop
from tests.sagas.services import Services, charge, confirm

STARTS = 50


async def fulfil(saga: Saga[Services], order: str) -> None:
    """Charge, confirm."""
    await saga.run(charge, order)
    await saga.run(confirm, order)


class Telling(Relay):
    """Tells when so many messages were acknowledged, by whomever."""

    count = 0
    all_gone: asyncio.Event

    async def settle(self, settlements: Any) -> Results:
        results = await super().settle(settlements)
        gone = [isinstance(one, Acknowledge) and error is None for one, error in zip(settlements, results, strict=True)]
        Telling.count += sum(gone)
        if Telling.count >= STARTS:
            Telling.all_gone.set()
        return results


async def opened(shop: Shop, file: Path) -> App[Any]:
    """The application on a file."""
    clock = SteadyClock(SystemClock())
    broker, store = connect(f"sqlite:{file}", clock)
    runtime = await shop.app.open_on(Telling(broker), store, clock=clock, random=Random())  # noqa: S311 - ids
    runtime.resources = shop.services
    return shop.app


async def test_fifty_tasks_that_start_one_id_while_two_workers_are_at_work_are_one_effect(tmp_path: Path) -> None:
    """Each step once; the other forty-nine find it begun."""
    Telling.count, Telling.all_gone = 0, asyncio.Event()
    first, second, stop = Shop(fulfil, concurrency=20), Shop(fulfil, concurrency=20), asyncio.Event()
    second.services = first.services
    apps = [await opened(one, tmp_path / "racing.db") for one in (first, second)]
    for one in (first, second):
        one.app._resources = None
    working = [asyncio.create_task(_worked(app, stop, first.services)) for app in apps]
    await asyncio.gather(*[(first, second)[number % 2].orders.send("o") for number in range(STARTS)])
    async with asyncio.timeout(30):
        await Telling.all_gone.wait()
    journal = await first.journal()
    stop.set()
    await asyncio.gather(*working)
    assert journal.state is State.COMPLETED
    assert first.services.calls == ["o/charge/1", "o/confirm/1"]
    for app in apps:
        await app.close()


async def _worked(app: App[Any], stop: asyncio.Event, services: Services) -> None:
    app.runtime.resources = services
    await app.work(stop=stop)
