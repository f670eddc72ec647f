"""A database with something of everything in it, and what a reader of it must find."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from redrive.broker import Acknowledge, Outgoing, QueueSpec, Return
from redrive.message import NOTHING, Delivery, Failure, FailureRecord, Message, Notes
from redrive.sqlite.database import connect
from redrive.sqlite.engine import Engine
from redrive.sqlite.entries import Entries
from redrive.store import ABSENT, BODIES, CIRCUITS, CLAIMS, LETTERS, TIMERS

NOW = 1_700_000_000_000
QUEUES = [
    QueueSpec(name="orders-dead"),
    QueueSpec(name="orders", dead_letter_queue="orders-dead", max_receives=3),
    QueueSpec(name="orders-parked-payments"),
    QueueSpec(name="fleeting", retention=1_209_600.0),
    QueueSpec(name="line-dead", fifo=True, content_deduplication=True),
    QueueSpec(name="line", fifo=True, content_deduplication=True, dead_letter_queue="line-dead", max_receives=3),
]
_TABLES = (
    *("queue", "message", "entry", "line", "tenant", "deduplication", "receive_attempt", "move_task", "meta"),
    *("sqs_queue", "sqs_deleted_queue"),
)


@dataclass(frozen=True)
class Sample:
    """A database file, its log, and what is in them."""

    path: Path
    rows: dict[str, list[tuple[Any, ...]]]
    """Every row of every table, in order."""
    columns: dict[str, list[str]]
    """The columns of every table, in order."""
    sent: dict[str, Message]
    """Every message that was ever sent, by id; some were handled since."""

    def copy(self, folder: Path) -> Path:
        """A copy to break."""
        for name in (self.path.name, f"{self.path.name}-wal"):
            if (self.path.parent / name).exists():
                shutil.copyfile(self.path.parent / name, folder / name)
        return folder / self.path.name


def sample(folder: Path, *, in_log: bool = True, scale: int = 1) -> Sample:
    """Make one. With `in_log`, about half of it stands in the log alone."""
    path = folder / "made.db"
    connection = connect(str(path))
    connection.pragma("synchronous", "OFF")  # nobody cuts the power here
    maker = _Maker(connection)
    maker.fill(scale)
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    maker.go_on(scale)
    rows, columns = everything(connection), {table: _columns(connection, table) for table in _TABLES}
    if not in_log:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    kept = folder / "kept"
    kept.mkdir()
    for name in ("made.db", "made.db-wal"):
        shutil.copyfile(folder / name, kept / name)
    connection.close()
    if not in_log:
        (kept / "made.db-wal").unlink()
    return Sample(kept / "made.db", rows, columns, maker.sent)


def everything(connection: apsw.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in _TABLES}  # noqa: S608


def _columns(connection: apsw.Connection, table: str) -> list[str]:
    found: list[Any] = connection.execute(f"PRAGMA table_info({table})").fetchall()
    return [row[1] for row in found]


class _Maker:
    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._engine = Engine(connection)
        self._entries = Entries(connection)
        self._random = random.Random(7)  # noqa: S311 - the same each time
        self._count = 0
        self.sent: dict[str, Message] = {}

    def fill(self, scale: int) -> None:
        """Standard queues, dead and parked letters, entries."""
        with self._transaction():
            self._connection.execute("UPDATE meta SET clock_high_water_ms = ?", (NOW,))
            self._engine.declare(QUEUES, NOW)
            tagged = "INSERT INTO sqs_queue (queue, attributes, tags) SELECT id, '{}', '{\"team\": \"bar\"}' FROM queue"
            self._connection.execute(tagged)
            self._connection.execute("INSERT INTO sqs_deleted_queue VALUES ('gone', ?)", (NOW,))
        for _ in range(3 * scale):
            with self._transaction():
                self._send("orders", 12)
                self._send("orders", 4, delay=600.0)
                self._send("orders-dead", 5, noted=True)
                self._send("orders-parked-payments", 5, noted=True)
                self._send("line", 12)
                self._put(6)
        with self._transaction():
            self._settle(self._engine.receive("orders", limit=15 * scale, lease=600.0, now_ms=NOW + 1))

    def go_on(self, scale: int) -> None:
        """FIFO lines, leases, more of everything, and a move."""
        for _ in range(2 * scale):
            with self._transaction():
                self._send("line", 12)
                self._send("fleeting", 4)
                self._send("orders", 12)
                self._send("line-dead", 3, noted=True)
                self._put(4)
            with self._transaction():
                self._settle(self._engine.receive("line", limit=4, lease=600.0, now_ms=NOW + 2))
                self._engine.receive("line", limit=3, lease=600.0, now_ms=NOW + 3, attempt=f"a{self._count}")
                self._engine.receive("orders", limit=5, lease=600.0, now_ms=NOW + 3)
                self._engine.receive("fleeting", limit=1, lease=600.0, now_ms=NOW + 3)
        with self._transaction():
            self._engine.moves.start("orders-dead", "orders", 1, NOW)
            self._engine.move(NOW + 4)

    def _send(self, queue: str, count: int, *, delay: float = 0.0, noted: bool = False) -> None:
        self._engine.send(queue, [Outgoing(message=self._message(noted), delay=delay) for _ in range(count)], NOW)

    def _message(self, noted: bool) -> Message:  # noqa: FBT001 - private
        self._count += 1
        number = self._count
        size = 9_000 if number % 17 == 0 else self._random.randrange(20, 400)
        record = FailureRecord.extended(None, Failure(at_ms=NOW, kind="raised", text="x" * size), reason="it raised")
        made = Message(
            id=f"message-{number:05}",
            body=json.dumps({"number": number, "filling": self._random.randbytes(size // 2).hex()}).encode(),
            sent_at_ms=NOW - number,
            attributes={"trace": f"t{number}"} if number % 2 else {},
            group=f"group-{number % 5}",
            notes=Notes(attempts=2, failure=record) if noted else NOTHING,
        )
        self.sent[made.id] = made
        return made

    def _put(self, count: int) -> None:
        for namespace in (CIRCUITS, CLAIMS, LETTERS, BODIES, TIMERS):
            for _ in range(count):
                self._count += 1
                value = json.dumps({"v": 1, "text": self._random.randbytes(30).hex()}).encode()
                body = self._random.randbytes(60)
                self._entries.put(
                    namespace,
                    f"key-{self._count}",
                    body if namespace is BODIES else value,
                    if_version=ABSENT,
                    due_at_ms=NOW + self._count if namespace is TIMERS else None,
                    expires_at_ms=NOW + 86_400_000 if namespace is CLAIMS else None,
                    now_ms=NOW,
                )

    def _settle(self, deliveries: list[Delivery]) -> None:
        """A third is acknowledged, a third comes back, a third stays leased."""
        for number, one in enumerate(deliveries):
            if number % 3 == 0:
                self._engine.settle([Acknowledge(delivery=one)], NOW + 5)
            elif number % 3 == 1:
                self._engine.settle([Return(delivery=one, delay=60.0, notes=Notes(attempts=1))], NOW + 5)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        yield
        self._connection.execute("COMMIT")
