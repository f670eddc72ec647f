"""Runs measures, each in a fresh process on a fresh folder, as often as asked for, and remembers all numbers."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rows import Contestant, Subject
from servers import SERVERS, Missing

HERE = Path(__file__).resolve().parent
_PATIENCE = 600
_ENDING = 60
_TRACED = 5_000
"""Messages at most while the system calls are traced."""
_SYNC = re.compile(r"^\d+ +(\d+\.\d+) (?:fsync|fdatasync)\(", re.MULTILINE)


class Failed(Exception):
    """A measure ended with an error; the text is its last line."""


@dataclass(slots=True)
class Bench:
    """All measurements of one run, and the servers that they need: started at the first need, ended with `stack`."""

    folder: Path
    repeat: int
    short: bool
    stack: ExitStack
    done: dict[Subject, list[dict[str, float]] | Failed] = field(default_factory=dict)
    _servers: dict[str, str | Missing] = field(default_factory=dict)
    _runs: int = 0

    def median(self, subject: Subject, value: str) -> float:
        """The median of one number.

        Raises:
            Failed: If the measure did not work.
        """
        if subject not in self.done:
            try:
                self.done[subject] = [self._once(subject) for _ in range(min(self.repeat, subject.times))]
            except Failed as error:
                self.done[subject] = error
        found = self.done[subject]
        if isinstance(found, Failed):
            raise found
        return statistics.median(numbers[value] for numbers in found)

    def syncs(self, subject: Subject) -> float | None:
        """How many fsync and fdatasync calls a thousand messages cost; None where strace is missing or forbidden."""
        if (strace := shutil.which("strace")) is None:
            return None
        with tempfile.NamedTemporaryFile("r", dir=self.folder) as report:
            tracing = [strace, "-f", "-ttt", "-e", "trace=fsync,fdatasync", "-o", report.name]
            try:
                found = self._once(subject, tracing=tracing)
            except Failed:
                return None
            syncs = [at for at in map(float, _SYNC.findall(report.read())) if found["from"] <= at <= found["to"]]
            return 1000 * len(syncs) / min(self._count(subject), _TRACED)

    def missing(self, peer: Contestant) -> str | None:
        """Why a peer cannot be measured here; None: it can, and its server runs."""
        absent = [name for name in peer.needs if importlib.util.find_spec(name) is None]
        if absent:
            return f"not installed: {', '.join(absent)} (`python3 tools/bootstrap.py bench` does it)"
        if peer.server is None:
            return None
        if peer.server not in self._servers:
            try:
                self._servers[peer.server] = self.stack.enter_context(SERVERS[peer.server](self.folder))
            except Missing as error:
                self._servers[peer.server] = error
        found = self._servers[peer.server]
        return str(found) if isinstance(found, Missing) else None

    def _once(self, subject: Subject, *, tracing: list[str] | None = None) -> dict[str, float]:
        folder = tempfile.mkdtemp(dir=self.folder)
        count = self._count(subject) if tracing is None else min(self._count(subject), _TRACED)
        measure = [] if subject.measure is None else [subject.measure]
        command = [sys.executable, "-m", subject.module, *measure, folder, str(count)]
        try:
            code, out, err = _ended([*(tracing or []), *command], self._environment(subject))
        except subprocess.TimeoutExpired:
            raise Failed(f"no end within {_PATIENCE} s") from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if code:
            if tracing is None:
                sys.stderr.write(err)
            raise Failed((err.strip().splitlines() or ["no word"])[-1])
        numbers: dict[str, float] = json.loads(out.splitlines()[-1])
        return numbers

    def _environment(self, subject: Subject) -> Mapping[str, str]:
        self._runs += 1
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("REDRIVE_", "BENCH_"))}
        servers = {name: address for name, address in self._servers.items() if isinstance(address, str)}
        path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        return {**kept, **servers, **dict(subject.environment), "PYTHONPATH": path, "BENCH_RUN": str(self._runs)}

    def _count(self, subject: Subject) -> int:
        return subject.short if self.short else subject.count


def _ended(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
    """The exit code of a measure, and what it wrote; if we are to end, it gets time to end what it started."""
    with subprocess.Popen(  # noqa: S603 - our own scripts
        command, env=environment, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            out, err = process.communicate(timeout=_PATIENCE)
        except BaseException:
            process.terminate()
            try:
                process.communicate(timeout=_ENDING)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return process.returncode, out, err
