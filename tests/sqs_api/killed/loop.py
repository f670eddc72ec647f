"""The loop: a server under load, killed at random moments and started again; at the end everybody is asked."""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

from redrive.sqlite.database import connect
from redrive.testing import Checker, History, Recorder
from tests.sqs_api.killed.clerk import Clerk
from tests.sqs_api.killed.crew import QUEUES, Consumer, Member, Producer, declare, drain
from tests.sqs_api.killed.moving import OWNER, RUNNING, SOURCE, TARGET, Watch
from tests.sqs_api.killed.serving import DEADLINE, Client, Server

PRODUCERS, CONSUMERS, CLERKS = 2, 3, 2
EVERY = 0.6
"""Mean seconds from a start to the kill."""
MID_CALL, SOON = 0.8, 0.05
"""The share of kills that wait for a call to begin, and for how many seconds."""
WITHIN = 0.003
"""Seconds after the beginning of a call in which they come; most take no longer."""
MOVED_PER_KILL, RATE = 10, 12
"""Messages, and messages a second: the move lasts about as long as the kills."""


class Worker(Protocol):
    """Somebody with a thread of his own."""

    def work(self, stop: threading.Event) -> None:
        """Until he is told to stop."""
        ...


@dataclass(slots=True, kw_only=True)
class Report:
    """What a loop found."""

    seed: int
    kills: int = 0
    seconds: float = 0.0
    complaints: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Loop:
    """One server, its clients, and whoever kills it."""

    def __init__(self, folder: Path, *, seed: int, between: Callable[[Path], None] = lambda _: None) -> None:
        """Prepare.

        Args:
            folder: an empty one.
            seed: of the plan; what the system makes of it is not repeatable.
            between: done to the database between each kill and the next start; a harm that has to be found.
        """
        self._folder, self._between = folder, between
        self._random = Random(seed)  # noqa: S311 - repeatable on purpose
        self._database = folder / "served.db"
        self._server = Server(self._database)
        self._recorders: list[Recorder] = []
        self._clients: list[Client] = []
        self.report = Report(seed=seed)

    def run(self, kills: int) -> Report:
        """All of it; blocks. Nothing outlives it."""
        began = time.monotonic()
        try:
            self._server.start()
            self._run(kills)
        finally:
            self._server.kill()
            for client in self._clients:
                client.close()
            for recorder in self._recorders:
                recorder.close()
        history = History.read(self._folder)
        self.report.violations = [str(one) for one in Checker(queues=QUEUES).check(history, {})]
        self._look_at_file()
        self._count(history)
        self.report.seconds = time.monotonic() - began
        return self.report

    def _run(self, kills: int) -> None:
        declare(self._client())
        watch = Watch(self._client(), messages=MOVED_PER_KILL * kills, rate=RATE)
        watch.begin()
        self._server.kill()
        self._server.start()  # which brings the log into the file: no harm between kills takes the queues
        crew: list[Producer | Consumer] = [Producer(*self._member(f"producer-{n}")) for n in range(PRODUCERS)]
        crew += [Consumer(*self._member(f"consumer-{n}")) for n in range(CONSUMERS)]
        clerks = [Clerk(self._client(), f"clerk-{n}", self._random.randrange(10**6)) for n in range(CLERKS)]
        with self._at_work([*crew, *clerks, watch]):
            for _ in range(kills):
                self._pause(self._random.uniform(0.3, 1.7) * EVERY)
                self._kill()
                self.report.counts["kills during the move"] += watch.status == RUNNING
        self._ask(clerks)
        watch.finish(DEADLINE)
        last = Member(*self._member("last"))
        self.report.complaints += drain(last, DEADLINE) + watch.complaints
        for one in (*crew, *clerks, last):
            self.report.counts.update(one.counts)

    def _kill(self) -> None:
        if self._random.random() < MID_CALL:
            self._server.asked.clear()
            self._server.asked.wait(SOON)
            self._pause(self._random.choice([0.0, self._random.uniform(0.0, WITHIN)]))
        self._server.kill()
        self.report.kills += 1
        self._between(self._database)
        self._server.start()

    def _pause(self, seconds: float) -> None:
        threading.Event().wait(seconds)

    @contextmanager
    def _at_work(self, workers: Sequence[Worker]) -> Iterator[None]:
        stop = threading.Event()
        threads = [threading.Thread(target=self._work, args=(one, stop)) for one in workers]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(2 * DEADLINE)

    def _work(self, worker: Worker, stop: threading.Event) -> None:
        try:
            worker.work(stop)
        except BaseException:  # noqa: BLE001 - whatever it is, it is reported
            self.report.complaints.append(traceback.format_exc())

    def _ask(self, clerks: list[Clerk]) -> None:
        """Whether all queues are as they were answered, and no others are there."""
        expected = {SOURCE, TARGET, OWNER, *(f"{one.name}.fifo" if one.fifo else one.name for one in QUEUES)}
        deleted: set[str] = set()
        for clerk in clerks:
            clerk.look()
            self.report.complaints += clerk.complaints
            deleted |= clerk.deleted
            expected |= {clerk.queue} if clerk.exists else set()
        found = {one.rpartition("/")[2] for one in self._client().call("ListQueues").get("QueueUrls", [])}
        if found != expected:
            self.report.complaints.append(f"there are {found - expected}, and there should be {expected - found}")
        self.report.counts["queues deleted"] = len(deleted)

    def _look_at_file(self) -> None:
        connection = connect(str(self._database))
        answer: str = connection.execute("PRAGMA integrity_check").get
        connection.close()
        if answer != "ok":
            self.report.complaints.append(answer)

    def _count(self, history: History) -> None:
        self.report.counts.update(
            {
                "sent": len(history.sends),
                "received": len(history.leases),
                "settled": len(history.settles),
                "dead": sum(one.queue.endswith("-dead") for one in history.leases),
                "sends unknown": sum(not one.call.answered for one in history.sends),
                "receives unknown": sum(not one.call.answered for one in history.receives),
                "settlements unknown": sum(not one.call.answered for one in history.settles),
            }
        )

    def _client(self) -> Client:
        self._clients.append(Client(self._server))
        return self._clients[-1]

    def _member(self, name: str) -> tuple[Client, Recorder, int]:
        self._recorders.append(Recorder(self._folder, name))
        return self._client(), self._recorders[-1], self._random.randrange(10**6)


def forget_the_log(database: Path) -> None:
    """What a server would leave that answers before it writes: an older, whole file."""
    Path(f"{database}-wal").unlink(missing_ok=True)
    Path(f"{database}-shm").unlink(missing_ok=True)


def told(report: Report) -> dict[str, Any]:
    """For people."""
    return {"kills": report.kills, "seconds": round(report.seconds, 1), **dict(sorted(report.counts.items()))}
