"""Permissions: statements of a queue's policy, which is kept and shown; this endpoint asks nobody's policy."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from redrive.sqlite.queues import Queue
from redrive.sqlite.tables import Tables
from redrive.sqs_api.calls import Caller, Refused
from redrive.sqs_api.service.addresses import arn_of, wire_name
from redrive.sqs_api.service.queues import Operation, Request, asked
from redrive.sqs_api.service.wording import bad_value, missing

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,80}")
_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
_OWNERS_ALONE = frozenset(
    {
        "AddPermission",
        "CancelMessageMoveTask",
        "CreateQueue",
        "DeleteQueue",
        "ListMessageMoveTasks",
        "ListQueues",
        "ListQueueTags",
        "RemovePermission",
        "SetQueueAttributes",
        "StartMessageMoveTask",
        "TagQueue",
        "UntagQueue",
    }
)
_GRANTABLE = frozenset(
    {
        "*",
        "ChangeMessageVisibility",
        "DeleteMessage",
        "GetQueueAttributes",
        "GetQueueUrl",
        "ListDeadLetterSourceQueues",
        "PurgeQueue",
        "ReceiveMessage",
        "SendMessage",
    }
)
_MOST_ACTIONS = 7


def add_permission(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """AddPermission: one more statement."""
    queue = asked(tables, request, caller)
    label, actions = request["Label"], request["Actions"]
    _check_permission(label, request["AWSAccountIds"], actions)
    policy = _policy(tables, queue, caller)
    if any(one.get("Sid") == label for one in policy["Statement"]):
        raise bad_value("Label", label, "Already exists.")
    principals = [f"arn:aws:iam::{account}:root" for account in request["AWSAccountIds"]]
    grants = [f"SQS:{action}" for action in actions]
    statement = {
        "Sid": label,
        "Effect": "Allow",
        "Principal": {"AWS": principals[0] if len(principals) == 1 else principals},
        "Action": grants[0] if len(grants) == 1 else grants,
        "Resource": arn_of(wire_name(queue.name, fifo=bool(queue.fifo)), caller),
    }
    _keep_policy(tables, queue, {**policy, "Statement": [*policy["Statement"], statement]})
    return {}


def remove_permission(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """RemovePermission: without that statement."""
    queue = asked(tables, request, caller)
    policy, label = _policy(tables, queue, caller), request["Label"]
    left = [one for one in policy["Statement"] if one.get("Sid") != label]
    if len(left) == len(policy["Statement"]):
        raise bad_value("Label", label, "can't find label on existing policy." if left else "can't find label.")
    _keep_policy(tables, queue, {**policy, "Statement": left} if left else None)
    return {}


OPERATIONS: Mapping[str, Operation] = {"AddPermission": add_permission, "RemovePermission": remove_permission}


def _check_permission(label: str, accounts: Sequence[str], actions: Sequence[str]) -> None:
    if not _LABEL.fullmatch(label):
        raise bad_value("Label", label, "It takes 1 to 80 alphanumeric characters, hyphens and underscores.")
    if not actions:
        raise missing("Actions")
    if len(actions) > _MOST_ACTIONS:
        problem = f"{len(actions)} Actions were found, maximum allowed is {_MOST_ACTIONS}."
        raise Refused("OverLimit", problem)
    if not accounts or not all(_ACCOUNT.fullmatch(account) for account in accounts):
        raise bad_value("PrincipalId", f"[{', '.join(accounts)}]", "Unable to verify.")
    for action in actions:
        if action in _OWNERS_ALONE:
            raise bad_value("ActionName", f"SQS:{action}", "Only the queue owner is allowed to invoke this action.")
        if action not in _GRANTABLE:
            problem = "Please refer to the appropriate WSDL for a list of valid actions."
            raise bad_value("ActionName", f"SQS:{action}", problem)


def _policy(tables: Tables, queue: Queue, caller: Caller) -> dict[str, Any]:
    text = tables.sqs.of(queue.id).attributes.get("Policy")
    if text is not None:
        policy: dict[str, Any] = json.loads(text)
        statements = policy.get("Statement", [])
        return {**policy, "Statement": statements if isinstance(statements, list) else [statements]}
    arn = arn_of(wire_name(queue.name, fifo=bool(queue.fifo)), caller)
    return {"Version": "2008-10-17", "Id": f"{arn}/SQSDefaultPolicy", "Statement": []}


def _keep_policy(tables: Tables, queue: Queue, policy: Mapping[str, Any] | None) -> None:
    said = tables.sqs.of(queue.id)
    others = {name: value for name, value in said.attributes.items() if name != "Policy"}
    kept = others if policy is None else {**others, "Policy": json.dumps(policy)}
    tables.sqs.say(queue.id, said._replace(attributes=kept))
