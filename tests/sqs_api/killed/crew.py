"""Producers and consumers of a served queue, who write down what they ask and what they are answered.

A message's body is the name that its producer gave it; by it the checker knows it, whatever id the server gave.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, islice
from random import Random
from typing import Any

from typing_extensions import override

from redrive.broker import QueueSpec
from redrive.errors import OutcomeUnknown
from redrive.testing import Recorder
from redrive.testing.recording import digest_of
from tests.sqs_api.killed.serving import Client, Lost, arn, url

QUEUES = (
    QueueSpec(name="orders-dead"),
    QueueSpec(name="orders", dead_letter_queue="orders-dead", max_receives=3),
    QueueSpec(name="lines-dead", fifo=True),
    QueueSpec(name="lines", fifo=True, dead_letter_queue="lines-dead", max_receives=3),
)
LEASE, HELD = 6, 3.0
"""Seconds of a lease, and after how many a consumer has given up what it holds: a delete of a receipt that is older
than its lease is answered as done, and does nothing."""
GROUPS = 4
PAUSE = 0.015
"""Mean seconds between two calls of a client."""
SHARE_OF_ORDERS, SENT_TWICE, SHARE_OF_RECEIVES, SHARE_OF_RETURNS = 0.5, 0.2, 0.4, 0.35
CONSUMED = ("orders", "orders", "orders", "lines", "lines", "lines", "orders-dead", "lines-dead")
_FIFO = {spec.name for spec in QUEUES if spec.fifo}


def wire(queue: str) -> str:
    """What a queue is called on the wire."""
    return f"{queue}.fifo" if queue in _FIFO else queue


def declare(client: Client) -> None:
    """Make the queues of all crews."""
    for spec in QUEUES:
        attributes = {"FifoQueue": "true"} if spec.fifo else {}
        if spec.dead_letter_queue is not None:
            dead = arn(wire(spec.dead_letter_queue))
            attributes["RedrivePolicy"] = f'{{"deadLetterTargetArn":"{dead}","maxReceiveCount":{spec.max_receives}}}'
        client.call("CreateQueue", QueueName=wire(spec.name), Attributes=attributes)


@dataclass(slots=True)
class Held:
    """A message in flight."""

    body: str
    receipt: str
    since: float
    life: int
    """Of the server that gave it."""


class Member:
    """One client, its log, and what it has counted."""

    def __init__(self, client: Client, recorder: Recorder, seed: int) -> None:
        self.client, self.recorder = client, recorder
        self.random = Random(seed)  # noqa: S311 - repeatable on purpose
        self.counts: Counter[str] = Counter()

    def pause(self, stop: threading.Event) -> bool:
        """Wait a moment; whether to go on."""
        return not stop.wait(self.random.uniform(0, 2 * PAUSE))

    def send(self, queue: str, bodies: Sequence[str], group: str | None = None) -> list[dict[str, Any]]:
        """Send messages in one call; each body is its message's deduplication id too, in a FIFO queue."""
        fifo = queue in _FIFO
        entries: list[dict[str, Any]] = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)]
        if fifo:
            entries = [one | {"MessageGroupId": group, "MessageDeduplicationId": one["MessageBody"]} for one in entries]
        those = [[body, group, body if fifo else None, digest_of(body.encode())] for body in bodies]
        answer = self._recorded("SendMessageBatch", queue, {"messages": those}, "send", Entries=entries)
        assert "Failed" not in answer, answer
        return list(answer["Successful"])

    def receive(self, queue: str, wait: int = 0) -> list[Held]:
        """Take up to ten; wait so many seconds for the first."""
        began = time.monotonic()
        messages = self._recorded(
            "ReceiveMessage",
            queue,
            {"lease": LEASE, "chosen": False},
            "receive",
            MaxNumberOfMessages=10,
            VisibilityTimeout=LEASE,
            WaitTimeSeconds=wait,
            MessageSystemAttributeNames=["All"],
        ).get("Messages", [])
        return [Held(one["Body"], one["ReceiptHandle"], began, self.client.life) for one in messages]

    def settle(self, queue: str, kind: str, those: Sequence[Held]) -> None:
        """Delete messages, or end their leases."""
        operation = {"acknowledge": "DeleteMessageBatch", "return": "ChangeMessageVisibilityBatch"}[kind]
        more = {} if kind == "acknowledge" else {"VisibilityTimeout": 0}
        entries = [{"Id": str(n), "ReceiptHandle": one.receipt, **more} for n, one in enumerate(those)]
        lines = [{"queue": queue, "id": one.body, "receipt": one.receipt, "kind": kind} for one in those]
        answer = self._recorded(operation, queue, {"settlements": lines}, "settle", Entries=entries)
        assert "Failed" not in answer, answer
        self.counts[f"{kind} across a kill"] += sum(one.life < self.client.life for one in those)

    def _recorded(self, operation: str, queue: str, facts: dict[str, Any], did: str, **request: Any) -> dict[str, Any]:
        number = 0

        def first() -> None:
            nonlocal number
            number = self.recorder.did(did, **({} if did == "settle" else {"queue": queue}), **facts)

        try:
            answer = self.client.call(operation, first=first, QueueUrl=url(wire(queue)), **request)
        except Lost as lost:
            self.counts["unknown"] += 1
            self.recorder.raised(number, OutcomeUnknown("the endpoint", str(lost)))
            raise
        self.counts["answered"] += 1
        self.recorder.got(number, self._told(did, answer, request))
        return answer

    def _told(self, did: str, answer: dict[str, Any], request: dict[str, Any]) -> list[Any]:
        if did == "receive":
            return [_delivery(one) for one in answer.get("Messages", [])]
        if did == "settle":
            return [None for _ in request["Entries"]]
        bodies = [one["MessageBody"] for one in request["Entries"]]
        return [self._sent(one, body) for one, body in zip(_in_order(answer["Successful"]), bodies, strict=True)]

    def _sent(self, answer: dict[str, Any], _body: str) -> list[Any] | None:
        number = answer.get("SequenceNumber")
        return None if number is None else [None, int(number), False]


