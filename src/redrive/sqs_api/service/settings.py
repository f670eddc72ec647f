"""The attributes of a queue: what each may be, what it is where nobody said, and what it means to the engine.

The engine knows most of them as a `QueueSpec`. Those that only clients know (`VisibilityTimeout` is one: the engine is
told a lease with each receive) are kept as they were set.

Source: Amazon SQS API reference, CreateQueue and SetQueueAttributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from redrive.broker import LARGEST_MESSAGE as MESSAGE_SIZES
from redrive.broker import LONGEST_DELAY, LONGEST_LEASE, RETENTION, QueueSpec
from redrive.sqs_api.calls import Caller, Refused
from redrive.sqs_api.service.policies import (
    DeadLetterTarget,
    allow_policy,
    is_policy,
    json_of,
    redrive_policy,
    with_allow_policy,
    with_redrive_policy,
)
from redrive.sqs_api.service.wording import bad_attribute

LARGEST_MESSAGE = MESSAGE_SIZES[1]
_RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "DelaySeconds": (0, int(LONGEST_DELAY)),
        "KmsDataKeyReusePeriodSeconds": (60, 86_400),
        "MaximumMessageSize": MESSAGE_SIZES,
        "MessageRetentionPeriod": (int(RETENTION[0]), int(RETENTION[1])),
        "ReceiveMessageWaitTimeSeconds": (0, 20),
        "VisibilityTimeout": (0, int(LONGEST_LEASE)),
    }
)
_BOOLEANS = frozenset({"ContentBasedDeduplication", "FifoQueue", "SqsManagedSseEnabled"})
_CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "DeduplicationScope": ("queue", "messageGroup"),
        "FifoThroughputLimit": ("perQueue", "perMessageGroupId"),
        **dict.fromkeys(_BOOLEANS, ("true", "false")),
    }
)
_TEXTS = frozenset({"KmsMasterKeyId", "Policy", "RedriveAllowPolicy", "RedrivePolicy"})
_FOR_FIFO = frozenset({"DeduplicationScope", "FifoThroughputLimit"})
_UNKNOWN_TO_STANDARD = frozenset({"ContentBasedDeduplication", "FifoQueue"})
_DEFAULTS: Mapping[str, str] = MappingProxyType({"ReceiveMessageWaitTimeSeconds": "0", "VisibilityTimeout": "30"})
_NEW = QueueSpec(name="", retention=345_600.0, largest_message=LARGEST_MESSAGE)
COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
_TOLD = frozenset({"CreatedTimestamp", "LastModifiedTimestamp", "QueueArn", *COUNTS})
READABLE = frozenset({*_RANGES, *_CHOICES, *_TEXTS, *_TOLD})
"""Every attribute that can be asked for."""

_POLICIES = frozenset({"RedriveAllowPolicy", "RedrivePolicy"})
_ENGINES = _POLICIES | {
    "ContentBasedDeduplication",
    "DeduplicationScope",
    "DelaySeconds",
    "FifoQueue",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
}
"""What the engine knows itself."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a queue is set to."""

    spec: QueueSpec
    said: Mapping[str, str]
    """The attributes that the engine does not know."""

    @classmethod
    def new(cls, name: str, *, fifo: bool) -> Settings:
        """Those of a queue that nobody said anything of; `name` is the engine's."""
        return cls(replace(_NEW, name=name, fifo=fifo), {})

    def with_attributes(self, given: Mapping[str, str], caller: Caller, target: DeadLetterTarget) -> Settings:
        """The settings after these were set; they are checked.

        Raises:
            Refused: If one is unknown, is not for this kind of queue, or is no value of its kind.
        """
        given = plain(given)
        for name, value in given.items():
            _check(name, value, fifo=self.spec.fifo)
        _check_encryption(given, self.said)
        spec, said = self.spec, dict(self.said)
        for name, value in given.items():
            if name in _POLICIES:
                spec = _with_policy(spec, said, (name, value), caller, target)
            elif name in _ENGINES:
                spec = _with_one(spec, name, value)
            else:
                _say(said, name, value)
        found = Settings(spec, said)
        found.check_throughput()
        return found

    def attributes(self, caller: Caller) -> dict[str, str]:
        """Every attribute that has a value, but for counts, times and the ARN."""
        spec, said = self.spec, self.said
        found = {
            **_DEFAULTS,
            "SqsManagedSseEnabled": "false" if said.get("KmsMasterKeyId") else "true",
            "DelaySeconds": str(int(spec.delay)),
            "MaximumMessageSize": str(spec.largest_message),
            "MessageRetentionPeriod": str(int(spec.retention or RETENTION[1])),
            **said,
        }
        if said.get("KmsMasterKeyId"):
            found.setdefault("KmsDataKeyReusePeriodSeconds", "300")
        else:
            found.pop("KmsDataKeyReusePeriodSeconds", None)
        if spec.dead_letter_queue is not None:
            found["RedrivePolicy"] = redrive_policy(spec, caller)
        if spec.allowed_sources is not None:
            found["RedriveAllowPolicy"] = allow_policy(spec, said.get("RedriveAllowPolicy"), caller)
        if spec.fifo:
            found["FifoQueue"] = "true"
            found["ContentBasedDeduplication"] = _true_or_false(spec.content_deduplication)
            found["DeduplicationScope"] = "messageGroup" if spec.deduplication_by_group else "queue"
            found.setdefault("FifoThroughputLimit", "perQueue")
        return found

    def first_difference(self, given: Mapping[str, str], caller: Caller) -> str | None:
        """The first of these attributes that the queue has otherwise."""
        has = self.attributes(caller)
        differ = (name for name, value in plain(given).items() if _comparable(has.get(name, "")) != _comparable(value))
        return next(differ, None)

    def check_throughput(self) -> None:
        """Refuse a throughput limit that needs the other scope."""
        if self.said.get("FifoThroughputLimit") == "perMessageGroupId" and not self.spec.deduplication_by_group:
            raise Refused(
                "InvalidAttributeValue",
                "The perMessageGroupId value is allowed only when the value for DeduplicationScope is messageGroup.",
            )


