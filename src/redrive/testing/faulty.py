"""A broker and a store that fail when they are told to: for tests of what an application does then.

Each goes in front of a real one. Four things can go wrong with a call:

    refused         nothing happened, and the error says so: BrokerUnavailable, StoreUnavailable
    request lost    nothing happened, and nobody knows: OutcomeUnknown, StoreUnavailable
    answer lost     it happened, and nobody knows: the same errors
    late            it happens, and takes longer

An answer that is lost is the fault that shows most: a message was received and nobody has it, a settlement counts and
is made again, a claim is taken and its owner does not know.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import ClassVar, TypeVar

from redrive.broker import Broker
from redrive.errors import BrokerUnavailable, OutcomeUnknown, StoreUnavailable
from redrive.relay import Relay
from redrive.store import Entry, Namespace, Store

T = TypeVar("T")
_WHY = "it was made to fail, on purpose"


class Fault(StrEnum):
    """What goes wrong with a call."""

    REFUSED = "refused"
    REQUEST_LOST = "request lost"
    ANSWER_LOST = "answer lost"
    LATE = "late"


@dataclass(slots=True, kw_only=True)
class _Rule:
    """Which calls a fault is for."""

    fault: Fault
    calls: frozenset[str]
    nth: int | None
    share: float
    seconds: float = 0.0
    seen: int = 0

    def applies(self, call: str, random: Random) -> bool:
        if call not in self.calls:
            return False
        self.seen += 1
        return random.random() < self.share if self.nth is None else self.seen == self.nth


class Injector:
    """Which calls fail, and how: what a FaultyBroker and a FaultyStore have in common.

    Every method takes the names of calls, as the port has them (`"send"`, `"settle"`); without one it means every
    call. `nth=3` means the third of those calls from now, and no other; `share=0.1` one in ten, drawn from the seed;
    neither, all of them. Of several faults for one call the first one told counts; being late comes on top.
    """

    CALLS: ClassVar[frozenset[str]] = frozenset()
    """The calls that can fail. `close` cannot."""

    def __init__(self, seed: int) -> None:
        self._rules: list[_Rule] = []
        self._random = Random(seed)  # noqa: S311 - repeatable on purpose
        self.injected: Counter[tuple[str, str]] = Counter()
        """How often what was done to which call: `injected["settle", "answer lost"]`."""

    def refuse(self, *calls: str, nth: int | None = None, share: float = 1.0) -> None:
        """Let calls fail before anything happens; the error says that nothing did."""
        self._add(Fault.REFUSED, calls, nth, share)

    def lose_requests(self, *calls: str, nth: int | None = None, share: float = 1.0) -> None:
        """Let calls fail before anything happens; the error leaves it open."""
        self._add(Fault.REQUEST_LOST, calls, nth, share)

    def lose_answers(self, *calls: str, nth: int | None = None, share: float = 1.0) -> None:
        """Let calls happen and fail; the error leaves it open."""
        self._add(Fault.ANSWER_LOST, calls, nth, share)

    def delay(self, seconds: float, *calls: str, nth: int | None = None, share: float = 1.0) -> None:
        """Let calls wait so many real seconds before they happen."""
        self._add(Fault.LATE, calls, nth, share, seconds)

    def recover(self) -> None:
        """From now on nothing fails."""
        self._rules.clear()

    def _add(self, fault: Fault, calls: Sequence[str], nth: int | None, share: float, seconds: float = 0.0) -> None:
        unknown = set(calls) - self.CALLS
        if unknown or not 0 <= share <= 1 or (nth is not None and nth < 1) or seconds < 0:
            names = ", ".join(sorted(self.CALLS))
            raise ValueError(f"{fault}: calls are {names}; nth is 1 or more, share 0 to 1, seconds 0 or more")
        self._rules.append(
            _Rule(fault=fault, calls=frozenset(calls) or self.CALLS, nth=nth, share=share, seconds=seconds)
        )

    async def _injected(self, call: str, work: Callable[[], Awaitable[T]], refused: Exception, unknown: Exception) -> T:
        due = [one for one in self._rules if one.applies(call, self._random)]
        for late in [one for one in due if one.fault is Fault.LATE]:
            self.injected[call, late.fault.value] += 1
            await asyncio.sleep(late.seconds)
        fault = next((one.fault for one in due if one.fault is not Fault.LATE), None)
        if fault is None:
            return await work()
        self.injected[call, fault.value] += 1
        if fault is Fault.REFUSED:
            raise refused
        if fault is Fault.ANSWER_LOST:
            await work()
        raise unknown


class FaultyBroker(Injector, Relay):
    """A broker in front of another one, whose calls fail when they are told to."""

    _WRITES: ClassVar[frozenset[str]] = frozenset({"declare", "send", "receive", "settle", "extend", "purge"})
    CALLS = _WRITES | {"browse", "depth", "queues"}

    def __init__(self, broker: Broker, *, seed: int = 0) -> None:
        Injector.__init__(self, seed)
        Relay.__init__(self, broker)

    async def _pass(self, call: str, work: Callable[[], Awaitable[T]]) -> T:
        refused = BrokerUnavailable(self.address, _WHY)
        unknown = OutcomeUnknown(self.address, _WHY) if call in self._WRITES else refused
        return await self._injected(call, work, refused, unknown)


class FaultyStore(Injector):
    """A store in front of another one, whose calls fail when they are told to."""

    CALLS = frozenset({"get", "put", "delete", "due", "scan"})

    def __init__(self, store: Store, *, seed: int = 0) -> None:
        super().__init__(seed)
        self._store = store

    @property
    def address(self) -> str:
        """Where the store is."""
        return self._store.address

    @property
    def max_value(self) -> int:
        """Largest value, in bytes."""
        return self._store.max_value

    async def get(self, namespace: Namespace, key: str) -> Entry | None:
        """The entry."""
        return await self._pass("get", lambda: self._store.get(namespace, key))

    async def put(
        self,
        namespace: Namespace,
        key: str,
        value: bytes,
        *,
        if_version: int,
        due_at_ms: int | None = None,
        expires_at_ms: int | None = None,
    ) -> int:
        """Write the entry."""
        times = {"due_at_ms": due_at_ms, "expires_at_ms": expires_at_ms}
        return await self._pass("put", lambda: self._store.put(namespace, key, value, if_version=if_version, **times))

    async def delete(self, namespace: Namespace, key: str, *, if_version: int) -> None:
        """Remove the entry."""
        await self._pass("delete", lambda: self._store.delete(namespace, key, if_version=if_version))

    async def due(self, namespace: Namespace, *, before_ms: int, limit: int) -> Sequence[Entry]:
        """Entries that are due."""
        return await self._pass("due", lambda: self._store.due(namespace, before_ms=before_ms, limit=limit))

    async def scan(self, namespace: Namespace, *, after: str = "", limit: int = 100) -> Sequence[Entry]:
        """Entries by key."""
        return await self._pass("scan", lambda: self._store.scan(namespace, after=after, limit=limit))

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()

    async def _pass(self, call: str, work: Callable[[], Awaitable[T]]) -> T:
        unavailable = StoreUnavailable(self.address, _WHY)
        return await self._injected(call, work, unavailable, unavailable)
