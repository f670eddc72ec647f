"""The loop: processes on one file, killed at random moments and started again at once; at the end the checker.

    python -m tests.crash.loop DATABASE LOGS --seed 1 --kills 300

This process opens no database and runs no thread, so that it can fork: a new process is at work within some
milliseconds. What it found is the last line that it prints, as JSON. Times are random by the seed; what the system
makes of them is not, so that a seed repeats the plan of a run and not the run.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from redrive.broker import Acknowledge
from redrive.brokers.sqlite import SqliteBroker
from redrive.sqlite.database import connect
from redrive.testing import Checker, History, Recorder, remaining
from tests.crash.figures import latencies, waits
from tests.crash.roles import QUEUES, ROLES, TURNS, Life

CREW = {"producer": 3, "consumer": 3, "mover": 1, "worker": 2}
"""How many of each are at work."""
WEIGHTS = {"producer": 4, "consumer": 4, "mover": 4, "worker": 1, "supervisor": 1}
"""How likely each is to be killed. A worker needs longer to begin, and seconds to become the leader of its healers."""
PATIENCE = 60.0
MID_TURN = 0.5
"""The share of kills that wait for their victim to be at the file."""
LONGEST_TURN = 0.05
OUTAGE = 40
"""Kills between two changes of the payments."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What a loop found."""

    seed: int
    kills: dict[str, int] = field(default_factory=dict)
    """By role."""
    mid_turn: list[int] = field(default_factory=lambda: [0, 0, 0])
    """How many of them between two transactions, within one, and within a checkpoint."""
    seconds: float = 0.0
    integrity: list[str] = field(default_factory=list)
    """The answers of `PRAGMA integrity_check`."""
    complaints: list[str] = field(default_factory=list)
    """Processes that ended by themselves, calls that raised, and what never came out of its queue."""
    violations: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)


