"""SendMessage and SendMessageBatch.

What can be checked without the queue is checked before the writer is asked; the rest in the transaction that sends.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redrive import attributes as rules
from redrive.broker import LONGEST_DELAY, Outgoing, Sent
from redrive.errors import BrokerError
from redrive.message import Message, message_id
from redrive.sqlite.queues import Queue
from redrive.sqlite.tables import Tables
from redrive.sqs_api.calls import Refused
from redrive.sqs_api.service.settings import LARGEST_MESSAGE
from redrive.sqs_api.service.wording import (
    bad_value,
    checked_id,
    missing,
    not_for_this_kind,
    refusal_of,
    sequence_number,
)

TRACE = "AWS.TraceHeader"
"""Under which the X-Ray trace header is kept among a message's attributes: no client may give one such a name."""
_TRACE = "AWSTraceHeader"
_VALUES = {"String": "StringValue", "Number": "StringValue", "Binary": "BinaryValue"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One message, as its sender gave it."""

    body: bytes
    attributes: Mapping[str, str]
    types: Mapping[str, str] | None
    trace: str | None
    delay: int | None
    group: str | None
    deduplication_id: str | None
    size: int
    """Bytes of body and attributes, as Amazon SQS counts them."""

    def answer(self, identity: str, sent: Sent | None) -> dict[str, Any]:
        """What its sender is told."""
        told = {"MessageId": identity, "MD5OfMessageBody": rules.md5_of_body(self.body)}
        if self.attributes:
            told["MD5OfMessageAttributes"] = rules.md5_of_attributes(self.attributes, self.types) or ""
        if self.trace is not None:
            told["MD5OfMessageSystemAttributes"] = rules.md5_of_attributes({_TRACE: self.trace}) or ""
        if sent is not None:
            told["SequenceNumber"] = sequence_number(sent.sequence)
        return told


_INVALID = "One or more parameters are invalid."

Send = Callable[[Tables, Queue, Sequence[Entry]], list[dict[str, Any] | Refused]]


def entry_of(request: Mapping[str, Any]) -> Entry:
    """What a sender gave; it is checked as far as that goes without the queue.

    Raises:
        Refused: If it is no message.
    """
    text = request.get("MessageBody")
    if not text:
        raise missing("MessageBody")
    if unfit := rules.UNFIT.search(text):
        raise Refused(
            "InvalidMessageContents",
            f"Invalid binary character '#x{ord(unfit[0]):X}' was found in the message body, the set of allowed "
            "characters is #x9 | #xA | #xD | [#x20-#xD7FF] | [#xE000-#xFFFD] | [#x10000-#x10FFFF].",
        )
    body = text.encode()
    given = request.get("MessageAttributes")
    values, types, size = _attributes(given) if given else ({}, None, 0)
    delay = request.get("DelaySeconds")
    if delay is not None and not 0 <= delay <= LONGEST_DELAY:
        raise bad_value("DelaySeconds", delay, "DelaySeconds must be >= 0 and <= 900.")
    return Entry(
        body=body,
        attributes=values,
        types=types,
        trace=_trace(request.get("MessageSystemAttributes")),
        delay=delay,
        group=_id("MessageGroupId", request),
        deduplication_id=_id("MessageDeduplicationId", request),
        size=len(body) + size,
    )


def send(tables: Tables, queue: Queue, entries: Sequence[Entry]) -> list[dict[str, Any] | Refused]:
    """Send them in this transaction; for each, what its sender is told."""
    tables.refuse_if_full()
    refused = [_refused(queue, one) or _too_long(queue, one) for one in entries]
    fit = [one for one, problem in zip(entries, refused, strict=True) if problem is None]
    outgoing = [_outgoing(queue, one, tables.now_ms) for one in fit]
    results = iter(tables.engine.send(queue.name, outgoing, tables.now_ms) if outgoing else [])
    ids = iter(one.message.id for one in outgoing)
    return [problem or _told(one, next(ids), next(results)) for one, problem in zip(entries, refused, strict=True)]


def send_batch(tables: Tables, queue: Queue, entries: Sequence[Entry]) -> list[dict[str, Any] | Refused]:
    """Likewise, as a batch is answered: what an entry lacks for a FIFO queue refuses all. Source: recorded answers.

    Raises:
        Refused: If one lacks a group or a deduplication id, or has what is for the other kind of queue.
    """
    for one in entries:
        if problem := _refused(queue, one):
            raise Refused("InvalidParameterValue", problem.message)
    return [_in_a_batch(one) for one in send(tables, queue, entries)]


def _in_a_batch(answer: dict[str, Any] | Refused) -> dict[str, Any] | Refused:
    if isinstance(answer, Refused):
        return Refused(answer.code, answer.message.replace(_INVALID, "One or more parameters cannot be validated."))
    return answer


def _told(one: Entry, identity: str, result: BrokerError | Sent | None) -> dict[str, Any] | Refused:
    if isinstance(result, BrokerError):
        return refusal_of(result)
    return one.answer(identity if result is None else result.id, result)


def _too_long(queue: Queue, one: Entry) -> Refused | None:
    if one.size <= queue.largest_message:
        return None
    problem = f"{_INVALID} Reason: Message must be shorter than {queue.largest_message} bytes."
    return Refused("InvalidParameterValue", problem)


def _refused(queue: Queue, one: Entry) -> Refused | None:
    """What is for the other kind of queue, or missing for this one."""
    if not queue.fifo:
        return (
            None if one.deduplication_id is None else not_for_this_kind("MessageDeduplicationId", one.deduplication_id)
        )
    if one.delay:
        return not_for_this_kind("DelaySeconds", one.delay)
    if one.group is None:
        return missing("MessageGroupId")
    if one.deduplication_id is None and not queue.content_deduplication:
        return Refused(
            "InvalidParameterValue",
            "The queue should either have ContentBasedDeduplication enabled or "
            "MessageDeduplicationId provided explicitly",
        )
    return None


def _outgoing(queue: Queue, one: Entry, now_ms: int) -> Outgoing:
    message = Message(
        id=message_id(now_ms, os.urandom(10)),
        body=one.body,
        sent_at_ms=now_ms,
        attributes=one.attributes if one.trace is None else {**one.attributes, TRACE: one.trace},
        attribute_types=one.types,
        group=one.group,
    )
    delay = None if one.delay is None or queue.fifo else float(one.delay)  # in a FIFO queue 0 says nothing
    return Outgoing(message=message, delay=delay, deduplication_id=one.deduplication_id)


def size_of(request: Mapping[str, Any]) -> int:
    """The bytes of what may be no message: a batch is measured before its messages are looked at one by one."""
    size = len((request.get("MessageBody") or "").encode())
    for name, value in (request.get("MessageAttributes") or {}).items():
        texts = name, value.get("DataType") or "", value.get("StringValue") or ""
        size += sum(len(text.encode()) for text in texts) + len(value.get("BinaryValue") or b"")
    return size


def _attributes(given: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str] | None, int]:
    """Values by name, types of those that are no plain strings, and the bytes of all."""
    values: dict[str, str] = {}
    types: dict[str, str] = {}
    size = 0
    if len(given) > rules.MOST:
        problem = f"Number of message attributes [{len(given)}] exceeds the allowed maximum [{rules.MOST}]."
        raise Refused("InvalidParameterValue", problem)
    for name, value in given.items():
        if not name:
            raise Refused("InvalidParameterValue", "The request must contain non-empty message attribute name.")
        kind = value.get("DataType") or ""
        content = _content(name, kind, value)
        raw = content if isinstance(content, bytes) else content.encode()
        values[name] = base64.b64encode(raw).decode() if isinstance(content, bytes) else content
        if kind != "String":
            types[name] = kind
        size += len(name.encode()) + len(kind.encode()) + len(raw)
    if wrong := rules.refused(values, types or None):
        raise Refused("InvalidParameterValue", str(wrong))
    return values, types or None, size


def _content(name: str, kind: str, value: Mapping[str, Any]) -> str | bytes:
    member = _VALUES.get(kind.partition(".")[0])
    if member is None:
        raise Refused(
            "InvalidParameterValue",
            f"The type of message (user) attribute '{name}' is invalid. "
            "You must use only the following supported type prefixes: Binary, Number, String.",
        )
    if value.get("StringListValues") or value.get("BinaryListValues"):
        raise Refused(
            "UnsupportedOperation", "Message attribute list values in SendMessage operation are not supported."
        )
    content: str | bytes = value.get(member) or ""
    if not content:
        kind_of_value = kind.partition(".")[0]
        raise Refused(
            "InvalidParameterValue",
            f"Message (user) attribute '{name}' must contain a non-empty value of type '{kind_of_value}'.",
        )
    return content


def _trace(given: Mapping[str, Any] | None) -> str | None:
    if not given:
        return None
    for name, value in given.items():
        if name != _TRACE:
            raise Refused("InvalidParameterValue", f"Message system attribute name '{name}' is invalid.")
        text = value.get("StringValue")
        if value.get("DataType") != "String" or not text or len(text) > LARGEST_MESSAGE:
            problem = f"Message (system) attribute '{name}' must contain a non-empty value of type 'String'."
            raise Refused("InvalidParameterValue", problem)
        return str(text)
    return None


def _id(parameter: str, request: Mapping[str, Any]) -> str | None:
    value: str | None = request.get(parameter)
    return None if value is None else checked_id(parameter, value)
