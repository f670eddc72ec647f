"""The checker: reads what producers and consumers wrote down, and says which promises the broker broke.

It is a pure function of the logs and of what is left in the queues, so that it can be run on any broker behind the
port, with any processes, killed at any moment, and again later on the same logs. It reports only what is certain:
where calls overlap or were never answered, it grants the broker every order and every outcome that may have been.

Promises, and the kinds of violation that break them:
    1. What was answered is there: `lost`, `out of nowhere`, `altered`, `doubled`.
    2. What was acknowledged is gone: `came back`.
    3. A message is one consumer's while its lease lasts: `leased twice`, `stale receipt honoured`.
    4. A group of a FIFO queue is in order: `out of order`, `overtaken`, `number not rising`.
    5. A message is dead after exactly `max_receives`: `miscounted`, `died late`, `died early`.
    6. A deduplication id is one message for five minutes: `sent twice`, `wrongly duplicate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from redrive.broker import QueueSpec
from redrive.testing.history import History
from redrive.testing.rules.case import Case, Violation
from redrive.testing.rules.deduplication import sent_twice, wrongly_duplicate
from redrive.testing.rules.leases import leased_twice, stale_receipts
from redrive.testing.rules.loss import altered, came_back, doubled, lost, out_of_nowhere
from redrive.testing.rules.order import numbers_fall, out_of_order, overtaken
from redrive.testing.rules.receives import died_early, died_late, miscounted

_RULES: tuple[Callable[[Case], Iterator[Violation]], ...] = (
    lost,
    out_of_nowhere,
    altered,
    doubled,
    came_back,
    leased_twice,
    stale_receipts,
    out_of_order,
    overtaken,
    numbers_fall,
    miscounted,
    died_late,
    died_early,
    sent_twice,
    wrongly_duplicate,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checker:
    """What is to be held against a history."""

    queues: Sequence[QueueSpec]
    """As they were declared: their kinds, limits and dead-letter queues. All who receive from them are recorded; of a
    queue that is not named here only the loss, the leases and the bodies of its messages are checked."""
    tolerance: float = 0.05
    """Seconds by which a lease may end too soon: clocks that are slewed, and times in whole milliseconds."""
    atomic_forward: bool = True
    """As in the broker's `Capabilities`: whether a forwarded message is never in two queues at once."""
    death_frees: bool = False
    """Whether a consumer's death ends its leases, as with brokers that notice a closed connection."""

    def check(self, history: History, left: Mapping[str, Sequence[str]]) -> list[Violation]:
        """All violations that a history shows.

        Args:
            history: from the logs of all producers and consumers.
            left: the ids in all queues at the end, by queue, when nobody was at work any more; see `remaining`.
        """
        case = Case(
            history,
            left,
            self.queues,
            tolerance=self.tolerance,
            atomic_forward=self.atomic_forward,
            death_frees=self.death_frees,
        )
        return [violation for rule in _RULES for violation in rule(case)]
