"""Nothing that was answered is lost, and nothing is there that should not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from redrive.testing.history import Outcome, Send
from redrive.testing.rules.case import Case, Violation, violation


def lost(case: Case) -> Iterator[Violation]:
    """A message whose send was answered is handled, or in a queue: ready, delayed, in flight, parked or dead."""
    there = {one for ids in case.left.values() for one in ids}
    purged = {one.queue for one in case.history.purges}
    for send in case.history.sends:
        identity = send.duplicate_of or send.id
        if send.outcome is not Outcome.DONE or identity in there or _may_be_gone(case, identity, purged, send):
            continue
        leases = case.leases.get(identity, [])
        last = leases[-1] if leases else None
        seen = (
            "nobody ever received it"
            if last is None
            else f"{last.call.process} was the last to receive it, from {last.queue!r}, and did not acknowledge it"
        )
        yield violation(
            "lost",
            send.queue,
            identity,
            f"message {identity!r} was sent to {send.queue!r} and answered at {send.call.ended:.4f}, "
            f"and is neither handled nor in any queue; {seen}",
            send,
            last,
        )


def came_back(case: Case) -> Iterator[Violation]:
    """What was acknowledged, and answered, is not received again and not in a queue."""
    there = Counter(one for ids in case.left.values() for one in ids)
    for identity, settles in case.settles.items():
        done = [one for one in settles if one.kind == "acknowledge" and one.outcome is Outcome.DONE]
        forwarded = any(one.kind == "forward" for one in settles) and not case.atomic_forward
        if not done or forwarded or case.copies(identity) > 1:
            continue
        first = min(done, key=lambda one: one.call.ended)
        gone = f"message {identity!r} was acknowledged in {first.queue!r}, answered at {first.call.ended:.4f}"
        for lease in case.leases.get(identity, []):
            if first.call.before(lease.call):
                sentence = f"{gone}, and {lease.call.process} received it again from {lease.queue!r} after that"
                yield violation("came back", lease.queue, identity, sentence, first, lease)
        if there[identity]:
            yield violation("came back", first.queue, identity, f"{gone}, and is still in a queue", first)


def doubled(case: Case) -> Iterator[Violation]:
    """A message is in the queues no more often than it was sent."""
    places: dict[str, list[str]] = {}
    for queue, ids in case.left.items():
        for one in ids:
            places.setdefault(one, []).append(queue)
    for identity, queues in places.items():
        copies = case.copies(identity)
        if 0 < copies < len(queues) and (case.atomic_forward or len(set(queues)) < len(queues)):
            sentence = (
                f"message {identity!r} was sent {_times(copies)}, and is there {_times(len(queues))}: in {queues!r}"
            )
            yield violation("doubled", queues[0], identity, sentence, *case.sends[identity])


def out_of_nowhere(case: Case) -> Iterator[Violation]:
    """Whatever is received or left was sent: not only asked for, and refused."""
    for identity, leases in case.leases.items():
        if case.copies(identity) == 0:
            first = leases[0]
            received = f"message {identity!r} was received from {first.queue!r} by {first.call.process}"
            yield violation("out of nowhere", first.queue, identity, f"{received}; {_why(case, identity)}", first)
    for queue, ids in case.left.items():
        for identity in ids:
            if case.copies(identity) == 0 and identity not in case.leases:
                sentence = f"message {identity!r} is in {queue!r}; {_why(case, identity)}"
                yield violation("out of nowhere", queue, identity, sentence)


def altered(case: Case) -> Iterator[Violation]:
    """A body is received as it was sent, or as it was forwarded."""
    for identity, leases in case.leases.items():
        sent = {one.digest for one in case.sends.get(identity, [])}
        sent |= {one.digest for one in case.settles.get(identity, []) if one.digest is not None}
        for lease in leases:
            if sent and lease.digest not in sent:
                sentence = f"message {identity!r} was received from {lease.queue!r} with a body that nobody sent"
                yield violation("altered", lease.queue, identity, sentence, lease)


def _may_be_gone(case: Case, identity: str, purged: set[str], send: Send) -> bool:
    settles = [one for one in case.settles.get(identity, []) if one.outcome is not Outcome.REFUSED]
    spec = case.queues.get(send.queue)
    been = {send.queue, spec.dead_letter_queue if spec else None, *(one.target for one in settles)}
    return identity in case.history.handled or bool(been & purged) or any(one.kind == "acknowledge" for one in settles)


def _why(case: Case, identity: str) -> str:
    refused = case.sends.get(identity)
    return f"its send by {refused[0].call.process} was refused" if refused else "nobody sent it"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
