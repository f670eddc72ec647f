"""What becomes of a message after a turn: one pure function of what happened, its notes and the consumer's policy.

handled                                    -> Ack
the handler's own exception                -> Retry, attempts + 1; Dead beyond max_attempts
a dependency failed, its circuit closed    -> Retry, bounces + 1; Dead beyond max_bounces
a dependency failed and its circuit opened -> Park, bounces + 1; Dead beyond max_bounces
a dependency's circuit is not closed       -> Park, nothing counted
it took its worker down                    -> Retry, crashes + 1; Dead beyond max_crashes
come back later                            -> Retry, nothing counted
it can never succeed                       -> Dead
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from redrive.backoff import Backoff
from redrive.message import Notes

LARGEST_BACKSTOP = 1_000
"""Source: Amazon SQS, RedrivePolicy `maxReceiveCount`: at most 1,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a consumer gives up on a message."""

    max_attempts: int = 3
    """Turns that may end in the handler's own exception, the last one included; 1 or more."""
    max_bounces: int = 20
    """Turns that may end because a dependency failed while its circuit was closed; 1 or more."""
    max_crashes: int = 3
    """Turns that may take their worker down; 1 or more."""
    max_age: float | None = None
    """Seconds from the original send after which a message is dead rather than handled; None: never."""
    backoff: Backoff = Backoff()  # noqa: RUF009 - a frozen value, safe to share

    @property
    def backstop(self) -> int:
        """The broker's own `maxReceiveCount`: far above ours, for what no worker lives to decide."""
        return min(LARGEST_BACKSTOP, self.max_attempts + self.max_crashes + 20)


class Happening(StrEnum):
    """How a turn ended."""

    HANDLED = "handled"
    RAISED = "raised"
    TIMEOUT = "timeout"
    REJECTED = "rejected"
    PAYLOAD = "payload"
    EXPIRED = "expired"
    CONFLICT = "conflict"
    LATER = "later"
    UNAVAILABLE = "unavailable"
    CRASHED = "crashed"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one turn came to."""

    happening: Happening
    reason: str = ""
    """For people: goes into the failure record."""
    after: float | None = None
    """For LATER: what was asked for, in seconds."""
    dependency: str | None = None
    """For UNAVAILABLE: which one."""
    circuit_open: bool = False
    """For UNAVAILABLE: whether its circuit is open (park) or closed (delay)."""
    counted: bool = True
    """For UNAVAILABLE: whether it is a bounce; a call that the circuit did not let through is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """Done: the message leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Ready again after `delay` seconds."""

    delay: float
    notes: Notes
    counted: bool = True
    """Whether it goes into the failure record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """Wait in the dependency's own queue until it is healthy."""

    dependency: str
    notes: Notes


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """A person has to look."""

    reason: str
    notes: Notes


Verdict = Ack | Retry | Park | Dead

_LONGEST_DELAY = 43_200.0
"""Seconds: what a lease can be."""
_NEVER_RETRIED = {
    Happening.REJECTED: "rejected by the handler",
    Happening.PAYLOAD: "the body does not fit the queue's type",
    Happening.EXPIRED: "older than max_age",
    Happening.STUCK: "stuck",
    Happening.CONFLICT: "its idempotency key was used for another payload",
}


def decide(outcome: Outcome, notes: Notes, policy: Policy, *, random: float) -> Verdict:
    """The verdict on one turn.

    Args:
        outcome: how the turn ended.
        notes: the message's notes before the turn.
        policy: the consumer's limits.
        random: the draw for the backoff, evenly from [0, 1).
    """
    match outcome.happening:
        case Happening.HANDLED:
            return Ack()
        case Happening.LATER:
            return Retry(delay=_later(outcome, policy, random), notes=notes, counted=False)
        case Happening.UNAVAILABLE:
            return _unavailable(outcome, notes, policy, random)
        case Happening.RAISED | Happening.TIMEOUT:
            counted = replace(notes, attempts=notes.attempts + 1)
            count = _Count(counted.attempts, policy.max_attempts, "attempts")
            return _again(outcome, counted, policy, count, random=random)
        case Happening.CRASHED:
            counted = replace(notes, crashes=notes.crashes + 1)
            count = _Count(counted.crashes, policy.max_crashes, "crashes")
            return _again(outcome, counted, policy, count, random=random)
        case never:
            return Dead(reason=_joined(_NEVER_RETRIED[never], outcome.reason), notes=notes)


def _unavailable(outcome: Outcome, notes: Notes, policy: Policy, random: float) -> Verdict:
    noted = replace(notes, bounces=notes.bounces + outcome.counted)
    if outcome.circuit_open and (noted.bounces < policy.max_bounces or not outcome.counted):
        return Park(dependency=outcome.dependency or "", notes=noted)
    if not outcome.counted:
        return Retry(delay=policy.backoff.delay(noted.bounces, random=random), notes=noted)
    return _again(outcome, noted, policy, _Count(noted.bounces, policy.max_bounces, "bounces"), random=random)


class _Count(NamedTuple):
    now: int
    limit: int
    what: str


def _again(outcome: Outcome, notes: Notes, policy: Policy, count: _Count, *, random: float) -> Verdict:
    if count.now >= count.limit:
        return Dead(reason=_joined(f"{count.now} of {count.limit} {count.what}", outcome.reason), notes=notes)
    return Retry(delay=policy.backoff.delay(count.now, random=random), notes=notes)


def _later(outcome: Outcome, policy: Policy, random: float) -> float:
    if outcome.after is None:
        return policy.backoff.delay(1, random=random)
    return min(max(0.0, outcome.after), _LONGEST_DELAY)  # in this order NaN is none


def _joined(*parts: str) -> str:
    return ": ".join(part for part in parts if part)
