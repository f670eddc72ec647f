"""What a message is, and what redrive writes on one.

A `Message` keeps its id, body, attributes, group and original send time through every retry, park, death and redrive.
What changes is its `Notes`: the counters and the failure record. A message that never failed carries no notes at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from redrive.errors import NewerRecord

_VERSION = 1

MAX_BODY = 1024 * 1024 - 40 * 1024
"""Largest body, in bytes: 1 MiB less the room for a failure record.

Source: Amazon SQS quotas, "Message size": 1 MiB for body and attributes together.
"""
MAX_RECORD = 32 * 1024
"""Largest failure record, in bytes of ASCII JSON."""
_KEPT_ATTEMPTS = 20
_LONGEST_TEXT = 1_000
_LONGEST_TRACEBACK = 6_000
_LONGEST_NAME = 200
_SHRINKING = (
    (_LONGEST_TRACEBACK, _LONGEST_TEXT, 20, _LONGEST_NAME),
    (1_500, 300, 20, 200),
    (0, 60, 5, 100),
    (0, 0, 1, 100),
)
"""What is kept: characters of a traceback, of a text, failures, characters of a name. A character may take 12 bytes."""
_SHORTEST_TRACEBACK = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One turn that did not handle the message."""

    at_ms: int
    """When the turn ended."""
    kind: str
    """What happened, in one word: `raised`, `rejected`, `payload`, `unavailable`, `timeout`, `crashed`, `expired`,
    `conflict`."""
    error: str = ""
    """The exception's type, with its module."""
    text: str = ""
    """The exception's text, cut to 1,000 characters."""
    traceback: str = ""
    """Where it came from, its middle cut to 6,000 characters; only the first and the last failure keep theirs."""
    queue: str = ""
    """The queue it was received from."""
    dependency: str | None = None
    """The dependency that was unavailable."""
    worker: str = ""
    """Which worker had it."""
    code_version: str = ""
    """The application's version, as it says itself."""
    took_ms: int = 0
    """How long the turn took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRecord:
    """The history that a parked or dead message carries."""

    reason: str
    """Why it is where it is, as a sentence."""
    first: Failure
    """The first failure of its life; never replaced."""
    last: Failure
    """The failure that brought it here."""
    recent: tuple[Failure, ...] = ()
    """The last 20 failures, oldest first, without tracebacks."""
    total: int = 1
    """How many failures there were in all."""

    @classmethod
    def extended(cls, record: FailureRecord | None, failure: Failure, *, reason: str) -> FailureRecord:
        """The record after one more failure."""
        failure = _cut(failure)
        slim = replace(failure, traceback="", text=failure.text[:200])
        if record is None:
            return cls(reason=reason, first=failure, last=failure, recent=(slim,))
        recent = (*record.recent, slim)[-_KEPT_ATTEMPTS:]
        return cls(reason=reason, first=record.first, last=failure, recent=recent, total=record.total + 1)

    def to_document(self) -> dict[str, Any]:
        """The JSON form, shrunk until it is at most 32 KB: texts and tracebacks go first, times and types stay."""
        document: dict[str, Any] = {}
        for traceback, text, kept, name in _SHRINKING:
            shrunk = replace(
                self,
                reason=self.reason[: max(text, 300)],
                first=_cut(self.first, traceback=traceback, text=text, name=name),
                last=_cut(self.last, traceback=traceback, text=text, name=name),
                recent=tuple(_cut(one, text=min(text, 200), name=name) for one in self.recent[-kept:]),
            )
            document = {"v": _VERSION, **asdict(shrunk)}
            if len(json.dumps(document)) <= MAX_RECORD:
                break
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> FailureRecord:
        """Read the JSON form.

        Raises:
            NewerRecord: If a later version of redrive wrote it.
        """
        if document["v"] > _VERSION:
            raise NewerRecord("failure record", document["v"], _VERSION)
        return cls(
            reason=document["reason"],
            first=Failure(**document["first"]),
            last=Failure(**document["last"]),
            recent=tuple(Failure(**one) for one in document["recent"]),
            total=document["total"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What redrive writes on a message that did not go through at once."""

    attempts: int = 0
    """Turns that ended in the handler's own exception."""
    bounces: int = 0
    """Turns that ended because a dependency failed while its circuit was closed."""
    crashes: int = 0
    """Turns that took their worker down, as seen by the supervisor."""
    forwards: int = 0
    """How often it was moved to another queue; makes each forward's deduplication id its own."""
    degraded_at_ms: int | None = None
    """When the degraded handler served it."""
    redriven_at_ms: int | None = None
    """When a person sent it back; `max_age` counts from then."""
    key: str | None = None
    """The idempotency key that is not forgotten while this message is parked or dead."""
    undegraded: bool = False
    """True when it was parked although its degraded handler failed for good."""
    failure: FailureRecord | None = None
    newer: str | None = None
    """The notes as stored, when a later version of redrive wrote them: whoever reads this hands the message back."""

    def to_json(self) -> str | None:
        """The stored form; None when there is nothing to note."""
        if self.newer is not None or self == NOTHING:
            return self.newer
        document: dict[str, Any] = {"v": _VERSION}
        for name in _PLAIN_NOTES:
            if (value := getattr(self, name)) != getattr(NOTHING, name):
                document[name] = value
        if self.failure is not None:
            document["failure"] = self.failure.to_document()
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | None) -> Notes:
        """Read the stored form; what a later version wrote is kept as it is, in `newer`."""
        if text is None:
            return NOTHING
        document = json.loads(text)
        if document.pop("v") > _VERSION:
            return cls(newer=text)
        failure = document.pop("failure", None)
        try:
            return cls(**document, failure=None if failure is None else FailureRecord.from_document(failure))
        except NewerRecord:
            return cls(newer=text)

    def noting(self, failure: Failure, *, reason: str) -> Notes:
        """The notes with one more failure in the record."""
        return replace(self, failure=FailureRecord.extended(self.failure, failure, reason=reason))

    def forwarded(self, key: str | None = None) -> Notes:
        """The notes for the next queue; with the idempotency key that is held for the message, if there is one."""
        return replace(self, forwards=self.forwards + 1, key=key)

    def fresh(self, now_ms: int) -> Notes:
        """The notes of a message that a person gives a new start: its counters are zero, its history is kept."""
        return replace(self, attempts=0, bounces=0, crashes=0, redriven_at_ms=now_ms)