class Loop:
    """The parent of all processes."""

    def __init__(self, life: Life, *, kills: int, every: float, supervised: bool, checks: int) -> None:
        self._life, self._kills, self._every, self._checks = life, kills, every, checks
        self._random = Random(life.seed)  # noqa: S311 - repeatable on purpose
        self._recorder = Recorder(life.logs, "loop")
        self._alive: dict[int, Life] = {}
        self._supervised = supervised
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._number = 0
        self.report = Report(seed=life.seed)

    def run(self) -> Report:
        """All of it; blocks. Nothing outlives it."""
        try:
            return self._run()
        finally:
            for pid in self._alive:
                os.kill(pid, signal.SIGKILL)
            if self._supervisor is not None:
                self._supervisor.kill()

    def _run(self) -> Report:
        began = time.monotonic()
        self._in_child(prepare)
        for role, how_many in CREW.items():
            for _ in range(how_many):
                self._start(role)
        self._supervise()
        for number in range(1, self._kills + 1):
            self._wait(self._random.uniform(0.2, 1.8) * self._every)
            self._kill_one()
            if number % OUTAGE == 0:
                self._change_payments()
            if number % self._checks == 0:
                self._check_file()
        self._finish()
        self.report.seconds = time.monotonic() - began
        self._judge()
        return self.report

    # Processes

    def _start(self, role: str, before: str | None = None) -> None:
        life = self._named(role, before)
        self._alive[_forked(life, ROLES[role])] = life

    def _named(self, role: str, before: str | None = None) -> Life:
        self._number += 1
        slot = self._number % len(TURNS)
        TURNS[slot] = 0
        return replace(self._life, name=f"{role}-{self._number}", slot=slot, before=before)

    def _supervise(self) -> None:
        if self._supervised:
            target = f"{Path(__file__).with_name('shop.py')}:app"
            log = (self._life.logs / "supervisor.log").open("ab")
            with log:
                command = [sys.executable, "-m", "redrive", "worker", target, "--log-level", "warning"]
                self._supervisor = subprocess.Popen(command, stderr=log)

    def _kill_one(self) -> None:
        victims = list(self._alive.items())
        weights = [WEIGHTS[_role(life)] for _, life in victims]
        if self._supervisor is not None and self._random.random() * (sum(weights) + 1) < WEIGHTS["supervisor"]:
            self._kill_supervised()
            return
        ((pid, life),) = self._random.choices(victims, weights)
        if self._random.random() < MID_TURN:
            self._await_turn(life)
        self._kill(pid)
        self._start(_role(life), life.name)

    def _await_turn(self, life: Life) -> None:
        """Until it is in the middle of a transaction, and a moment; a kill at any moment rarely is."""
        deadline = time.monotonic() + LONGEST_TURN
        while not TURNS[life.slot] and time.monotonic() < deadline:
            signal.sigtimedwait({signal.SIGCHLD}, 0.0001)
        self._wait(self._random.choice([0.0, self._random.uniform(0.0, 0.002)]))

    def _kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        life = self._alive.pop(pid)
        self._recorder.killed(life.name)
        self._count(_role(life))
        self.report.mid_turn[TURNS[life.slot]] += 1
        if not os.WIFSIGNALED(status):
            self.report.complaints.append(f"{life.name} had ended by itself, with status {status}")

    def _kill_supervised(self) -> None:
        """A worker under its supervisor, or the supervisor itself, which is then started again."""
        assert self._supervisor is not None
        children = _children(self._supervisor.pid)
        if children and self._random.random() < 0.6:
            os.kill(self._random.choice(children), signal.SIGKILL)
            self._count("supervised worker")
            return
        self._supervisor.kill()
        self._supervisor.wait()
        self._count("supervisor")
        self._supervise()

    def _count(self, role: str) -> None:
        self.report.kills[role] = self.report.kills.get(role, 0) + 1

    def _wait(self, seconds: float) -> None:
        """Until the next kill is due; who ends by himself meanwhile is found by `waitpid` when his turn comes."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            signal.sigtimedwait({signal.SIGCHLD}, left)

    def _change_payments(self) -> None:
        down = self._life.logs / "payments-are-down"
        if down.exists():
            down.unlink()
        else:
            down.touch()

    # Looking

    def _check_file(self) -> None:
        self.report.integrity.append(self._in_child(integrity))

    def _finish(self) -> None:
        """Kill all but the worker, let everything be drained and healed, then stop the workers too."""
        (self._life.logs / "payments-are-down").unlink(missing_ok=True)
        for pid, life in list(self._alive.items()):
            if _role(life) != "worker":
                self._kill(pid)
        self.report.complaints += self._in_child(drain)
        if self._supervisor is not None:
            self._supervisor.terminate()
            self._supervisor.wait()
        for pid in list(self._alive):
            self._kill(pid)
        self._check_file()

    def _judge(self) -> None:
        left, moved = self._in_child(look)
        history = History.read(self._life.logs)
        report = self.report
        report.violations = [str(one) for one in Checker(queues=QUEUES).check(history, left)]
        report.complaints += [f"{one.place} raised {one.raised}" for one in history.raised]
        report.complaints += [file.read_text() for file in self._life.logs.glob("*.traceback")]
        for log in self._life.logs.glob("*.log"):
            report.complaints += [one for one in log.read_text().splitlines() if "locked" in one or "Traceback" in one]
        report.counts = _counts(history) | {
            "moved by tasks": moved,
            "checkpoints": _size(self._life.logs / "checkpoints"),
        }
        report.counts |= {f"left in {queue}": len(ids) for queue, ids in left.items() if ids}
        report.figures = {**latencies(history), **waits(self._life.logs / "waits")}

    def _in_child(self, ask: Callable[[Life], Awaitable[Any]]) -> Any:
        """Ask something of the database in a process of its own, for this one has to stay without."""
        life = self._named(ask.__name__)
        answer = life.logs / f"{life.name}.answer"

        async def asked(life: Life) -> None:
            answer.write_text(json.dumps(await ask(life)))

        _, status = os.waitpid(_forked(life, asked), 0)
        if status != 0:
            raise RuntimeError((life.logs / f"{life.name}.traceback").read_text())
        return json.loads(answer.read_text())


async def prepare(life: Life) -> None:
    """Make the queues."""
    from tests.crash.shop import app  # noqa: PLC0415 - it reads its folder from the environment

    broker = life.broker(life.database())
    await broker.declare(QUEUES)
    await broker.close()
    async with app:
        pass


async def integrity(life: Life) -> str:
    """What SQLite says of the file, beside whoever is at work on it."""
    connection = connect(life.path)
    answer: str = connection.execute("PRAGMA integrity_check").get
    connection.close()
    return answer


async def drain(life: Life) -> list[str]:
    """Acknowledge all that is left, and wait until the shop has healed; what never came."""
    broker = life.broker(life.database())
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    mine = [spec.name for spec in QUEUES]
    waiting = mine
    while waiting and loop.time() < deadline:
        for queue in mine:
            deliveries = await broker.receive(queue, limit=100, lease=3.0, wait=0.02)
            if deliveries:
                await broker.settle([Acknowledge(delivery=one) for one in deliveries])
        shop = [name for name in await broker.queues() if name == "coffees" or name.startswith("coffees-parked")]
        waiting = [name for name in (*mine, *shop) if (await broker.depth(name)).total]
    await broker.close()
    return [f"{queue!r} could not be emptied within {PATIENCE:g} s" for queue in waiting]


async def look(life: Life) -> tuple[dict[str, list[str]], int]:
    """What is left in all queues, and how many messages the move tasks moved; then nothing is left for a next loop."""
    database = life.database()
    broker = SqliteBroker(database)
    left = await remaining(broker)
    for queue in left:
        await broker.purge(queue)
    moved = await database.run(lambda tables: tables.connection.execute("SELECT sum(moved) FROM move_task").get)
    database.close()
    return left, moved or 0


def _forked(life: Life, role: Callable[[Life], Awaitable[None]]) -> int:
    """Start a process that does this and nothing else; its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        logging.basicConfig(filename=life.logs / "processes.log", level=logging.WARNING)
        asyncio.run(_awaited(role, life))
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, it is reported, and this process ends here
        (life.logs / f"{life.name}.traceback").write_text(traceback.format_exc())
    finally:
        os._exit(code)


