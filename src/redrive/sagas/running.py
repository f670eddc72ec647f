"""Running the function of an instance, and what its end means for it.

it returned          completed, with its result, and what it sent itself leaves
the turn ended       whatever ended it, and not what the function made of that
a step's failure     undone; past the point of no return stuck
a bug                stuck: a deploy or a person mends it, and it goes on
any other error      undone: the function says that it cannot be done
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from redrive.calling import comes_from_outside
from redrive.errors import (
    BrokerError,
    CannotContinue,
    ConfigurationError,
    JournalLost,
    NotKept,
    PayloadError,
    Reject,
    RetryLater,
    StepFailed,
    StepRejected,
    StoreError,
    Unavailable,
)
from redrive.raised import outcome_of
from redrive.sagas.bodies import LONGEST_PAUSE, Bodies
from redrive.sagas.deeds import cancelled_by
from redrive.sagas.definition import SagaConsumer
from redrive.sagas.departing import keep
from redrive.sagas.journal import LARGEST_RESULT, Cause, State
from redrive.sagas.leaving import Later, Leave, Sticks, Undoes
from redrive.sagas.saga import Saga
from redrive.sagas.work import Work

BUGS = (
    PayloadError,
    TypeError,
    AttributeError,
    NameError,
    LookupError,
    AssertionError,
    NotKept,
    CannotContinue,
    ConfigurationError,
)
"""What a function raises because it is wrong, and not because something cannot be done: its instance is stuck."""


class Running:
    """The function, in one turn."""

    def __init__(self, saga: SagaConsumer[Any], bodies: Bodies, work: Work) -> None:
        self._saga, self._bodies, self._work = saga, bodies, work
        self._journal = bodies.record.journal
        self._owner = self._journal.owner
        self._sent: list[Any] = []
        """What the function sent itself."""

    async def run(self) -> None:
        """Run it; the journal says completed when this returns, and is not written yet.

        Raises:
            Leave: If it did not return.
            StoreError: If the store is away.
            JournalLost: If another turn took over.
        """
        journal = self._journal
        try:
            version = self._saga.version_of(journal)
            payload = self._saga.payload.read(json.dumps(journal.input).encode())
            version.result.check()
            async with asyncio.timeout(2 * self._saga.timeout):
                with self._saga.holding(journal) as held:
                    given = await version.function(Saga(self._work), payload)
            self._work.ends()
            journal.result, _ = version.result.written(given, most=LARGEST_RESULT)
            before = len(journal.unsent)
            keep(journal, [] if held is None else held.unsent, f"saga {journal.id!r}")
            self._sent = journal.unsent[before:]
        except BaseException as error:  # a user's function may raise anything, or make something else of what it got
            if isinstance(self._work.ended, BrokerError):
                raise self._work.ended from error
            raise self._meaning(_first(self._work.ended, error)) from error
        journal.state, journal.owner = State.COMPLETED, None

    def take_back_if_cancelled(self) -> None:
        """An operator was first: it is not completed, and what the function sent itself does not leave.

        Raises:
            Undoes: If it was cancelled before this was written.
        """
        journal = self._journal
        if journal.cancelled is not None and not journal.beyond_return:
            journal.state, journal.owner, journal.result = State.RUNNING, self._owner, None
            journal.unsent = [one for one in journal.unsent if one not in self._sent]
            raise Undoes(Cause(reason=cancelled_by(journal.cancelled), at_ms=self._bodies.now_ms()))

    def _meaning(self, error: BaseException) -> Leave:
        """What an error that leaves the function says."""
        if isinstance(error, Leave | StoreError | JournalLost) or _stops(error):
            raise error
        if isinstance(error, RetryLater | Unavailable):
            after = outcome_of(error, self._saga, self._bodies.runtime.redacted).after
            seconds = 1.0 if after is None else min(max(0.0, after), LONGEST_PAUSE)
            return Later(self._bodies.now_ms() + int(1000 * seconds))
        problem = self._bodies.problem(error)
        key = error.key if isinstance(error, StepRejected | StepFailed) else None
        cause = Cause(reason=f"{problem.type}: {problem.text}", at_ms=problem.at_ms, step=key, error=problem)
        bug = isinstance(error, BUGS) or type(error).__name__ == "ValidationError" or not isinstance(error, Exception)
        if (bug and not isinstance(error, Reject)) or self._journal.beyond_return:
            return Sticks(cause, error)
        return Undoes(cause)


def _first(ended: BaseException | None, error: BaseException) -> BaseException:
    """What ended the turn, and not what the function made of it; a timeout cancels, and is none of these."""
    if ended is None or (isinstance(error, TimeoutError) and isinstance(ended, asyncio.CancelledError)):
        return error
    return ended


def _stops(error: BaseException) -> bool:
    """Whether it stops the turn from outside, rather than that the function raised it itself."""
    stopping = isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt)
    return stopping and comes_from_outside(error, asyncio.current_task())
