"""What a saga function is given: it runs steps, waits, and asks for what would not be the same twice.

The function is run again from its beginning whenever its instance goes on. What the journal has is given at once; what
it has not is done, and written down. So between these calls it may only compute: no I/O, no clock, nothing random.
"""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from redrive.backoff import seconds
from redrive.errors import WaitTimedOut
from redrive.sagas.journal import Fact
from redrive.sagas.steps import Call, Step

R = TypeVar("R")
P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")


class Work(Protocol):
    """What carries a saga out; one turn's."""

    @property
    def id(self) -> str:
        """The instance's."""
        ...

    @property
    def version(self) -> int:
        """Of the function."""
        ...

    def now_ms(self) -> int:
        """The clock's."""
        ...

    def draw(self) -> float:
        """A number from [0, 1)."""
        ...

    def randomness(self) -> bytes:
        """Sixteen bytes."""
        ...

    async def run(self, calls: list[Call[Any, Any]]) -> list[Any]:
        """Run steps beside one another; their results."""
        ...

    def known(self, kind: str, name: str, call: int) -> Fact | None:
        """A fact that was noted."""
        ...

    def note(self, fact: Fact) -> None:
        """Note a fact; it is written before anything that follows from it."""
        ...

    async def passed(self, fact: Fact) -> None:
        """Go on only when a sleep or a wait is over."""
        ...

    def beyond_return(self) -> None:
        """Never be undone from here."""
        ...


class Saga(Generic[R]):
    """One instance, as its function sees it."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._calls: Counter[tuple[str, str]] = Counter()

    @property
    def id(self) -> str:
        """What the instance is known by."""
        return self._work.id

    @property
    def version(self) -> int:
        """The version of the function that it began with."""
        return self._work.version

    async def run(self, step: Step[R, P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a step; its result, as its return annotation reads it from the journal.

        Raises:
            StepRejected: If the step raised `Reject`: it has no effect.
            StepFailed: If it was given up on, after all its attempts; it may have taken effect.
        """
        (result,) = await self._work.run([step(*args, **kwargs)])
        return result  # type: ignore[no-any-return]

    @overload
    async def gather(self, first: Call[R, A], second: Call[R, B], /) -> tuple[A, B]: ...
    @overload
    async def gather(self, first: Call[R, A], second: Call[R, B], third: Call[R, C], /) -> tuple[A, B, C]: ...
    @overload
    async def gather(
        self, first: Call[R, A], second: Call[R, B], third: Call[R, C], fourth: Call[R, D], /
    ) -> tuple[A, B, C, D]: ...
    @overload
    async def gather(
        self, first: Call[R, A], second: Call[R, B], third: Call[R, C], fourth: Call[R, D], fifth: Call[R, E], /
    ) -> tuple[A, B, C, D, E]: ...
    @overload
    async def gather(self, *calls: Call[R, T]) -> tuple[T, ...]: ...

    async def gather(self, *calls: Call[R, Any]) -> tuple[Any, ...]:
        """Run steps beside one another: `await saga.gather(reserve(order), book(order))`; their results, in order.

        When one fails, the others end their attempts before anything is undone; what would be tried again is not.

        Raises:
            StepRejected: If the first of those that failed was rejected.
            StepFailed: If it was given up on.
        """
        return tuple(await self._work.run(list(calls)))

    async def sleep(self, duration: float | timedelta) -> None:
        """Go on so many seconds later, whatever happens to this worker meanwhile."""
        call = self._next("sleep")
        fact = self._work.known("sleep", "", call)
        if fact is None:
            due = self._work.now_ms() + int(seconds(duration) * 1000)
            fact = Fact(kind="sleep", name="", call=call, due_at_ms=due, over=False)
            self._work.note(fact)
        await self._work.passed(fact)

    async def wait_for(
        self,
        signal: str,
        *,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - days, in the journal
    ) -> Any:  # noqa: ANN401 - JSON
        """Go on when a signal of this name was sent to the instance; what was sent with it.

        A signal that came before is taken at once; the n-th wait takes the n-th signal of its name.

        Args:
            signal: its name.
            timeout: seconds; None: as long as the saga's deadline lets it.

        Raises:
            WaitTimedOut: If none came in time.
        """
        call = self._next("wait", signal)
        fact = self._work.known("wait", signal, call)
        if fact is None:
            due = None if timeout is None else self._work.now_ms() + int(seconds(timeout) * 1000)
            fact = Fact(kind="wait", name=signal, call=call, due_at_ms=due, over=False)
            self._work.note(fact)
        await self._work.passed(fact)
        if fact.timed_out:
            raise WaitTimedOut(self.id, signal)
        return fact.value["value"]

    def now(self) -> datetime:
        """The time, in UTC: the same whenever this is run again."""
        at_ms = self._fact("now", self._work.now_ms)
        return datetime.fromtimestamp(at_ms / 1000, UTC)

    def random(self) -> float:
        """A number from [0, 1): likewise the same."""
        return float(self._fact("random", self._work.draw))

    def uuid(self) -> uuid.UUID:
        """A random UUID (version 4): likewise the same."""
        return uuid.UUID(self._fact("uuid", lambda: str(uuid.UUID(bytes=self._work.randomness(), version=4))))

    def point_of_no_return(self) -> None:
        """From here it only goes forward: nothing is undone, no deadline counts, and what fails makes it stuck."""
        self._work.beyond_return()

    def _fact(self, kind: str, ask: Any) -> Any:  # noqa: ANN401
        call = self._next(kind)
        fact = self._work.known(kind, "", call)
        if fact is None:
            fact = Fact(kind=kind, name="", call=call, value=ask())
            self._work.note(fact)
        return fact.value

    def _next(self, kind: str, name: str = "") -> int:
        self._calls[kind, name] += 1
        return self._calls[kind, name]
