"""A message as a row, and the checksum that tells whether a row is still what was written."""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

from redrive.message import NOTHING, Delivery, Message, Notes

COLUMNS = (
    "queue, phase, round, visible_at_ms, expires_at_ms, origin, checksum, "
    "id, sent_at_ms, group_id, attributes, notes, body"
)
"""What an insert gives; the last six are the content."""
WIDTH = COLUMNS.count(",") + 1

RECEIVED = "seq, receipt, receive_count, round, origin, checksum, id, sent_at_ms, group_id, attributes, notes, body"
"""What a receive gives, in the order in which `Row` finds it."""

READY, DELAYED, IN_FLIGHT, IN_LINE, LEASED, DAMAGED = range(6)
"""The phases of a message; the schema says what each means."""


Content = tuple[str, int, str | None, str | None, str | None, bytes]
"""What the checksum is about: id, sent_at_ms, group_id, attributes, notes, body."""


class Row:
    """A row as it was received."""

    __slots__ = ("content", "origin", "receipt", "receive_count", "round", "seq", "stored_checksum")

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.seq, self.receipt, self.receive_count, self.round, self.origin, self.stored_checksum, *_ = values
        self.content: Content = values[-6:]

    @property
    def group(self) -> str | None:
        """Its group."""
        return self.content[2]

    def is_whole(self) -> bool:
        """Whether the checksum fits; a row from before there were checksums has none."""
        return self.stored_checksum is None or self.stored_checksum == checksum(self.content)

    def delivery(self, queue: str, *, fifo: bool) -> Delivery:
        """What the receiver gets."""
        return Delivery(
            message=message_of(self.content),
            queue=queue,
            receipt=f"{self.seq}.{self.receipt.hex()}",
            receive_count=self.receive_count,
            sequence=self.seq if fifo else None,
        )


def checksum(content: Content) -> int:
    """CRC-32 of all that a receive hands out; `integrity_check` of SQLite does not see a flipped bit in there."""
    identity, sent_at_ms, group, attributes, notes, body = content
    return crc32(body, crc32(f"{identity}\0{sent_at_ms}\0{group}\0{attributes}\0{notes}".encode()))


def content_of(one: Message) -> Content:
    """The columns that the checksum is about."""
    return (
        one.id,
        one.sent_at_ms,
        one.group,
        _attributes(one) if one.attributes else None,
        None if one.notes is NOTHING else one.notes.to_json(),
        one.body,
    )


def message_of(content: Content) -> Message:
    """The message of such columns."""
    identity, sent_at_ms, group, attributes, notes, body = content
    values, types = ({}, None) if attributes is None else _split(json.loads(attributes))
    return Message(
        id=identity,
        sent_at_ms=sent_at_ms,
        group=group,
        attributes=values,
        attribute_types=types,
        notes=NOTHING if notes is None else Notes.from_json(notes),
        body=body,
    )


def key_of(delivery: Delivery) -> tuple[int, bytes]:
    """Row and receipt of a delivery; what is no receipt of ours fits no row."""
    number, _, secret = delivery.receipt.partition(".")
    try:
        return int(number) & _LARGEST_SEQ, bytes.fromhex(secret)
    except ValueError:
        return 0, b""


_LARGEST_SEQ = 2**63 - 1


def _attributes(one: Message) -> str:
    """A JSON object: a plain string as it is, anything else as [type, value]."""
    if one.attribute_types is None:
        return json.dumps(dict(one.attributes))
    types = one.attribute_types
    return json.dumps(
        {name: [types[name], value] if name in types else value for name, value in one.attributes.items()}
    )


def _split(stored: dict[str, Any]) -> tuple[dict[str, str], dict[str, str] | None]:
    types = {name: value[0] for name, value in stored.items() if isinstance(value, list)}
    if not types:
        return stored, None
    return {name: value[1] if name in types else value for name, value in stored.items()}, types
