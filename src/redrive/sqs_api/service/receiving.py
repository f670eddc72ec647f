"""ReceiveMessage: what is asked for, and how a message is told."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redrive import attributes as rules
from redrive.broker import LONGEST_LEASE
from redrive.message import Delivery
from redrive.sqlite.queues import Queue
from redrive.sqs_api.calls import QUERY, Caller, Refused
from redrive.sqs_api.service.addresses import arn_of, wire_name
from redrive.sqs_api.service.handles import receipt_handle
from redrive.sqs_api.service.sending import TRACE
from redrive.sqs_api.service.settings import unknown_attribute
from redrive.sqs_api.service.wording import checked_id, checked_range, not_for_this_kind, sequence_number

_MOST = 10
_LONGEST_WAIT = 20
LONGEST_VISIBILITY = int(LONGEST_LEASE)
_ALL = frozenset(
    {
        "SenderId",
        "SentTimestamp",
        "ApproximateReceiveCount",
        "ApproximateFirstReceiveTimestamp",
        "SequenceNumber",
        "MessageDeduplicationId",
        "MessageGroupId",
        "AWSTraceHeader",
        "DeadLetterQueueSourceArn",
    }
)
_EVERYTHING = frozenset({"All", "*", ".*"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a receive asks for."""

    most: int
    visibility: int | None
    wait: int | None
    attempt: str | None
    system: frozenset[str]
    names: Sequence[str]
    """Of message attributes: whole names, and beginnings that end with `.*`."""

    def refused(self, queue: Queue) -> Refused | None:
        """Why this queue cannot be asked for it."""
        if self.attempt is not None and not queue.fifo:
            return not_for_this_kind("ReceiveRequestAttemptId", self.attempt)
        return None


def wanted(request: Mapping[str, Any], caller: Caller) -> Wanted:
    """What is asked for.

    Raises:
        Refused: If something is out of its range.
    """
    most, wait, visibility = (
        request.get(name) for name in ("MaxNumberOfMessages", "WaitTimeSeconds", "VisibilityTimeout")
    )
    if most is not None:
        checked_range("MaxNumberOfMessages", most, 1, _MOST)
    if wait is not None:
        reason = f"Must be >= 0 and <= {_LONGEST_WAIT}, if provided."
        checked_range("WaitTimeSeconds", wait, 0, _LONGEST_WAIT, reason)
    if visibility is not None:
        checked_range("VisibilityTimeout", visibility, 0, LONGEST_VISIBILITY)
    attempt = request.get("ReceiveRequestAttemptId")
    if attempt is not None:
        checked_id("ReceiveRequestAttemptId", attempt)
    system = _asked_system(request, caller)
    return Wanted(
        most=1 if most is None else most,
        visibility=visibility,
        wait=wait,
        attempt=attempt,
        system=_system(system) if system else frozenset(),
        names=request.get("MessageAttributeNames", ()),
    )


def told(queue: Queue, delivery: Delivery, want: Wanted, caller: Caller, now_ms: int) -> dict[str, Any]:
    """One message of the answer.

    A body that is no text (only a client of the embedded broker can have sent it) is told with U+FFFD in place of what
    cannot be read.
    """
    body = delivery.message.body
    found: dict[str, Any] = {
        "MessageId": delivery.message.id,
        "ReceiptHandle": receipt_handle(queue, delivery, now_ms),
        "MD5OfBody": rules.md5_of_body(body),
        "Body": body.decode("utf-8", "replace"),
    }
    if want.system:
        found["Attributes"] = _system_attributes(delivery, want.system, caller)
    if want.names and delivery.message.attributes:
        _tell_attributes(found, delivery, want.names)
    return found


def _asked_system(request: Mapping[str, Any], caller: Caller) -> Sequence[str]:
    """JSON adds what both members ask for; in Query the older one counts if it is there. Source: recorded answers."""
    older, newer = request.get("AttributeNames", ()), request.get("MessageSystemAttributeNames", ())
    return older or newer if caller.protocol == QUERY else [*older, *newer]


def _system(names: Sequence[str]) -> frozenset[str]:
    if "All" in names:
        return _ALL
    for name in names:
        if name not in _ALL:
            raise unknown_attribute(name)
    return frozenset(names)


def _system_attributes(delivery: Delivery, chosen: frozenset[str], caller: Caller) -> dict[str, str]:
    message = delivery.message
    found = {
        "SenderId": caller.account,
        "SentTimestamp": str(message.sent_at_ms),
        "ApproximateReceiveCount": str(delivery.receive_count),
        "ApproximateFirstReceiveTimestamp": str(delivery.first_received_at_ms),
    }
    if message.group is not None:
        found["MessageGroupId"] = message.group
    if delivery.sequence is not None:
        found["SequenceNumber"] = sequence_number(delivery.sequence)
    if delivery.deduplication_id is not None:
        found["MessageDeduplicationId"] = delivery.deduplication_id
    if delivery.origin is not None:
        name = wire_name(delivery.origin, fifo=delivery.sequence is not None)
        found["DeadLetterQueueSourceArn"] = arn_of(name, caller)
    if TRACE in message.attributes:
        found["AWSTraceHeader"] = message.attributes[TRACE]
    return {name: value for name, value in found.items() if name in chosen}


def _tell_attributes(found: dict[str, Any], delivery: Delivery, names: Sequence[str]) -> None:
    types = delivery.message.attribute_types or {}
    chosen = {
        name: value for name, value in delivery.message.attributes.items() if name != TRACE and _is_chosen(name, names)
    }
    if chosen:
        found["MessageAttributes"] = {
            name: _attribute(types.get(name, "String"), value) for name, value in chosen.items()
        }
        found["MD5OfMessageAttributes"] = rules.md5_of_attributes(chosen, types)


def _is_chosen(name: str, names: Sequence[str]) -> bool:
    return any(one in _EVERYTHING or one == name or (one.endswith(".*") and name.startswith(one[:-2])) for one in names)


def _attribute(kind: str, value: str) -> dict[str, Any]:
    if kind.startswith("Binary"):
        return {"DataType": kind, "BinaryValue": base64.b64decode(value)}
    return {"DataType": kind, "StringValue": value}
