"""The figures of redrive's embedded broker, beside a peer that does the same work in the same run.

    python benchmarks/run.py [--short] [--only NAME] [--json FILE] [--repeat N] [--folder FOLDER]

Each number is the median of a few measurements, each in a fresh process on a fresh file. `--json` keeps every one of
them. `--only` takes a part of a row's name. Nothing here fails on a slow machine: a figure is read, not tested.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from machine import durability, file_system, machine, versions
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
_FOLDER = HERE.parent / "build" / "bench"
_PATIENCE = 300
_TRACED = 5_000
"""Messages at most while the system calls are traced."""
_SYNC = re.compile(r"^\d+ +(\d+\.\d+) (?:fsync|fdatasync)\(", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One measure of one contestant."""

    script: str
    measure: str
    count: int
    """Messages, or seconds for what rests."""
    short: int
    """The same for the short form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table; `value` names the number among those that a measure gives."""

    name: str
    value: str
    unit: str
    target: str
    redrive: Subject
    huey: tuple[Subject, Subject] | None = None
    """Huey with fsync=True and with fsync=False."""
    syncs: bool = False
    """Whether the disk's part is counted too, where strace is there."""


def _own(script: str, measure: str, count: int, short: int) -> Subject:
    return Subject(script=f"{script}.py", measure=measure, count=count, short=short)


def _huey(measure: str, count: int, short: int, *, relaxed: int = 0) -> tuple[Subject, Subject]:
    durable = _own("huey_peer", measure, count, short)
    return durable, _own("huey_peer", f"{measure}-relaxed", relaxed or count, short)


_LATENCY, _ACROSS = _own("latency", "in-process", 400, 50), _own("latency", "across", 400, 50)
_IDLE = _own("resting", "idle", 10, 2)

ROWS = (
    Row(
        name="send, batches of 1,000",
        value="rate",
        unit="/s",
        target="≥ 120,000",
        redrive=_own("sending", "batches", 100_000, 5_000),
        syncs=True,
    ),
    Row(
        name="send, 128 at a time",
        value="rate",
        unit="/s",
        target="≥ 40,000",
        redrive=_own("sending", "concurrent", 40_000, 2_000),
        huey=_huey("concurrent", 5_000, 300, relaxed=20_000),
        syncs=True,
    ),
    Row(
        name="send, one after the other",
        value="rate",
        unit="/s",
        target="",
        redrive=_own("sending", "in-turn", 2_000, 200),
        huey=_huey("in-turn", 2_000, 200, relaxed=20_000),
        syncs=True,
    ),
    Row(
        name="drain, async handler",
        value="rate",
        unit="/s",
        target="≥ 30,000",
        redrive=_own("draining", "async", 40_000, 2_000),
        huey=_huey("drain", 5_000, 300, relaxed=20_000),
        syncs=True,
    ),
    Row(
        name="drain, plain handler",
        value="rate",
        unit="/s",
        target="≥ 10,000",
        redrive=_own("draining", "plain", 20_000, 1_000),
        huey=_huey("drain", 5_000, 300, relaxed=20_000),
        syncs=True,
    ),
    Row(
        name="send to handler, p50",
        value="p50",
        unit="ms",
        target="≤ 1",
        redrive=_LATENCY,
        huey=_huey("latency", 200, 30),
    ),
    Row(
        name="send to handler, p99",
        value="p99",
        unit="ms",
        target="≤ 4",
        redrive=_LATENCY,
        huey=_huey("latency", 200, 30),
    ),
    Row(name="across processes, p50", value="p50", unit="ms", target="≤ 3", redrive=_ACROSS),
    Row(name="across processes, p99", value="p99", unit="ms", target="", redrive=_ACROSS),
    Row(name="idle worker", value="percent", unit="% of a core", target="< 1", redrive=_IDLE, huey=_huey("idle", 3, 1)),
    Row(name="memory of the worker", value="mib", unit="MiB", target="≤ 80", redrive=_IDLE),
    Row(name="import redrive", value="ms", unit="ms", target="≤ 80", redrive=_own("resting", "import", 1, 1)),
)


