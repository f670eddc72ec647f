"""Histories made by hand, a line at a time, for tests of the checker."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from redrive.broker import QueueSpec
from redrive.testing import Checker, History, Violation

SPECS = [
    QueueSpec(name="dead"),
    QueueSpec(name="orders", dead_letter_queue="dead", max_receives=3),
    QueueSpec(name="lines", fifo=True),
    QueueSpec(name="bodies", fifo=True, content_deduplication=True),
]
TOOK = 0.01
"""Seconds from a call to its answer."""
STALE = [{"refused": "stale"}]


class Held(NamedTuple):
    """A lease of a story."""

    process: str
    queue: str
    id: str
    receipt: str


class Story:
    """Time passes with each call; every process has a log."""

    def __init__(self) -> None:
        self.now = 100.0
        self.logs: dict[str, list[str]] = defaultdict(list)
        self._numbers = 0

    def call(self, by: str, did: str, got: Any, /, *, took: float = TOOK, **facts: Any) -> None:
        """A call and its answer; None: it was never answered."""
        self._numbers += 1
        self._write(by, {"at": self.now, "call": self._numbers, "did": did, **facts})
        self.now += took
        if got is not None:
            self._write(by, {"at": self.now, "call": self._numbers, **got})
        self.now += TOOK

    def send(
        self, process: str, queue: str, *ids: str, got: Any = (), group: str | None = None, key: str | None = None
    ) -> None:
        """A send of these ids, done unless told otherwise."""
        answer = {"got": [None] * len(ids)} if got == () else got
        self.call(process, "send", answer, queue=queue, messages=[[one, group, key, f"body of {one}"] for one in ids])

    def receive(
        self,
        process: str,
        queue: str,
        identity: str,
        *,
        count: int = 1,
        lease: float = 30.0,
        number: int | None = None,
        body: str | None = None,
        took: float = TOOK,
    ) -> Held:
        """A receive that gets one message."""
        receipt = f"r{self._numbers}"
        self.receive_all(
            process, queue, [[identity, "g", receipt, count, number, body or f"body of {identity}"]], lease, took
        )
        return Held(process, queue, identity, receipt)

    def receive_all(self, process: str, queue: str, got: list[Any], lease: float = 30.0, took: float = TOOK) -> None:
        """A receive with this answer."""
        self.call(process, "receive", {"got": got}, took=took, queue=queue, lease=lease, chosen=False)

    def receive_unseen(self, process: str, queue: str) -> None:
        """A receive in the middle of which its process is killed."""
        self.call(process, "receive", None, queue=queue, lease=30.0, chosen=False)
        self.kill(process)

    def settle(self, held: Held, kind: str = "acknowledge", *, got: Any = (), by: str = "", **facts: Any) -> None:
        """A settlement of one lease, done unless told otherwise."""
        one = {"queue": held.queue, "id": held.id, "receipt": held.receipt, "kind": kind, **facts}
        self.call(by or held.process, "settle", {"got": [None]} if got == () else got, settlements=[one])

    def extend(self, held: Held, lease: float, *, got: Any = ()) -> None:
        """An extension of one lease."""
        leases = [[held.queue, held.id, held.receipt]]
        self.call(held.process, "extend", {"got": [None]} if got == () else got, leases=leases, lease=lease)

    def kill(self, process: str) -> None:
        """The end of a process."""
        self.call("loop", "killed", None, process=process)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def history(self) -> History:
        """All of it."""
        return History.of({process: "".join(lines) for process, lines in self.logs.items()})

    def violations(self, left: dict[str, Sequence[str]] | None = None, **settings: Any) -> list[Violation]:
        """What the checker says, of what it says first of each kind and message."""
        return Checker(queues=SPECS, **settings).check(self.history(), {} if left is None else left)

    def kinds(self, left: dict[str, Sequence[str]] | None = None, **settings: Any) -> list[str]:
        """The kinds of violations."""
        return [one.kind for one in self.violations(left, **settings)]

    def _write(self, process: str, line: dict[str, Any]) -> None:
        self.logs[process].append(json.dumps(line) + "\n")
