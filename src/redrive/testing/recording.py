"""Writing down what a process does to a broker, so that it survives the process's own `kill -9`.

Every call is written down before it is made and again when it is answered, each with a single write to a file that is
opened for appending: what was written is in the kernel, and no signal takes it back. A power cut does: the file is not
synced.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from redrive.broker import (
    Acknowledge,
    Broker,
    Forward,
    Outgoing,
    Results,
    Return,
    Sends,
    Sent,
    Settlement,
)
from redrive.errors import BrokerError, OutcomeUnknown
from redrive.message import Delivery
from redrive.relay import Relay
from redrive.testing.history import SUFFIX

T = TypeVar("T")


class Recorder:
    """The log of one process. Safe from every thread and task; not to be shared with a forked child."""

    def __init__(self, folder: Path, process: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin a log.

        Args:
            folder: which exists; one for all processes of a history.
            process: the name of this process in it; one that is started again needs another one.
            clock: seconds that all processes of the machine count alike; the monotonic clock does on Linux and macOS.

        Raises:
            FileExistsError: If there is a log of that name.
        """
        self.process = process
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file = os.open(folder / f"{process}{SUFFIX}", flags, 0o600)
        self._numbers = itertools.count(1)
        self._clock = clock

    def did(self, what: str, **facts: Any) -> int:  # noqa: ANN401 - JSON
        """Write down that a call is about to be made; its number."""
        number = next(self._numbers)
        self._write({"at": self._clock(), "call": number, "did": what, **facts})
        return number

    def got(self, number: int, answer: Sequence[Any]) -> None:
        """Write down what a call was answered."""
        self._write({"at": self._clock(), "call": number, "got": answer})

    def raised(self, number: int, error: BaseException) -> None:
        """Write down that a call ended in an exception; of redrive's, all but OutcomeUnknown say: nothing happened."""
        refused = isinstance(error, BrokerError) and not isinstance(error, OutcomeUnknown)
        text = f"{type(error).__name__}: {error}"
        self._write({"at": self._clock(), "call": number, "raised": text, "refused": refused})

    def handled(self, message_id: str) -> None:
        """Write down, from a handler, that a message was handled; for workers whose own calls are not recorded."""
        self.did("handle", id=message_id)

    def killed(self, process: str) -> None:
        """Write down that another process is gone; to be called after it was waited for."""
        self.did("killed", process=process)

    def moving(self, source: str, target: str | None) -> None:
        """Write down, before it begins, that the broker itself moves messages; None: each to where it came from."""
        self.did("move", source=source, target=target)

    def close(self) -> None:
        """Close the file. Twice is once."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        if os.write(self._file, text) != len(text):
            raise OSError(f"the log of {self.process!r} could not be written in one piece; is its disk full?")


class Recorded(Relay):
    """A broker that writes down what is asked of it, and is otherwise the one that it was made from.

    Declaring and looking are not recorded. Closing it leaves the log open, which is its maker's to close: a closed
    broker still answers.
    """

    def __init__(self, broker: Broker, recorder: Recorder) -> None:
        super().__init__(broker)
        self.broker, self.recorder = broker, recorder

    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        """Put messages into a queue."""
        those = [_outgoing(one) for one in messages]
        number = self.recorder.did("send", queue=queue, messages=those)
        return await self._answered(number, lambda: self.broker.send(queue, messages), _results)

    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Sequence[str] | None = None
    ) -> list[Delivery]:
        """Take messages under a lease. The longer it waits, the less is known of when: keep `wait` below the lease."""
        number = self.recorder.did("receive", queue=queue, lease=lease, chosen=ids is not None)
        return await self._answered(
            number, lambda: self.broker.receive(queue, limit=limit, lease=lease, wait=wait, ids=ids), _deliveries
        )

    async def settle(self, settlements: Sequence[Settlement]) -> Results:
        """Say what became of deliveries."""
        number = self.recorder.did("settle", settlements=[_settlement(one) for one in settlements])
        return await self._answered(number, lambda: self.broker.settle(settlements), _results)

    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Results:
        """Let the leases end later, or sooner."""
        number = self.recorder.did("extend", leases=[_lease(one) for one in deliveries], lease=lease)
        return await self._answered(number, lambda: self.broker.extend(deliveries, lease=lease), _results)

    async def purge(self, queue: str) -> int:
        """Delete everything in a queue."""
        number = self.recorder.did("purge", queue=queue)
        return await self._answered(number, lambda: self.broker.purge(queue), lambda count: [count])

    async def _answered(self, number: int, ask: Callable[[], Awaitable[T]], told: Callable[[T], list[Any]]) -> T:
        try:
            answer = await ask()
        except BaseException as error:
            self.recorder.raised(number, error)
            raise
        self.recorder.got(number, told(answer))
        return answer


async def remaining(broker: Broker) -> dict[str, list[str]]:
    """The ids of all messages in each queue; for a broker that browses, while nothing else changes it."""
    return {queue: await _ids(broker, queue) for queue in await broker.queues()}


async def _ids(broker: Broker, queue: str) -> list[str]:
    page = await broker.browse(queue)
    ids = [one.id for one in page.messages]
    while page.cursor is not None:
        page = await broker.browse(queue, cursor=page.cursor)
        ids += [one.id for one in page.messages]
    return ids


def digest_of(body: bytes) -> str:
    """By what a body is known again."""
    return hashlib.sha256(body).hexdigest()[:16]


def _outgoing(one: Outgoing) -> list[str | None]:
    return [one.message.id, one.message.group, one.deduplication_id, digest_of(one.message.body)]


def _results(results: Sequence[BrokerError | Sent | None]) -> list[Any]:
    return [_result(one) for one in results]


def _result(result: BrokerError | Sent | None) -> Any:  # noqa: ANN401 - JSON
    match result:
        case None:
            return None
        case Sent():
            return [result.id, result.sequence, result.duplicate]
        case OutcomeUnknown():
            return {"unknown": str(result)}
        case _:
            return {"refused": str(result)}


def _deliveries(deliveries: Sequence[Delivery]) -> list[Any]:
    return [
        [
            one.message.id,
            one.message.group,
            one.receipt,
            one.receive_count,
            one.sequence,
            digest_of(one.message.body),
        ]
        for one in deliveries
    ]


def _lease(delivery: Delivery) -> list[str]:
    return [delivery.queue, delivery.message.id, delivery.receipt]


def _settlement(settlement: Settlement) -> dict[str, Any]:
    delivery = settlement.delivery
    lease = {"queue": delivery.queue, "id": delivery.message.id, "receipt": delivery.receipt}
    match settlement:
        case Acknowledge():
            return {**lease, "kind": "acknowledge"}
        case Return(uncounted=uncounted):
            return {**lease, "kind": "return", "uncounted": uncounted}
        case Forward(queue=target, message=message):
            return {**lease, "kind": "forward", "target": target, "digest": digest_of(message.body)}
