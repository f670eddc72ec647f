"""Receives are counted, one by one, and after `max_receives` of them a message is dead: not before, and not later."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from redrive.testing.history import Lease, Outcome, Settle
from redrive.testing.rules.case import Case, Violation, by, violation


def miscounted(case: Case) -> Iterator[Violation]:
    """From one receive to the next the count rises by one, and by one for each receive whose answer nobody saw.

    It begins anew where the message may have come in anew, and does not rise for a receive that was taken back
    (`Return` with `uncounted`).
    """
    for queue in case.queues:
        for identity, leases in _leases(case, queue):
            if case.copies(identity) != 1:
                continue
            for lease in leases:
                yield from _against(case, leases, lease)


def died_late(case: Case) -> Iterator[Violation]:
    """A queue with `max_receives` gives no message out more often."""
    for spec in case.queues.values():
        for identity, leases in _leases(case, spec.name):
            for lease in leases:
                if spec.max_receives is not None and lease.receive_count > spec.max_receives:
                    sentence = (
                        f"message {identity!r} was received from {spec.name!r} for the {lease.receive_count}th time, "
                        f"by {lease.call.process}; after {spec.max_receives} it should have been dead"
                    )
                    yield violation("died late", spec.name, identity, sentence, lease)


def died_early(case: Case) -> Iterator[Violation]:
    """What the broker itself made dead was received `max_receives` times before."""
    for spec in case.queues.values():
        if spec.max_receives is None or spec.dead_letter_queue is None:
            continue
        for identity, seen in _seen_dead(case, spec.dead_letter_queue).items():
            if case.copies(identity) == 1 and not _was_put_there(case, identity, spec.dead_letter_queue):
                yield from _too_early(case, spec.name, spec.max_receives, seen)


class _Seen(NamedTuple):
    """A message in a dead-letter queue."""

    id: str
    queue: str
    lease: Lease | None
    """As it was received from there; None: it is left there."""


def _leases(case: Case, queue: str) -> Iterator[tuple[str, list[Lease]]]:
    for identity, leases in case.leases.items():
        those = [one for one in leases if one.queue == queue]
        if those:
            yield identity, those


def _against(case: Case, leases: list[Lease], lease: Lease) -> Iterator[Violation]:
    """One receive of a message against the last one that was certainly before it."""
    earlier = [one for one in leases if one.before(lease)]
    before = max(earlier, key=lambda one: one.call.ended, default=None)
    unseen = _between(case, leases, before, lease)
    least = 1 if before is None else before.receive_count + 1 - _taken_back(case, before, at_most=True)
    most = unseen + (1 if before is None else before.receive_count + 1 - _taken_back(case, before, at_most=False))
    anew = before is not None and _came_in_again(case, before, lease)
    if least <= lease.receive_count <= most or (anew and lease.receive_count <= 1 + unseen):
        return
    former = "had not been received before" if before is None else f"had count {before.receive_count} before"
    sentence = (
        f"message {lease.id!r} was received from {lease.queue!r} by {lease.call.process} with receive count "
        f"{lease.receive_count}; it {former}, and at most {unseen} other receives may have had it in between"
    )
    yield violation("miscounted", lease.queue, lease.id, sentence, before, lease)


def _between(case: Case, leases: list[Lease], before: Lease | None, lease: Lease) -> int:
    """How many receives may have been between two: unanswered ones, and others at the same time as one of the two."""
    others = [one for one in leases if one is not before and one is not lease and not lease.before(one)]
    if before is None:
        since = case.sends[lease.id][0].call.began
    else:
        since, others = before.call.began, [one for one in others if not one.before(before)]
    return len(others) + len(case.unanswered(lease.queue, since, lease.call.ended))


def _taken_back(case: Case, lease: Lease, *, at_most: bool) -> int:
    """Whether a receive was, or may have been, taken back."""
    outcomes = {Outcome.DONE, Outcome.UNKNOWN} if at_most else {Outcome.DONE}
    return int(any(one.uncounted and one.outcome in outcomes for one in case.settles_of(lease)))


def _came_in_again(case: Case, before: Lease, lease: Lease) -> bool:
    if before.sequence is not None and lease.sequence is not None:
        return before.sequence != lease.sequence
    return any(
        one.call.ended > before.call.began or not isinstance(one, Settle)
        for one in case.came_in(lease.queue, lease.id, lease.call.ended)
        if one not in case.sends.get(lease.id, [])
    )


def _seen_dead(case: Case, dead: str) -> dict[str, list[_Seen]]:
    leases = (one for those in case.leases.values() for one in those if one.queue == dead)
    found = [_Seen(one.id, dead, one) for one in leases]
    return by([*found, *(_Seen(one, dead, None) for one in case.left.get(dead, ()))], lambda one: one.id)


def _was_put_there(case: Case, identity: str, dead: str) -> bool:
    """Whether somebody sent or forwarded it there; then it was no receive too many."""
    sent = any(one.queue == dead for one in case.sends.get(identity, []))
    return sent or any(one.target == dead for one in case.settles.get(identity, []))


def _too_early(case: Case, queue: str, limit: int, seen: list[_Seen]) -> Iterator[Violation]:
    leases = [one for one in case.leases.get(seen[0].id, []) if one.queue == queue]
    for identity, dead, lease in seen:
        if lease is not None and not all(one.before(lease) or lease.before(one) for one in leases):
            continue  # at the same time: nobody knows which was first
        before = [one for one in leases if lease is None or one.before(lease)]
        last = [one for one in before if not any(one.before(other) for other in before)]
        count = max((one.receive_count - _taken_back(case, one, at_most=False) for one in last), default=0)
        after = min((one.call.began for one in last), default=case.sends[identity][0].call.began)
        unseen = len(case.unanswered(queue, after, inf if lease is None else lease.call.ended))
        if count + unseen < limit:
            sentence = (
                f"message {identity!r} is dead in {dead!r} after {count} receives from {queue!r}, of {limit}; "
                f"{unseen} more may have had no answer"
            )
            yield violation("died early", queue, identity, sentence, *last, lease)
            return
