"""Gathers what one turn of the loop asks of one queue into requests of at most ten entries and 1 MiB.

A request that failed in part repeats that part alone; one that was refused as a whole is taken apart, so that the entry
to blame fails alone. Nobody who waits is told before his own entries are answered.

Where order counts, a request takes one entry of each line: of two, the first could fail and the second be done. What
the same caller put behind an entry that failed is not sent, unless it was refused for what is in it and never can be.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeGuard, TypeVar

from redrive.brokers.sqs.failures import NotNow, Place, Refused
from redrive.brokers.sqs.messages import LARGEST
from redrive.errors import BrokerError, BrokerUnavailable, LimitExceeded, OutcomeUnknown

A = TypeVar("A")

MOST = 10
"""Source: Amazon SQS quotas: entries of a batch request, messages of a receive."""
MOST_REQUESTS = 16
"""Requests that one call of the port is made of, all of them side by side: to wait for some before others begin takes
a third of what a worker drains."""
LANES = 8
"""Requests for one queue under way at once; while all are, entries gather to fill the next ones."""
_AHEAD = 100
"""Entries that a request passes over, looking for other lines."""
_ANEW = 3
"""How often a part that failed is asked again."""
_PAUSE = 0.1

Request = Callable[[list[dict[str, Any]]], Awaitable[dict[str, Any]]]
"""Makes one batch request of entries that have their `Id`."""


class Answered(NamedTuple):
    """What SQS said to the entries of a batch, in their order."""

    results: list[dict[str, Any] | BrokerError]
    again: list[int]
    """Which of them failed by no fault of theirs."""


class _Post(Generic[A]):
    """One caller's entries."""

    __slots__ = ("answer", "left", "results")

    def __init__(self, count: int, answer: asyncio.Future[list[A | BrokerError]]) -> None:
        self.results: list[Any] = [None] * count
        self.left = count
        self.answer = answer

    def put(self, index: int, result: A | BrokerError) -> None:
        self.results[index] = result
        self.left -= 1
        if not self.left and not self.answer.done():
            self.answer.set_result(self.results)


class _Entry(NamedTuple, Generic[A]):
    post: _Post[A]
    place: int
    payload: Any
    size: int
    line: str | None


