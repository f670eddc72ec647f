"""What is sent twice to a FIFO queue, under one deduplication id and within five minutes, is one message."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from redrive.testing.history import Outcome, Send
from redrive.testing.rules.case import DEDUPLICATED_FOR, Case, Violation, by, violation


def sent_twice(case: Case) -> Iterator[Violation]:
    """Of sends under one deduplication id, certainly within five minutes, at most one makes a message."""
    for sends in _alike(case):
        for one, other in combinations(sends, 2):
            if not _within(case, one, other):
                continue
            both = f"{one.id!r} and {other.id!r} were sent to {one.queue!r} under {_name(one)} within five minutes"
            if one.outcome is other.outcome is Outcome.DONE and one.duplicate_of is other.duplicate_of is None:
                sentence = f"{both}, and both were answered as new, with numbers {one.sequence} and {other.sequence}"
                yield violation("sent twice", one.queue, other.id, sentence, one, other)
            elif one.id != other.id and _exists(case, one) and _exists(case, other):
                yield violation("sent twice", one.queue, other.id, f"{both}, and both are there", one, other)


def wrongly_duplicate(case: Case) -> Iterator[Violation]:
    """What is answered as a duplicate names a message that was sent before, under the same deduplication id."""
    for sends in _alike(case):
        for send in sends:
            if send.duplicate_of is None:
                continue
            begun = [one for one in sends if one is not send and not send.call.before(one.call)]
            if send.duplicate_of not in {one.id for one in begun if one.outcome is not Outcome.REFUSED}:
                sentence = (
                    f"message {send.id!r}, sent to {send.queue!r} under {_name(send)}, was answered as a duplicate of "
                    f"{send.duplicate_of!r}, which nobody had sent under it"
                )
                yield violation("wrongly duplicate", send.queue, send.id, sentence, send)


def _alike(case: Case) -> Iterator[list[Send]]:
    sends = (one for one in case.history.sends if one.outcome is not Outcome.REFUSED)
    for key, those in by(sends, case.deduplication_key).items():
        if key is not None and len(those) > 1:
            yield sorted(those, key=lambda one: (one.call.began, one.position))
        elif key is not None and those[0].duplicate_of is not None:
            yield those


def _within(case: Case, one: Send, other: Send) -> bool:
    began = min(one.call.began, other.call.began)
    return max(one.call.ended, other.call.ended) - began < DEDUPLICATED_FOR - case.tolerance


def _exists(case: Case, send: Send) -> bool:
    """Whether a message of this id was ever received from the queue, or is left in it."""
    received = any(one.queue == send.queue for one in case.leases.get(send.id, []))
    return send.duplicate_of is None and (received or send.id in case.left.get(send.queue, ()))


def _name(send: Send) -> str:
    return "one body" if send.deduplication_id is None else f"deduplication id {send.deduplication_id!r}"