NOTHING = Notes()
_PLAIN_NOTES = ("attempts", "bounces", "crashes", "forwards", "degraded_at_ms", "redriven_at_ms", "key", "undegraded")
"""The fields of `Notes` that stand in JSON as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message, wherever it is."""

    id: str
    """Ours, set at send and never changed; for a foreign message, the broker's at its first receive."""
    body: bytes
    """The payload's JSON and nothing else; a foreign producer may have put anything here."""
    sent_at_ms: int
    """When it was first sent."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """The producer's own attributes."""
    attribute_types: Mapping[str, str] | None = None
    """The types of those that are not plain strings, as Amazon SQS names them: `Number`, `Binary` (its value is base64
    here), and any of the three with a label, `String.json`. None: all are plain strings."""
    group: str | None = None
    """On a FIFO queue, the messages of one group stay in order. On a standard queue it is a tenant: the messages of one
    do not make those of another wait."""
    notes: Notes = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message in the hands of one consumer, for the length of its lease."""

    message: Message
    queue: str
    receipt: str
    """Proof of this delivery; dies with the next one."""
    receive_count: int
    """How often the broker handed it out from this queue, this time included; 1 or more."""
    sequence: int | None = None
    """Its place in a FIFO queue; None on a standard one."""
    first_received_at_ms: int | None = None
    """When it was first received from this queue, where the broker tells."""
    deduplication_id: str | None = None
    """On a FIFO queue, what its sender gave or what was made of its body, where the broker tells."""
    arrived_at_ms: int | None = None
    """When it came into this queue, where the broker tells: its retention counts from then."""
    origin: str | None = None
    """The queue whose dead letter it is, where the broker tells."""


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""A digit with its upper two bits set to 10."""


def message_id(now_ms: int, randomness: bytes) -> str:
    """A new message id: UUID version 7, so that ids sort by time.

    Args:
        now_ms: milliseconds since 1970-01-01 UTC; its lower 48 bits are used.
        randomness: 10 bytes.

    Source: RFC 9562, section 5.7.
    """
    time, rest = f"{now_ms & 0xFFFF_FFFF_FFFF:012x}", randomness.hex()
    return f"{time[:8]}-{time[8:]}-7{rest[1:4]}-{_VARIANT[rest[4]]}{rest[5:8]}-{rest[8:]}"


def _cut(
    failure: Failure, *, traceback: int = _LONGEST_TRACEBACK, text: int = _LONGEST_TEXT, name: int = _LONGEST_NAME
) -> Failure:
    return replace(
        failure,
        kind=failure.kind[:name],
        error=failure.error[:name],
        text=failure.text[:text],
        traceback=_without_middle(failure.traceback, traceback),
        queue=failure.queue[:name],
        dependency=None if failure.dependency is None else failure.dependency[:name],
        worker=failure.worker[:name],
        code_version=failure.code_version[:name],
    )


def _without_middle(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    if length < _SHORTEST_TRACEBACK:
        return ""
    head = length // 3
    return f"{text[:head]}\n[... {len(text) - length} characters cut ...]\n{text[head - length :]}"