class Batches(Generic[A]):
    """The entries of one kind for one queue."""

    def __init__(self, run: Callable[[list[Any]], Awaitable[Sequence[A | BrokerError]]], *, lanes: int = LANES) -> None:
        """Say how a batch is done.

        Args:
            run: does one batch of payloads; answers each in their order, or raises for all.
            lanes: batches under way at once; 1 keeps each line in order.
        """
        self._run, self._lanes = run, lanes
        self._waiting: deque[_Entry[A]] = deque()
        self._busy = 0
        self._called = False
        self._tasks: set[asyncio.Task[None]] = set()

    def put(
        self, payloads: Sequence[Any], sizes: Sequence[int] | None = None, lines: Sequence[str | None] | None = None
    ) -> asyncio.Future[list[A | BrokerError]]:
        """Hand in entries; done when all of them are answered, and nobody has to wait for it.

        Args:
            payloads: what `run` gets.
            sizes: bytes of each.
            lines: whose order each is in; None: in none.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[A | BrokerError]] = loop.create_future()
        if not payloads:
            answer.set_result([])
            return answer
        post = _Post(len(payloads), answer)
        for index, payload in enumerate(payloads):
            size = 0 if sizes is None else sizes[index]
            self._waiting.append(_Entry(post, index, payload, size, None if lines is None else lines[index]))
        if not self._called:
            self._called = True
            loop.call_soon(self._start)
        return answer

    def _start(self) -> None:
        self._called = False
        while self._waiting and self._busy < self._lanes:
            self._busy += 1
            task = asyncio.get_running_loop().create_task(self._do(self._next()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _drop_behind(self, behind: Callable[[_Entry[A]], bool], error: BrokerError) -> None:
        """What waits behind an entry that failed is not sent past it."""
        dropped = [entry for entry in self._waiting if behind(entry)]
        self._waiting = deque(entry for entry in self._waiting if not behind(entry))
        place = getattr(error, "address", "sqs:")
        for entry in dropped:
            entry.post.put(entry.place, BrokerUnavailable(place, "what stands before it in its line was not sent"))

    def _next(self) -> list[_Entry[A]]:
        """The first entries that fit, one of each line; the others keep their places."""
        batch: list[_Entry[A]] = []
        passed: list[_Entry[A]] = []
        lines: set[str] = set()
        size = 0
        while self._waiting and len(batch) < MOST and len(passed) < _AHEAD:
            entry = self._waiting[0]
            if entry.line in lines:
                passed.append(self._waiting.popleft())
                continue
            size += entry.size
            if batch and size > LARGEST:
                break
            batch.append(self._waiting.popleft())
            if entry.line is not None:
                lines.add(entry.line)
        self._waiting.extendleft(reversed(passed))
        return batch

    async def _do(self, batch: list[_Entry[A]]) -> None:
        results: Sequence[A | BrokerError]
        try:
            results = await self._run([entry.payload for entry in batch])
        except BrokerError as error:
            results = self._all_failed(batch, error)
        except Exception as error:  # noqa: BLE001 - whoever waits must be told, whatever it was
            results = self._all_failed(batch, OutcomeUnknown("sqs:", f"{type(error).__name__}: {error}"))
        finally:
            self._busy -= 1
        for entry, result in zip(batch, results, strict=True):
            if entry.line is not None and _holds_up(result):
                self._drop_behind(functools.partial(_is_behind, entry), result)
            entry.post.put(entry.place, result)
        self._start()

    def _all_failed(self, batch: list[_Entry[A]], error: BrokerError) -> list[A | BrokerError]:
        """Where order counts, nothing more of the same callers is tried, in whatever line."""
        if self._lanes == 1:
            posts = {id(entry.post) for entry in batch}
            self._drop_behind(lambda one: id(one.post) in posts, error)
        return [error] * len(batch)


def _is_behind(entry: _Entry[Any], one: _Entry[Any]) -> bool:
    """Whether the same caller put it into the same line."""
    return one.post is entry.post and one.line == entry.line


def _holds_up(result: object) -> TypeGuard[BrokerError]:
    """Whether sending it again may do it, so that nothing may go past it."""
    return isinstance(result, BrokerError) and not isinstance(result, LimitExceeded)


async def in_parts(
    entries: Sequence[dict[str, Any]], request: Request, *, place: Place, action: str, queue: str
) -> list[dict[str, Any] | BrokerError]:
    """Do a batch, the parts that failed once more, and each by itself when the whole was refused.

    Args:
        entries: without `Id`.
        request: makes one batch request.
        place: whom failures are told about.
        action: as SQS names it.
        queue: its name.

    Raises:
        BrokerError: If it failed as a whole, by no entry's fault.
    """
    results: list[dict[str, Any] | BrokerError] = [BrokerUnavailable(place.address, "not asked")] * len(entries)
    left = list(range(len(entries)))
    for tries_left in reversed(range(_ANEW + 1)):
        try:
            answer = await request([{"Id": str(index), **entries[index]} for index in left])
        except (Refused, LimitExceeded) as error:
            if len(left) == 1:
                results[left[0]] = error
                return results
            for index in left:
                results[index] = await _alone(entries[index], request, place=place, action=action, queue=queue)
            return results
        except BrokerError as error:
            if len(left) == len(entries):
                raise
            for index in left:
                results[index] = error
            return results
        left = _sorted_in(answer, results, left, place=place, action=action, queue=queue)
        if not left or not tries_left:
            return results
        await asyncio.sleep(_PAUSE * 2 ** (_ANEW - tries_left))
    return results


async def _alone(
    entry: dict[str, Any], request: Request, *, place: Place, action: str, queue: str
) -> dict[str, Any] | BrokerError:
    """One of a batch that is taken apart: its failure is its own, for others may have been done by then."""
    try:
        (result,) = await in_parts([entry], request, place=place, action=action, queue=queue)
    except BrokerError as error:
        return error
    return result


def _sorted_in(
    answer: dict[str, Any],
    results: list[dict[str, Any] | BrokerError],
    asked: Sequence[int],
    *,
    place: Place,
    action: str,
    queue: str,
) -> list[int]:
    """Put the answers where they belong; which entries failed by no fault of theirs.

    One that the answer does not name counts as one whose outcome is not known.
    """
    for index in asked:
        results[index] = OutcomeUnknown(place.address, f"{action} did not answer for every message")
    for one in answer.get("Successful") or ():
        if one.get("Id", "").isdecimal() and int(one["Id"]) in asked:
            results[int(one["Id"])] = one
    again: list[int] = []
    for one in answer.get("Failed") or ():
        if not one.get("Id", "").isdecimal() or int(one["Id"]) not in asked:
            continue
        error = place.of_answer(one, 400 if one.get("SenderFault", True) else 500, action, queue)
        if isinstance(error, OutcomeUnknown):  # SQS says that it failed: there is no doubt
            error = BrokerUnavailable(place.address, error.problem)
        results[int(one["Id"])] = error
        if isinstance(error, BrokerUnavailable) and not isinstance(error, NotNow):
            again.append(int(one["Id"]))
    return again


def whole(results: Sequence[Any], *kinds: type[BrokerError]) -> None:
    """Raise the error that all of them have in common, when it is none of their own.

    Args:
        results: one for each entry.
        kinds: what is nobody's own, besides BrokerUnavailable and OutcomeUnknown.

    Raises:
        BrokerError: If there is one.
    """
    if results and all(isinstance(one, (BrokerUnavailable, OutcomeUnknown, *kinds)) for one in results):
        raise results[0]
