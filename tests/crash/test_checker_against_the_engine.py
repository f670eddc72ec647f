"""The checker and the engine agree, in virtual time: what the engine does gives no violation, and a forged log does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from redrive.broker import Acknowledge, Forward, Outgoing, QueueSpec, Return, Settlement
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import ManualClock
from redrive.errors import QueueConflict
from redrive.message import Delivery, Message
from redrive.sqlite.writer import InlineDatabase
from redrive.testing import Checker, History, Recorded, Recorder, remaining
from redrive.testing.history import SUFFIX

SPECS = [
    QueueSpec(name="dead"),
    QueueSpec(name="orders", dead_letter_queue="dead", max_receives=2),
    QueueSpec(name="lines-dead", fifo=True),
    QueueSpec(name="lines", fifo=True, dead_letter_queue="lines-dead", max_receives=2),
]
NAMES = [spec.name for spec in SPECS]
PROCESSES = 3

Step = tuple[Any, ...]
which = st.integers(0, 50)
process = st.integers(0, PROCESSES - 1)
BEGIN: list[Step] = [("send", 0, "orders", 3, 1), ("receive", 1, "orders", 2, 10.0)]
"""So that there is something to forge."""
steps = st.one_of(
    st.tuples(st.just("send"), process, st.sampled_from(["orders", "lines"]), st.integers(1, 3), which),
    st.tuples(st.just("receive"), process, st.sampled_from(NAMES), st.integers(1, 4), st.sampled_from([1.0, 10.0])),
    st.tuples(st.just("settle"), process, which, st.sampled_from(["acknowledge", "return", "uncounted", "forward"])),
    st.tuples(st.just("extend"), process, which, st.sampled_from([1.0, 20.0])),
    st.tuples(st.just("move"), process, st.sampled_from(["dead", "lines-dead"])),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 3.0, 15.0, 200.0])),
    st.tuples(st.just("die"), process),
)


class Mortal(Recorder):
    """A log whose process may be killed between a call and the line that tells of its answer."""

    dying = False

    @override
    def got(self, number: int, answer: Sequence[Any]) -> None:
        if not self.dying:
            super().got(number, answer)


class World:
    """Some processes on one engine; time passes only when told, but for a microsecond with every line written."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._clock, self._lines = folder, ManualClock(), 0
        self.inner = SqliteBroker(InlineDatabase(self._clock))
        self._loop = Recorder(folder, "loop", clock=self._now)
        self._born = 0
        self._brokers = [self._process() for _ in range(PROCESSES)]
        self._sent = 0
        self._held: list[Delivery] = []

    async def do(self, step: Step) -> None:
        what, *facts = step
        await getattr(self, what)(*facts)

    async def send(self, process: int, queue: str, count: int, key: int) -> None:
        self._sent += count
        await self._brokers[process].send(queue, [self._outgoing(self._sent - n, key + n) for n in range(count)])

    async def receive(self, process: int, queue: str, limit: int, lease: float) -> None:
        self._held += await self._brokers[process].receive(queue, limit=limit, lease=lease)

    async def settle(self, process: int, which: int, how: str) -> None:
        if self._held:
            await self._brokers[process].settle([_settlement(self._held[which % len(self._held)], how)])

    async def extend(self, process: int, which: int, lease: float) -> None:
        if self._held:
            await self._brokers[process].extend([self._held[which % len(self._held)]], lease=lease)

    async def move(self, process: int, source: str) -> None:
        self._brokers[process].recorder.moving(source, None)
        with contextlib.suppress(QueueConflict):
            await self.inner.start_move(source)

    async def wait(self, seconds: float) -> None:
        self._clock.advance(seconds)

    async def die(self, process: int) -> None:
        """In the middle of a receive or a send, which the engine has done already."""
        broker = self._brokers[process]
        recorder = broker.recorder
        assert isinstance(recorder, Mortal)
        recorder.dying = True
        await broker.receive("orders", limit=2, lease=2.0)
        await broker.receive("lines", limit=2, lease=2.0)
        await self.send(process, "lines", 1, 7)
        recorder.close()
        self._loop.killed(recorder.process)
        self._brokers[process] = self._process()

    async def end(self) -> dict[str, list[str]]:
        left = await remaining(self.inner)
        for broker in self._brokers:
            broker.recorder.close()
        self._loop.close()
        await self.inner.close()
        return left

    def _process(self) -> Recorded:
        self._born += 1
        return Recorded(self.inner, Mortal(self._folder, f"process-{self._born}", clock=self._now))

    def _now(self) -> float:
        self._lines += 1
        return self._clock.monotonic() + self._lines / 1_000_000

    def _outgoing(self, number: int, key: int) -> Outgoing:
        message = Message(id=f"m{number}", body=b"%d" % number, sent_at_ms=1, group=f"g{number % 2}")
        return Outgoing(message=message, deduplication_id=f"k{key}")


