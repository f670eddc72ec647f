"""What a recovery saved, and what it could not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Saved:
    """What became of one queue."""

    messages: int = 0
    unchecked: int = 0
    """Of these, messages from before there were checksums: kept, and nobody can say that they are whole."""
    in_doubt: int = 0
    """Of these, messages that may have been handled already."""
    damaged: Counter[str] = field(default_factory=Counter)
    """Messages that were not saved, by the reason."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What was saved, or with `dry_run` would be."""

    path: str
    new_path: str
    dry_run: bool
    schema: int
    """Of the damaged file; the new one has today's."""
    queues: dict[str, Saved] = field(default_factory=dict)
    rows: Counter[str] = field(default_factory=Counter)
    """Rows saved, by table."""
    damaged: Counter[str] = field(default_factory=Counter)
    """Rows not saved, by table."""
    unreadable: Counter[str] = field(default_factory=Counter)
    """Places in tables that cannot be read, whatever stood there, by table."""
    left: dict[str, int] = field(default_factory=dict)
    """Old copies of rows that were deleted or changed, by table; they are in nothing."""
    mended: int = 0
    """Rows that stood wrongly in their table and rightly in an index."""
    notes: list[str] = field(default_factory=list)
    """What else a person should know."""

    @property
    def damaged_path(self) -> str:
        """Where the damaged rows are, as far as they can be read; written only if there are some."""
        return f"{self.new_path}.damaged.jsonl"

    @property
    def is_whole(self) -> bool:
        """Whether nothing was damaged that has to be saved."""
        return not self.damaged and not self.unreadable