async def _awaited(role: Callable[[Life], Awaitable[None]], life: Life) -> None:
    await role(life)


def _role(life: Life) -> str:
    return life.name.partition("-")[0]


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _counts(history: History) -> dict[str, int]:
    return {
        "messages sent": len(history.sends),
        "messages received": len(history.leases),
        "messages settled": len(history.settles),
        "duplicates sent": sum(one.duplicate_of is not None for one in history.sends),
        "dead letters seen": sum(one.queue.endswith("-dead") for one in history.leases),
        "handled by the shop": len(history.handled),
        "receives without an answer": sum(not one.call.answered for one in history.receives),
        "sends without an answer": sum(not one.call.answered for one in history.sends),
    }


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def main() -> None:
    """Run one loop and print its report."""
    parser = argparse.ArgumentParser(prog="tests.crash.loop")
    parser.add_argument("folder", type=Path, help="where the database is, or shall be")
    parser.add_argument("logs", type=Path, help="an empty folder for everything that is written down")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--every", type=float, default=0.1, help="mean seconds between two kills")
    parser.add_argument("--pace", type=float, default=0.02, help="mean seconds between two calls of a task")
    parser.add_argument("--broken", help="which fault the broker is given")
    parser.add_argument("--unsupervised", action="store_true", help="without `redrive worker`")
    options = parser.parse_args()
    folder, logs = options.folder.resolve(), options.logs.resolve()
    os.environ["SHOP_LOGS"] = os.fspath(logs)
    os.environ["REDRIVE_BROKER"] = f"sqlite:{folder / 'loop.db'}"
    import tests.crash.shop  # noqa: F401, PLC0415 - warm, for all that are forked; after its folder is known

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    gc.freeze()
    life = Life(
        folder=folder, logs=logs, name="loop", slot=0, seed=options.seed, pace=options.pace, broken=options.broken
    )
    loop = Loop(life, kills=options.kills, every=options.every, supervised=not options.unsupervised, checks=75)
    print(json.dumps(asdict(loop.run())))  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
