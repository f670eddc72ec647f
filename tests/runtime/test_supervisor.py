"""The supervisor and its children, as real processes: what takes a worker down is found out, and nobody else pays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import redrive.child
from redrive import App, BrokerUnavailable, NotConfigured, OutcomeUnknown
from redrive.child import MISCONFIGURED, UNAVAILABLE
from redrive.errors import DatabaseUnusable, StoreUnavailable
from redrive.message import NOTHING
from tests.runtime import supervised
from tests.runtime.fakes import until
from tests.runtime.supervised import Supervisor, exists, opened


class Crashing(Supervisor):
    """A supervisor of `crashing.py`, and what its handlers wrote down."""

    def __init__(self, supervisor: Supervisor, log: Path, ids: list[str]) -> None:
        super().__init__(supervisor.process, supervisor.operations, supervisor._output)
        self._log, self.ids = log, ids

    def log(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def runs(self, identity: str, what: str = "begin") -> int:
        return sum(line.startswith(what) and line.endswith(identity) for line in self.log())


@asynccontextmanager
async def supervising(folder: Path, *does: str, queue: str = "orders", **settings: str) -> AsyncIterator[Crashing]:
    """A supervisor on a file that holds one order for each thing to do: its first worker receives them together."""
    log = folder / "log"
    environment = {
        "CRASHING_LOG": str(log),
        **{f"CRASHING_{name.upper()}": value for name, value in settings.items()},
    }
    async with opened(folder) as operations:
        bodies = [f'{{"id":"{number}","does":"{one}"}}'.encode() for number, one in enumerate(does)]
        ids = [await operations.send(queue, body) for body in bodies]
        running = supervised.supervising(
            folder,
            operations,
            "crashing.py:app",
            environment=environment,
            constants={"keeper._LOOP_PATIENCE": 0.5, "keeper._STANDS_STILL": 1.5, "keeper._KILL_AFTER": 1.0},
        )
        async with running as supervisor:
            yield Crashing(supervisor, log, ids)


@pytest.mark.parametrize("once", [False, pytest.param(True, marks=pytest.mark.long)])
async def test_poison_is_dead_after_exactly_max_crashes_and_no_neighbour_is_charged(
    tmp_path: Path, *, once: bool
) -> None:
    """What takes its process down alone, by exit or by signal, is dead after `max_crashes` of it; the others go on."""
    does = ("work", "exit", "wait", "segv", "work")
    async with supervising(tmp_path, *does, **({"once": "1"} if once else {})) as s:
        await until(s.empty, 40)
        await until(lambda: all_dead(s, 2))
        first, exits, second, segv, third = s.ids
        dead = await s.dead()
        assert set(dead) == {exits, segv}
        for identity, how in ((exits, "exit code 1"), (segv, "signal 11")):
            notes = dead[identity].notes
            assert (notes.crashes, notes.attempts, notes.bounces) == (2, 0, 0)
            assert notes.failure is not None
            assert notes.failure.reason == f"2 of 2 crashes: {how}"
            assert [one.kind for one in notes.failure.recent] == ["crashed", "crashed"]
            letter = await s.operations.letter(identity, "orders")
            assert letter.record == notes.failure
            assert s.runs(identity) <= 4  # in company, behind others alone, and then each time all alone
        for identity in (first, second, third):
            assert s.runs(identity, "end") >= 1


async def all_dead(s: Crashing, count: int, queue: str = "orders") -> bool:
    return len(await s.dead(queue)) == count


@pytest.mark.long
@pytest.mark.parametrize("does", ["loop", "block"])
async def test_a_handler_that_blocks_the_loop_is_found_and_charged_alone(tmp_path: Path, does: str) -> None:
    """A loop that does not turn is killed by the supervisor; alone, its message is charged, and dead in the end."""
    async with supervising(tmp_path, "work", does, "work", max="1") as s:
        await until(lambda: all_dead(s, 1), 40)
        await until(s.empty, 20)
        dead = await s.dead()
        assert set(dead) == {s.ids[1]}
        notes = dead[s.ids[1]].notes
        assert notes.crashes == 1
        assert notes.failure is not None
        assert "no end within its timeout" in notes.failure.reason


async def test_a_worker_killed_in_mid_message_loses_nothing_and_charges_nobody(tmp_path: Path) -> None:
    """`kill -9` of the child: another one starts, and the message is handled, its counters at zero."""
    async with supervising(tmp_path, "wait", "wait", "wait") as s:
        await until(lambda: len(s.log()) >= 1)
        os.kill(await s.worker(), signal.SIGKILL)
        await until(s.empty, 30)
        assert await s.dead() == {}
        assert all(s.runs(identity, "end") >= 1 for identity in s.ids)


@pytest.mark.long
async def test_a_suspect_whose_process_cannot_start_is_not_charged(tmp_path: Path) -> None:
    """The process for suspects fails before the message is in its hands: nobody's crash; later it is handled."""
    broken = tmp_path / "broken"
    broken.touch()
    async with supervising(tmp_path, "wait", broken=str(broken)) as s:
        await until(s.log)
        os.kill(await s.worker(), signal.SIGKILL)
        await until((tmp_path / "broken.seen").exists, 30)
        (tmp_path / "broken.seen").unlink()
        await until((tmp_path / "broken.seen").exists, 30)
        broken.unlink()
        await until(s.empty, 30)
        assert await s.dead() == {}
        assert s.runs(s.ids[0], "end") == 1