class Producer(Member):
    """Sends, and on a FIFO queue sends again what was lost, and now and then what was answered."""

    def __init__(self, client: Client, recorder: Recorder, seed: int) -> None:
        super().__init__(client, recorder, seed)
        self._ids: dict[str, str] = {}
        """By the body, the id that the FIFO queue gave."""
        self._lost: set[str] = set()
        """The bodies of what was sent there once without an answer."""
        self._answered: set[str] = set()
        self._names = (f"{recorder.process}-{number}" for number in count(1))

    def work(self, stop: threading.Event) -> None:
        while self.pause(stop):
            if self.random.random() < SHARE_OF_ORDERS:
                with suppress(Lost):
                    self.send("orders", list(islice(self._names, self.random.randint(1, 10))))
            else:
                self._send_in_order(list(islice(self._names, self.random.randint(1, 3))))

    def _send_in_order(self, bodies: list[str]) -> None:
        group = f"g{self.random.randrange(GROUPS)}"
        left = 2 if self.random.random() < SENT_TWICE else 1
        while left:
            try:
                self.send("lines", bodies, group)
            except Lost:
                self._lost.update(bodies)
            else:
                left -= 1

    @override
    def _sent(self, answer: dict[str, Any], body: str) -> list[Any] | None:
        if "SequenceNumber" not in answer:
            return None
        number = int(answer["SequenceNumber"])
        if self._ids.setdefault(body, answer["MessageId"]) != answer["MessageId"]:
            return [None, number, False]  # which the checker complains of
        if body in self._answered:
            self.counts["sent twice"] += 1
            return [body, number, True]
        self._answered.add(body)
        if body in self._lost:  # nobody knows of which of the calls the number is
            self.counts["sent again"] += 1
            return [None, None, False]
        return [None, number, False]


class Consumer(Member):
    """Receives from all queues, and deletes, hands back or lets go what it got: at once, or some calls later."""

    def work(self, stop: threading.Event) -> None:
        held: dict[str, list[Held]] = {spec.name: [] for spec in QUEUES}
        while self.pause(stop):
            queue = self.random.choice(CONSUMED)
            with suppress(Lost):
                if self.random.random() < SHARE_OF_RECEIVES:
                    held[queue] += self.receive(queue)
                else:
                    self._settle_some(queue, held[queue])

    def _settle_some(self, queue: str, held: list[Held]) -> None:
        """The oldest first, as a FIFO queue's groups need it; what is too old is let go."""
        self.client.wait()
        fresh = [one for one in held if time.monotonic() < one.since + HELD]
        self.counts["let go"] += len(held) - len(fresh)
        some, held[:] = fresh[:10], fresh[10:]
        if some:
            self.settle(queue, "return" if self.random.random() < SHARE_OF_RETURNS else "acknowledge", some)


def drain(member: Member, patience: float) -> list[str]:
    """Receive and delete until all queues are empty; what could not be emptied within so many seconds."""
    deadline = time.monotonic() + patience
    full = [spec.name for spec in QUEUES]
    while full and time.monotonic() < deadline:
        for queue in full:
            while those := member.receive(queue, wait=1):
                member.settle(queue, "acknowledge", those)
        # All of them again: what a consumer held for the last time has died meanwhile, into a queue that was empty.
        full = [spec.name for spec in QUEUES if messages_in(member.client, wire(spec.name))]
    return [f"{queue!r} could not be emptied" for queue in full]


def messages_in(client: Client, queue: str) -> int:
    """All of them: ready, in flight, delayed."""
    names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
    found = client.call("GetQueueAttributes", QueueUrl=url(queue), AttributeNames=names)["Attributes"]
    return sum(map(int, found.values()))


def _in_order(answers: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(answers, key=lambda one: int(one["Id"]))


def _delivery(message: dict[str, Any]) -> list[Any]:
    told, body = message["Attributes"], message["Body"]
    number = told.get("SequenceNumber")
    return [
        body,
        told.get("MessageGroupId"),
        message["ReceiptHandle"],
        int(told["ApproximateReceiveCount"]),
        None if number is None else int(number),
        digest_of(body.encode()),
    ]
