"""Messages as Amazon SQS carries them: the body as it is, the user's attributes one to one, and one attribute of ours.

`redrive` is ASCII JSON: `v`, `id`, `sent_at_ms`, and where they are needed

    notes   what redrive wrote on the message
    more    attributes that SQS does not take, or has no room for: name to value, or to value and type
    group   a standard queue's group that SQS does not take as one
    body    how the body is written: `base64`, `empty` (SQS takes no empty body), or `zlib`, then base64: a foreign
            message that fills all of SQS's room leaves none for this attribute

A message without it is a foreign one: its id and send time are those of SQS.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from redrive.attributes import ID, MOST, UNFIT, md5_of_attributes, md5_of_body, refused
from redrive.broker import LARGEST_MESSAGE, LONGEST_DELAY, Outgoing, refused_group
from redrive.errors import LimitExceeded
from redrive.message import MAX_BODY, NOTHING, Delivery, Message, Notes

OURS = "redrive"
LARGEST = LARGEST_MESSAGE[1]
"""Bytes of body and attributes together, and of all messages in one request.

Source: Amazon SQS quotas, "Message size": 1 MiB.
"""
SYSTEM_ATTRIBUTES = ["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId", "SequenceNumber"]

_VERSION = 1
_FIRST = "traceparent"
"""The attribute that others look for: it has a place before all the rest."""
_ID_LIMIT = "1 to 128 ASCII letters, digits and punctuation marks, without spaces"
_NO_BODY = "-"
"""Stands for an empty body."""


class Written(NamedTuple):
    """A message as an entry of SendMessageBatch, still without `Id`."""

    entry: dict[str, Any]
    size: int
    """Bytes, as SQS counts them."""
    body_md5: str
    attributes_md5: str | None
    message_id: str
    """Ours."""


def written(one: Outgoing, *, fifo: bool, largest: int = MAX_BODY, packed: bool = False) -> Written | LimitExceeded:
    """The entry for a message, or why there can be none; `packed`: with its body compressed."""
    if error := _out_of_limits(one, fifo=fifo, largest=largest):
        return error
    message = one.message
    native, types, more = _shared_out(message)
    text, how = _packed(message.body) if packed else _text_of(message.body)
    group, kept_group = _group_of(message.group)
    native[OURS] = _ours(message, more=more, body=how, group=kept_group)
    size = len(text.encode()) + sum(
        len(name) + len(types.get(name, "String")) + len(value.encode()) for name, value in native.items()
    )
    if size > LARGEST:
        limit = f"at most {LARGEST} bytes as Amazon SQS carries it; keep the content elsewhere, send its key"
        return LimitExceeded("size of the message", size, limit)
    entry: dict[str, Any] = {
        "MessageBody": text,
        "MessageAttributes": {name: _attribute(value, types.get(name, "String")) for name, value in native.items()},
    }
    if one.delay is not None and not fifo:
        entry["DelaySeconds"] = _whole(one.delay)
    if group is not None:
        entry["MessageGroupId"] = group
    if fifo and one.deduplication_id is not None:
        entry["MessageDeduplicationId"] = one.deduplication_id
    return Written(entry, size, md5_of_body(text.encode()), md5_of_attributes(native, types), message.id)


def forwarded(one: Outgoing, *, fifo: bool, largest: int = MAX_BODY) -> Written | LimitExceeded:
    """The entry for a message that came from SQS and stays there: a foreign one may be as large as SQS takes it.

    One that does not fit goes without its failure record, which is in the store too, and then with its body compressed.
    """
    largest = LARGEST if largest >= MAX_BODY else largest
    entry = written(one, fifo=fifo, largest=largest)
    if isinstance(entry, Written) or len(one.message.body) <= LARGEST // 2:
        return entry
    bare = replace(one, message=replace(one.message, notes=replace(one.message.notes, failure=None)))
    for packed in (False, True):
        smaller = written(bare, fifo=fifo, largest=largest, packed=packed)
        if isinstance(smaller, Written):
            return smaller
    return entry


def read(raw: Mapping[str, Any], queue: str) -> Delivery:
    """The delivery in an entry of ReceiveMessage's answer, its blobs in base64."""
    system = raw.get("Attributes") or {}
    attributes = raw.get("MessageAttributes") or {}
    try:
        message = _ours_in(raw, system, attributes) if OURS in attributes else _foreign_in(raw, system, attributes)
    except (KeyError, TypeError, ValueError, AttributeError):  # somebody else's by the same name
        message = _foreign_in(raw, system, attributes)
    sequence = system.get("SequenceNumber")
    return Delivery(
        message=message,
        queue=queue,
        receipt=raw["ReceiptHandle"],
        receive_count=max(1, int(system.get("ApproximateReceiveCount", 1))),
        sequence=None if sequence is None else int(sequence),
        arrived_at_ms=int(system["SentTimestamp"]) if "SentTimestamp" in system else None,
    )


# Writing


def _out_of_limits(one: Outgoing, *, fifo: bool, largest: int) -> LimitExceeded | None:
    message = one.message
    if one.delay is not None and not 0 <= one.delay <= LONGEST_DELAY:
        return LimitExceeded("delay", one.delay, "from 0 to 900 seconds")
    size = len(message.body)
    if message.attributes:
        texts = [*message.attributes, *message.attributes.values(), *(message.attribute_types or {}).values()]
        size += sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    if size > largest:
        limit = f"at most {largest} bytes, attributes included; keep the content elsewhere, send its key"
        return LimitExceeded("size of the message", size, limit)
    return _out_of_line(one) if fifo else refused_group(message.group)


