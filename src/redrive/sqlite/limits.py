"""What the engine refuses, each with the value, the limit and where the limit comes from."""

from __future__ import annotations

from redrive.attributes import ID
from redrive.broker import LONGEST_DELAY, LONGEST_LEASE, Outgoing, refused_group
from redrive.errors import LimitExceeded
from redrive.sqlite.queues import Queue

LONGEST_ID = 128
"""Characters. Source: Amazon SQS, SendMessage `MessageGroupId` and `MessageDeduplicationId`, ReceiveMessage
`ReceiveRequestAttemptId`: letters, digits and punctuation marks."""
_RESERVED = "AWS."
_ID = f"1 to {LONGEST_ID} ASCII letters, digits and punctuation marks, without spaces"


def refused(one: Outgoing, target: Queue) -> LimitExceeded | None:
    """Why a message cannot be sent to a queue; None: it can."""
    if one.delay is not None and not 0 <= one.delay <= LONGEST_DELAY:
        return LimitExceeded("delay", one.delay, "from 0 to 900 seconds")
    message = one.message
    size = len(message.body)
    if message.attributes:
        types = message.attribute_types or {}
        size += sum(_size(name, types.get(name, ""), value) for name, value in message.attributes.items())
    if size > target.largest_message:
        limit = f"at most {target.largest_message} bytes, attributes included; keep the content elsewhere, send its key"
        return LimitExceeded("size of the message", size, limit)
    if target.fifo and (message.group is None or not _is_id(message.group)):
        limit = f"{_ID}, on a FIFO queue: send(..., group=...), or --group"
        return LimitExceeded("group", message.group, limit)
    return refused_group(message.group)


def refused_receive(limit: int, lease: float, attempt: str | None) -> LimitExceeded | None:
    """Why nothing can be received like this."""
    if limit < 1:
        return LimitExceeded("limit", limit, "1 or more")
    if not 0 <= lease <= LONGEST_LEASE:
        return LimitExceeded("lease", lease, "from 0 to 43200 seconds")
    return None if attempt is None else refused_id("receive attempt id", attempt)


def refused_id(what: str, value: str) -> LimitExceeded | None:
    """Why this is no id."""
    return None if _is_id(value) else LimitExceeded(what, value, _ID)


def _size(name: str, kind: str, value: str) -> int:
    """The bytes of an attribute, as Amazon SQS counts them: those of type Binary as they were before base64.

    What only Amazon may call so does not count. Source: Amazon SQS, SendMessage `MessageSystemAttributes`.
    """
    if name.startswith(_RESERVED):
        return 0
    content = len(value) * 3 // 4 - value[-2:].count("=") if kind.startswith("Binary") else _length(value)
    return _length(name) + _length(kind) + content


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _is_id(value: str) -> bool:
    return ID.fullmatch(value) is not None
