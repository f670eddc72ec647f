"""What a worker counts, and how its log lines find their message.

Loggers are named `redrive.<room>` and none is configured here. A retry is INFO; a change of a circuit is WARNING: an
outage is one line when it begins and one when it ends. A redrive says its count, as INFO; a death is ERROR, once.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Counters:
    """Counts since the worker started; written by its loop alone."""

    runs: int = 0
    """Handler runs."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """How turns ended, by `Happening`."""
    calls: Counter[str] = field(default_factory=Counter)
    """Calls let through to each dependency, canaries apart."""
    failures: Counter[str] = field(default_factory=Counter)
    """Of those, how many failed."""
    loop_errors: int = 0
    """Exceptions in redrive's own loops, each logged and survived."""

    def to_document(self) -> dict[str, Any]:
        """The form that a worker leaves in the store."""
        return {
            "runs": self.runs,
            "outcomes": dict(self.outcomes),
            "calls": dict(self.calls),
            "failures": dict(self.failures),
            "loop_errors": self.loop_errors,
        }


class MessageIds(logging.Filter):
    """Puts `queue` and `message_id` on every record made inside a handler; '-' elsewhere. For your own formatter."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the two attributes; never drops a record."""
        from redrive.context import running  # noqa: PLC0415 - contexts log too

        context = running()
        if not hasattr(record, "message_id"):
            record.message_id = "-" if context is None else context.message_id
        if not hasattr(record, "queue"):
            record.queue = "-" if context is None else context.queue
        return True