def _out_of_line(one: Outgoing) -> LimitExceeded | None:
    """Why a FIFO queue does not take it."""
    if one.delay:
        return LimitExceeded("delay", one.delay, "0 on a FIFO queue, where it would hold up what is sent after it")
    if one.message.group is None or not ID.fullmatch(one.message.group):
        limit = f"{_ID_LIMIT}, on a FIFO queue: send(..., group=...), or --group"
        return LimitExceeded("group", one.message.group, limit)
    if one.deduplication_id is not None and not ID.fullmatch(one.deduplication_id):
        return LimitExceeded("deduplication id", one.deduplication_id, _ID_LIMIT)
    return None


def _shared_out(message: Message) -> tuple[dict[str, str], dict[str, str], dict[str, Any]]:
    """The attributes that SQS carries, their types, and those that ours has to."""
    native: dict[str, str] = {}
    more: dict[str, Any] = {}
    if not message.attributes:
        return native, {}, more
    types = message.attribute_types or {}
    names = sorted(message.attributes, key=lambda name: name != _FIRST)
    for name in names:
        value, kind = message.attributes[name], types.get(name)
        if name == OURS or len(native) >= MOST - 1 or refused({name: value}, types):
            more[name] = value if kind is None else [value, kind]
        else:
            native[name] = value
    return native, {name: types[name] for name in native if name in types}, more


def _text_of(body: bytes) -> tuple[str, str | None]:
    """A body as SQS carries it, and the mark that says how it is written."""
    if not body:
        return _NO_BODY, "empty"
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = "\0"
    if UNFIT.search(text):
        return base64.b64encode(body).decode(), "base64"
    return text, None


def _packed(body: bytes) -> tuple[str, str]:
    return base64.b64encode(zlib.compress(body)).decode(), "zlib"


def _unpacked(text: str) -> bytes:
    """At most what SQS takes: few bytes can say a lot."""
    packed = zlib.decompressobj()
    body = packed.decompress(base64.b64decode(text, validate=True), LARGEST)
    if not packed.eof:
        raise ValueError(text[:20])
    return body


def _group_of(group: str | None) -> tuple[str | None, str | None]:
    """The group for SQS, and for us where SQS does not take it: then a digest stands for it, still fairly."""
    if group is None or ID.fullmatch(group):
        return group, None
    return hashlib.sha256(group.encode()).hexdigest(), group


def _ours(message: Message, *, more: dict[str, Any], body: str | None, group: str | None) -> str:
    document: dict[str, Any] = {"v": _VERSION, "id": message.id, "sent_at_ms": message.sent_at_ms}
    if more:
        document["more"] = more
    if group is not None:
        document["group"] = group
    if body is not None:
        document["body"] = body
    text = json.dumps(document, separators=(",", ":"))
    notes = message.notes.to_json() if message.notes is not NOTHING else None
    return text if notes is None else f'{text[:-1]},"notes":{notes}}}'  # not encoded twice: a record is long


def _attribute(value: str, kind: str) -> dict[str, Any]:
    if kind.startswith("Binary"):
        return {"DataType": kind, "BinaryValue": base64.b64decode(value)}
    return {"DataType": kind, "StringValue": value}


def _whole(delay: float) -> int:
    """Whole seconds, never too few."""
    return -int(-delay // 1)


# Reading


def _foreign_in(raw: Mapping[str, Any], system: Mapping[str, str], attributes: Mapping[str, Any]) -> Message:
    values, types = _values_of(attributes)
    return Message(
        id=raw["MessageId"],
        body=(raw.get("Body") or "").encode("utf-8", "surrogatepass"),
        sent_at_ms=int(system.get("SentTimestamp", 0)),
        attributes=values,
        attribute_types=types or None,
        group=system.get("MessageGroupId"),
    )


def _ours_in(raw: Mapping[str, Any], system: Mapping[str, str], attributes: Mapping[str, Any]) -> Message:
    """What stands in our attribute; an error of any kind when that is not how we write."""
    document = json.loads(attributes[OURS]["StringValue"])
    values: dict[str, str] = {}
    types: dict[str, str] = {}
    if len(attributes) > 1 or "more" in document:
        values, types = _values_of({name: one for name, one in attributes.items() if name != OURS})
        _add(values, types, document.get("more", {}))
    return Message(
        id=_text(document["id"]),
        body=_body_of(raw["Body"], document.get("body")),
        sent_at_ms=int(document["sent_at_ms"]),
        attributes=values,
        attribute_types=types or None,
        group=_text(document["group"]) if "group" in document else system.get("MessageGroupId"),
        notes=_notes_of(document),
    )


def _values_of(attributes: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Values and types of the producer's attributes."""
    values: dict[str, str] = {}
    types: dict[str, str] = {}
    for name, one in attributes.items():
        kind = one.get("DataType", "String")
        values[name] = one["BinaryValue"] if kind.startswith("Binary") else one.get("StringValue", "")
        if kind != "String":
            types[name] = kind
    return values, types


def _add(values: dict[str, str], types: dict[str, str], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, list):
            text, kind = value
            types[name] = _text(kind)
        else:
            text = value
        values[name] = _text(text)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(type(value))
    return value


def _body_of(text: str, how: str | None) -> bytes:
    if how is None:
        return text.encode()
    if how == "zlib":
        return _unpacked(text)
    return b"" if how == "empty" else base64.b64decode(text, validate=True)


def _notes_of(document: dict[str, Any]) -> Notes:
    if document["v"] > _VERSION:
        return Notes(newer=json.dumps(document, separators=(",", ":")))
    if "notes" not in document:
        return NOTHING
    return Notes.from_json(json.dumps(document["notes"], separators=(",", ":")))
