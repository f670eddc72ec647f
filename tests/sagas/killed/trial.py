"""Trials: two workers on one address, killed or stopped at the points that each trial names, and started again.

    python -m tests.sagas.killed.trial FOLDER < trials.json

This process opens no database and runs no thread, so that it can fork: a worker is at work within milliseconds. Many
trials run beside one another, since each mostly waits for a lease to end. What became of them is the last line that it
prints, as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from redrive.clock import SteadyClock, SystemClock
from redrive.connections import connect
from redrive.sagas.journal import State
from tests.sagas.killed.shop import (
    QUEUE,
    KillingBroker,
    KillingStore,
    Ledger,
    Point,
    Services,
    Switch,
    application,
)

AT_ONCE = 8
PATIENCE = 40.0
"""Seconds that a trial may take."""
_LOOKS_EVERY = 0.02


@dataclass(kw_only=True)
class Trial:
    """One saga, and the points at which its workers die."""

    order: str
    points: list[Point]
    address: str = "sqlite:{folder}/trial.db"
    folder: Path = Path()
    switch: Switch = field(default_factory=lambda: Switch([]))
    workers: set[int] = field(default_factory=set)
    stopped: set[int] = field(default_factory=set)
    watcher: int = 0
    began: float = 0.0
    outcome: dict[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The address, in full; where it has a name, one that no other trial has."""
        name = "-".join(one.name for one in (self.folder.parents[1], self.folder.parent, self.folder))
        return self.address.format(folder=self.folder, name=name)


async def send(trial: Trial) -> None:
    """Start the saga, and make the queues."""
    app, _ = application(broker=trial.where)
    Ledger(trial.folder / "ledger.db").close()
    async with app:
        await app.queues[QUEUE].send(trial.order)


async def work(trial: Trial) -> None:
    """A worker, until it is killed or told to stop."""
    app, _ = application(resources=lambda: _services(trial), broker=trial.where)
    clock = SteadyClock(SystemClock())
    broker, store = await asyncio.to_thread(connect, trial.where, clock)
    killing = KillingBroker(broker)
    killing.switch = trial.switch
    await app.open_on(killing, KillingStore(store, trial.switch), clock=clock, random=Random())  # noqa: S311
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await app.work(stop=stop)
    await app.close()


@contextlib.asynccontextmanager
async def _services(trial: Trial) -> Any:
    ledger = Ledger(trial.folder / "ledger.db")
    yield Services(ledger=ledger, switch=trial.switch)
    ledger.close()


async def watch(trial: Trial) -> None:
    """Until the saga has ended, or is stuck with its letter; then write down how it stands."""
    app, saga = application(broker=trial.where)
    deadline = time.monotonic() + PATIENCE
    async with app:
        while time.monotonic() < deadline:
            journal = await saga.journal(trial.order)
            letters = (await app.runtime.broker.depth(f"{QUEUE}-dead")).total
            if journal is not None and (journal.is_settled or (journal.state is State.STUCK and letters)):
                break
            await asyncio.sleep(_LOOKS_EVERY)  # there is nothing to be told by: it looks from outside
        journal = await saga.journal(trial.order)
        document = "" if journal is None else journal.to_json().decode()
        outcome = {"journal": document, "letters": (await app.runtime.broker.depth(f"{QUEUE}-dead")).total}
        (trial.folder / "outcome.json").write_text(json.dumps(outcome))


