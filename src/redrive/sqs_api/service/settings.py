"""The attributes of a queue: what each may be, what it is where nobody said, and what it means to the engine.

The engine knows most of them as a `QueueSpec`. Those that only clients know (`VisibilityTimeout` is one: the engine is
told a lease with each receive) are kept as they were set.

Source: Amazon SQS API reference, CreateQueue and SetQueueAttributes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from redrive.broker import QueueSpec
from redrive.sqlite.queues import RETENTION
from redrive.sqs_api.calls import Caller, Refused
from redrive.sqs_api.service.addresses import FIFO, arn_of, name_in_arn, wire_name

LARGEST_MESSAGE = 1_048_576
_RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "DelaySeconds": (0, 900),
        "KmsDataKeyReusePeriodSeconds": (60, 86_400),
        "MaximumMessageSize": (1_024, LARGEST_MESSAGE),
        "MessageRetentionPeriod": (60, 1_209_600),
        "ReceiveMessageWaitTimeSeconds": (0, 20),
        "VisibilityTimeout": (0, 43_200),
    }
)
_CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ContentBasedDeduplication": ("true", "false"),
        "DeduplicationScope": ("queue", "messageGroup"),
        "FifoQueue": ("true", "false"),
        "FifoThroughputLimit": ("perQueue", "perMessageGroupId"),
        "SqsManagedSseEnabled": ("true", "false"),
    }
)
_TEXTS = frozenset({"KmsMasterKeyId", "Policy", "RedriveAllowPolicy", "RedrivePolicy"})
_FOR_FIFO = frozenset({"ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"})
_DEFAULTS: Mapping[str, str] = MappingProxyType({"ReceiveMessageWaitTimeSeconds": "0", "VisibilityTimeout": "30"})
_NEW = QueueSpec(name="", retention=345_600.0, largest_message=LARGEST_MESSAGE)
COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
_TOLD = frozenset({"CreatedTimestamp", "LastModifiedTimestamp", "QueueArn", *COUNTS})
READABLE = frozenset({*_RANGES, *_CHOICES, *_TEXTS, *_TOLD})
"""Every attribute that can be asked for."""
_MOST_RECEIVES = 1_000
_MOST_SOURCES = 10

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

DeadLetterTarget = Callable[[str], QueueSpec | None]
"""The queue that is called like this on the wire; None: there is none."""


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
        if spec.dead_letter_queue is not None:
            found["RedrivePolicy"] = _redrive_policy(spec, caller)
        if spec.allowed_sources is not None:
            found["RedriveAllowPolicy"] = _allow_policy(spec, caller)
        if spec.fifo:
            found["FifoQueue"] = "true"
            found["ContentBasedDeduplication"] = _true_or_false(spec.content_deduplication)
            found["DeduplicationScope"] = "messageGroup" if spec.deduplication_by_group else "queue"
            found.setdefault("FifoThroughputLimit", "perQueue")
        return found

    def first_difference(self, given: Mapping[str, str], caller: Caller) -> str | None:
        """The first of these attributes that the queue has otherwise."""
        has = self.attributes(caller)
        for name, value in given.items():
            if _comparable(has.get(name, "")) != _comparable(value) and not (name == "FifoQueue" and value == "false"):
                return name
        return None

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


def _say(said: dict[str, str], name: str, value: str) -> None:
    """The clients' part after one attribute; a text is taken back by an empty one."""
    if name in _TEXTS and not value:
        said.pop(name, None)
    else:
        said[name] = value
    if name == "KmsMasterKeyId" and value:
        said.pop("SqsManagedSseEnabled", None)


def _with_policy(
    spec: QueueSpec, said: dict[str, str], given: tuple[str, str], caller: Caller, target: DeadLetterTarget
) -> QueueSpec:
    name, value = given
    if name == "RedrivePolicy":
        return _with_redrive_policy(spec, value, caller, target)
    said.pop(name, None)
    return _with_allow_policy(spec, said, value, caller)


def _check(name: str, value: str, *, fifo: bool) -> None:
    if name not in _RANGES and name not in _CHOICES and name not in _TEXTS:
        raise unknown_attribute(name)
    if name == "FifoQueue" and (value == "true") is not fifo:
        raise unknown_attribute(name)
    if name in _FOR_FIFO and not fifo:
        raise Refused("InvalidAttributeName", f"You can specify the {name} only when FifoQueue is set to true.")
    if name in _RANGES:
        good = _is_in(_RANGES[name], value)
    elif name in _CHOICES:
        good = value in _CHOICES[name]
    else:
        good = name != "Policy" or not value or isinstance(_json(value), dict)
    if not good:
        raise _bad(name)


def _is_in(limits: tuple[int, int], value: str) -> bool:
    least, most = limits
    plain = value.isascii() and value.isdecimal() and len(value) <= len(str(most))
    return plain and least <= int(value) <= most


def _check_encryption(given: Mapping[str, str], said: Mapping[str, str]) -> None:
    """One kind at a time."""
    if given.get("SqsManagedSseEnabled") == "true" and given.get("KmsMasterKeyId", said.get("KmsMasterKeyId", "")):
        raise Refused(
            "InvalidAttributeValue",
            "You can use one type of server-side encryption (SSE) at one time. "
            "You can either enable KMS SSE or SQS SSE.",
        )


