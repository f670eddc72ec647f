"""From payloads to messages on their way: everything that can be checked without I/O is checked here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeVar

from redrive.attributes import ID
from redrive.backoff import seconds
from redrive.broker import refused_group
from redrive.errors import BodyTooLarge, DeclarationError, LimitExceeded
from redrive.message import MAX_BODY, Message, message_id
from redrive.payload import Payload
from redrive.unsent import Unsent

T = TypeVar("T")
Identify = Callable[[str, str | None, bytes], str]
"""Makes the id of a message from its queue, its group and its body."""
_ID = "1 to 128 ASCII letters, digits and punctuation marks, without spaces"


@dataclass(frozen=True, slots=True)
class SendOptions:
    """How a payload is sent, as `Queue.send` takes it."""

    delay: float | timedelta = 0.0
    group: str | None = None
    attributes: Mapping[str, str] | None = None
    deduplication_id: str | None = None

    @property
    def later(self) -> float:
        """The delay, in seconds."""
        return seconds(self.delay)


class Target(Protocol[T]):
    """A queue, as far as sending goes."""

    name: str
    fifo: bool
    content_deduplication: bool
    payload: Payload[T]


def prepared(
    queue: Target[T], payloads: Iterable[T], options: SendOptions, *, now_ms: int, identify: Identify
) -> list[Unsent]:
    """Payloads as messages on their way to a queue: checked, and with their ids.

    Args:
        queue: where to.
        payloads: what.
        options: how.
        now_ms: the time of the send.
        identify: makes the ids.

    Raises:
        PayloadError: If one does not fit the queue's type, or is over the limit.
        LimitExceeded: If the group, the delay or the deduplication id cannot be.
        DeclarationError: If the attributes cannot be.
    """
    later = options.later
    due_at_ms = now_ms + int(later * 1000) if later else None
    checked = checked_attributes(options.attributes)
    room = MAX_BODY - sum(len(text.encode("utf-8", "surrogatepass")) for pair in checked.items() for text in pair)
    if error := _refused(queue, options, later):  # before a timer keeps its message for hours
        raise error
    found = []
    for payload in payloads:
        body = queue.payload.encode(payload)
        if len(body) > room:
            raise BodyTooLarge(queue.name, len(body), room)
        identity = identify(queue.name, options.group, body)
        message = Message(id=identity, body=body, sent_at_ms=now_ms, group=options.group, attributes=checked)
        own = None if queue.content_deduplication else identity  # makes no message a duplicate, unless its body may
        found.append(
            Unsent(
                queue=queue.name,
                message=message,
                due_at_ms=due_at_ms,
                deduplication_id=options.deduplication_id or own,
            )
        )
    return found


def at_random(now_ms: int, random: Callable[[int], bytes]) -> Identify:
    """Ids that nobody had before.

    Args:
        now_ms: the time in them.
        random: gives so many bytes.
    """
    return lambda _queue, _group, _body: message_id(now_ms, random(10))


def checked_attributes(attributes: Mapping[str, str] | None) -> dict[str, str]:
    """A producer's attributes, or why they cannot be sent."""
    checked = dict(attributes or {})
    if len(checked) > 9 or not all(isinstance(one, str) for pair in checked.items() for one in pair):  # noqa: PLR2004
        raise DeclarationError(f"attributes {sorted(map(str, checked))!r}", "cannot be sent", "give at most 9, of str")
    return checked


def _refused(queue: Target[T], options: SendOptions, later: float) -> LimitExceeded | None:
    """Why nothing can be sent like this; None: it can."""
    deduplication_id, group = options.deduplication_id, options.group
    if not queue.fifo:
        if deduplication_id is not None:
            return LimitExceeded("deduplication id", deduplication_id, "None on a standard queue: app.queue(fifo=True)")
        return refused_group(group)
    if later:
        return LimitExceeded("delay", later, "0 on a FIFO queue, where it would hold up what is sent after it")
    if group is None or not ID.fullmatch(group):
        return LimitExceeded("group", group, f"{_ID}, on a FIFO queue: send(..., group=...)")
    if deduplication_id is not None and not ID.fullmatch(deduplication_id):
        return LimitExceeded("deduplication id", deduplication_id, _ID)
    return None
