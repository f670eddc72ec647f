"""A message as a row, and the checksum that tells whether a row is still what was written."""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

from redrive.message import NOTHING, Delivery, Message, Notes

COLUMNS = (
    "queue, phase, round, visible_at_ms, expires_at_ms, origin, deduplication_id, checksum, "
    "id, sent_at_ms, group_id, attributes, notes, body"
)
"""What an insert gives; the last six are the content."""
WIDTH = COLUMNS.count(",") + 1

RAW = (
    "checksum, "
    "CAST(id AS BLOB), sent_at_ms, CAST(group_id AS BLOB), CAST(attributes AS BLOB), CAST(notes AS BLOB), body"
)
"""The checksum and the content as bytes: text that a flipped bit made none could not even be looked at."""
RECEIVED = f"seq, receipt, receive_count, round, origin, first_received_at_ms, CAST(deduplication_id AS BLOB), {RAW}"
"""What a receive gives, in the order in which `Row` takes it."""

READY, DELAYED, IN_FLIGHT, IN_LINE, LEASED, DAMAGED = range(6)
"""The phases of a message; the schema says what each means."""
_LARGEST_SEQ = 2**63 - 1

Content = tuple[str, int, str | None, str | None, str | None, bytes]
"""What the checksum is about: id, sent_at_ms, group_id, attributes, notes, body."""
RawContent = tuple[bytes, int, bytes | None, bytes | None, bytes | None, bytes]
"""The same as it is read."""


class Row:
    """A row as it was received; looks into its content only when it is whole."""

    __slots__ = (
        "_raw",
        "_stored",
        "deduplication_id",
        "first_received_at_ms",
        "origin",
        "receipt",
        "receive_count",
        "round",
        "seq",
    )

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.seq, self.receipt, self.receive_count, self.round, self.origin = values[:5]
        self.first_received_at_ms, deduplication_id, self._stored = values[5:8]
        self.deduplication_id = None if deduplication_id is None else _readable(deduplication_id)
        self._raw: RawContent = values[8:]

    @property
    def id(self) -> str:
        """The message's id, as far as it can be read."""
        return _readable(self._raw[0])

    @property
    def group(self) -> str | None:
        """Its group, as far as it can be read."""
        group = self._raw[2]
        return None if group is None else _readable(group)

    def is_whole(self) -> bool:
        """Whether it is what was written."""
        return is_whole(self._stored, self._raw)

    def message(self) -> Message:
        """The message of a whole row."""
        return message_of(self._raw)

    def delivery(self, queue: str, *, fifo: bool, origin: str | None) -> Delivery:
        """What the receiver of a whole row gets; `origin` is the name that goes with `self.origin`."""
        return Delivery(
            message=message_of(self._raw),
            queue=queue,
            receipt=f"{self.seq}.{self.receipt.hex()}",
            receive_count=self.receive_count,
            sequence=self.seq if fifo else None,
            first_received_at_ms=self.first_received_at_ms,
            deduplication_id=self.deduplication_id,
            origin=origin,
        )

    def checksum_with(self, notes: str | None) -> int:
        """The checksum of the same content under other notes."""
        identity, sent_at_ms, group, attributes, _, body = self._raw
        return _checksum((identity, sent_at_ms, group, attributes, None if notes is None else notes.encode(), body))


def checksum(content: Content) -> int:
    """CRC-32 of all that a receive hands out; `integrity_check` of SQLite does not see a flipped bit in there."""
    identity, sent_at_ms, group, attributes, notes, body = content
    head = f"{identity}\0{sent_at_ms}"
    if group or attributes or notes:
        head = f"{head}\0{group or ''}\0{attributes or ''}\0{notes or ''}"
    return crc32(body, crc32(head.encode()))


def is_whole(stored: int | None, raw: RawContent) -> bool:
    """Whether a checksum fits what was read; a row from before there were checksums has to be readable at least."""
    try:
        if stored is not None:
            return stored == _checksum(raw)
        message_of(raw)
    except (TypeError, ValueError, AttributeError, LookupError):  # not even of the types that a row has
        return False
    return True


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


def message_of(raw: RawContent) -> Message:
    """The message of what was read."""
    identity, sent_at_ms, group, attributes, notes, body = raw
    values, types = ({}, None) if attributes is None else _split(json.loads(attributes))
    return Message(
        id=identity.decode(),
        sent_at_ms=sent_at_ms,
        group=None if group is None else group.decode(),
        attributes=values,
        attribute_types=types,
        notes=NOTHING if notes is None else Notes.from_json(notes.decode()),
        body=body,
    )


def key_of(delivery: Delivery) -> tuple[int, bytes, str]:
    """Row, receipt and queue of a delivery; what is no receipt of ours fits no row."""
    number, _, secret = delivery.receipt.partition(".")
    try:
        return int(number) & _LARGEST_SEQ, bytes.fromhex(secret), delivery.queue
    except ValueError:
        return 0, b"", delivery.queue


def _checksum(raw: RawContent) -> int:
    identity, sent_at_ms, group, attributes, notes, body = raw
    head = b"%b\0%d" % (identity, sent_at_ms)
    if group or attributes or notes:
        head = b"%b\0%b\0%b\0%b" % (head, group or b"", attributes or b"", notes or b"")
    return crc32(body, crc32(head))


def _readable(text: Any) -> str:  # noqa: ANN401 - whatever a damaged row holds
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else repr(text)


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