@dataclass(slots=True)
class Bench:
    """Runs measures, each as often as asked for, and remembers them."""

    folder: Path
    repeat: int
    short: bool
    done: dict[Subject, list[dict[str, float]]] = field(default_factory=dict)

    def median(self, subject: Subject, value: str) -> float:
        """The median of one number."""
        if subject not in self.done:
            self.done[subject] = [self._once(subject) for _ in range(self.repeat)]
        return statistics.median(numbers[value] for numbers in self.done[subject])

    def syncs(self, subject: Subject) -> float | None:
        """How many fsync and fdatasync calls a thousand messages cost; None where strace is missing or forbidden."""
        if (strace := shutil.which("strace")) is None:
            return None
        with tempfile.NamedTemporaryFile("r", dir=self.folder) as report:
            tracing = [strace, "-f", "-ttt", "-e", "trace=fsync,fdatasync", "-o", report.name]
            try:
                found = self._once(subject, tracing=tracing)
            except subprocess.CalledProcessError:
                return None
            syncs = [at for at in map(float, _SYNC.findall(report.read())) if found["from"] <= at <= found["to"]]
            return 1000 * len(syncs) / min(self._count(subject), _TRACED)

    def _once(self, subject: Subject, *, tracing: list[str] | None = None) -> dict[str, float]:
        folder = tempfile.mkdtemp(dir=self.folder)
        count = self._count(subject) if tracing is None else min(self._count(subject), _TRACED)
        command = [sys.executable, str(HERE / subject.script), subject.measure, folder, str(count)]
        environment = {name: value for name, value in os.environ.items() if name != "REDRIVE_BROKER"}
        try:
            answer = subprocess.run(  # noqa: S603 - our own scripts
                [*(tracing or []), *command], env=environment, check=True, capture_output=True, timeout=_PATIENCE
            )
        except subprocess.CalledProcessError as error:
            if tracing is None:
                sys.stderr.write(error.stderr.decode(errors="replace"))
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        numbers: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
        return numbers

    def _count(self, subject: Subject) -> int:
        return subject.short if self.short else subject.count


def main() -> int:
    """Run what the command line asks for."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = [row for row in ROWS if options.only in row.name]
    if not rows:
        print(f"no row holds {options.only!r}; there are: {', '.join(row.name for row in ROWS)}", file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        folder = Path(made)
        surroundings = _surroundings(folder)
        _introduce(console, surroundings, options)
        bench = Bench(folder, options.repeat, options.short)
        results = [_measured(bench, row, console) for row in rows]
    console.print(_table(results))
    console.print(f"load average before {surroundings['load'][0]:.2f}, after {os.getloadavg()[0]:.2f}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        document = {**surroundings, "load_after": os.getloadavg(), "repeat": options.repeat, "short": options.short}
        document |= {"results": results, "measurements": _kept(bench)}
        options.json.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The figures of redrive's embedded broker, beside a peer.")
    parser.add_argument("--short", action="store_true", help="few messages, once each: shows that it runs")
    parser.add_argument("--only", default="", metavar="NAME", help="rows whose name holds this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every measurement there")
    parser.add_argument("--repeat", type=int, metavar="N", help="measurements of each number (5; 1 with --short)")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where the files lie; on a real disk")
    options = parser.parse_args()
    options.repeat = options.repeat or (1 if options.short else 5)
    return options


def _surroundings(folder: Path) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(folder),
        "versions": versions(),
        "durability": durability(folder),
        "load": os.getloadavg(),
    }


def _introduce(console: Console, surroundings: dict[str, Any], options: argparse.Namespace) -> None:
    for title in ("machine", "versions", "durability"):
        console.print(f"{title:<11}" + ", ".join(f"{name} {value}" for name, value in surroundings[title].items()))
    console.print(
        "work       bodies of 200 bytes of JSON; the handler validates (pydantic) and counts; one worker process"
    )
    console.print(f"medians of {options.repeat}, each in a fresh process on a fresh file")
    if "tmpfs" in file_system(options.folder):
        console.print("[bold]this folder is in memory: what is called durable here is not; use --folder[/bold]")


def _measured(bench: Bench, row: Row, console: Console) -> dict[str, Any]:
    began = time.monotonic()
    durable, relaxed = row.huey or (None, None)
    numbers = {
        name: None if subject is None else bench.median(subject, row.value)
        for name, subject in (("redrive", row.redrive), ("huey_fsync", durable), ("huey_no_fsync", relaxed))
    }
    syncs = bench.syncs(row.redrive) if row.syncs else None
    console.print(f"[dim]{row.name}: {time.monotonic() - began:.1f} s[/dim]")
    return {"name": row.name, "unit": row.unit, "target": row.target, **numbers, "syncs_per_1000": syncs}


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table("", "unit", "target", "redrive", "Huey, fsync", "Huey, no fsync", "redrive's fsyncs per 1,000")
    for column in table.columns[2:]:
        column.justify = "right"
    for result in results:
        numbers = [_shown(result[name]) for name in ("redrive", "huey_fsync", "huey_no_fsync", "syncs_per_1000")]
        table.add_row(result["name"], result["unit"], result["target"], *numbers)
    return table


def _shown(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if number >= 100 else f"{number:.2f}"  # noqa: PLR2004 - three digits are enough


def _kept(bench: Bench) -> list[dict[str, Any]]:
    return [{**asdict(subject), "numbers": numbers} for subject, numbers in bench.done.items()]


if __name__ == "__main__":
    sys.exit(main())