class Trials:
    """The parent of all processes."""

    def __init__(self, folder: Path, trials: list[Trial]) -> None:
        self._folder, self._waiting, self._running = folder, trials[::-1], dict[int, Trial]()
        self._number = 0
        self.done: list[Trial] = []

    def run(self) -> None:
        """All of them; blocks. Nothing outlives it."""
        try:
            while self._waiting or self._running:
                while self._waiting and len({id(one) for one in self._running.values()}) < AT_ONCE:
                    self._begin(self._waiting.pop())
                self._look()
        finally:
            for pid in self._running:
                os.kill(pid, signal.SIGKILL)

    def _begin(self, trial: Trial) -> None:
        self._number += 1
        trial.folder = self._folder / f"{self._number}"
        trial.folder.mkdir()
        trial.switch = Switch(trial.points)
        trial.began = time.monotonic()
        _, status = os.waitpid(_forked(send, trial), 0)
        if status:
            raise RuntimeError((trial.folder / "traceback").read_text())
        trial.watcher = self._start(watch, trial)
        for _ in range(2):
            trial.workers.add(self._start(work, trial))

    def _start(self, role: Callable[[Trial], Awaitable[None]], trial: Trial) -> int:
        pid = _forked(role, trial)
        self._running[pid] = trial
        return pid

    def _look(self) -> None:
        signal.sigtimedwait({signal.SIGCHLD}, 0.05)
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            if not pid:
                return
            trial = self._running[pid]
            if os.WIFSTOPPED(status):
                trial.stopped.add(pid)
                continue
            del self._running[pid]
            if pid == trial.watcher:
                self._end(trial)
            elif trial.watcher:
                trial.workers.discard(pid)
                trial.workers.add(self._start(work, trial))
            else:
                trial.workers.discard(pid)
            if not trial.watcher and not trial.workers:
                self._judge(trial)

    def _end(self, trial: Trial) -> None:
        """The saga has ended: who was stopped wakes up, and has time to do harm until it has stopped in good order."""
        trial.watcher = 0
        trial.outcome = json.loads((trial.folder / "outcome.json").read_text())
        trial.outcome["at_end"] = _calls(trial)
        for pid in trial.workers:
            os.kill(pid, signal.SIGCONT if pid in trial.stopped else signal.SIGKILL)
            os.kill(pid, signal.SIGTERM)

    def _judge(self, trial: Trial) -> None:
        watched = trial.outcome["journal"]
        _, status = os.waitpid(_forked(look_again, trial), 0)
        if status:
            raise RuntimeError((trial.folder / "traceback").read_text())
        trial.outcome |= {
            "order": trial.order,
            "points": [asdict(one) for one in trial.points],
            "fired": trial.switch.fired,
            "counts": trial.switch.counts(),
            "calls": _calls(trial),
            "zombies": sorted(trial.stopped),
            "unchanged": (trial.folder / "again.json").read_text() == watched,
            "seconds": time.monotonic() - trial.began,
        }
        self.done.append(trial)


async def look_again(trial: Trial) -> None:
    """How the journal stands when nobody is left to write it."""
    app, saga = application(broker=trial.where)
    async with app:
        journal = await saga.journal(trial.order)
        (trial.folder / "again.json").write_text("" if journal is None else journal.to_json().decode())


def _calls(trial: Trial) -> list[tuple[str, str, int]]:
    ledger = Ledger(trial.folder / "ledger.db")
    try:
        return ledger.calls()
    finally:
        ledger.close()


def _forked(role: Callable[[Trial], Awaitable[None]], trial: Trial) -> int:
    """Start a process that does this and nothing else; its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        logging.basicConfig(
            filename=trial.folder / "log", level=logging.INFO, force=True, format="%(asctime)s %(process)d %(message)s"
        )
        asyncio.run(_awaited(role, trial))
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, it is reported, and this process ends here
        (trial.folder / "traceback").write_text(traceback.format_exc())
    finally:
        os._exit(code)


async def _awaited(role: Callable[[Trial], Awaitable[None]], trial: Trial) -> None:
    await role(trial)


def main() -> None:
    """Run the trials of standard input."""
    asked = json.load(sys.stdin)
    trials = [
        Trial(order=one["order"], points=[Point(**point) for point in one["points"]], address=one["address"])
        for one in asked
    ]
    if any("store_url" in one.address for one in trials):
        for module in ("psycopg", "redrive.stores.postgres"):
            importlib.import_module(module)  # warm, for all that are forked
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    gc.freeze()
    parent = Trials(Path(sys.argv[1]).resolve(), trials)
    parent.run()
    print(json.dumps([one.outcome for one in parent.done]))  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
