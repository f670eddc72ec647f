"""What this process knows of its own receipts, where Amazon SQS does not say.

A standard queue answers a delete under an old receipt with success and deletes nothing; so does one for a message that
is gone. Whoever holds a receipt that this process settled, or whose message it received again since, is told here. What
another process did with a message is not known: then SQS decides, and its answer counts.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

_REMEMBERED = 20_000
"""Receipts, for all queues together. What is forgotten, SQS is asked about."""


@dataclass(slots=True)
class Lease:
    """One receive of one message."""

    message: tuple[str, str]
    """Its queue, and its id at SQS."""
    began: float
    until: float
    is_over: bool = False
    """Being settled."""


class Leases:
    """The receipts of one broker."""

    def __init__(self) -> None:
        self._leases: OrderedDict[str, Lease] = OrderedDict()
        self._latest: dict[tuple[str, str], str] = {}
        self._settled: OrderedDict[str, None] = OrderedDict()
        """No more than their receipts: leases that are kept make every collection of garbage longer."""

    def begin(self, queue: str, message_id: str, receipt: str, lease: float) -> None:
        """A message was received."""
        now = time.monotonic()
        self._settled.pop(receipt, None)
        message = queue, message_id
        self._leases[receipt] = Lease(message, now, now + lease)
        self._latest[message] = receipt
        if len(self._leases) > _REMEMBERED:
            self._forget(next(iter(self._leases)))

    def of(self, receipt: str) -> Lease | None:
        """What is known of it."""
        return self._leases.get(receipt)

    def is_stale(self, receipt: str) -> bool:
        """Whether it is known to be good no more."""
        lease = self._leases.get(receipt)
        if lease is None:
            return receipt in self._settled
        return lease.is_over or self._latest.get(lease.message) != receipt

    def end(self, receipt: str) -> None:
        """It is being settled: whoever comes second is late."""
        if lease := self._leases.get(receipt):
            lease.is_over = True

    def resume(self, receipt: str) -> None:
        """It was not settled after all."""
        if lease := self._leases.get(receipt):
            lease.is_over = False

    def settled(self, receipt: str) -> None:
        """It was settled, or Amazon SQS says that it is good no more: nothing makes it good again."""
        if self._forget(receipt):
            self._settled[receipt] = None
            if len(self._settled) > _REMEMBERED:
                self._settled.popitem(last=False)

    def extend(self, receipt: str, lease: float) -> None:
        """It ends `lease` seconds from now."""
        if found := self._leases.get(receipt):
            found.until = time.monotonic() + lease

    def end_all(self, queue: str) -> None:
        """The queue was purged."""
        for (name, _), receipt in self._latest.items():
            if name == queue:
                self.end(receipt)

    def _forget(self, receipt: str) -> bool:
        """Whether it was known."""
        lease = self._leases.pop(receipt, None)
        if lease is None:
            return False
        if self._latest.get(lease.message) == receipt:
            del self._latest[lease.message]
        return True
