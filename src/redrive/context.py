"""What a handler is told about the message in its hands."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from redrive.clock import Clock, SystemClock

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Generic[R]):
    """One turn of one message, as its handler sees it."""

    message_id: str
    """The message's id: the same through every retry, park and redrive."""
    key: str
    """Stable too: pass it on as the idempotency key of what the handler calls."""
    queue: str
    """The queue it was received from."""
    resources: R
    """What the application opened for this worker."""
    attempt: int = 1
    """1 for the first try; rises with each turn that ended in the handler's own exception."""
    receive_count: int = 1
    """How often the broker handed it out from this queue."""
    bounces: int = 0
    """Turns that ended because a dependency failed."""
    sent_at_ms: int = 0
    """The original send."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """The producer's own attributes."""
    group: str | None = None
    """The message's group."""
    degraded_at_ms: int | None = None
    """When the degraded handler served this message; None: it did not."""
    fence: int | None = None
    """With `once_by`, rises each time the key is taken; of a saga's step, with each attempt of it and of its undo. Hand
    it to what can refuse a lower one. None elsewhere."""
    deadline: float = float("inf")
    """When the turn has to end, in seconds of `clock.monotonic()`."""
    needs: frozenset[str] = frozenset()
    """The dependencies that the consumer declared."""
    dead_on: tuple[type[BaseException], ...] = ()
    """The error types that the consumer declared to mean: this message can never succeed."""
    clock: Clock = field(default_factory=SystemClock, repr=False)

    def remaining(self) -> float:
        """Seconds left of the turn; 0 when there are none."""
        return max(0.0, self.deadline - self.clock.monotonic())


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage(Context[R]):
    """A turn that met a dependency which is unavailable, as a degraded handler sees it."""

    dependency: str = ""
    """Which one."""
    reason: str = ""
    """Why: the failed call's error, or that the circuit is open."""
    circuit_open: bool = False
    """True: the message will be parked; False: it will be tried again soon."""


_RUNNING: ContextVar[Context[Any] | None] = ContextVar("redrive_context", default=None)


def running() -> Context[Any] | None:
    """The context of the handler that is running here, or None outside of one."""
    return _RUNNING.get()


def current() -> Context[Any]:
    """The context of the handler that is running here, anywhere below it.

    Raises:
        LookupError: If no handler is running.
    """
    context = _RUNNING.get()
    if context is None:
        message = "no handler is running here; redrive.current() works inside a handler and what it calls"
        raise LookupError(message)
    return context


def entering(context: Context[Any]) -> object:
    """Make it the running context; hand the token to `leaving`."""
    return _RUNNING.set(context)


def leaving(token: Any) -> None:  # noqa: ANN401 - a Token of this module's variable
    """The former context runs again."""
    _RUNNING.reset(token)
