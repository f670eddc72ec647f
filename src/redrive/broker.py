"""The port to brokers: what redrive asks of one, and what one may differ in.

A broker leases, never deletes: a message leaves only when it is acknowledged, and a lease that runs out makes it ready
again. Every call that returns has taken effect durably. Calls on several messages succeed or fail one by one: their
answer is a list with one entry for each message, None where it was done and the error where it was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from redrive.errors import BrokerError, LimitExceeded
from redrive.message import MAX_BODY, Delivery, Message, Notes

Results = list[BrokerError | None]
"""One entry for each message, in the order asked: None where it was done."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a FIFO queue made of a message that was sent to it."""

    id: str
    """The message's id; of a duplicate, that of the message which was sent first."""
    sequence: int
    """Where it stands: larger than that of everything sent to the queue before. Not consecutive.

    Source: Amazon SQS, SendMessage response, `SequenceNumber`.
    """
    duplicate: bool = False
    """Whether the same deduplication id was sent within five minutes before: nothing was sent this time."""


Sends = list[BrokerError | Sent | None]
"""One entry for each message sent: the error where it was not, a Sent on a FIFO queue, None on a standard one."""

LONGEST_DELAY = 900.0
"""Seconds. Source: Amazon SQS, SendMessage `DelaySeconds`: 0 to 900."""
RETENTION = (60.0, 1_209_600.0)
"""Seconds. Source: Amazon SQS, SetQueueAttributes `MessageRetentionPeriod`: 60 to 1,209,600 (14 days)."""
MOST_RECEIVES = 1_000
"""Source: Amazon SQS, SetQueueAttributes, RedrivePolicy `maxReceiveCount`: 1 to 1,000."""
LARGEST_MESSAGE = (1_024, 1_048_576)
"""Bytes. Source: Amazon SQS, SetQueueAttributes `MaximumMessageSize`: 1,024 to 1,048,576 (1 MiB)."""
MOST_SOURCES = 10
"""Source: Amazon SQS, SetQueueAttributes, RedriveAllowPolicy `sourceQueueArns`: at most 10."""
FASTEST_MOVE = 500
"""Messages a second. Source: StartMessageMoveTask `MaxNumberOfMessagesPerSecond`: 1 to 500."""
MOST_MOVES_LISTED = 10
"""Source: ListMessageMoveTasks `MaxResults`: 1 to 10."""
LONGEST_LEASE = 43_200.0
"""Seconds. Source: Amazon SQS quotas, "Message visibility timeout": 12 hours."""


def refused_group(group: str | None) -> LimitExceeded | None:
    """Why no broker can store this group; None: it can be stored."""
    try:
        (group or "").encode()
    except UnicodeEncodeError:
        return LimitExceeded("group", group, "text without half of a surrogate pair")
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a broker promises beyond the port, so that the runtime and the suite need not know which one it is."""

    annotates_retry: bool
    """A retried message can be rewritten: counters and record travel in it. Otherwise they live in the store."""
    atomic_forward: bool
    """A forward leaves one queue and enters the other in one step. Otherwise it sends, then acknowledges."""
    selects: bool
    """Messages can be received by their ids."""
    browses: bool
    """Messages can be looked at without receiving them."""
    ordered: bool
    """It has FIFO queues."""
    settles: Literal["message", "offset"]
    """Whether each message is settled for itself, or all up to one."""
    max_delay: float
    """Longest delay of a send, in seconds; the timekeeper takes what is beyond."""
    max_batch: int
    """Most messages in one call of the port; 1 or more."""
    uncounts: bool = True
    """A message can be handed back as if it had not been received."""
    shared: bool = False
    """Others may keep queues there too, among ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSpec:
    """A queue as it shall be."""

    name: str
    """`[A-Za-z0-9_-]`, at most 80 characters.

    Source: Amazon SQS quotas, "Queue name".
    """
    fifo: bool = False
    """Whether each group is kept in order, one receive of a group in flight at a time, and duplicates are sent once.

    Decided when the queue is made. Every message of such a queue has a group.
    """
    content_deduplication: bool = False
    """On a FIFO queue: a message without a deduplication id takes the SHA-256 of its body."""
    deduplication_by_group: bool = False
    """On a FIFO queue: the same deduplication id in two groups is no duplicate.

    Source: Amazon SQS, SetQueueAttributes, `DeduplicationScope`: `messageGroup` instead of `queue`.
    """
    delay: float = 0.0
    """Seconds until what is sent without a delay of its own may be received; 0 to 900."""
    retention: float | None = None
    """Seconds after which a message that nobody handled is deleted; 60 to 1,209,600 (14 days). None: never."""
    dead_letter_queue: str | None = None
    """Where the broker itself moves what was received `max_receives` times without being settled; of the same kind."""
    max_receives: int | None = None
    """1 to 1,000. Source: Amazon SQS, RedrivePolicy `maxReceiveCount`."""
    allowed_sources: tuple[str, ...] | None = None
    """Which queues may have this one as their dead-letter queue, at most 10; None: every one.

    Source: Amazon SQS, RedriveAllowPolicy: `allowAll` is None, `denyAll` is empty, `byQueue` names them.
    """
    largest_message: int = MAX_BODY
    """Bytes of body and attributes together; 1,024 to 1,048,576. Source: Amazon SQS, `MaximumMessageSize`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message on its way into a queue."""

    message: Message
    delay: float | None = None
    """Seconds until it may be received; 0 to `Capabilities.max_delay`. None: what its queue says."""
    deduplication_id: str | None = None
    """On a FIFO queue, the same id within five minutes is sent once; elsewhere it means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge:
    """Handled: the message leaves."""

    delivery: Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """Ready again after `delay` seconds (0 to 43,200), with `notes` where the broker can rewrite a message."""

    delivery: Delivery
    delay: float = 0.0
    notes: Notes | None = None
    """None: as they are. Their `forwards` are those that the message has: a return is none."""
    uncounted: bool = False
    """As if this receive had not been, where the broker `uncounts`; elsewhere it means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """Move to another queue, as `message`, behind all that is there; at least once where forwards are not atomic."""

    delivery: Delivery
    queue: str
    message: Message
    delay: float = 0.0
    deduplication_id: str | None = None


