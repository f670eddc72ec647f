"""Poison pills, in real processes: each ends dead after exactly its attempts or crashes, and nobody else pays."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from redrive.message import Message
from tests.runtime import poison
from tests.runtime.fakes import until
from tests.runtime.supervised import Supervisor, opened, supervising

pytestmark = pytest.mark.e2e

RAISED = {
    "raise": "ValueError: bad",
    "beyond": "poison.Beyond: ",
    "interrupt": "KeyboardInterrupt: ",
    "close": "GeneratorExit: ",
    "cancel": "asyncio.exceptions.CancelledError: ",
    "unpicklable": "poison.Unpicklable: (1, <function",
    "unprintable": "poison.Unprintable: <its text cannot be shown: RuntimeError>",
    "recursion": "RecursionError: maximum recursion depth exceeded",
    "sys.exit": "SystemExit: 3",
    "memory": "MemoryError: ",
}
"""What ends in the handler's own exception, and how its record puts it. The process has 4 GiB of addresses."""
CRASHED = {
    "os._exit": "exit code 1",
    "os._exit as if it were done": "exit code 0",
    "os._exit as if misconfigured": "exit code 78",
    "os._exit as if to be replaced": "exit code 75",
    "segv": "signal 11",
    "abort": "signal 6",
    "oom kill": "killed, or no end within its timeout",
    "loop": "killed, or no end within its timeout",
    "deaf": "killed, or no end within its timeout",
}
"""What takes its process down, and how its record puts it.

The kernel's own kill when memory is out is the signal that "oom kill" sends to itself: nothing is told to the process,
and the supervisor sees the same.
"""
COMPANY = ("wait", "mourn", "work")
"""What is in flight beside a pill. What mourns ends dead by its own attempts, and so shows what it was charged."""


class Poisoned(Supervisor):
    """A supervisor of `poison.py`: orders are known by their numbers."""

    def __init__(self, supervisor: Supervisor, log: Path, ids: Sequence[str]) -> None:
        super().__init__(supervisor.process, supervisor.operations, supervisor._output)
        self._log, self.ids = log, list(ids)

    def runs(self, what: str = "b") -> Counter[int]:
        """How often the handler of each order began, or ended (`e`)."""
        return Counter(number for happened, number, _ in poison.read(self._log) if happened == what)

    async def letters(self, queue: str) -> dict[int, Message]:
        """What is dead, by its number."""
        return {self.ids.index(one.id): one for one in (await self.dead(queue)).values()}

    async def settled(self, *queues: str, within: float) -> None:
        """Wait until nothing is left to do."""
        for queue in queues:
            await until(partial(self.empty, queue), within)


@asynccontextmanager
async def poisoned(
    folder: Path, orders: Sequence[tuple[str, str]], *, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Poisoned]:
    """A supervisor on a file that holds these orders, each a queue and what it does."""
    log = folder / "log"
    log.touch()
    async with opened(folder) as operations:
        ids = [
            await operations.send(queue, f'{{"number":{number},"does":"{does}"}}'.encode())
            for number, (queue, does) in enumerate(orders)
        ]
        variables = {"POISON_LOG": str(log), **(environment or {})}
        constants = {"keeper._LOOP_PATIENCE": 0.5, "keeper._STANDS_STILL": 1.5}
        running = supervising(folder, operations, "poison.py:app", environment=variables, constants=constants)
        async with running as supervisor:
            yield Poisoned(supervisor, log, ids)


@pytest.mark.parametrize("queue", ["orders", "plain"])
async def test_what_raises_is_dead_after_exactly_its_attempts(tmp_path: Path, queue: str) -> None:
    """Whatever is raised, and however badly it prints, is an attempt, written down; its neighbours run once each."""
    does = ["work", *[pill for one in RAISED for pill in (one, "work")]]
    environment = {"POISON_MEMORY": str(4 << 30)}
    async with poisoned(tmp_path, [(queue, one) for one in does], environment=environment) as s:
        await s.settled(queue, within=30)
        letters, begun, ended = await s.letters(queue), s.runs(), s.runs("e")
        assert {does[number] for number in letters} == set(RAISED)
        for number, letter in letters.items():
            assert (letter.notes.attempts, letter.notes.crashes, begun[number]) == (2, 0, 2), does[number]
            record = letter.notes.failure
            assert record is not None
            assert record.reason.startswith(f"2 of 2 attempts: {RAISED[does[number]]}")
            assert [one.kind for one in record.recent] == ["raised", "raised"]
            assert "poison.py" in record.first.traceback
        good = [number for number, one in enumerate(does) if one == "work"]
        assert [(begun[number], ended[number]) for number in good] == [(1, 1)] * len(good)
        assert "died" not in s.said()


