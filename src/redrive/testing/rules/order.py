"""On a FIFO queue the messages of a group are received in the order in which they entered."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import pairwise
from math import inf
from operator import attrgetter
from typing import NamedTuple

from redrive.testing.history import Lease, Outcome, Send
from redrive.testing.rules.case import Case, Violation, by, violation


def out_of_order(case: Case) -> Iterator[Violation]:
    """What one producer sent one after the other is first received in that order; in a call, by the call's order.

    A message whose first receive nobody saw the answer of, or that was moved away and back, is left out.
    """
    for queue in _fifo(case):
        leases = by((one for those in case.leases.values() for one in those if one.queue == queue), attrgetter("id"))
        lines = by(
            (one for one in case.history.sends if one.queue == queue and _made_one(one)),
            lambda one: (one.call.process, one.group),
        )
        for sends in lines.values():
            yield from _against_the_producer(case, sends, leases)


def overtaken(case: Case) -> Iterator[Violation]:
    """Nothing is received while something of its group that entered before it is still there.

    By the sequence numbers: it holds over all producers, and for every receive, not only the first.
    """
    for queue in _fifo(case):
        leases = [one for those in case.leases.values() for one in those if one.queue == queue]
        for line in by((one for one in leases if one.sequence is not None), attrgetter("group")).values():
            yield from _against_the_line(line)


def numbers_fall(case: Case) -> Iterator[Violation]:
    """A sequence number is higher than all that were answered before its send, and is given once."""
    for queue in _fifo(case):
        sends = [
            one for one in case.history.sends if one.queue == queue and _made_one(one) and one.sequence is not None
        ]
        answered = sorted(sends, key=lambda one: one.call.ended)
        position, highest = 0, _NONE
        for send in sorted(sends, key=lambda one: (one.call.began, one.position)):
            while position < len(answered) and answered[position].call.before(send.call):
                found = _Numbered(answered[position].sequence or 0, answered[position])
                highest = max(highest, found, key=attrgetter("number"))
                position += 1
            if highest.send is not None and highest.number >= (send.sequence or 0):
                sentence = (
                    f"message {send.id!r} has number {send.sequence} in {queue!r}, though {highest.send.id!r}, "
                    f"answered before it was sent, has {highest.number}"
                )
                yield violation("number not rising", queue, send.id, sentence, highest.send, send)


class _Numbered(NamedTuple):
    number: int
    send: Send | None


_NONE = _Numbered(-1, None)


def _fifo(case: Case) -> list[str]:
    return [spec.name for spec in case.queues.values() if spec.fifo]


def _made_one(send: Send) -> bool:
    return send.outcome is Outcome.DONE and send.duplicate_of is None


def _against_the_producer(case: Case, sends: list[Send], leases: dict[str, list[Lease]]) -> Iterator[Violation]:
    """Each message against the latest first receive of those before it."""
    sends.sort(key=lambda one: (one.call.began, one.position))
    waiting = sorted(sends, key=lambda one: (one.call.ended, one.position))
    latest: Lease | None = None
    position = 0
    for send in sends:
        while position < len(waiting) and _earlier(waiting[position], send):
            latest = _later(latest, _first(case, waiting[position], leases))
            position += 1
        mine = min(leases.get(send.id, ()), key=lambda one: (one.call.ended, one.position), default=None)
        if mine is not None and latest is not None and mine.before(latest):
            sentence = (
                f"message {send.id!r} of group {send.group!r} in {send.queue!r} was received by {mine.call.process} "
                f"before {latest.id!r}, which {send.call.process} had sent before it and {latest.call.process} received"
            )
            yield violation("out of order", send.queue, send.id, sentence, send, mine, latest)


def _earlier(one: Send, other: Send) -> bool:
    return one.position < other.position if one.call is other.call else one.call.before(other.call)


def _first(case: Case, send: Send, leases: dict[str, list[Lease]]) -> Lease | None:
    """The first receive of a message, if it is certain which one that was, and that it never left before."""
    firsts = [one for one in leases.get(send.id, ()) if one.receive_count == 1 and not one.chosen]
    if send.sequence is not None and any(one.sequence is not None for one in firsts):
        firsts = [one for one in firsts if one.sequence == send.sequence]
    elif len(case.came_in(send.queue, send.id, inf)) != 1:
        return None
    return firsts[0] if len(firsts) == 1 else None


def _later(one: Lease | None, other: Lease | None) -> Lease | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda lease: (lease.call.began, lease.position))


def _against_the_line(line: list[Lease]) -> Iterator[Violation]:
    """Each receive against what was received, under the same number, only after it."""
    calls = by((one for one in line if not one.chosen), lambda one: (one.call.process, one.call.number))
    receives = sorted(calls.values(), key=lambda those: those[0].call.ended, reverse=True)
    afterwards = sorted(line, key=lambda one: one.call.began)
    later: list[tuple[int, str]] = []
    by_number: dict[int, Lease] = {}
    for those in receives:
        call = those[0].call
        while afterwards and call.ended < afterwards[-1].call.began:
            one = afterwards.pop()
            if one.sequence is not None and one.sequence not in by_number:
                insort(later, (one.sequence, one.id))
                by_number[one.sequence] = one
        yield from _overtaking(those, later, by_number)


def _overtaking(those: list[Lease], later: list[tuple[int, str]], by_number: dict[int, Lease]) -> Iterator[Violation]:
    numbers = {one.sequence for one in those}
    last = max(those, key=lambda one: one.sequence or 0)
    before = bisect_left(later, (last.sequence or 0, ""))
    left_behind = [number for number, _ in later[: min(before, len(numbers) + 1)] if number not in numbers]
    if left_behind:
        passed = by_number[left_behind[0]]
        sentence = (
            f"message {last.id!r} of group {last.group!r} in {last.queue!r} (number {last.sequence}) was received by "
            f"{last.call.process} while {passed.id!r} (number {passed.sequence}) stood before it; "
            f"{passed.call.process} received that one later, under the same number"
        )
        yield violation("overtaken", last.queue, last.id, sentence, last, passed)
    ordered = sorted(those, key=lambda one: one.position)
    for one, other in pairwise(ordered):
        if (one.sequence or 0) > (other.sequence or 0):
            sentence = f"a receive from {one.queue!r} gave {one.id!r} of group {one.group!r} before {other.id!r}"
            yield violation("overtaken", one.queue, one.id, f"{sentence}, which stood before it", one, other)
