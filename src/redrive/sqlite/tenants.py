"""Fairness: on a standard queue, the messages of one group do not make those of another wait.

Start-time fair queueing with rounds for time. A message goes into the round after its tenant's last one, or after the
round being received, whichever is later; lower rounds are received first. A burst of 10,000 from one tenant so takes
10,000 rounds, and the next message of another tenant goes into the first of those that are left.

A message without a group is a tenant of its own: it goes into the round after the one being received. So does what
comes back; what was delayed for long joins the round being received. Within a round, what is ready longest comes first.

Source: Goyal, Vin, Cheng: Start-time Fair Queueing (1996). Amazon SQS, "fair queues", describes the same promise.
"""

from __future__ import annotations

import apsw

from redrive.sqlite.queues import Queue
from redrive.sqlite.statements import named

_SQL = named("tenants.sql")
_SWEPT_AT_ONCE = 1_000


class Tenants:
    """The tenants of all standard queues on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute

    def round(self, queue: Queue, group: str) -> int:
        """The round for a message of this group that enters now."""
        found: int = self._execute(_SQL["next_round"], (queue.id, group, queue.round + 1)).get
        return found

    def received(self, queue: Queue, rounds: list[int]) -> None:
        """Messages of these rounds were received: nothing enters an earlier one from now on."""
        highest = max(rounds, default=0)
        if highest > queue.round:
            self._execute(_SQL["advance"], (queue.id, highest))

    def sweep(self) -> None:
        """Forget tenants whose last message was received: they are like new ones."""
        self._execute(_SQL["sweep"], (_SWEPT_AT_ONCE,))
