"""The saga of a queue: its function, in one version or several, and the steps that it can name."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from typing_extensions import override

from redrive.backoff import seconds
from redrive.consumer import Consumer, ConsumerSettings
from redrive.errors import CannotContinue, DeclarationError, NotOpen
from redrive.holding import Holding, holding
from redrive.message import message_id
from redrive.payload import Payload
from redrive.runtime import Runtime
from redrive.sagas.codec import Kind, annotation_of
from redrive.sagas.journal import Journal, State, StepRecord
from redrive.sagas.record import Record
from redrive.sagas.saga import Saga
from redrive.sagas.signals import leave_signal
from redrive.sagas.steps import Step, found_at, used_by
from redrive.sagas.waking import wake

T = TypeVar("T")
_LONGEST_ID = 200
_SHORTEST_TURN = 300.0
_UNUSED = 3
"""A saga's own counters say when its message is given up on; the consumer's are for messages that begin none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version(Generic[T]):
    """One version of a saga's function."""

    number: int
    function: Callable[[Saga[Any], T], Awaitable[Any]]
    id: Callable[[T], object]
    deadline: float | None
    """Seconds from the beginning of an instance; None: never."""
    result: Kind
    """What the function returns."""


class Opened(Protocol):
    """The application, as its sagas need it."""

    @property
    def runtime(self) -> Runtime:
        """What is open; NotOpen if nothing is."""
        ...


