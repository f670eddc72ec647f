"""The outage bench: what an outage of what the handlers need costs, with redrive and with others.

    python benchmarks/outage.py [--short] [--only NAME] [--json FILE] [--folder FOLDER]

500 messages wait. What they need is dead for 60 seconds, in which each call fails after 50 ms; then it heals by itself
and answers 50 calls a second. All handle ten at a time and get no hand from anybody.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ledger import Miscounted
from machine import introduce, surroundings
from outages.trial import Contestant, Outage, Unanswered, trial
from rich.console import Console
from rich.table import Table
from servers import RABBITMQ_URL, Missing, rabbitmq
from workload import end_on_sigterm, shown

_FOLDER = Path(__file__).resolve().parents[1] / "build" / "bench"
SHORT = Outage(messages=20, dead=2.0, canary=0.5, quiet=2.0, patience=20.0)
REDRIVE = Contestant(name="redrive", module="redrive_outage", policy="circuit, canary every 5 s, parked")
_MQ = RABBITMQ_URL

PEERS = (
    Contestant(name="Huey (SQLite)", module="huey_outage", policy="3 retries with backoff from 1 s", needs=("huey",)),
    Contestant(
        name="Celery (RabbitMQ)",
        module="celery_outage",
        policy="3 retries with backoff from 1 s and jitter",
        needs=("celery", "pika"),
        server=_MQ,
    ),
    Contestant(
        name="Dramatiq (RabbitMQ)",
        module="dramatiq_outage",
        policy="20 retries with backoff from 15 s: its default",
        needs=("dramatiq", "pika"),
        server=_MQ,
    ),
    Contestant(
        name="Dramatiq, 3 retries",
        module="dramatiq_outage",
        policy="3 retries with backoff from 1 s, then its dead-letter queue",
        needs=("dramatiq", "pika"),
        server=_MQ,
        environment={"BENCH_RETRIES": "3"},
    ),
    Contestant(
        name="FastStream (RabbitMQ)",
        module="faststream_outage",
        policy="rejects what failed: its default",
        needs=("faststream", "aio_pika", "pika"),
        server=_MQ,
    ),
    Contestant(
        name="FastStream, nack",
        module="faststream_outage",
        policy="hands what failed back at once",
        needs=("faststream", "aio_pika", "pika"),
        server=_MQ,
        environment={"BENCH_ACK": "nack_on_error"},
    ),
    Contestant(
        name="TaskIQ (RabbitMQ)",
        module="taskiq_outage",
        policy="3 tries with backoff from 5 s and jitter",
        needs=("taskiq", "taskiq_aio_pika", "pika"),
        server=_MQ,
    ),
)


def main() -> int:
    """Run what the command line asks for."""
    end_on_sigterm()
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    outage = SHORT if options.short else Outage()
    chosen = [one for one in (REDRIVE, *PEERS) if options.only.lower() in one.name.lower()]
    if not chosen:
        names = ", ".join(one.name for one in (REDRIVE, *PEERS))
        print(f"no contestant holds {options.only!r}; there are: {names}", file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    with tempfile.TemporaryDirectory(dir=options.folder) as made, ExitStack() as stack:
        folder = Path(made)
        document = {**surroundings(folder), "outage": asdict(outage), "short": options.short}
        introduce(console, document)
        console.print(f"outage     {asdict(outage)}")
        refused = _refusals(chosen, folder, stack)
        results = asyncio.run(_all(chosen, refused, outage, folder, console))
    document |= {"results": results, "load_after": os.getloadavg()}
    console.print(_table(results))
    console.print(f"load average before {document['load'][0]:.2f}, after {document['load_after'][0]:.2f}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document) + "\n", "utf-8")
    return int(any("failed" in one for one in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What an outage costs, with redrive and with others.")
    parser.add_argument("--short", action="store_true", help="few messages, three seconds: shows that it runs")
    parser.add_argument("--only", default="", metavar="NAME", help="contestants whose name holds this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every call there")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where the files lie; on a real disk")
    return parser.parse_args()


def _refusals(chosen: list[Contestant], folder: Path, stack: ExitStack) -> dict[str, str]:
    """Why a contestant cannot be tried here; starts the server if one of them needs it."""
    refused: dict[str, str] = {}
    lacking = ""
    for one in chosen:
        missing = [name for name in one.needs if importlib.util.find_spec(name) is None]
        if missing:
            refused[one.name] = f"not installed: {', '.join(missing)}"
        elif one.server is not None:
            if not lacking and one.server not in os.environ:
                try:
                    os.environ[one.server] = stack.enter_context(rabbitmq(folder))
                    stack.callback(os.environ.pop, one.server)
                except Missing as error:
                    lacking = str(error)
            if lacking:
                refused[one.name] = lacking
    return refused


async def _all(
    chosen: list[Contestant], refused: dict[str, str], outage: Outage, folder: Path, console: Console
) -> list[dict[str, Any]]:
    """Redrive by itself, then all others at a time: they do little but wait."""

    async def one(contestant: Contestant) -> dict[str, Any]:
        facts: dict[str, Any] = {"name": contestant.name, "policy": contestant.policy}
        if contestant.name in refused:
            return {**facts, "missing": refused[contestant.name]}
        home = Path(tempfile.mkdtemp(dir=folder))
        try:
            found = await trial(contestant, outage, home)
        except (Unanswered, Miscounted) as error:
            return {**facts, "failed": str(error)}
        console.print(f"[dim]{contestant.name}: done[/dim]")
        return {**facts, **found}

    first = [await one(contestant) for contestant in chosen if contestant is REDRIVE]
    return first + await asyncio.gather(*(one(contestant) for contestant in chosen if contestant is not REDRIVE))


COLUMNS = {
    "wasted": "calls wasted",
    "handled": "handled",
    "lost": "lost",
    "dead": "dead",
    "waiting": "still waiting",
    "seconds": "seconds from the heal to the last",
    "handlers": "handler seconds",
    "processor": "processor seconds",
}
"""What a table shows of each contestant."""


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table("", "policy", *COLUMNS.values())
    for column in table.columns[2:]:
        column.justify = "right"
    for result in results:
        if why := result.get("missing") or result.get("failed"):
            table.add_row(result["name"], why)
        else:
            table.add_row(result["name"], result["policy"], *(shown(result[name]) for name in COLUMNS))
    return table


if __name__ == "__main__":
    sys.exit(main())
