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
    """Settled, or being settled."""


class Leases:
    """The receipts of one broker."""

    def __init__(self) -> None:
        self._leases: OrderedDict[str, Lease] = OrderedDict()
        self._latest: dict[tuple[str, str], str] = {}

    def begin(self, queue: str, message_id: str, receipt: str, lease: float) -> None:
        """A message was received."""
        now = time.monotonic()
        self._leases[receipt] = Lease((queue, message_id), now, now + lease)
        self._latest[queue, message_id] = receipt
        if len(self._leases) > _REMEMBERED:
            old, forgotten = self._leases.popitem(last=False)
            if self._latest.get(forgotten.message) == old:
                del self._latest[forgotten.message]

    def of(self, receipt: str) -> Lease | None:
        """What is known of it."""
        return self._leases.get(receipt)

    def is_stale(self, receipt: str) -> bool:
        """Whether it is known to be good no more."""
        lease = self._leases.get(receipt)
        return lease is not None and (lease.is_over or self._latest.get(lease.message) != receipt)

    def end(self, receipt: str) -> None:
        """It is being settled: whoever comes second is late."""
        if lease := self._leases.get(receipt):
            lease.is_over = True

    def resume(self, receipt: str) -> None:
        """It was not settled after all."""
        if lease := self._leases.get(receipt):
            lease.is_over = False

    def extend(self, receipt: str, lease: float) -> None:
        """It ends `lease` seconds from now."""
        if found := self._leases.get(receipt):
            found.until = time.monotonic() + lease

    def end_all(self, queue: str) -> None:
        """The queue was purged."""
        for (name, _), receipt in self._latest.items():
            if name == queue:
                self.end(receipt)