@pytest.mark.parametrize("pill", ["raise", "os._exit"])
async def test_on_a_broker_that_rewrites_nothing_a_pill_is_dead_after_exactly_its_counts(
    tmp_path: Path, pill: str
) -> None:
    """Its counters are in the store: whoever dies, and whichever process is next, goes on counting from there."""
    does = ["work", pill, "work"]
    environment = {"POISON_PLAIN": "1"}
    async with poisoned(tmp_path, [("orders", one) for one in does], environment=environment) as s:
        await s.settled("orders", within=30)
        letters, ended = await s.letters("orders"), s.runs("e")
        assert list(letters) == [1]
        if pill == "raise":
            assert (letters[1].notes.attempts, letters[1].notes.crashes, s.runs()[1]) == (2, 0, 2)
        else:
            is_dead(letters[1], pill)
        assert all(ended[number] for number in (0, 2))


@pytest.mark.parametrize("pill", [pytest.param(one, marks=pytest.mark.long) for one in CRASHED])
async def test_what_kills_is_dead_after_exactly_its_crashes(tmp_path: Path, pill: str) -> None:
    """It runs once in company and then alone; what was in flight with it runs once more, and is charged nothing."""
    does = [*COMPANY, pill, *COMPANY]
    async with poisoned(tmp_path, [("orders", one) for one in does]) as s:
        await s.settled("orders", within=40)
        letters, begun, ended = await s.letters("orders"), s.runs(), s.runs("e")
        is_dead(letters.pop(len(COMPANY)), pill)
        assert 3 <= begun[len(COMPANY)] <= 4  # twice alone, once in company, and once behind others at most
        for number, letter in letters.items():
            assert does[number] == "mourn"
            assert (letter.notes.attempts, letter.notes.crashes) == (2, 0)
            assert begun[number] <= 3  # one of them cut off
        good = [number for number, one in enumerate(does) if one in {"wait", "work"}]
        assert all(ended[number] == 1 and begun[number] <= 2 for number in good)
        assert s.process.returncode is None


@pytest.mark.timeout(120)  # on a machine that does other things; else a quarter of it
async def test_all_pills_at_once_are_dead_and_their_neighbours_are_handled(tmp_path: Path) -> None:
    """The worker dies again and again, and nothing that does no harm is charged, lost or stopped."""
    does = [one for pill in CRASHED for one in (pill, *COMPANY)]
    async with poisoned(tmp_path, [("orders", one) for one in does]) as s:
        await s.settled("orders", within=100)
        letters, begun, ended = await s.letters("orders"), s.runs(), s.runs("e")
        for number, letter in letters.items():
            if does[number] == "mourn":
                assert (letter.notes.attempts, letter.notes.crashes) == (2, 0)
            else:
                is_dead(letter, does[number])
                assert 3 <= begun[number] <= 4
        assert sorted(does[number] for number in letters) == sorted([*CRASHED, *["mourn"] * len(CRASHED)])
        assert all(ended[number] for number, one in enumerate(does) if one in {"wait", "work"})


def is_dead(letter: Message, pill: str) -> None:
    """Of two crashes, each written down."""
    notes, record = letter.notes, letter.notes.failure
    assert (notes.attempts, notes.crashes, notes.bounces) == (0, 2, 0), pill
    assert record is not None
    assert record.reason == f"2 of 2 crashes: {CRASHED[pill]}"
    assert [one.kind for one in record.recent] == ["crashed", "crashed"]


@pytest.mark.parametrize("pill", ["loop", pytest.param("os._exit", marks=pytest.mark.long)])
async def test_a_pill_in_a_thread_is_dead_after_its_attempts_or_crashes(tmp_path: Path, pill: str) -> None:
    """An endless loop in a plain handler is an attempt, and its worker is replaced; an exit is a crash."""
    does = ["wait", pill, "wait", "work"]
    async with poisoned(tmp_path, [("plain", one) for one in does]) as s:
        await s.settled("plain", within=30)
        letters, begun, ended = await s.letters("plain"), s.runs(), s.runs("e")
        assert list(letters) == [1]
        notes = letters[1].notes
        assert notes.failure is not None
        if pill == "loop":
            assert (notes.attempts, notes.crashes, begun[1]) == (2, 0, 2)
            assert [one.kind for one in notes.failure.recent] == ["timeout", "timeout"]
        else:
            assert (notes.attempts, notes.crashes) == (0, 2)
            assert 3 <= begun[1] <= 4
            assert notes.failure.reason == "2 of 2 crashes: exit code 1"
        assert all(ended[number] for number in (0, 2, 3))