Settlement = Acknowledge | Return | Forward


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How many messages a queue holds."""

    ready: int = 0
    """May be received now."""
    in_flight: int = 0
    """Under a lease."""
    delayed: int = 0
    """Neither: their time has not come."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.ready + self.in_flight + self.delayed


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a queue's messages, looked at and not received."""

    messages: list[Message]
    cursor: str | None
    """Where the next page begins; None: this was the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveTask:
    """A message move task and how far it is."""

    id: str
    source: str
    destination: str | None
    """None: each message goes back to the queue whose dead letter it is."""
    rate: int | None
    """Messages a second; None: as fast as it goes."""
    status: Literal["RUNNING", "COMPLETED", "CANCELLED", "FAILED"]
    to_move: int
    """Messages in the source when it began."""
    moved: int
    started_at_ms: int
    failure: str | None = None
    """Why it failed."""


class Broker(Protocol):
    """What redrive asks of a broker. Every call may raise BrokerUnavailable; every write OutcomeUnknown."""

    @property
    def address(self) -> str:
        """Where it is, without credentials."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it promises."""
        ...

    async def declare(self, queues: Sequence[QueueSpec]) -> None:
        """Make the queues exist as described; repeating it changes nothing."""
        ...

    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        """Put messages into a queue; what was not answered with an error is durable.

        Raises:
            QueueNotFound: If the queue does not exist.
        """
        ...

    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Sequence[str] | None = None
    ) -> list[Delivery]:
        """Take up to `limit` ready messages under a lease.

        Args:
            queue: where from.
            limit: 1 to `Capabilities.max_batch`.
            lease: seconds, over 0 up to 43,200.
            wait: how long to wait for the first one when there is none, in seconds; it returns as soon as one is there.
            ids: only these, ready or delayed, where the broker `selects`.

        Raises:
            QueueNotFound: If the queue does not exist.
        """
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> Results:
        """Say what became of deliveries. StaleReceipt for one means: nothing happened to it."""
        ...

    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Results:
        """Let the leases end `lease` seconds from now."""
        ...

    async def browse(self, queue: str, *, cursor: str | None = None, limit: int = 100) -> Page:
        """Look at messages without receiving them: what is ready first, or group by group on a FIFO queue."""
        ...

    async def depth(self, queue: str) -> Depth:
        """Count a queue's messages."""
        ...

    async def queues(self) -> list[str]:
        """The names of all queues, sorted."""
        ...

    async def purge(self, queue: str) -> int:
        """Delete everything in a queue, in flight too; how many there were."""
        ...

    async def close(self) -> None:
        """Let go of everything; what was answered stays. Calls still under way raise BrokerUnavailable."""
        ...
