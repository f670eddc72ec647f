"""What redrive costs while nothing happens: an idle worker's processor time and memory, and the import."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from embedded import application
from workload import Order, measured_by, status_kib

SETTLING = 3.0
"""Seconds until a worker that started is at rest."""


async def handle(order: Order) -> None:
    """Take an order."""
    del order


app = application(Path(os.environ.get("REDRIVE_BENCH_FOLDER", ".")), handle)


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as the supervisor starts it, on the queue of this folder."""
    board = folder / "board.db"
    board.touch()
    command = [sys.executable, "-m", "redrive.child", "worker", f"{__file__}:app", "--board", str(board)]
    command += ["--app-dir", str(Path(__file__).parent), "--log-level", "warning"]
    environment = {**os.environ, "REDRIVE_BENCH_FOLDER": str(folder)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as process:  # noqa: S603 - our own
        try:
            yield process
        finally:
            process.terminate()


def idle(folder: Path, seconds: int) -> Mapping[str, float]:
    """A worker on an empty queue: percent of one core, and MB (10^6 bytes) in memory."""
    with running(folder) as process:
        time.sleep(SETTLING)
        before, began = processor_seconds(process.pid), time.monotonic()
        time.sleep(seconds)
        used = (processor_seconds(process.pid) - before) / (time.monotonic() - began)
        resident = status_kib(process.pid, "VmRSS") * 1024 / 1e6
    return {"percent": 100 * used, "mb": resident}


def importing(folder: Path, _: int) -> Mapping[str, float]:
    """Milliseconds of `import redrive` in a fresh interpreter, its bytecode compiled before."""
    code = "import time; t = time.perf_counter(); import redrive; print((time.perf_counter() - t) * 1000)"
    taken = [subprocess.check_output([sys.executable, "-c", code], cwd=folder) for _ in range(2)]  # noqa: S603
    return {"ms": float(taken[1])}


def processor_seconds(process: int) -> float:
    """What a process has used so far, in user and system mode."""
    fields = Path(f"/proc/{process}/stat").read_text("utf-8").rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    measured_by({"idle": idle, "import": importing})
