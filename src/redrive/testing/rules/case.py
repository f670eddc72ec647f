"""A history with everything that rules look up in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from redrive.broker import QueueSpec
from redrive.testing.history import Extend, History, Lease, Move, Outcome, Receive, Send, Settle

DEDUPLICATED_FOR = 300.0
"""Seconds. Source: Amazon SQS, "Exactly-once processing": the deduplication interval is 5 minutes."""

Evidence = Send | Lease | Settle | Extend
T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A promise that was not kept."""

    kind: str
    """Which one, in a few words that are always the same."""
    queue: str
    message_id: str
    sentence: str
    """What happened, with ids and times."""
    evidence: tuple[str, ...]
    """File and line of the logs for each call that it rests on."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence} [{', '.join(self.evidence)}]"


def violation(kind: str, queue: str, message_id: str, sentence: str, *on: Evidence | None) -> Violation:
    """A violation that rests on these."""
    evidence = tuple(one.call.place for one in on if one is not None)
    return Violation(kind=kind, queue=queue, message_id=message_id, sentence=sentence, evidence=evidence)


class Case:
    """A history, what was left at its end, and the queues that it was about."""

    def __init__(
        self,
        history: History,
        left: Mapping[str, Sequence[str]],
        queues: Iterable[QueueSpec],
        *,
        tolerance: float,
        atomic_forward: bool,
        death_frees: bool,
    ) -> None:
        self.history, self.left = history, left
        self.tolerance, self.atomic_forward, self.death_frees = tolerance, atomic_forward, death_frees
        self.queues = {spec.name: spec for spec in queues}
        self.sends = by(history.sends, lambda one: one.id)
        self.leases = by(history.leases, lambda one: one.id)
        for leases in self.leases.values():
            leases.sort(key=lambda one: (one.call.began, one.position))
        self.settles = by(history.settles, lambda one: one.id)
        self._settles = by(history.settles, lambda one: one.key)
        self._extends = by(history.extends, lambda one: one.key)
        self._copies: dict[str, int] = {}
        self._unanswered = by((one for one in history.receives if not one.call.answered), lambda one: one.queue)

    def settles_of(self, lease: Lease) -> list[Settle]:
        """What was said of a lease."""
        return self._settles.get(lease.key, [])

    def extends_of(self, lease: Lease) -> list[Extend]:
        """How a lease was extended."""
        return self._extends.get(lease.key, [])

    def copies(self, message_id: str) -> int:
        """As how many messages this id may exist: once for each send that was not refused and was no duplicate."""
        if message_id not in self._copies:
            self._copies[message_id] = sum(1 for _ in self.made(message_id))
        return self._copies[message_id]

    def made(self, message_id: str) -> Iterator[Send]:
        """Of the sends that may each have made a message of this id, the first of each."""
        seen: dict[tuple[str, str], float] = {}
        for send in sorted(self.sends.get(message_id, []), key=lambda one: one.call.began):
            if send.outcome is Outcome.REFUSED or send.duplicate_of is not None:
                continue
            key = self.deduplication_key(send)
            first = None if key is None else seen.setdefault(key, send.call.began)
            if first is None or first == send.call.began or send.call.ended - first >= DEDUPLICATED_FOR:
                yield send

    def deduplication_key(self, send: Send) -> tuple[str, str] | None:
        """What a FIFO queue knows a send again by; None on a standard queue."""
        spec = self.queues.get(send.queue)
        if spec is None or not spec.fifo:
            return None
        by_body = f"body {send.digest}" if spec.content_deduplication else None
        key = by_body if send.deduplication_id is None else f"id {send.deduplication_id}"
        return None if key is None else (send.queue, key)

    def unanswered(self, queue: str, after: float, until: float) -> list[Receive]:
        """Receives that nobody saw an answer of, and that may have taken something out of a queue in that time."""
        return [one for one in self._unanswered.get(queue, []) if one.call.began < until and one.call.ended > after]

    def came_in(self, queue: str, message_id: str, until: float) -> list[Settle | Move | Send]:
        """What may have put a message into a queue by that time.

        Into a dead-letter queue the broker itself may put it again, once it was taken out of there.
        """
        dead = any(spec.dead_letter_queue == queue for spec in self.queues.values())
        forwards = (
            one
            for one in self.settles.get(message_id, [])
            if one.outcome is not Outcome.REFUSED
            and (one.target == queue or (dead and one.queue == queue and one.kind == "forward"))
        )
        moves = (
            one
            for one in self.history.moves
            if (one.source == queue and dead) or (one.source != queue and one.target in {None, queue})
        )
        sends = (one for one in self.made(message_id) if one.queue == queue)
        return [one for those in (sends, forwards, moves) for one in those if one.call.began < until]


def by(those: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Those, in lists by a key."""
    found: defaultdict[K, list[T]] = defaultdict(list)
    for one in those:
        found[key(one)].append(one)
    return dict(found)
