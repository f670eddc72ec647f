"""An engine in virtual time: each call is a transaction of its own, and time passes when a test says so."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from redrive.broker import (
    Acknowledge,
    Depth,
    Forward,
    MoveTask,
    Outgoing,
    QueueSpec,
    Results,
    Return,
    Sends,
    Sent,
    Settlement,
)
from redrive.message import NOTHING, Delivery, Message, Notes
from redrive.sqlite.database import MEMORY, connect
from redrive.sqlite.engine import Engine

T = TypeVar("T")
BEGIN_MS = 1_700_000_000_000
LEASE = 30.0


class Driven:
    """An engine, its connection and its time. Bodies are texts here, and ids are `m1`, `m2` and so on."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.now_ms = BEGIN_MS
        self.count = 0
        self.open()

    def open(self) -> None:
        self.connection = connect(self.path)
        self.connection.pragma("synchronous", "OFF")  # nobody cuts the power here
        self.engine = Engine(self.connection)

    def crash(self) -> None:
        """What is not committed is gone; what is on disk is opened anew."""
        self.connection.close()
        self.open()

    def do(self, work: Callable[[Engine], T]) -> T:
        """In a transaction."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            done = work(self.engine)
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        return done

    def let_pass(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)

    def declare(self, *specs: QueueSpec) -> None:
        self.do(lambda engine: engine.declare(specs, self.now_ms))

    def message(self, body: str, group: str | None = None, notes: Notes = NOTHING) -> Message:
        self.count += 1
        return Message(id=f"m{self.count}", body=body.encode(), sent_at_ms=self.now_ms, group=group, notes=notes)

    def send(
        self,
        queue: str,
        *bodies: str,
        group: str | None = None,
        key: str | None = None,
        delay: float | None = None,
        notes: Notes = NOTHING,
    ) -> Sends:
        """To a FIFO queue each under its id, unless there is a key."""
        messages = [self.message(body, group, notes) for body in bodies]
        outgoing = [Outgoing(message=one, delay=delay, deduplication_id=key or one.id) for one in messages]
        return self.do(lambda engine: engine.send(queue, outgoing, self.now_ms))

    def sent(self, queue: str, body: str, *, group: str = "a", key: str | None = None) -> Sent:
        """One to a FIFO queue."""
        (sent,) = self.send(queue, body, group=group, key=key)
        assert isinstance(sent, Sent)
        return sent

    def take(
        self,
        queue: str,
        limit: int = 10,
        *,
        lease: float = LEASE,
        ids: Sequence[str] | None = None,
        attempt: str | None = None,
    ) -> list[Delivery]:
        return self.do(
            lambda engine: engine.receive(queue, limit=limit, lease=lease, now_ms=self.now_ms, ids=ids, attempt=attempt)
        )

    def take_one(self, queue: str, *, lease: float = LEASE) -> Delivery:
        """The next one; there has to be one."""
        (taken,) = self.take(queue, 1, lease=lease)
        return taken

    def bodies(self, queue: str, limit: int = 10) -> list[str]:
        """Of what is received now."""
        return bodies_of(self.take(queue, limit))

    def settle(self, *settlements: Settlement) -> Results:
        return self.do(lambda engine: engine.settle(settlements, self.now_ms))

    def acknowledge(self, *deliveries: Delivery) -> None:
        assert self.settle(*(Acknowledge(delivery=one) for one in deliveries)) == [None] * len(deliveries)

    def hand_back(self, delivery: Delivery, delay: float = 0.0, *, uncounted: bool = False) -> None:
        assert self.settle(Return(delivery=delivery, delay=delay, uncounted=uncounted)) == [None]

    def forward(self, delivery: Delivery, queue: str, delay: float = 0.0) -> None:
        assert self.settle(Forward(delivery=delivery, queue=queue, message=delivery.message, delay=delay)) == [None]

    def extend(self, *deliveries: Delivery, lease: float) -> Results:
        return self.do(lambda engine: engine.extend(deliveries, lease=lease, now_ms=self.now_ms))

    def depth(self, queue: str) -> Depth:
        return self.do(lambda engine: engine.depth(queue, self.now_ms))

    def total(self, queue: str) -> int:
        return self.depth(queue).total

    def seen(self, queue: str, limit: int = 100) -> list[Message]:
        """Everything in the queue, page by page."""
        found: list[Message] = []
        cursor: str | None = None
        while True:
            page = self.engine.browse(queue, cursor=cursor, limit=limit)
            assert len(page.messages) <= limit
            found += page.messages
            if (cursor := page.cursor) is None:
                return found

    def drain(self, queue: str) -> list[str]:
        """The bodies of all that is ready, received and acknowledged one by one."""
        found: list[str] = []
        while taken := self.take(queue, 1):
            found += bodies_of(taken)
            self.acknowledge(*taken)
        return found

    def next_in(self, queue: str) -> float | None:
        """Seconds until something may be received; None when there is nothing."""
        at_ms = self.engine.next_visible_ms(queue)
        return None if at_ms is None else (at_ms - self.now_ms) / 1000

    def damage(self, body: str) -> None:
        """A message is not what was sent any more, and nobody knows it yet."""
        self.connection.execute("UPDATE message SET body = x'00' WHERE body = ?", (body.encode(),))

    # Moves

    def start_move(self, source: str, destination: str | None = None, *, rate: int | None = None) -> str:
        return self.do(lambda engine: engine.moves.start(source, destination, rate, self.now_ms))

    def cancel(self, task: str) -> int:
        return self.do(lambda engine: engine.moves.cancel(task))

    def move(self) -> float | None:
        """What is due now; in how many seconds there is more."""
        again = self.do(lambda engine: engine.move(self.now_ms))
        return None if again is None else (again - self.now_ms) / 1000

    def moves(self, source: str) -> list[MoveTask]:
        return list(self.engine.moves.list(source))

    def count_of(self, table: str) -> int:
        found: int = self.connection.execute(f"SELECT count(*) FROM {table}").get  # noqa: S608 - a test's own word
        return found


@contextmanager
def driven(*specs: QueueSpec, on_file: bool = False) -> Iterator[Driven]:
    """An engine with these queues, in memory, or on a file that outlives a crash."""
    with tempfile.TemporaryDirectory(prefix="redrive-driven-") as folder:
        one = Driven(str(Path(folder, "driven.db")) if on_file else MEMORY)
        one.declare(*specs)
        try:
            yield one
        finally:
            one.connection.close()


def bodies_of(deliveries: Sequence[Delivery]) -> list[str]:
    return [one.message.body.decode() for one in deliveries]