def _with_redrive_policy(spec: QueueSpec, value: str, caller: Caller, target: DeadLetterTarget) -> QueueSpec:
    if not value:
        return replace(spec, dead_letter_queue=None, max_receives=None)
    policy = _json(value)
    if not isinstance(policy, dict):
        raise _bad_policy("RedrivePolicy", value, "Redrive policy is not a valid JSON map.")
    for key in ("maxReceiveCount", "deadLetterTargetArn"):
        if key not in policy:
            raise _bad_policy("RedrivePolicy", value, f"Redrive policy does not contain mandatory attribute: {key}.")
    most = _count(policy["maxReceiveCount"])
    if most is None:
        reason = (
            f"Invalid value for maxReceiveCount: {policy['maxReceiveCount']}, "
            "valid values are from 1 to 1000 both inclusive."
        )
        raise _bad_policy("RedrivePolicy", value, reason)
    name = name_in_arn(str(policy["deadLetterTargetArn"]), caller)
    dead = None if name is None else target(name)
    if dead is None:
        raise _bad_policy("RedrivePolicy", value, "Dead letter target does not exist.")
    if dead.fifo is not spec.fifo:
        raise _bad_policy("RedrivePolicy", value, "Dead-letter queue must be same type of queue as the source.")
    if dead.allowed_sources is not None and spec.name not in dead.allowed_sources:
        arn = arn_of(wire_name(spec.name, fifo=spec.fifo), caller)
        raise _bad_policy("RedrivePolicy", value, f"Dead letter target does not allow {arn} as its source queue.")
    return replace(spec, dead_letter_queue=dead.name, max_receives=most)


def _with_allow_policy(spec: QueueSpec, said: dict[str, str], value: str, caller: Caller) -> QueueSpec:
    if not value:
        return replace(spec, allowed_sources=None)
    policy = _json(value)
    if not isinstance(policy, dict):
        raise _bad_policy(
            "RedriveAllowPolicy", value, "Amazon SQS can't create the redrive allow policy. It is no JSON map."
        )
    sources = policy.get("sourceQueueArns")
    match policy.get("redrivePermission"):
        case "allowAll" | "denyAll" as all_or_none if sources is not None:
            reason = f"sourceQueueArns cannot be specified with redrivePermission {all_or_none}."
            raise _bad_policy("RedriveAllowPolicy", value, reason)
        case "allowAll":
            said["RedriveAllowPolicy"] = value
            return replace(spec, allowed_sources=None)
        case "denyAll":
            return replace(spec, allowed_sources=())
        case "byQueue":
            return replace(spec, allowed_sources=_sources(value, sources, caller, fifo=spec.fifo))
        case _:
            raise _bad_policy("RedriveAllowPolicy", value, "redrivePermission is one of allowAll, denyAll, byQueue.")


def _sources(value: str, sources: Any, caller: Caller, *, fifo: bool) -> tuple[str, ...]:  # noqa: ANN401 - JSON
    if not isinstance(sources, list) or not 1 <= len(sources) <= _MOST_SOURCES:
        raise _bad_policy("RedriveAllowPolicy", value, "sourceQueueArns takes 1 to 10 ARNs with permission byQueue.")
    names = [name_in_arn(str(one), caller) for one in sources]
    if None in names:
        raise _bad_policy(
            "RedriveAllowPolicy", value, "sourceQueueArns takes ARNs of queues of this account and region."
        )
    return tuple(name.removesuffix(FIFO) for name in names if name is not None and name.endswith(FIFO) is fifo)


def _redrive_policy(spec: QueueSpec, caller: Caller) -> str:
    dead = wire_name(spec.dead_letter_queue or "", fifo=spec.fifo)
    return json.dumps({"deadLetterTargetArn": arn_of(dead, caller), "maxReceiveCount": spec.max_receives})


def _allow_policy(spec: QueueSpec, caller: Caller) -> str:
    if not spec.allowed_sources:
        return json.dumps({"redrivePermission": "denyAll"})
    arns = [arn_of(wire_name(name, fifo=spec.fifo), caller) for name in spec.allowed_sources]
    return json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": arns})


def _count(value: object) -> int | None:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal() and len(text) <= len(str(_MOST_RECEIVES))):
        return None
    return int(text) if 1 <= int(text) <= _MOST_RECEIVES else None


def _comparable(value: str) -> Any:  # noqa: ANN401 - JSON
    found = _json(value)
    if isinstance(found, dict) and "maxReceiveCount" in found:
        found["maxReceiveCount"] = str(found["maxReceiveCount"])
    return value if found is None else found


def _json(value: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _true_or_false(value: bool) -> str:  # noqa: FBT001 - what is written
    return "true" if value else "false"


def seconds(said: Mapping[str, str], name: str) -> int:
    """What one of these was set to: `VisibilityTimeout`, `ReceiveMessageWaitTimeSeconds`."""
    return int(said.get(name, _DEFAULTS[name]))


def unknown_attribute(name: str) -> Refused:
    """There is no such attribute, or not here."""
    return Refused("InvalidAttributeName", f"Unknown Attribute {name}.")


def _bad(name: str) -> Refused:
    return Refused("InvalidAttributeValue", f"Invalid value for the parameter {name}.")


def _bad_policy(name: str, value: str, reason: str) -> Refused:
    return Refused("InvalidParameterValue", f"Value {value} for parameter {name} is invalid. Reason: {reason}")
