"""The figures of redrive's embedded broker, beside peers that do the same work in the same run.

    python benchmarks/run.py [--short] [--only NAME] [--json FILE] [--repeat N] [--folder FOLDER]

Each number is the median of a few measurements, each in a fresh process on a fresh file, and counts only if every
message was handled exactly once. `--json` keeps every one of them. `--only` takes a part of a name. Nothing here fails
on a slow machine: a figure is read, not tested. A peer that is not installed is said to be missing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from machine import file_system, introduce, surroundings
from measuring import Bench, Failed
from rich.console import Console
from rich.table import Table
from rows import ACROSS, CONCURRENT, DRAIN, PEERS, REDRIVE_CRASH, ROWS, Contestant, Row
from workload import end_on_sigterm, shown

_FOLDER = Path(__file__).resolve().parents[1] / "build" / "bench"
_MEASURED = (("drained", DRAIN, "rate"), ("sent", CONCURRENT, "rate"), ("p50", ACROSS, "p50"))
"""What peers are compared by, and where redrive's own number comes from."""


def main() -> int:
    """Run what the command line asks for."""
    end_on_sigterm()
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = [row for row in ROWS if options.only.lower() in row.name.lower()]
    peers = [peer for peer in PEERS if options.only.lower() in peer.name.lower()]
    if not rows and not peers:
        names = ", ".join(one.name for one in (*ROWS, *PEERS))
        print(f"no name holds {options.only!r}; there are: {names}", file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    with tempfile.TemporaryDirectory(dir=options.folder) as made, ExitStack() as stack:
        document = surroundings(Path(made))
        introduce(console, document)
        _introduce(console, options)
        bench = Bench(Path(made), options.repeat, options.short, stack)
        results = [_measured(bench, row, console) for row in rows]
        contest = _contest(bench, peers, console) if peers else []
    console.print(_table(results))
    if contest:
        console.print(_table_of_peers(contest))
    document |= {"load_after": os.getloadavg(), "repeat": options.repeat, "short": options.short}
    document |= {"results": results, "peers": contest, "measurements": _kept(bench)}
    console.print(f"load average before {document['load'][0]:.2f}, after {document['load_after'][0]:.2f}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    return int(any("failed" in one for one in (*results, *contest)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The figures of redrive's embedded broker, beside peers.")
    parser.add_argument("--short", action="store_true", help="few messages, once each: shows that it runs")
    parser.add_argument("--only", default="", metavar="NAME", help="rows and peers whose name holds this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every measurement there")
    parser.add_argument("--repeat", type=int, metavar="N", help="measurements of each number (5; 1 with --short)")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where the files lie; on a real disk")
    options = parser.parse_args()
    options.repeat = options.repeat or (1 if options.short else 5)
    return options


def _introduce(console: Console, options: argparse.Namespace) -> None:
    console.print(
        "work       bodies of 200 bytes of JSON; the handler validates (pydantic) and counts; one worker process"
    )
    console.print(
        f"medians of {options.repeat}, for peers and a million messages of 3 at most; "
        "each in a fresh process on a fresh file"
    )
    if "tmpfs" in file_system(options.folder):
        console.print("[bold]this folder is in memory: what is called durable here is not; use --folder[/bold]")


def _measured(bench: Bench, row: Row, console: Console) -> dict[str, Any]:
    began = time.monotonic()
    facts: dict[str, Any] = {"name": row.name, "unit": row.unit, "target": row.target}
    try:
        value = bench.median(row.subject, row.value)
    except Failed as error:
        return {**facts, "failed": str(error)}
    syncs = bench.syncs(row.subject) if row.syncs else None
    console.print(f"[dim]{row.name}: {time.monotonic() - began:.1f} s[/dim]")
    return {**facts, "redrive": value, "met": row.meets(value), "syncs_per_1000": syncs}


def _contest(bench: Bench, peers: list[Contestant], console: Console) -> list[dict[str, Any]]:
    """Redrive first, then each peer with how many times more redrive does."""
    own = {name: bench.median(subject, value) for name, subject, value in _MEASURED}
    found: list[dict[str, Any]] = [{"name": "redrive", "crash": REDRIVE_CRASH, **own}]
    for peer in peers:
        began = time.monotonic()
        facts: dict[str, Any] = {"name": peer.name, "crash": peer.crash}
        if (why := bench.missing(peer)) is not None:
            found.append({**facts, "missing": why})
            continue
        try:
            numbers = {name: bench.median(peer.subject, name) for name, _, _ in _MEASURED}
        except Failed as error:
            found.append({**facts, "failed": str(error)})
            continue
        ratios = {f"{name}_ratio": own[name] / numbers[name] for name in ("drained", "sent")}
        found.append({**facts, **numbers, **ratios})
        console.print(f"[dim]{peer.name}: {time.monotonic() - began:.1f} s[/dim]")
    return found


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table("", "unit", "target", "redrive", "", "fsyncs per 1,000")
    for column in table.columns[2:]:
        column.justify = "right"
    for result in results:
        met = {True: "met", False: "missed"}.get(result.get("met"), "")  # type: ignore[arg-type]
        numbers = [result.get("failed") or shown(result["redrive"]), met, shown(result.get("syncs_per_1000"))]
        table.add_row(result["name"], result["unit"], result["target"], *numbers)
    return table


def _table_of_peers(contest: list[dict[str, Any]]) -> Table:
    table = Table(
        "", "drained/s", "redrive ÷ it", "sent/s", "redrive ÷ it", "p50, ms", "after a crash in mid-message, it"
    )
    for column in table.columns[1:6]:
        column.justify = "right"
    for one in contest:
        if why := one.get("missing") or one.get("failed"):
            table.add_row(one["name"], "", "", "", "", "", why)
            continue
        numbers = [shown(one.get(name)) for name in ("drained", "drained_ratio", "sent", "sent_ratio", "p50")]
        table.add_row(one["name"], *numbers, one["crash"])
    return table


def _kept(bench: Bench) -> list[dict[str, Any]]:
    return [
        {**asdict(subject), "numbers": numbers} for subject, numbers in bench.done.items() if isinstance(numbers, list)
    ]


if __name__ == "__main__":
    sys.exit(main())
