"""A queue's settings as Amazon SQS has them, and how what is differs from what should be. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from redrive.broker import LARGEST_MESSAGE, LONGEST_DELAY, MOST_RECEIVES, MOST_SOURCES, RETENTION, QueueSpec
from redrive.brokers.sqs.messages import LARGEST
from redrive.errors import LimitExceeded
from redrive.message import MAX_BODY

REDRIVE, ALLOW = "RedrivePolicy", "RedriveAllowPolicy"

_ROOM = LARGEST - MAX_BODY
"""Bytes beside a message for what redrive writes on it."""
_DOCUMENTS = frozenset({REDRIVE, ALLOW})
_ALL: dict[str, Any] = {"redrivePermission": "allowAll"}
_ARN = re.compile(r"(arn:[^:]*:sqs:[^:]*:[^:]*:)(.*)")


class Difference(NamedTuple):
    """One setting of one queue."""

    attribute: str
    found: str | None
    wanted: str | None

    def __str__(self) -> str:
        return f"{self.attribute} is {self.found or 'not set'} and should be {self.wanted or 'not set'}"


def refused(spec: QueueSpec) -> LimitExceeded | None:
    """Why no queue can be like this; its name is looked at elsewhere."""
    sources = spec.allowed_sources or ()
    receives = spec.max_receives
    has_dead = spec.dead_letter_queue is not None
    fits = has_dead and 1 <= receives <= MOST_RECEIVES if receives is not None else not has_dead
    for what, value, good, limit in (
        ("content_deduplication", True, spec.fifo or not spec.content_deduplication, "for FIFO queues: add fifo=True"),
        ("delay of a queue", spec.delay, 0 <= spec.delay <= LONGEST_DELAY, "from 0 to 900 seconds"),
        (
            "retention",
            spec.retention,
            spec.retention is None or RETENTION[0] <= spec.retention <= RETENTION[1],
            "from 60 to 1209600 seconds, or None for the longest there is",
        ),
        (
            "largest_message",
            spec.largest_message,
            LARGEST_MESSAGE[0] <= spec.largest_message <= LARGEST,
            "from 1024 to 1048576 bytes",
        ),
        ("allowed_sources", sources, len(sources) <= MOST_SOURCES, "at most 10 names, or None for every queue"),
        ("max_receives", receives, fits, "from 1 to 1000, together with a dead_letter_queue"),
    ):
        if not good:
            return LimitExceeded(what, value, limit)
    return None


def wanted(spec: QueueSpec) -> dict[str, str]:
    """The settings of a queue, but for its policies."""
    settings = {
        "DelaySeconds": _whole(spec.delay),
        "MessageRetentionPeriod": _whole(RETENTION[1] if spec.retention is None else spec.retention),
        "MaximumMessageSize": str(min(LARGEST, spec.largest_message + _ROOM)),
    }
    if spec.fifo:
        settings["ContentBasedDeduplication"] = "true" if spec.content_deduplication else "false"
    return settings


def redrive_policy(target_arn: str, max_receives: int) -> str:
    """`RedrivePolicy` to a dead-letter queue."""
    return json.dumps({"deadLetterTargetArn": target_arn, "maxReceiveCount": max_receives})


def allow_policy(sources: list[str] | None) -> str:
    """`RedriveAllowPolicy` for these ARNs; none, or every queue's."""
    if sources is None:
        return json.dumps(_ALL)
    if not sources:
        return json.dumps({"redrivePermission": "denyAll"})
    return json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": sources})


def sources_allowed(found: Mapping[str, str]) -> list[str] | None:
    """The ARNs of the queues whose dead letters it takes; None: every queue's."""
    policy = _read(ALLOW, found.get(ALLOW))
    match policy.get("redrivePermission"):
        case "byQueue":
            return [str(arn) for arn in policy.get("sourceQueueArns") or ()]
        case "denyAll":
            return []
        case _:
            return None


def neighbour(arn: str, name: str) -> str:
    """The ARN of another queue of the same account and region."""
    match = _ARN.fullmatch(arn)
    return f"{match[1] if match else arn.rpartition(':')[0] + ':'}{name}"


def differences(found: Mapping[str, str], should: Mapping[str, str]) -> list[Difference]:
    """What differs; an empty wanted value means that it should not be set."""
    return [
        Difference(name, found.get(name), value or None)
        for name, value in should.items()
        if _read(name, found.get(name)) != _read(name, value)
    ]


def _read(name: str, text: str | None) -> Any:  # noqa: ANN401 - JSON
    """A value as it is compared: a document by what it says, `allowAll` as good as none."""
    if name not in _DOCUMENTS:
        return None if text is None else str(text)
    try:
        document = json.loads(text) if text else {}
    except ValueError:
        return {"unreadable": text}
    if not isinstance(document, dict):
        return {"unreadable": text}
    if "maxReceiveCount" in document:
        document["maxReceiveCount"] = str(document["maxReceiveCount"])
    if "sourceQueueArns" in document:
        document["sourceQueueArns"] = sorted(document["sourceQueueArns"])
    return {} if document == _ALL else document


def _whole(seconds: float) -> str:
    return str(-int(-seconds // 1))
