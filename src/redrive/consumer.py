"""A consumer: a handler and what shall happen to the messages that it does not handle."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, Literal, TypeVar

from redrive.backoff import Backoff, seconds
from redrive.broker import LONGEST_LEASE
from redrive.dependency import Dependency
from redrive.errors import DeclarationError
from redrive.payload import Payload
from redrive.verdict import LARGEST_BACKSTOP, Policy

WhenOpen = Literal["park", "pause"]
"""What a consumer does while the circuit of a dependency in `needs` is open."""

T = TypeVar("T")
H = TypeVar("H", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings:
    """How a consumer runs; the defaults are those of `@queue.consumer`."""

    max_attempts: int = 3
    max_bounces: int = 20
    max_crashes: int = 3
    max_age: float | timedelta | None = None
    backoff: Backoff = Backoff()  # noqa: RUF009 - a frozen value, safe to share
    timeout: float | timedelta = 300.0
    lease: float | timedelta = 30.0
    concurrency: int = 10
    when_open: WhenOpen | None = None

    def policy(self) -> Policy:
        """The part that verdicts need."""
        return Policy(
            max_attempts=self.max_attempts,
            max_bounces=self.max_bounces,
            max_crashes=self.max_crashes,
            max_age=None if self.max_age is None else seconds(self.max_age),
            backoff=self.backoff,
        )


class Function:
    """A user's function: whether it is a coroutine function, and whether it takes the context."""

    __slots__ = ("call", "is_async", "takes_context")

    def __init__(self, function: Callable[..., Any], what: str) -> None:
        self.call = function
        self.is_async = inspect.iscoroutinefunction(inspect.unwrap(function))
        positional = [
            parameter
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
            and parameter.default is parameter.empty
        ]
        if len(positional) not in {1, 2}:
            raise DeclarationError(
                f"{what} {getattr(function, '__qualname__', function)!r}",
                f"takes {len(positional)} arguments",
                "let it take (payload) or (ctx, payload)",
            )
        self.takes_context = len(positional) == 2  # noqa: PLR2004 - context and payload


class Consumer(Generic[T]):
    """The one consumer of a queue. Calling it calls its handler, nothing else: for tests of the handler itself."""

    def __init__(
        self,
        queue: str,
        payload: Payload[T],
        handler: Callable[..., Any],
        *,
        needs: Sequence[Dependency[Any]],
        once_by: Callable[[T], object] | None,
        dead_on: Sequence[type[BaseException]],
        settings: ConsumerSettings,
        fifo: bool = False,
    ) -> None:
        _check(queue, settings)
        self.queue = queue
        self.fifo = fifo
        """Whether the queue keeps each group in order."""
        self.pauses = (settings.when_open or ("pause" if fifo else "park")) == "pause"
        """Whether messages wait in their queue while a circuit is open, in order, rather than in a parked one."""
        self.payload = payload
        self.handler = Function(handler, "handler")
        self.needs = {dependency.name: dependency for dependency in needs}
        self.once_by = once_by
        self.dead_on = tuple(dead_on)
        self.policy = settings.policy()
        self.timeout = seconds(settings.timeout)
        self.lease = seconds(settings.lease)
        self.concurrency = min([settings.concurrency, *(dependency.concurrency for dependency in needs)])
        """Handlers at once in one worker: no more than any dependency lets through."""
        self.degraded_handlers: dict[str, Function] = {}
        functools.update_wrapper(self, handler)

    def prepare(self) -> None:
        """The application is about to open: everything that the consumer can name is there by now."""

    def backstop(self, *, uncounts: bool) -> int:
        """The broker's own `maxReceiveCount` for this queue.

        Args:
            uncounts: whether the broker can take back a count. Where it cannot, every outage and every hand-back brings
                a message nearer to the limit, and on a FIFO queue it cannot be sent anew: it is as high as can be.
        """
        return self.policy.backstop if uncounts or not self.fifo else LARGEST_BACKSTOP

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the handler takes and gives
        """Call the handler."""
        return self.handler.call(*args, **kwargs)

    def degraded(self, dependency: Dependency[Any]) -> Callable[[H], H]:
        """Register what to do, at once, when this dependency is unavailable and the message has to wait for it.

        The function takes (payload) or (outage, payload). It runs before the message is parked or delayed, at least
        once and not again on later parks; if it raises, that is an attempt.

        Raises:
            DeclarationError: If the consumer does not need the dependency, or has such a handler already.
        """
        if dependency.name not in self.needs:
            raise DeclarationError(
                f"degraded handler for {dependency.name!r}",
                f"has no meaning: the consumer of {self.queue!r} does not need it",
                "add it to `needs=[...]`",
            )
        if dependency.name in self.degraded_handlers:
            raise DeclarationError(
                f"degraded handler for {dependency.name!r} and {self.queue!r}", "exists already", "keep one of the two"
            )

        def register(function: H) -> H:
            self.degraded_handlers[dependency.name] = Function(function, "degraded handler")
            return function

        return register

    def parked_queue(self, dependency: str) -> str:
        """Where its messages wait for a dependency."""
        return parked_queue(self.queue, dependency)

    @property
    def needs_threads(self) -> bool:
        """Whether the handler or a degraded handler is a plain function."""
        return not all(one.is_async for one in (self.handler, *self.degraded_handlers.values()))

    @property
    def dead_queue(self) -> str:
        """Where its messages wait for a person."""
        return dead_queue(self.queue)


def dead_queue(queue: str) -> str:
    """The name of a queue's dead-letter queue."""
    return f"{queue}-dead"


def parked_queue(queue: str, dependency: str) -> str:
    """The name of the queue in which a queue's messages wait for a dependency."""
    return f"{queue}-parked-{dependency}"


def _check(queue: str, settings: ConsumerSettings) -> None:
    lease = seconds(settings.lease)
    for name, good, limit in (
        ("max_attempts", settings.max_attempts >= 1, "1 or more"),
        ("max_bounces", settings.max_bounces >= 1, "1 or more"),
        ("max_crashes", settings.max_crashes >= 1, "1 or more"),
        ("max_age", settings.max_age is None or seconds(settings.max_age) > 0, "over 0 seconds, or None"),
        ("timeout", seconds(settings.timeout) > 0, "over 0 seconds"),
        ("lease", 1 <= lease <= LONGEST_LEASE, "from 1 to 43200 seconds"),
        ("concurrency", settings.concurrency >= 1, "1 or more"),
        ("when_open", settings.when_open in {None, "park", "pause"}, "'park' or 'pause'"),
    ):
        if not good:
            value = getattr(settings, name)
            raise DeclarationError(f"{name}={value!r} of the consumer of {queue!r}", "is out of range", f"use {limit}")