class SagaConsumer(Consumer[T]):
    """The one consumer of a queue of sagas. New instances begin with its highest version; running ones keep theirs."""

    def __init__(
        self,
        app: Opened,
        queue: str,
        payload: Payload[T],
        version: Version[T],
        *,
        steps: Sequence[Step[Any, Any, Any]],
        lease: float | timedelta,
        concurrency: int,
        max_crashes: int,
    ) -> None:
        self._app, self._given = app, list(steps)
        self.versions = {version.number: version}
        self._ran: dict[str, Step[Any, Any, Any]] = {}
        super().__init__(
            queue,
            payload,
            version.function,
            needs=(),
            once_by=None,
            dead_on=(),
            settings=ConsumerSettings(
                max_attempts=_UNUSED,
                lease=lease,
                concurrency=concurrency,
                max_crashes=max_crashes,
                timeout=_SHORTEST_TURN,
            ),
        )
        self.prepare()

    def add(self, version: Version[T], steps: Sequence[Step[Any, Any, Any]]) -> None:
        """Take one more version of the function.

        Raises:
            DeclarationError: If there is one of this number.
        """
        if version.number in self.versions:
            what = f"version {version.number} of the saga of {self.queue!r}"
            raise DeclarationError(what, "is declared twice", "give the new one a higher number")
        self.versions[version.number] = version
        self._given += steps
        self.prepare()

    @override
    def prepare(self) -> None:
        """Find the steps by now: what they need is what the queue's messages can be parked for.

        Raises:
            DeclarationError: If two of them have one name.
        """
        found: dict[str, Step[Any, Any, Any]] = {}
        for one in (*self._given, *(step for each in self.versions.values() for step in used_by(each.function))):
            if found.setdefault(one.name, one) is not one:
                problem = f"has two steps named {one.name!r}"
                raise DeclarationError(f"the saga of {self.queue!r}", problem, "give one of them another name=")
        self.steps = found
        for one in found.values():
            self.needs.update(one.needs)
        self.timeout = max([_SHORTEST_TURN, *(2 * one.settings.timeout for one in found.values())])

    @property
    def needs_threads(self) -> bool:
        """Whether a step or an undo is a plain function."""
        return any(one.needs_threads for one in self.steps.values())

    @property
    def newest(self) -> Version[T]:
        """What new instances begin with."""
        return self.versions[max(self.versions)]

    def version_of(self, journal: Journal) -> Version[T]:
        """The version that an instance began with.

        Raises:
            CannotContinue: If the code has it no more.
        """
        if (found := self.versions.get(journal.version)) is None:
            problem = f"it began with version {journal.version}, and the code has {sorted(self.versions)}"
            raise CannotContinue(journal.id, problem, "keep a version until its last instance has ended")
        return found

    def step_of(self, record: StepRecord) -> Step[Any, Any, Any]:
        """The step of a journaled call, without running the function.

        Raises:
            CannotContinue: If the code has it no more.
        """
        found = self.steps.get(record.name) or found_at(record.place)
        if found is None:
            problem = f"the code has no step {record.name!r} any more (it was {record.place})"
            raise CannotContinue(record.name, problem, "put it back, or name it in saga(steps=[...])")
        return found

    async def signal(self, instance: str, name: str, value: Any = None) -> None:  # noqa: ANN401 - JSON
        """Send a signal to an instance, which takes it at its next `wait_for` of this name; durable when it returns.

        Args:
            instance: its id; it may wait for it by now, or later, or begin later (within 14 days).
            name: of the signal.
            value: JSON, at most 32 KB; what `wait_for` gives.

        Raises:
            NotKept: If the value is no JSON, or too large.
            StoreError: If the store is away.
            NotOpen: If the application is not open.
        """
        runtime = self._app.runtime
        now_ms = runtime.clock.now_ms()
        unique = message_id(now_ms, runtime.random.randbytes(10))
        await leave_signal(
            runtime.store, runtime.clock, saga=self.queue, instance=instance, name=name, value=value, unique=unique
        )
        journal = await self.journal(instance)
        if journal is not None and journal.state is State.WAITING:
            await wake(runtime, journal)

    async def journal(self, instance: str) -> Journal | None:
        """An instance as it stands; None: there is none, or it ended over 14 days ago."""
        record = await Record.load(self._app.runtime.store, self._app.runtime.clock, self.queue, instance)
        return None if record is None else record.journal

    def holding(self, journal: Journal) -> AbstractContextManager[Holding | None]:
        """Hold what the function of an instance sends itself, under ids that are the same whenever it runs again.

        None where the application is not open, and can send nothing.
        """
        try:
            runtime = self._app.runtime
        except NotOpen:
            return nullcontext()
        return holding(runtime, f"{journal.saga}/{journal.id}", at_ms=journal.began_at_ms)

    def id_of(self, payload: T) -> str:
        """What the instance of a payload is known by.

        Raises:
            TypeError: If the user's function gives none.
        """
        found = self.newest.id(payload)
        if (
            not isinstance(found, (str, int))
            or not 0 < len(text := str(found)) <= _LONGEST_ID
            or not text.isprintable()
        ):
            message = f"id gave {found!r}; give 1 to {_LONGEST_ID} printable characters, or an int"
            raise TypeError(message)
        return text


def versioned(
    function: Callable[..., Any],
    queue: str,
    *,
    version: int,
    id_: Callable[[Any], object],
    deadline: float | timedelta | None,
) -> Version[Any]:
    """A version of a saga's function, checked.

    Raises:
        DeclarationError: If it cannot be one.
    """
    what = f"the saga of {queue!r}"
    if not inspect.iscoroutinefunction(inspect.unwrap(function)):
        raise DeclarationError(what, "is a plain function", "write it with async def: its steps may be plain ones")
    if len(inspect.signature(function).parameters) != 2:  # noqa: PLR2004 - the saga and the payload
        raise DeclarationError(what, "does not take two arguments", "let it take (saga, payload)")
    length = None if deadline is None else seconds(deadline)
    if version < 1 or (length is not None and length <= 0):
        problem = f"has version={version!r} and deadline={deadline!r}"
        raise DeclarationError(what, problem, "use a version of 1 or more, and a deadline over 0 seconds or None")
    result = Kind(f"the result of {what}", partial(annotation_of, what, function, "return"))
    return Version(number=version, function=function, id=id_, deadline=length, result=result)
