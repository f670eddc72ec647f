"""DBOS: the same three steps as a workflow, called by clients that each wait until it is complete.

Plain functions in threads, called directly: nothing else that it offers was faster here. On SQLite its file is put into
WAL instead of the rollback journal that it would take; either way it syncs each commit. Its pool has 20 connections:
its default. No step has an undo: it has none.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dbos import DBOS
from instances.databases import fresh
from ledger import Miscounted
from workload import measured_by, order, quantiles, rate

IN_FLIGHT = 64


def charge(body: str) -> str:
    """The first step."""
    return f"payment-{len(body)}"


def reserve(body: str) -> str:
    """The second."""
    return f"beans-{len(body)}"


def book(body: str) -> str:
    """The third."""
    return f"courier-{len(body)}"


def fulfil(body: str) -> str:
    """Three steps, one after the other."""
    return f"{_charge(body)} {_reserve(body)} {_book(body)}"


_charge, _reserve, _book = DBOS.step()(charge), DBOS.step()(reserve), DBOS.step()(book)
_workflow = DBOS.workflow()(fulfil)


def answered(folder: Path, count: int, *, clients: int) -> Mapping[str, float]:
    """Clients that each start a workflow, wait until it is complete, and start the next."""
    DBOS(config={"name": "bench", "system_database_url": _database(folder), "log_level": "ERROR"})
    DBOS.launch()

    def client(number: int) -> int:
        began = time.monotonic_ns()
        _workflow(order(number, began).model_dump_json())
        return time.monotonic_ns() - began

    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(client, range(clients)))  # connections are open before the clock starts
        began = time.time()
        took = list(threads.map(client, range(count)))
        found = rate(count, began)
    _verify(count + clients)
    return {**found, **quantiles(took)}


def _database(folder: Path) -> str:
    if (address := fresh()) is not None:
        return address.replace("postgresql://", "postgresql+psycopg://")
    file = folder / "dbos.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode=wal")
    connection.close()
    return f"sqlite:///{file}"


def _verify(count: int) -> None:
    """Count what it says it has completed.

    Raises:
        Miscounted: If that is not all.
    """
    found = len(DBOS.list_workflows(status="SUCCESS", limit=count + 1, load_input=False, load_output=False))
    if found != count:
        raise Miscounted(f"{count} workflows were started and {found} are complete")


def _measured() -> None:
    measured_by(
        {
            "answered": lambda folder, count: answered(folder, count, clients=IN_FLIGHT),
            "answered-one": lambda folder, count: answered(folder, count, clients=1),
        }
    )


if __name__ == "__main__":
    _measured()
    sys.stdout.flush()
    os._exit(0)  # its threads would go on until their next poll
