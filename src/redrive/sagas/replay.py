"""Running a saga's function against a journal, without any effect: does it go the way that the journal says?

No step body runs and nothing is written. What the journal has is given; at the first thing that it has not, the replay
ends. A function that asks a clock, chance or the outside world between the saga's calls goes another way the second
time, and is found here before a crash finds it.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from redrive.consumer import Consumer
from redrive.errors import (
    CannotContinue,
    NewerRecord,
    NonDeterministic,
    NotKept,
    PayloadError,
    StepFailed,
    StepRejected,
)
from redrive.fingerprint import text_of, type_name
from redrive.sagas.codec import Kind
from redrive.sagas.deeds import RESUME
from redrive.sagas.definition import SagaConsumer
from redrive.sagas.journal import LARGEST_RESULT, Fact, Journal, State, StepRecord, StepState
from redrive.sagas.leaving import Leave
from redrive.sagas.running import BUGS
from redrive.sagas.saga import Saga
from redrive.sagas.steps import Call
from redrive.store import SAGAS, Entry, Store

_LONGEST = 10.0
"""Seconds that a replay may take, which only computes."""
_PAGE = 200
_SHOWN = 3
_NOTHING = object()


async def replayed(consumer: SagaConsumer[Any], journal: Journal) -> list[str]:
    """Run the function of an instance against its journal; in what it differs. Empty: it goes the same way.

    Of an instance that has not ended it says also what would make it stuck: an error that means a bug.
    """
    try:
        version = consumer.version_of(journal)
        payload = consumer.payload.read(json.dumps(journal.input).encode())
    except CannotContinue as error:
        return [error.problem]
    except PayloadError as error:
        return [f"its input does not fit the queue's type any more: {error.problem}"]
    except Exception as error:  # noqa: BLE001 - the user's validators and `decode`
        return [f"its input cannot be read: {_named(error)}"]
    work = _Replay(journal)
    time = asyncio.timeout(_LONGEST)
    try:
        with consumer.holding(journal):
            async with time:
                given = await version.function(Saga(work), payload)
    except Leave:
        pass
    except Exception as error:  # noqa: BLE001 - the user's function; what it means is said
        work.raised(error, out_of_time=time.expired())
    else:
        work.returned(given, version.result)
    return work.found()


class Replays:
    """Replays each instance on a store once, when it has ended: for tests."""

    def __init__(self, consumers: Iterable[Consumer[Any]]) -> None:
        self._sagas = [one for one in consumers if isinstance(one, SagaConsumer)]
        self._seen: set[tuple[str, int]] = set()

    async def step(self, store: Store) -> None:
        """Replay what has ended since.

        Raises:
            NonDeterministic: If a function goes another way than it went.
        """
        for saga in self._sagas:
            after = prefix = f"{saga.queue}/"
            while entries := await store.scan(SAGAS, after=after, limit=_PAGE):
                for entry in entries:
                    if entry.key.startswith(prefix):
                        await self._replay(saga, entry)
                after = entries[-1].key

    async def _replay(self, saga: SagaConsumer[Any], entry: Entry) -> None:
        try:
            journal = Journal.from_json(entry.value)
        except NewerRecord:
            return
        seen = (entry.key, journal.began_at_ms)
        if not journal.is_settled or seen in self._seen or journal.version not in saga.versions:
            return
        self._seen.add(seen)
        if problems := await replayed(saga, journal):
            raise NonDeterministic(journal.id, "; ".join(problems))


class _Replay:
    """A `Work` whose whole world is the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._calls: Counter[str] = Counter()
        self._seen: set[int] = set()
        self._problems: list[str] = []
        self._beyond_return = False
        self._same_input = all(one.what != RESUME for one in journal.deeds)
        """Whether arguments have to be those of the journal: a person may have changed what they are made of."""

    @property
    def id(self) -> str:
        """The instance's."""
        return self._journal.id

    @property
    def version(self) -> int:
        """Of the function."""
        return self._journal.version

    def now_ms(self) -> int:
        """Asked only for what is not in the journal, where the replay ends."""
        return self._journal.began_at_ms

    def draw(self) -> float:
        """Likewise."""
        return 0.0

    def randomness(self) -> bytes:
        """Likewise."""
        return bytes(16)

    async def run(self, calls: list[Call[Any, Any]]) -> list[Any]:
        """The results of steps, from the journal.

        Raises:
            StepRejected: If one was rejected.
            StepFailed: If one was given up on.
            Leave: If one of them has not ended, or is not in the journal.
        """
        records = [self._record(call) for call in calls]
        known = [(call, record) for call, record in zip(calls, records, strict=True) if record is not None]
        if self._same_input:
            for call, record in known:
                self._compare(call, record)
        if len(known) < len(calls):
            missing = next(call for call, record in zip(calls, records, strict=True) if record is None)
            self._ends_at(f"step {missing.step.name!r} (call {self._calls[missing.step.name]})")
        if any(record.is_open for _, record in known):
            raise Leave
        for _, record in known:
            self._raise_failed(record)
        return [self._result(call, record) for call, record in known]

    def known(self, kind: str, name: str, call: int) -> Fact | None:
        """A fact that was noted."""
        fact = self._journal.fact(kind, name, call)
        if fact is not None:
            self._seen.add(id(fact))
        return fact

    def note(self, fact: Fact) -> None:
        """The journal has not got it: the replay ends.

        Raises:
            Leave: Always.
        """
        self._ends_at(f"{fact.kind} {fact.name}".strip())

    async def passed(self, fact: Fact) -> None:
        """Go on where a sleep or a wait is over.

        Raises:
            Leave: If it is not.
        """
        if not fact.over:
            raise Leave

    def beyond_return(self) -> None:
        """Pass the point of no return, where the journal passed it.

        Raises:
            Leave: If it was undone instead.
        """
        self._beyond_return = True
        if self._journal.beyond_return:
            return
        if self._journal.state is State.COMPLETED or _is_going_back(self._journal):
            self._ends_at("a point of no return")

    def raised(self, error: Exception, *, out_of_time: bool) -> None:
        """The function raised."""
        cause = self._journal.cause
        if out_of_time:
            self._problems.append(f"it did not end within {_LONGEST:g} s: between the saga's calls it may only compute")
        elif self._journal.state is State.COMPLETED:
            self._problems.append(f"it raised {_named(error)}, and its journal says that it returned")
        elif not _is_going_back(self._journal):
            if isinstance(error, BUGS) or type(error).__name__ == "ValidationError":
                self._problems.append(f"it would be stuck: {_named(error)}")
        elif cause is not None and cause.error is not None and cause.error.type != type_name(error):
            self._problems.append(f"it raised {_named(error)}, and its journal says {cause.error.type}")

    def returned(self, given: object, kind: Kind) -> None:
        """The function returned."""
        journal = self._journal
        try:
            result, _ = kind.written(given, most=LARGEST_RESULT)
        except NotKept as error:
            self._problems.append(f"it would be stuck: {error}")
            return
        if journal.state is State.COMPLETED and result != journal.result:
            self._problems.append(f"it returned {_shown(result)}, and its journal says {_shown(journal.result)}")
        elif journal.state is State.COMPLETED and journal.beyond_return and not self._beyond_return:
            self._problems.append("its journal passed a point of no return, and its code does not")
        elif _raised_once(journal) and journal.cause is not None:
            self._problems.append(f"it returned, and its journal says that it raised: {journal.cause.reason}")

    def found(self) -> list[str]:
        """What differs."""
        steps = [self._journal.key_of(one) for one in self._journal.steps if id(one) not in self._seen]
        facts = [f"{one.kind} {one.name}".strip() for one in self._journal.facts if id(one) not in self._seen]
        if not (missed := [*steps, *facts]):
            return self._problems
        more = f" and {len(missed) - _SHOWN} more" if len(missed) > _SHOWN else ""
        return [*self._problems, f"its journal has {', '.join(missed[:_SHOWN])}{more}, which its code passed over"]

    def _record(self, call: Call[Any, Any]) -> StepRecord | None:
        self._calls[call.step.name] += 1
        record = self._journal.step(call.step.name, self._calls[call.step.name])
        if record is not None:
            self._seen.add(id(record))
        return record

    def _compare(self, call: Call[Any, Any], record: StepRecord) -> None:
        key = self._journal.key_of(record)
        try:
            arguments, _ = call.step.parameters.written(call.args, call.kwargs)
        except (NotKept, TypeError) as error:
            self._problems.append(f"step {key!r}: {error}")
            return
        for name in sorted(arguments.keys() | record.arguments.keys()):
            before, now = record.arguments.get(name, _NOTHING), arguments.get(name, _NOTHING)
            if before != now:
                said = f"{_shown(before)} for argument {name!r} in its journal, and now {_shown(now)}"
                self._problems.append(f"step {key!r} has {said}")

    def _result(self, call: Call[Any, Any], record: StepRecord) -> Any:  # noqa: ANN401
        try:
            return call.step.parameters.result.read(record.result)
        except NotKept as error:
            self._problems.append(f"step {self._journal.key_of(record)!r}: {error}")
            raise Leave from error

    def _raise_failed(self, record: StepRecord) -> None:
        key, error = self._journal.key_of(record), record.error
        text = "" if error is None else error.text
        if record.state is StepState.REJECTED:
            raise StepRejected(key, text)
        if record.state is StepState.UNKNOWN:
            raise StepFailed(key, text if error is None or not error.type else f"{error.type}: {text}")

    def _ends_at(self, what: str) -> None:
        """At something new: right for an instance that has not come to its end, and wrong for one that has.

        Raises:
            Leave: Always.
        """
        if self._journal.state is State.COMPLETED or _raised_once(self._journal):
            self._problems.append(f"{what} is new: its journal says that the function ended without it")
        raise Leave


def _is_going_back(journal: Journal) -> bool:
    return journal.state is State.UNDONE or State.UNDOING in {journal.state, journal.stuck_while}


def _raised_once(journal: Journal) -> bool:
    """Whether it is undone because its function raised, and not by a deadline or a person."""
    return _is_going_back(journal) and journal.cause is not None and journal.cause.error is not None


def _named(error: Exception) -> str:
    return f"{type_name(error)}: {text_of(error)[:500]}"


def _shown(value: Any) -> str:  # noqa: ANN401 - JSON
    if value is _NOTHING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= 200 else f"{text[:199]}…"  # noqa: PLR2004 - a line's worth
