"""What the doctor says: findings, each a sentence with its remedy, and as many of a kind as a person reads.

Never a message's body. Ids, names of queues and groups are in it.
"""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum

MOST_SHOWN = 20
"""Findings of one kind that are kept; of more, only the number: a broken index is one fault, not a million."""


class State(IntEnum):
    """How the file is, as an exit code."""

    HEALTHY = 0
    FINDINGS = 1
    UNREADABLE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    kind: str
    """In one word or two, for scripts; the names stay."""
    problem: str
    """What is wrong, with its subject."""
    remedy: str
    queue: str | None = None
    id: str | None = None
    """The message's, or the key of an entry."""

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """The file, its folder, or something that stands beside the file."""

    name: str
    owner: str
    mode: str
    """As `ls` shows it."""
    size: int | None = None
    """Bytes; None for a folder."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What was looked at, and what was found."""

    path: str
    state: State = State.HEALTHY
    schema: int | None = None
    known_schema: int
    application_id: int | None = None
    size: int = 0
    log_size: int = 0
    free_disk: int | None = None
    """Bytes."""
    floor: int | None = None
    """Bytes of free disk below which sends are refused."""
    open_by: int | None = None
    """A process that has the file open; None: none that could be seen."""
    files: list[Beside] = field(default_factory=list)
    queues: int = 0
    messages: int = 0
    unchecked: int = 0
    """Messages from before there were checksums."""
    set_aside: int = 0
    entries: int = 0
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """How many findings there are of each kind, those that are not shown too."""
    notes: list[str] = field(default_factory=list)
    """What is worth saying and is no fault."""

    def add(self, finding: Finding) -> None:
        """Take a finding down."""
        self.counts[finding.kind] += 1
        self.state = max(self.state, State.FINDINGS)
        if self.counts[finding.kind] <= MOST_SHOWN:
            self.findings.append(finding)

    def unreadable(self, finding: Finding) -> None:
        """Take down why the file cannot be read at all."""
        self.add(finding)
        self.state = State.UNREADABLE

    @property
    def recover(self) -> str:
        """The remedy for what is damaged."""
        return f"stop the workers; `redrive recover {shlex.quote(self.path)} NEW_FILE` saves what is whole"
