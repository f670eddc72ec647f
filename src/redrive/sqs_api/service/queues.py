"""Queues: create, look, change, purge, delete; tags. Each is done in one transaction."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redrive.broker import QueueSpec
from redrive.errors import QueueNotFound
from redrive.sqlite.queues import Queue
from redrive.sqlite.tables import Tables
from redrive.sqs_api.calls import Caller, Refused
from redrive.sqs_api.service.addresses import FIFO, arn_of, name_in_url, no_queue, queue_called, url_of, wire_name
from redrive.sqs_api.service.settings import COUNTS, READABLE, Settings, plain, unknown_attribute
from redrive.sqs_api.service.wording import bad_value, checked_range, missing

Request = Mapping[str, Any]
Operation = Callable[[Tables, Request, Caller], dict[str, Any]]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_LONGEST_NAME = 80
_PURGE_EVERY_MS = 60_000
_MOST_LISTED = 1_000
_MOST_TAGS = 50
_LONGEST_KEY, _LONGEST_TAG = 128, 256


def create(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """CreateQueue: the queue's URL; one that is there already has to be set in the same way."""
    name, given = request["QueueName"], plain(request.get("Attributes") or {})
    fifo = given.get("FifoQueue") == "true"
    _check_name(name, fifo=fifo)
    own = name.removesuffix(FIFO)
    if own in tables.engine.queues():
        return _created_before(tables, name, given, caller)
    if tables.sqs.was_deleted_lately(name, tables.now_ms):
        problem = "You must wait 60 seconds after deleting a queue before you can create another with the same name."
        raise Refused("QueueDeletedRecently", problem)
    tags = _checked_tags(name, {}, request.get("tags") or {})
    settings = Settings.new(own, fifo=fifo).with_attributes(given, caller, lambda one: _spec_called(tables, one))
    _write(tables, settings)
    if tags:
        number = tables.engine.queue_table.named(own).id
        tables.sqs.say(number, tables.sqs.of(number)._replace(tags=tags))
    return {"QueueUrl": url_of(name, caller)}


