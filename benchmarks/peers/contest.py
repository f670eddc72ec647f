"""What every peer is asked to do: take single sends from many at once, handle them all, and then one at a time.

One run of a peer gives all of its numbers: `count` orders are sent concurrently, then its worker is started and drains
them, then it is idle and gets one order after the other. A number counts only if every order was handled exactly once.
The drain ends when the last message is settled where a peer can be asked, else when the last handler was called.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger import Ledger
from workload import Order, end_on_sigterm, order, orders, quantiles

FOLDER = "BENCH_FOLDER"
"""The environment variable that tells a worker where the ledger is."""
_WARM_UP = 20
_ONE_BY_ONE = 200
_BREATH = 0.005
_LOOK = 0.002
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One contestant, as its module describes it."""

    prepare: Callable[[], None]
    """Makes its queue: what a deployment does once."""
    concurrently: Callable[[Sequence[Order]], None]
    """Single sends of all of them, as many at a time as suits it best; returns when all are answered."""
    send: Callable[[Order], None]
    """One send."""
    worker: Sequence[str]
    """The command of its worker, after the interpreter."""
    left: Callable[[], int] | None = None
    """How many messages are not settled, where it can be asked: it may be far behind its handlers."""


def contest(peer: Peer, folder: Path, count: int) -> Mapping[str, float]:
    """Its numbers: sent and drained each second, and p50 and p99 from a send to the handler in another process."""
    one_by_one = min(_ONE_BY_ONE, count) + _WARM_UP
    ledger = Ledger.make(folder, count + one_by_one)
    peer.prepare()
    those = orders(count)
    began = time.time()
    peer.concurrently(those)
    sent = count / (time.time() - began)
    with working(peer.worker, folder):
        ended = ledger.wait(range(count))
        while peer.left is not None and peer.left():
            time.sleep(_LOOK)
            ended = time.time()
        drained = count / (ended - ledger.began)
        time.sleep(0.5)  # until it is idle
        for number in range(count, count + one_by_one):
            peer.send(order(number, time.monotonic_ns()))
            ledger.wait(range(number, number + 1))
            time.sleep(_BREATH)
    ledger.verify(range(count + one_by_one))
    took = ledger.took_ns(range(count + _WARM_UP, count + one_by_one))
    return {"sent": sent, "drained": drained, **quantiles(took)}


@contextmanager
def working(command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own (it may have more below it), told to stop in the end and given time for it."""
    environment = {**os.environ, FOLDER: str(folder)}
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - a script of ours or the peer's own command
            [sys.executable, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    except BaseException:
        sys.stderr.write((folder / "worker.log").read_text("utf-8", "replace")[-4000:])
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the group is ours alone
            process.wait()


def handler(then: Callable[[Order], object] | None = None) -> Callable[[str | bytes], None]:
    """The work: parse, validate and count, in the ledger of the folder that the environment names."""
    ledger: list[Ledger] = []

    def handle(body: str | bytes) -> None:
        one = Order.model_validate_json(body)
        if not ledger:
            ledger.append(Ledger(Path(os.environ[FOLDER])))
        ledger[0].handled(one)
        if then is not None:
            then(one)

    return handle


def answer(peer: Peer) -> None:
    """Run the contest that the command line asks for: `FOLDER COUNT`."""
    end_on_sigterm()
    folder, count = sys.argv[1:]
    print(json.dumps(dict(contest(peer, Path(folder).resolve(), int(count)))), flush=True)
    os._exit(0)  # connections and threads that wait for more end with it
