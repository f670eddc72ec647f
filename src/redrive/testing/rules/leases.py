"""A message is one consumer's for the length of its lease, and only the last receipt counts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import inf

from redrive.testing.history import Call, Extend, Lease, Outcome, Settle
from redrive.testing.rules.case import Case, Violation, violation


def leased_twice(case: Case) -> Iterator[Violation]:
    """No message is given to anybody while a lease of it has certainly not ended.

    A lease has begun when its receive was asked for, at the earliest, and may be over from when a settlement of it was
    asked for. Where two calls overlap, either may have been first: it is a violation only if neither can have been.
    """
    for leases in case.leases.values():
        if case.copies(leases[0].id) > 1:
            continue
        for one, other in combinations(leases, 2):
            if not (case.atomic_forward or one.queue == other.queue):
                continue
            if not _may_follow(case, one, other) and not _may_follow(case, other, one):
                yield _twice(case, one, other)


def stale_receipts(case: Case) -> Iterator[Violation]:
    """Once a message was received again, nothing is done for the receipts before."""
    for identity, leases in case.leases.items():
        if case.copies(identity) > 1:
            continue
        for old, new in combinations(leases, 2):
            if old.queue == new.queue and old.before(new):
                yield from _stale(case, old, new)


def earliest_end(case: Case, lease: Lease, seen: Call) -> float:
    """The earliest moment at which a lease may have ended, by all that may have been done when a call was over."""
    begun = [
        one for one in case.extends_of(lease) if one.call.began <= seen.ended and one.outcome is not Outcome.REFUSED
    ]
    sure = [one for one in begun if one.outcome is Outcome.DONE and one.call.before(seen)]
    last = [one for one in sure if not any(one.call.before(other.call) for other in sure)]
    ends = [_end(one) for one in last] or [lease.call.began + lease.seconds]
    ends += [_end(one) for one in begun if one not in sure]
    ends += [
        one.call.began
        for one in case.settles_of(lease)
        if one.call.began <= seen.ended and one.outcome is not Outcome.REFUSED
    ]
    if case.death_frees:
        ends.append(case.history.deaths.get(lease.call.process, inf))
    return min(ends) - case.tolerance


def _may_follow(case: Case, first: Lease, second: Lease) -> bool:
    """Whether the second may have been given after the first had ended."""
    return not second.before(first) and second.call.ended >= earliest_end(case, first, second.call)


def _end(extend: Extend) -> float:
    return extend.call.began + extend.seconds


def _twice(case: Case, one: Lease, other: Lease) -> Violation:
    first, second = (other, one) if other.before(one) else (one, other)
    until = earliest_end(case, first, second.call)
    sentence = (
        f"message {first.id!r} was leased to {first.call.process} from {first.queue!r} until {until:.4f} at least "
        f"(receive {first.receive_count}, receipt {_short(first)}), and {second.call.process} had it from "
        f"{second.queue!r} by {second.call.ended:.4f} (receive {second.receive_count}, receipt {_short(second)})"
    )
    return violation("leased twice", first.queue, first.id, sentence, first, second)


def _stale(case: Case, old: Lease, new: Lease) -> Iterator[Violation]:
    late: list[Settle | Extend] = [*case.settles_of(old), *case.extends_of(old)]
    for one in late:
        if one.outcome is Outcome.DONE and new.call.before(one.call):
            what = "extend" if isinstance(one, Extend) else one.kind
            sentence = (
                f"{one.call.process} was answered its {what} of message {old.id!r} in {old.queue!r} by receipt "
                f"{_short(old)}, though {new.call.process} had received it since, with receipt {_short(new)}"
            )
            yield violation("stale receipt honoured", old.queue, old.id, sentence, old, new, one)


def _short(lease: Lease) -> str:
    return repr(lease.receipt[:24])
