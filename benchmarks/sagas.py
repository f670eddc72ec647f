"""The figures of sagas, beside DBOS, which does the same three steps on the same disk in the same run.

    python benchmarks/sagas.py [--short] [--only NAME] [--json FILE] [--repeat N] [--folder FOLDER]

A saga counts when its journal says on disk that it is complete. DBOS's clients wait for their workflows, so what
compares like with like is redrive's clients that wait; the drain stands besides. Nothing here fails on a slow machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instances.databases import POSTGRESQL, STORE
from machine import introduce, surroundings
from measuring import Bench, Failed
from rich.console import Console
from rich.table import Table
from rows import Contestant, Subject
from servers import POSTGRES_URL
from workload import end_on_sigterm, shown

_FOLDER = Path(__file__).resolve().parents[1] / "build" / "bench"
Result = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table; `value` names the number among those that both measures give."""

    name: str
    value: str
    redrive: Subject
    dbos: Subject | None = None
    asked: str = ""
    server: str | None = None
    """The environment variable of the server that both need."""


def _figures() -> Iterator[Figure]:
    """All, in the order of the table."""
    yield from _completing("SQLite", None, many=10_000, one=1_000, asked=("≥ 2,000", "", "≥ 300"))
    yield from _completing("PostgreSQL", POSTGRES_URL, many=3_000, one=300, asked=("≥ 10 times DBOS",) * 3)
    for count in (0, 100_000):
        subject = _subject("waiting", "waiting", count, min(count, 2_000), times=1)
        for value, title in _WAITING.items():
            yield Figure(name=f"{count:,} wait on timers: {title}", value=value, redrive=subject)
    subject = _subject("interrupted", "recovery", 1_000, 50)
    for value, title, asked in _RECOVERY:
        yield Figure(name=f"1,000 interrupted: {title}, s", value=value, redrive=subject, asked=asked)


_RECOVERY = (
    ("first", "restart to the first that goes on", "≤ 2, one lease"),
    ("between", "from there to the last one's end", "≤ 2"),
    ("last", "restart to the last one's end", ""),
)
_WAITING = {
    "percent": "% of a core when idle",
    "mb": "MB in memory",
    "disk": "MB on disk",
    "start-up": "start-up to a saga's end, s",
}


def _completing(
    where: str, server: str | None, *, many: int, one: int, asked: tuple[str, str, str]
) -> Iterator[Figure]:
    """Three-step sagas on one store."""
    asks = () if server is None else ((STORE, POSTGRESQL),)
    peers = (_subject("dbos_peer", "answered", 600, 80, asks), _subject("dbos_peer", "answered-one", 150, 5, asks))
    drain = _subject("completing", "drain", many, 200, asks)
    waited = _subject("completing", "answered", many, 200, asks)
    alone = _subject("completing", "answered-one", one, 20, asks)
    for name, value, redrive, dbos, target in (
        ("drained, 64 in flight, /s", "rate", drain, None, asked[0]),
        ("64 clients wait, /s", "rate", waited, peers[0], asked[1]),
        ("64 clients wait, p50, ms", "p50", waited, peers[0], ""),
        ("64 clients wait, p99, ms", "p99", waited, peers[0], ""),
        ("one client waits, /s", "rate", alone, peers[1], asked[2]),
        ("one client waits, p50, ms", "p50", alone, peers[1], ""),
        ("writes of its journal for a saga", "writes", drain, None, ""),
    ):
        yield Figure(name=f"{where}: {name}", value=value, redrive=redrive, dbos=dbos, asked=target, server=server)


def _subject(
    module: str, measure: str, count: int, short: int, asks: tuple[tuple[str, str], ...] = (), *, times: int = 3
) -> Subject:
    name = f"instances.{module}"
    return Subject(module=name, measure=measure, count=count, short=short, times=times, environment=asks)


def main() -> int:
    """Run what the command line asks for."""
    end_on_sigterm()
    options = _options()
    chosen = [one for one in _figures() if options.only.lower() in one.name.lower()]
    if not chosen:
        print(
            f"no line holds {options.only!r}; there are: {', '.join(one.name for one in _figures())}", file=sys.stderr
        )
        return 2
    options.folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    with tempfile.TemporaryDirectory(dir=options.folder) as made, ExitStack() as stack:
        folder = Path(made)
        folder.chmod(0o711)  # PostgreSQL, which is not root, has its data below
        document = {**surroundings(folder), "repeat": options.repeat, "short": options.short}
        introduce(console, document)
        bench = Bench(folder, options.repeat, options.short, stack)
        results = [_measured(bench, one, console) for one in chosen]
        document |= {"load_after": os.getloadavg(), "sagas": results, "runs": _runs(bench)}
    console.print(_table(results))
    console.print(f"load average before {document['load'][0]:.2f}, after {document['load_after'][0]:.2f}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    return int(any("failed" in (one["redrive"], one["dbos"]) for one in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The figures of sagas, beside DBOS.")
    parser.add_argument("--short", action="store_true", help="few sagas, once each: shows that it runs")
    parser.add_argument("--only", default="", metavar="NAME", help="lines whose name holds this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every measurement there")
    parser.add_argument("--repeat", type=int, metavar="N", help="measurements of each number (3; 1 with --short)")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where the files lie; on a real disk")
    options = parser.parse_args()
    options.repeat = options.repeat or (1 if options.short else 3)
    return options


def _measured(bench: Bench, figure: Figure, console: Console) -> Result:
    """One line: each number, or why there is none."""
    found: Result = {"name": figure.name, "asked": figure.asked}
    for who, subject, needs in (("redrive", figure.redrive, ()), ("dbos", figure.dbos, ("dbos",))):
        found[who] = None if subject is None else _number(bench, figure, subject, needs)
    console.print(f"[dim]{figure.name}: {_shown(found['redrive'])}, {_shown(found['dbos'])}[/dim]")
    return found


def _number(bench: Bench, figure: Figure, subject: Subject, needs: tuple[str, ...]) -> float | str:
    if why := bench.missing(Contestant(name="", subject=subject, needs=needs, crash="", server=figure.server)):
        return why
    try:
        return bench.median(subject, figure.value)
    except Failed:
        return "failed"


def _runs(bench: Bench) -> list[Result]:
    """Every run's numbers, for whoever wants to see how far they spread."""
    return [
        {
            "module": one.module,
            "measure": one.measure,
            "count": one.count,
            "on": dict(one.environment),
            "numbers": found,
        }
        for one, found in bench.done.items()
        if not isinstance(found, Failed)
    ]


def rows(results: list[Result]) -> Iterator[tuple[str, ...]]:
    """The table of what was measured: what, how much was asked, redrive's number, DBOS's, and how they compare."""
    for one in results:
        mine, its = one["redrive"], one["dbos"]
        ratio = shown(mine / its) if isinstance(mine, float) and isinstance(its, float) and its else ""
        yield one["name"], one["asked"], _shown(mine), _shown(its), ratio


def _shown(number: float | str | None) -> str:
    return number if isinstance(number, str) else shown(number)


HEAD = ("what", "asked", "redrive", "DBOS", "redrive ÷ DBOS")


def _table(results: list[Result]) -> Table:
    table = Table(*HEAD)
    for row in rows(results):
        table.add_row(*row)
    return table


if __name__ == "__main__":
    sys.exit(main())
