"""One contestant's outage: messages wait, what they need is dead, then it heals by itself. What came of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger import Miscounted
from outages.calling import FOLDER, PORT, turns

BENCHMARKS = Path(__file__).resolve().parents[1]
_LOOK = 0.25
_STOPPING = 30.0


class Unanswered(Exception):
    """A contestant could not be asked; the text is the last thing that it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Who is tried, and with which settings."""

    name: str
    module: str
    policy: str
    """What it does about failures, in a few words."""
    needs: tuple[str, ...] = ()
    """Python packages."""
    server: str | None = None
    """The environment variable of the server that it needs."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """What all are put through."""

    messages: int = 500
    dead: float = 60.0
    """Seconds of the outage, from the first call."""
    capacity: float = 50.0
    """Calls a second that the dependency answers once it is well."""
    canary: float = 5.0
    """The canary's period, where there is one; seconds."""
    quiet: float = 60.0
    """Nobody has called for so long after the heal: nothing more is to come."""
    patience: float = 240.0
    """Seconds after the heal at most."""


async def trial(contestant: Contestant, outage: Outage, folder: Path) -> dict[str, Any]:
    """What came of it.

    Raises:
        Miscounted: If the numbers do not add up.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if name != "REDRIVE_BROKER"},
        **contestant.environment,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(BENCHMARKS), os.environ.get("PYTHONPATH")])),
        FOLDER: str(folder),
        "BENCH_RUN": folder.name,
        "BENCH_CANARY": str(outage.canary),
    }
    await _asked(environment, contestant.module, "fill", str(outage.messages))
    async with _unwell(outage) as port:
        environment[PORT] = str(port)
        command = await _asked(environment, contestant.module, "worker")
        async with _working(command, environment, folder) as process:
            await _over(port, outage)
            processor = _processor_seconds(process.pid)
        log = await _get(port, "/log")
    left = await _asked(environment, contestant.module, "left")
    return _outcome(outage, log, left, turns(folder), processor)


def _outcome(
    outage: Outage, log: dict[str, Any], left: dict[str, int], ran: list[tuple[float, float]], processor: float
) -> dict[str, Any]:
    failed = [path for _, path, status in log["calls"] if status != 200]  # noqa: PLR2004 - HTTP's own
    good_canaries = [at for at, path, status in log["calls"] if path == "/canary" and status == 200]  # noqa: PLR2004
    handled = {number for _, number in log["handled"]}
    last = max((at for at, _ in log["handled"]), default=None)
    lost = outage.messages - len(handled) - left["dead"] - left["waiting"]
    if lost < 0:
        raise Miscounted(f"{outage.messages} were sent; handled {len(handled)}, and then there were {left}")
    return {
        "wasted": len(failed),
        "canaries": failed.count("/canary"),
        "handled": len(handled),
        "twice": len(log["handled"]) - len(handled),
        "lost": lost,
        **left,
        "seconds": None if last is None else max(0.0, last - outage.dead),
        "after_canary": None if last is None or not good_canaries else last - good_canaries[0],
        "handlers": sum(ended - began for began, ended in ran),
        "turns": len(ran),
        "processor": processor,
        "log": log,
    }


async def _over(port: int, outage: Outage) -> None:
    """Until all are handled, or nothing more is to come."""
    while True:
        await asyncio.sleep(_LOOK)
        facts = await _get(port, "/facts")
        well = facts["now"] - outage.dead
        quiet = facts["now"] - max(facts["last_call"], outage.dead)
        if facts["handled"] >= outage.messages or (well > 0 and (quiet > outage.quiet or well > outage.patience)):
            return


@asynccontextmanager
async def _unwell(outage: Outage) -> AsyncIterator[int]:
    """The dependency; its port."""
    command = [sys.executable, "-m", "outages.unwell", "--dead", str(outage.dead), "--capacity", str(outage.capacity)]
    process = await asyncio.create_subprocess_exec(*command, cwd=BENCHMARKS, stdin=PIPE, stdout=PIPE)
    try:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        yield int(await process.stdout.readline())
    finally:
        await process.communicate(b"")


@asynccontextmanager
async def _working(command: list[str], environment: Mapping[str, str], folder: Path) -> AsyncIterator[Process]:
    """The worker, in a session of its own, told to stop in the end and given time for it."""
    with (folder / "worker.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *command),
            cwd=BENCHMARKS,
            env=environment,
            stdin=DEVNULL,
            stdout=log,
            stderr=STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOPPING):
                await process.wait()
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)  # the session is ours alone
            await process.wait()


async def _asked(environment: Mapping[str, str], module: str, *what: str) -> Any:  # noqa: ANN401 - JSON
    command = [sys.executable, "-m", "outages.asked", module, *what]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=BENCHMARKS, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()
    if process.returncode:
        sys.stderr.write(err.decode(errors="replace"))
        last = (err.decode(errors="replace").strip().splitlines() or ["no word"])[-1]
        raise Unanswered(f"{module} {what[0]}: {last}")
    return json.loads(out.splitlines()[-1])


async def _get(port: int, path: str) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    body = await reader.readexactly(int(head.partition("content-length:")[2].split()[0]))
    writer.close()
    document: dict[str, Any] = json.loads(body)
    return document


def _processor_seconds(root: int) -> float:
    """Of a process and all below it, with the children that they have waited for."""
    ticks, parents = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text("utf-8").rsplit(") ", 1)[1].split()
        except OSError:
            continue  # it has just ended
        process = int(path.parent.name)
        parents[process], ticks[process] = int(fields[1]), sum(int(field) for field in fields[11:15])
    return sum(ticks[one] for one in ticks if _is_below(one, root, parents)) / os.sysconf("SC_CLK_TCK")


def _is_below(process: int, root: int, parents: Mapping[int, int]) -> bool:
    while process in parents and process != root:
        process = parents[process]
    return process == root
