"""RedrivePolicy and RedriveAllowPolicy: JSON in attributes, which the engine knows as parts of a `QueueSpec`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from redrive.broker import MOST_RECEIVES, MOST_SOURCES, QueueSpec
from redrive.sqs_api.calls import Caller, Refused
from redrive.sqs_api.service.addresses import FIFO, arn_of, is_arn, name_in_arn, wire_name
from redrive.sqs_api.service.wording import bad_attribute, bad_value

_PERMISSIONS = ("allowAll", "denyAll", "byQueue")
_NO_ALLOW_POLICY = "Amazon SQS can't create the redrive allow policy"

DeadLetterTarget = Callable[[str], QueueSpec | None]
"""The queue that is called like this on the wire; None: there is none."""


def with_redrive_policy(spec: QueueSpec, value: str, caller: Caller, target: DeadLetterTarget) -> QueueSpec:
    """The queue after its RedrivePolicy was set; an empty one takes it back.

    Raises:
        Refused: If it is none, or the dead-letter queue is not there, of the other kind, or does not take it.
    """
    if not value:
        return replace(spec, dead_letter_queue=None, max_receives=None)
    policy = json_of(value)
    if not isinstance(policy, dict):
        raise bad_attribute("RedrivePolicy", "Redrive policy is not a valid JSON map.")
    for key in ("maxReceiveCount", "deadLetterTargetArn"):
        if key not in policy:
            raise bad_value("RedrivePolicy", value, f"Redrive policy does not contain mandatory attribute: {key}.")
    most = _count(policy["maxReceiveCount"])
    if most is None:
        reason = (
            f"Invalid value for maxReceiveCount: {policy['maxReceiveCount']}, "
            "valid values are from 1 to 1000 both inclusive."
        )
        raise bad_value("RedrivePolicy", value, reason)
    if not is_arn(policy["deadLetterTargetArn"]):
        raise bad_value("RedrivePolicy", value, "Invalid value for deadLetterTargetArn.")
    name = name_in_arn(policy["deadLetterTargetArn"], caller)
    dead = None if name is None else target(name)
    if dead is None:
        raise bad_value("RedrivePolicy", value, "Dead letter target does not exist.")
    if dead.fifo is not spec.fifo:  # the second full stop is Amazon's
        raise bad_value("RedrivePolicy", value, "Dead-letter queue must be same type of queue as the source..")
    if dead.allowed_sources is not None and spec.name not in dead.allowed_sources:
        arn = arn_of(wire_name(spec.name, fifo=spec.fifo), caller)
        raise bad_value("RedrivePolicy", value, f"Dead letter target does not allow {arn} as its source queue.")
    return replace(spec, dead_letter_queue=dead.name, max_receives=most)


def redrive_policy(spec: QueueSpec, caller: Caller) -> str:
    """As it is told."""
    dead = wire_name(spec.dead_letter_queue or "", fifo=spec.fifo)
    return _compact({"deadLetterTargetArn": arn_of(dead, caller), "maxReceiveCount": spec.max_receives})


def with_allow_policy(spec: QueueSpec, said: dict[str, str], value: str, caller: Caller) -> QueueSpec:
    """The queue after its RedriveAllowPolicy was set; what the engine does not keep is said.

    It cannot tell `allowAll` from none, and takes no queues of the other kind.

    Raises:
        Refused: If it is none.
    """
    if not value:
        return replace(spec, allowed_sources=None)
    policy = json_of(value)
    permission = policy.get("redrivePermission") if isinstance(policy, dict) else None
    sources = policy.get("sourceQueueArns") if isinstance(policy, dict) else None
    if permission not in _PERMISSIONS or not _are_texts(sources):
        raise bad_attribute("RedriveAllowPolicy", f"{_NO_ALLOW_POLICY}, as it's in an unsupported format.")
    if permission == "byQueue":
        allowed = _sources(value, sources or [], caller, fifo=spec.fifo)
        if len(allowed) < len(sources or []):  # of the other kind: they are told, and could not send anything here
            said["RedriveAllowPolicy"] = _compact(policy)
        return replace(spec, allowed_sources=allowed)
    if sources:
        reason = "To specify one or more source queue ARNs, you must set redrivePermission to byQueue."
        raise bad_value("RedriveAllowPolicy", value, f"{_NO_ALLOW_POLICY}. {reason}")
    if permission == "allowAll":
        said["RedriveAllowPolicy"] = _compact(policy)
    return replace(spec, allowed_sources=None if permission == "allowAll" else ())


def allow_policy(spec: QueueSpec, said: str | None, caller: Caller) -> str:
    """As it is told, where the engine knows one; `said` is what was given, if the engine could not take all of it."""
    if said is not None and _says(said, spec, caller):
        return said
    if not spec.allowed_sources:
        return _compact({"redrivePermission": "denyAll"})
    arns = [arn_of(wire_name(name, fifo=spec.fifo), caller) for name in spec.allowed_sources]
    return _compact({"redrivePermission": "byQueue", "sourceQueueArns": arns})


def is_policy(value: str) -> bool:
    """Whether a text is an access policy, as far as this endpoint looks: statements, each a JSON object."""
    policy = json_of(value)
    statements = policy.get("Statement", []) if isinstance(policy, dict) else None
    listed = statements if isinstance(statements, list) else [statements]
    return all(isinstance(one, dict) for one in listed)


def json_of(value: str) -> Any:  # noqa: ANN401 - JSON
    """What a text says as JSON; None where it is none."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _count(value: object) -> int | None:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_RECEIVES))):
        return None
    return int(text) if 1 <= int(text) <= MOST_RECEIVES else None


def _are_texts(sources: object) -> bool:
    return sources is None or (isinstance(sources, list) and all(isinstance(one, str) for one in sources))


def _sources(value: str, sources: list[str], caller: Caller, *, fifo: bool) -> tuple[str, ...]:
    names = [name_in_arn(one, caller) for one in sources]
    reason = None
    if not sources:
        reason = (
            "When you specify the byQueue permission type, you must also specify one or more sourceQueueArns values."
        )
    elif len(sources) > MOST_SOURCES:
        reason = f"The maximum number of source queue ARNs you can specify is {MOST_SOURCES}."
    elif None in names:
        reason = "sourceQueueArns takes ARNs of queues of this account and region."
    if reason is not None:
        raise bad_value("RedriveAllowPolicy", value, f"{_NO_ALLOW_POLICY}. {reason}")
    return tuple(name.removesuffix(FIFO) for name in names if name is not None and name.endswith(FIFO) is fifo)


def _says(said: str, spec: QueueSpec, caller: Caller) -> bool:
    """Whether a policy that was given once still stands: nobody set it otherwise, or called the account otherwise."""
    try:
        return with_allow_policy(spec, {}, said, caller) == spec
    except Refused:
        return False


def _compact(policy: Mapping[str, Any]) -> str:
    """As Amazon SQS tells it: without spaces."""
    return json.dumps(policy, separators=(",", ":"))
