"""The figures of the SQS endpoint, beside others that speak SQS, under the same load in the same run.

    python benchmarks/endpoint.py [--short] [--only NAME] [--json FILE] [--repeat N] [--folder FOLDER]

Bodies of 256 bytes. Each server is one process, the load another; each number is the median of a few measurements. What
redrive answers is on disk; the others keep everything in memory. Nothing here fails on a slow machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from endpoints.serving import ENDPOINTS, Endpoint, Missing, Serving, serving
from machine import introduce, surroundings
from rich.console import Console
from rich.table import Table
from workload import end_on_sigterm, shown, status_kib

from redrive.broker import Outgoing, QueueSpec
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import SystemClock
from redrive.message import Message
from redrive.sqlite.writer import FileDatabase

_HERE = Path(__file__).resolve().parent
_FOLDER = _HERE.parent / "build" / "bench"
_DEEP, _SHALLOW, _DRAINED = 1_000_000, 1_000, 10_000
_ROWS = (
    ("SendMessageBatch(10), 8 clients", "send_batches", "rate", 60_000, "15,000 messages/s"),
    ("SendMessage, 8 clients", "send_alone", "rate", 12_000, "2,000 messages/s"),
    ("ReceiveMessage(10) + DeleteMessageBatch, 8 clients", "drain", "rate", 40_000, "7,000 messages/s"),
    ("SendMessage, 1 client, p50", "one_after_the_other", "p50", 2_000, "1 ms"),
    ("SendMessage, 1 client, p99", "one_after_the_other", "p99", 2_000, "4 ms"),
    ("send to a waiting long poll, p50", "wake", "p50", 100, "3 ms"),
)
_SLOW = {"moto server": 40, "MiniStack": 10}
"""How much less work they are given, or they would take hours."""


def main() -> int:
    """Run what the command line asks for."""
    end_on_sigterm()
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        document = surroundings(Path(made))
        introduce(console, document)
        found = [_measured(one, Path(made), options, console) for one in ENDPOINTS if options.only in one.name]
        deep = _deep(Path(made), options, console) if options.only in ENDPOINTS[0].name else {}
    console.print(_table(found))
    for name, value in deep.items():
        console.print(f"{name}: {shown(value)}")
    document |= {"load_after": os.getloadavg(), "repeat": options.repeat, "short": options.short}
    document |= {"endpoints": found, "deep": deep}
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The figures of the SQS endpoint, beside others.")
    parser.add_argument("--short", action="store_true", help="few messages, once each: shows that it runs")
    parser.add_argument("--only", default="", metavar="NAME", help="servers whose name holds this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every measurement there")
    parser.add_argument("--repeat", type=int, metavar="N", help="measurements of each number (3; 1 with --short)")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where the files lie; on a real disk")
    options = parser.parse_args()
    options.repeat = options.repeat or (1 if options.short else 3)
    return options


def _measured(endpoint: Endpoint, folder: Path, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    found: dict[str, Any] = {"name": endpoint.name, "durable": endpoint.durable}
    home = Path(tempfile.mkdtemp(dir=folder))
    try:
        with serving(endpoint, home) as server:
            found["start-up"] = server.started_in
            if endpoint.name == ENDPOINTS[0].name:
                found["transport"] = _transport(server, options, console)
            for measure in dict.fromkeys(row[1] for row in _ROWS):
                count = next(row[3] for row in _ROWS if row[1] == measure) // (50 if options.short else 1)
                count = max(80, count // _SLOW.get(endpoint.name, 1) // 80 * 80)
                found[measure] = [_load(measure, server, count) for _ in range(options.repeat)]
                console.print(f"{endpoint.name}: {measure} {found[measure][-1]}")
    except (Missing, subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        found["failed"] = str(error)
        console.print(f"{endpoint.name}: {error}")
    return found


def _transport(server: Serving, options: argparse.Namespace, console: Console) -> dict[str, list[float]]:
    """The worker and the bare loop, by turns, so that what else the machine does falls on both."""
    found: dict[str, list[float]] = {"worker": [], "bare": []}
    for _ in range(options.repeat):
        for name, rates in found.items():
            rates.append(_load(name, server, 480 if options.short else 16_000, "endpoints.transport")["rate"])
    console.print(f"transport: {found}")
    return found


def _load(measure: str, server: Serving, count: int, module: str = "endpoints.load") -> dict[str, float]:
    command = [sys.executable, "-m", module, measure, server.url, str(count)]
    environment = {**os.environ, "PYTHONPATH": str(_HERE)}
    done = subprocess.run(  # noqa: S603 - our own script
        command, env=environment, cwd=_HERE, capture_output=True, text=True, timeout=600, check=True
    )
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def _deep(folder: Path, options: argparse.Namespace, console: Console) -> dict[str, float]:
    """Receiving from a short queue and from a deep one, and what the server takes in memory then."""
    found: dict[str, float] = {}
    for depth in (_SHALLOW, _DEEP // (100 if options.short else 1)):
        home = Path(tempfile.mkdtemp(dir=folder))
        asyncio.run(_fill(home / "endpoint.db", depth))
        with serving(ENDPOINTS[0], home) as server:
            rates = [
                _load("drain_what_is_there", server, min(depth // 4, _DRAINED))["rate"] for _ in range(options.repeat)
            ]
            found[f"received and deleted a second, {depth:,} deep"] = statistics.median(rates)
            found[f"RSS in MiB, {depth:,} deep"] = status_kib(server.process, "VmRSS") / 1024
        console.print(f"redrive serve at {depth:,}: {rates}")
    return found


async def _fill(path: Path, depth: int) -> None:
    broker = SqliteBroker(FileDatabase(str(path), SystemClock()))
    body = b"x" * 256
    await broker.declare([QueueSpec(name="deep")])
    for start in range(0, depth, 1_000):
        messages = [
            Message(id=f"m{number}", body=body, sent_at_ms=0) for number in range(start, min(start + 1_000, depth))
        ]
        await broker.send("deep", [Outgoing(message=one) for one in messages])
    await broker.close()


def rows(found: Sequence[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """The table of what was measured: what, how much was asked, and each server's number."""
    for title, measure, number, _, asked in _ROWS:
        yield title, asked, *(_median(one, measure, number) for one in found)
    yield "start-up to first answer, s", "0.7", *(shown(one.get("start-up")) for one in found)
    transport = [one.get("transport") for one in found]
    for name, title in (("worker", "drained by a worker of redrive"), ("bare", "by a bare aiobotocore loop")):
        yield title, "", *("" if one is None else shown(statistics.median(one[name])) for one in transport)
    yield "worker ÷ bare loop", "0.8", *("" if one is None else _ratio(one) for one in transport)
    yield "on disk when answered", "yes", *("yes" if one["durable"] else "no" for one in found)


def _table(found: Sequence[dict[str, Any]]) -> Table:
    table = Table("", "asked", *(one["name"] for one in found))
    for row in rows(found):
        table.add_row(*row)
    return table


def _ratio(transport: dict[str, list[float]]) -> str:
    return shown(statistics.median(transport["worker"]) / statistics.median(transport["bare"]))


def _median(one: dict[str, Any], measure: str, number: str) -> str:
    if measure not in one:
        return "failed" if "failed" in one else ""
    return shown(statistics.median(numbers[number] for numbers in one[measure]))


if __name__ == "__main__":
    sys.exit(main())