def _with_one(spec: QueueSpec, name: str, value: str) -> QueueSpec:
    """The engine's part after one attribute that is no policy."""
    match name:
        case "DelaySeconds":
            return replace(spec, delay=float(value))
        case "MaximumMessageSize":
            return replace(spec, largest_message=int(value))
        case "MessageRetentionPeriod":
            return replace(spec, retention=float(value))
        case "ContentBasedDeduplication":
            return replace(spec, content_deduplication=value == "true")
        case "DeduplicationScope":
            return replace(spec, deduplication_by_group=value == "messageGroup")
        case _:
            return spec


def plain(given: Mapping[str, str]) -> dict[str, str]:
    """These attributes with `true` and `false` in small letters: `True` is taken too. Source: recorded answers."""
    return {name: value.lower() if name in _BOOLEANS else value for name, value in given.items()}


def _say(said: dict[str, str], name: str, value: str) -> None:
    """The clients' part after one attribute; a text is taken back by an empty one.

    A queue whose KMS key is taken back is not encrypted by SQS either. Source: recorded answers.
    """
    if name == "KmsMasterKeyId" and value:
        said["SqsManagedSseEnabled"] = "false"
    if name in _TEXTS and not value:
        said.pop(name, None)
    else:
        said[name] = value


def _with_policy(
    spec: QueueSpec, said: dict[str, str], given: tuple[str, str], caller: Caller, target: DeadLetterTarget
) -> QueueSpec:
    name, value = given
    if name == "RedrivePolicy":
        return with_redrive_policy(spec, value, caller, target)
    said.pop(name, None)
    return with_allow_policy(spec, said, value, caller)


def _check(name: str, value: str, *, fifo: bool) -> None:
    if name not in _RANGES and name not in _CHOICES and name not in _TEXTS:
        raise unknown_attribute(name)
    if name in _UNKNOWN_TO_STANDARD and not fifo:
        raise unknown_attribute(name)
    if name in _FOR_FIFO and not fifo:
        raise Refused("InvalidAttributeName", f"You can specify the {name} only when FifoQueue is set to true.")
    if name == "FifoQueue" and value == "false":
        raise bad_attribute(name, "Modifying queue type is not supported.")
    if name in _RANGES:
        good = _is_in(_RANGES[name], value)
    elif name in _CHOICES:
        good = value in _CHOICES[name]
    else:
        good = name != "Policy" or not value or is_policy(value)
    if not good:
        raise bad_attribute(name)


def _is_in(limits: tuple[int, int], value: str) -> bool:
    least, most = limits
    plain = value.isascii() and value.isdecimal() and len(value) <= len(str(most))
    return plain and least <= int(value) <= most


def _check_encryption(given: Mapping[str, str], said: Mapping[str, str]) -> None:
    """One kind at a time."""
    if given.get("SqsManagedSseEnabled") == "true" and given.get("KmsMasterKeyId", said.get("KmsMasterKeyId", "")):
        raise Refused(
            "InvalidAttributeName",
            "You can use one type of server-side encryption (SSE) at one time. "
            "You can either enable KMS SSE or SQS SSE.",
        )


def _comparable(value: str) -> Any:  # noqa: ANN401 - JSON
    found = json_of(value)
    if isinstance(found, dict) and "maxReceiveCount" in found:
        found["maxReceiveCount"] = str(found["maxReceiveCount"])
    return value if found is None else found


def _true_or_false(value: bool) -> str:  # noqa: FBT001 - what is written
    return "true" if value else "false"


def seconds(said: Mapping[str, str], name: str) -> int:
    """What one of these was set to: `VisibilityTimeout`, `ReceiveMessageWaitTimeSeconds`."""
    return int(said.get(name, _DEFAULTS[name]))


def unknown_attribute(name: str) -> Refused:
    """There is no such attribute, or not here."""
    return Refused("InvalidAttributeName", f"Unknown Attribute {name}.")