async def test_a_worker_stops_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    """Nobody is left behind: without its supervisor the child finishes and goes."""
    async with supervising(tmp_path) as s:
        child = await s.worker()
        s.process.kill()
        await s.process.wait()
        await until(lambda: not exists(child))


@pytest.mark.long
async def test_a_process_for_suspects_does_not_outlive_its_worker(tmp_path: Path) -> None:
    """Worker and supervisor killed while a suspect runs in an endless loop: its process goes too."""
    async with supervising(tmp_path, "loop", max="5") as s:
        await until(lambda: s.runs(s.ids[0]) == 2, 30)
        pids = [line.split()[-1] for line in s.log() if line.startswith("isolated")]
        child = await s.worker()
        s.process.kill()
        await s.process.wait()
        os.kill(child, signal.SIGKILL)
        await until(lambda: not exists(int(pids[-1])))


async def test_sigterm_stops_within_the_grace_and_hands_back_what_does_not_end(tmp_path: Path) -> None:
    """A handler that would never end is cut off after the grace; its message is ready at once, counted nowhere."""
    async with supervising(tmp_path, "hang", long="1") as s:
        await until(s.log)
        s.process.terminate()
        async with asyncio.timeout(6):
            assert await s.process.wait() == 0
        view = await s.operations.queue("orders")
        assert (view.ready, view.in_flight) == (1, 0)
        (message,) = (await s.operations.peek("orders")).messages
        assert message.notes == NOTHING


async def test_a_loop_that_stands_still_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    """Long before its handler's timeout: a second worker helps out, and what stands still runs alone from then on."""
    async with supervising(tmp_path, "block", "wait", long="1") as s:
        await until(lambda: s.runs(s.ids[1], "end"), 20)
        await until(lambda: s.runs(s.ids[0]) == 2, 20)
        later = [await s.operations.send("orders", b'{"id":"later"}') for _ in range(3)]
        await until(lambda: all(s.runs(one, "end") for one in later), 20)
        assert s.runs(s.ids[0]) == 2  # in company, and alone; it took no other worker with it
        assert "helps out" in s.said()
        assert "died" not in s.said()


async def test_workers_that_start_together_share_a_new_file(tmp_path: Path) -> None:
    """Six on a file that is not there yet: each lives, and all are gone when the supervisor is told to stop."""
    options = ["--processes", "6", "--log-level", "warning"]
    async with supervised.started(tmp_path, "crashing.py:app", environment={}, options=options) as process:
        await until((tmp_path / "test.db").exists, 20)
        async with opened(tmp_path) as operations:
            s = Supervisor(process, operations, tmp_path / "output")
            pids = await s.workers(6)
            assert await supervised.stopped(process) == 0
            assert not any(exists(pid) for pid in pids)
            assert s.said() == ""


@pytest.mark.long
async def test_workers_wait_for_a_file_that_is_kept_locked(tmp_path: Path) -> None:
    """At the very start, too: they are started again until they can open it."""
    async with opened(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "test.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        options = ["--processes", "2", "--log-level", "warning"]
        async with supervised.started(tmp_path, "crashing.py:app", environment={}, options=options) as process:
            output = tmp_path / "output"
            await until(lambda: output.read_text().count("no worker can start") == 2, 40)
            connection.close()
            async with opened(tmp_path) as operations:
                await Supervisor(process, operations, output).workers(2)


@pytest.mark.long
async def test_a_thread_that_cannot_be_stopped_is_an_attempt_and_replaces_the_worker(tmp_path: Path) -> None:
    """A `def` handler over its timeout: its attempt is counted, its worker replaced, and its neighbours are handled."""
    async with supervising(tmp_path, "block", "work", queue="plain") as s:
        first = await s.worker()
        await until(lambda: all_dead(s, 1, "plain"), 30)
        await until(lambda: s.empty("plain"), 20)
        (dead,) = (await s.dead("plain")).values()
        assert dead.id == s.ids[0]
        assert (dead.notes.attempts, dead.notes.crashes) == (2, 0)
        assert dead.notes.failure is not None
        assert [one.kind for one in dead.notes.failure.recent] == ["timeout", "timeout"]
        assert s.runs(s.ids[0]) == 2
        assert await s.worker() != first


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BrokerUnavailable("x", "locked"), UNAVAILABLE),
        (OutcomeUnknown("x", "?"), UNAVAILABLE),
        (StoreUnavailable("x", "away"), UNAVAILABLE),
        (NotConfigured("x"), MISCONFIGURED),
        (DatabaseUnusable("x", "is broken", "mend it"), MISCONFIGURED),
    ],
)
def test_only_what_starting_again_cannot_mend_ends_the_supervisor(
    error: Exception, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker or store that is away when a worker starts is no mistake in its configuration: it is started again."""

    async def failing(*_: Any, **__: Any) -> int:
        raise error

    board = tmp_path / "board"
    board.touch()
    monkeypatch.setattr(redrive.child, "run_app", failing)
    monkeypatch.setattr(redrive.child, "_loaded", lambda *_: App("test"))
    monkeypatch.setattr(redrive.child, "log_to_stderr", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["redrive.child", "worker", "app:app", "--board", str(board)])
    assert redrive.child.main() == code