def _settlement(delivery: Delivery, how: str) -> Settlement:
    match how:
        case "acknowledge":
            return Acknowledge(delivery=delivery)
        case "forward":
            return Forward(delivery=delivery, queue=delivery.queue, message=delivery.message)
        case _:
            return Return(delivery=delivery, uncounted=how == "uncounted")


Told = tuple[dict[str, str], dict[str, list[str]]]


def told(plan: list[Step]) -> Told:
    """The logs of a plan that was carried out, and what was left."""

    async def carried_out(folder: Path) -> dict[str, list[str]]:
        world = World(folder)
        await world.inner.declare(SPECS)
        for step in plan:
            await world.do(step)
        return await world.end()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        left = asyncio.run(carried_out(folder))
        return {file.stem: file.read_text() for file in folder.glob(f"*{SUFFIX}")}, left


def violations(logs: dict[str, str], left: dict[str, list[str]]) -> list[tuple[str, str]]:
    found = Checker(queues=SPECS, tolerance=0.01).check(History.of(logs), left)
    return [(one.kind, one.message_id) for one in found]


@settings(max_examples=150)
@given(st.lists(steps, max_size=60))
def test_what_the_engine_does_is_no_violation(plan: list[Step]) -> None:
    """Whatever is asked of it, by processes that die and settle late and with each other's receipts."""
    assert violations(*told(plan)) == []


@settings(max_examples=40)
@given(st.lists(steps, min_size=10, max_size=60), which)
def test_a_message_that_is_taken_away_is_missed(plan: list[Step], which: int) -> None:
    """One that was answered, is in a queue, and that nobody may have acknowledged: without it, it is lost."""
    logs, left = told(BEGIN + plan)
    safe = {one.id for one in History.of(logs).sends if one.call.answered}
    safe -= {one.id for one in History.of(logs).settles if one.kind == "acknowledge"}
    there = sorted(safe & {one for ids in left.values() for one in ids})
    assume(there)
    gone = there[which % len(there)]
    assert ("lost", gone) in violations(
        logs, {queue: [one for one in ids if one != gone] for queue, ids in left.items()}
    )


@settings(max_examples=40)
@given(st.lists(steps, min_size=10, max_size=60), which)
def test_a_receive_that_is_counted_wrongly_is_noticed(plan: list[Step], which: int) -> None:
    """A count that is two too high, where no receive without an answer can explain it."""
    logs, left = told([step for step in BEGIN + plan if step[0] != "die"])
    places = [(name, number) for name, number, line in _lines(logs) if line.get("got") and _is_lease(line["got"][0])]
    assume(places)
    name, number = places[which % len(places)]
    forged = logs[name].splitlines()
    line = json.loads(forged[number])
    line["got"][0][3] += 2
    forged[number] = json.dumps(line)
    found = violations({**logs, name: "\n".join(forged) + "\n"}, left)
    assert {kind for kind, identity in found if identity == line["got"][0][0]} & {"miscounted", "died late"}


@settings(max_examples=40)
@given(st.lists(steps, min_size=10, max_size=60), which)
def test_a_receive_that_another_one_had_too_is_noticed(plan: list[Step], which: int) -> None:
    """The same answer, a moment later, in another process's log."""
    logs, left = told(BEGIN + plan)
    receives = [one for one in History.of(logs).leases if one.seconds > 1]
    assume(receives)
    lease = receives[which % len(receives)]
    asked = {"call": 1, "did": "receive", "queue": lease.queue, "lease": 10.0, "chosen": False}
    one = [lease.id, lease.group, "another receipt", lease.receive_count + 1, lease.sequence, lease.digest]
    at = lease.call.ended + 1e-7
    forged = [{"at": at, **asked}, {"at": at + 1e-7, "call": 1, "got": [one]}]
    text = "".join(json.dumps(line) + "\n" for line in forged)
    assert ("leased twice", lease.id) in violations({**logs, "thief": text}, left)


def _lines(logs: dict[str, str]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for name, text in logs.items():
        for number, line in enumerate(text.splitlines()):
            yield name, number, json.loads(line)


def _is_lease(answer: Any) -> bool:
    return isinstance(answer, list) and len(answer) == 6
