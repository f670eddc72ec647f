"""`redrive worker` as real processes, on a file that holds something to do, and what can be seen of it from outside."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redrive.broker import QueueSpec
from redrive.clock import SystemClock
from redrive.connections import connect
from redrive.message import Message
from redrive.operations import Operations, WorkerView
from tests.runtime.fakes import until

FOLDER = Path(__file__).parent
QUEUES = ("orders", "plain")


class Supervisor:
    """A supervisor, and what it and its workers leave behind."""

    def __init__(self, process: asyncio.subprocess.Process, operations: Operations, output: Path) -> None:
        self.process, self.operations, self._output = process, operations, output

    def said(self) -> str:
        """Its log, and its workers'."""
        return self._output.read_text()

    async def dead(self, queue: str = "orders") -> dict[str, Message]:
        return {one.id: one for one in (await self.operations.peek(f"{queue}-dead", limit=100)).messages}

    async def empty(self, queue: str = "orders") -> bool:
        view = await self.operations.queue(queue)
        return view.ready + view.in_flight + view.delayed == 0

    async def workers(self, count: int = 1) -> set[int]:
        """The process ids of its workers, once so many have said that they are alive."""

        async def alive() -> set[int]:
            found = {one.pid for one in await self._alive()}
            return found if len(found) == count else set()

        return set(await until(alive, 20))

    async def worker(self) -> int:
        """The process id of its only worker, once that has said that it is alive."""
        (pid,) = await self.workers()
        return pid

    async def _alive(self) -> list[WorkerView]:
        return [one for one in await self.operations.workers() if one.alive and exists(one.pid)]


def exists(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Operations]:
    """The file, with its queues, as an operator has it."""
    broker, store = connect(address(folder), SystemClock())
    try:
        await broker.declare([QueueSpec(name=f"{name}{end}") for name in QUEUES for end in ("", "-dead")])
        yield Operations(broker, store, clock=SystemClock(), who="test")
    finally:
        await broker.close()
        await store.close()


@asynccontextmanager
async def supervising(
    folder: Path, operations: Operations, application: str, **settings: Any
) -> AsyncIterator[Supervisor]:
    """`redrive worker` on a file that is open, with the settings of `started`."""
    async with started(folder, application, **settings) as process:
        yield Supervisor(process, operations, folder / "output")


@asynccontextmanager
async def started(
    folder: Path,
    application: str,
    *,
    environment: Mapping[str, str],
    options: Sequence[str] = ("--grace", "2", "--log-level", "warning"),
    constants: Mapping[str, float] | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`redrive worker`, stopped at the end.

    Args:
        folder: of the file; what is logged is in `output` there.
        application: as on the command line, in the folder of these tests.
        environment: in which it runs, beside the test's own.
        options: of the command.
        constants: `{"keeper._LOOP_PATIENCE": 0.5}`: what is otherwise in the supervisor's modules.
    """
    settings = "".join(f"redrive.{name} = {value!r}; " for name, value in (constants or {}).items())
    script = f"import redrive.keeper, redrive.health; {settings}from redrive.cli import main; main()"
    command = ["-c", script, "worker", application, "--app-dir", str(FOLDER), *options]
    variables = {**os.environ, "REDRIVE_BROKER": address(folder), **environment}
    with (folder / "output").open("ab") as output:
        process = await asyncio.create_subprocess_exec(sys.executable, *command, env=variables, stderr=output)
    try:
        yield process
    finally:
        await stopped(process)


async def stopped(process: asyncio.subprocess.Process, within: float = 15.0) -> int:
    """SIGTERM, unless it has ended; its exit code."""
    if process.returncode is None:
        process.terminate()
    async with asyncio.timeout(within):
        return await process.wait()


def address(folder: Path) -> str:
    """Of the file."""
    return f"sqlite:{folder / 'test.db'}"