def url(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """GetQueueUrl."""
    owner = request.get("QueueOwnerAWSAccountId")
    if owner is not None and owner != caller.account:
        raise no_queue()
    queue_called(tables, request["QueueName"])
    return {"QueueUrl": url_of(request["QueueName"], caller)}


def listed(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """ListQueues: by name, from where the page before ended."""
    prefix = request.get("QueueNamePrefix") or ""
    names = [name for name in _wire_names(tables) if name.startswith(prefix)]
    return _page("QueueUrls", names, request, caller)


def sources(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """ListDeadLetterSourceQueues."""
    queue = asked(tables, request, caller)
    names = [wire_name(name, fifo=bool(queue.fifo)) for name in tables.engine.queue_table.sources(queue.name)]
    return {"queueUrls": [], **_page("queueUrls", names, request, caller)}  # the model requires the member


def attributes(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """GetQueueAttributes; counting costs time by the queue's depth, so it is done when a count is asked for."""
    queue = asked(tables, request, caller)
    names: Sequence[str] = request.get("AttributeNames") or ()
    for name in names:
        if name != "All" and name not in READABLE:
            raise unknown_attribute(name)
    if not names:
        return {}
    found = _settings(tables, queue).attributes(caller)
    created_ms, changed_ms = tables.engine.queue_table.times_ms(queue.name)
    found["QueueArn"] = arn_of(wire_name(queue.name, fifo=bool(queue.fifo)), caller)
    found["CreatedTimestamp"] = str(created_ms // 1000)
    found["LastModifiedTimestamp"] = str(changed_ms // 1000)
    if "All" in names or any(name in COUNTS for name in names):
        depth = tables.engine.depth(queue.name, tables.now_ms)
        found.update(zip(COUNTS, map(str, (depth.ready, depth.in_flight, depth.delayed)), strict=True))
    chosen = found if "All" in names else {name: found[name] for name in names if name in found}
    return {"Attributes": chosen} if chosen else {}


def set_attributes(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """SetQueueAttributes."""
    queue = asked(tables, request, caller)
    given = request["Attributes"]
    if not given:
        raise Refused("MissingParameter", "The request must contain the parameter Attribute.Name.")
    settings = _settings(tables, queue).with_attributes(given, caller, lambda one: _spec_called(tables, one))
    _write(tables, settings)
    return {}


def purge(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """PurgeQueue: what is in flight too, and what was remembered of what was sent; once a minute."""
    queue = asked(tables, request, caller)
    said = tables.sqs.of(queue.id)
    if said.purged_at_ms is not None and tables.now_ms - said.purged_at_ms < _PURGE_EVERY_MS:
        name = wire_name(queue.name, fifo=bool(queue.fifo))
        raise Refused("PurgeQueueInProgress", f"Only one PurgeQueue operation on {name} is allowed every 60 seconds.")
    tables.engine.purge(queue.name)
    tables.engine.queue_table.forget(queue.id)
    tables.sqs.say(queue.id, said._replace(purged_at_ms=tables.now_ms))
    return {}


def delete(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """DeleteQueue: with all that is in it."""
    queue = asked(tables, request, caller)
    tables.engine.delete(queue.name)
    tables.engine.became_ready.add(queue.name)  # who waits for a message learns that there is no queue
    tables.sqs.note_deleted(wire_name(queue.name, fifo=bool(queue.fifo)), tables.now_ms)
    return {}


def tag(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """TagQueue."""
    queue = asked(tables, request, caller)
    if not request["Tags"]:
        raise missing("Tags")
    said, name = tables.sqs.of(queue.id), wire_name(queue.name, fifo=bool(queue.fifo))
    tables.sqs.say(queue.id, said._replace(tags=_checked_tags(name, said.tags, request["Tags"])))
    return {}


def untag(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """UntagQueue."""
    queue = asked(tables, request, caller)
    if not request["TagKeys"]:
        raise Refused("InvalidParameterValue", "Tag keys must be between 1 and 128 characters in length.")
    said = tables.sqs.of(queue.id)
    left = {key: value for key, value in said.tags.items() if key not in request["TagKeys"]}
    tables.sqs.say(queue.id, said._replace(tags=left))
    return {}


def tags(tables: Tables, request: Request, caller: Caller) -> dict[str, Any]:
    """ListQueueTags."""
    found = tables.sqs.of(asked(tables, request, caller).id).tags
    return {"Tags": dict(found)} if found else {}


OPERATIONS: Mapping[str, Operation] = {
    "CreateQueue": create,
    "DeleteQueue": delete,
    "GetQueueAttributes": attributes,
    "GetQueueUrl": url,
    "ListDeadLetterSourceQueues": sources,
    "ListQueueTags": tags,
    "ListQueues": listed,
    "PurgeQueue": purge,
    "SetQueueAttributes": set_attributes,
    "TagQueue": tag,
    "UntagQueue": untag,
}


def asked(tables: Tables, request: Request, caller: Caller) -> Queue:
    """The queue of the request's URL.

    Raises:
        Refused: If there is none.
    """
    return queue_called(tables, name_in_url(request["QueueUrl"], caller))


def _settings(tables: Tables, queue: Queue) -> Settings:
    return Settings(tables.engine.queue_table.described(queue.name), tables.sqs.of(queue.id).attributes)


def _write(tables: Tables, settings: Settings) -> None:
    try:
        tables.engine.declare([settings.spec], tables.now_ms)
    except QueueNotFound:  # its dead-letter queue was deleted meanwhile
        raise Refused("InvalidParameterValue", "The queue's dead letter target does not exist.") from None
    number = tables.engine.queue_table.named(settings.spec.name).id
    before = tables.sqs.of(number)
    if before.attributes != settings.said:
        tables.sqs.say(number, before._replace(attributes=settings.said))
        tables.engine.queue_table.note_changed(number, tables.now_ms)


def _created_before(tables: Tables, name: str, given: Mapping[str, str], caller: Caller) -> dict[str, Any]:
    try:
        queue = queue_called(tables, name)
    except Refused:
        own = name.removesuffix(FIFO)
        problem = f"This endpoint keeps one queue of the name {own}, and it is of the other kind."
        raise Refused("QueueNameExists", problem) from None
    settings = _settings(tables, queue)
    settings.with_attributes(given, caller, lambda one: _spec_called(tables, one))
    if different := settings.first_difference(given, caller):
        problem = f"A queue already exists with the same name and a different value for attribute {different}"
        raise Refused("QueueNameExists", problem)
    return {"QueueUrl": url_of(name, caller)}


def _check_name(name: str, *, fifo: bool) -> None:
    own = name.removesuffix(FIFO) if fifo else name
    if len(name) <= _LONGEST_NAME and _NAME.fullmatch(own) and fifo is name.endswith(FIFO):
        return
    problem = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
    if fifo:
        problem = (
            "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, "
            "must end with .fifo suffix and be 1 to 80 in length."
        )
    raise Refused("InvalidParameterValue", problem)


def _spec_called(tables: Tables, name: str) -> QueueSpec | None:
    try:
        return tables.engine.queue_table.described(queue_called(tables, name).name)
    except Refused:
        return None


def _wire_names(tables: Tables) -> list[str]:
    table = tables.engine.queue_table
    return sorted(wire_name(name, fifo=bool(table.named(name).fifo)) for name in table.names())


def _page(member: str, names: Sequence[str], request: Request, caller: Caller) -> dict[str, Any]:
    """Without `MaxResults` there is no next page: the first thousand are all."""
    most, after = request.get("MaxResults"), request.get("NextToken")
    if most is not None:
        checked_range("MaxResults", most, 1, _MOST_LISTED, "MaxResults must be an integer between 1 and 1000.")
    if after is not None and most is None:
        raise Refused(
            "InvalidParameterValue", "MaxResults is a mandatory parameter when you provide a value for NextToken."
        )
    left = [name for name in names if after is None or name > after]
    chosen = left[: most or _MOST_LISTED]
    found: dict[str, Any] = {member: [url_of(name, caller) for name in chosen]} if chosen else {}
    if most is not None and len(left) > len(chosen):
        found["NextToken"] = chosen[-1]
    return found


def _checked_tags(name: str, before: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    for key, value in given.items():
        if not 1 <= len(key) <= _LONGEST_KEY or key.lower().startswith("aws:"):
            raise bad_value("Tag.Key", key, "A key has 1 to 128 characters and must not begin with aws:.")
        if len(value) > _LONGEST_TAG:
            raise bad_value("Tag.Value", value, "A value has at most 256 characters.")
    found = {**before, **given}
    if len(found) > _MOST_TAGS:
        raise Refused("InvalidParameterValue", f"Too many tags added for queue {name}.")
    return found
