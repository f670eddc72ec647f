"""Whatever handlers do and wherever a worker is torn down, on a broker that can do less nothing is lost or miscounted.

A worker is torn down between any two calls that reach the broker or the store: each forward is two of them, each return
with notes three. From then on every call of that worker fails, as those of a dead process do.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from redrive import App, Backoff, Context, Dependency, Queue, Reject, RetryLater
from redrive.broker import Broker
from redrive.catalogue import DEAD
from redrive.harness import Harness
from redrive.message import Message
from redrive.operations import Operations
from redrive.relay import Relay
from redrive.store import Store
from redrive.testing import FaultyStore, PlainBroker
from tests.runtime.fakes import Down, Order

T = TypeVar("T")
MAX_ATTEMPTS = 3
HORIZON = 400
"""Leases within which everything has to be over: far more than it takes."""


class Torn(BaseException):
    """The worker is no more."""


@dataclass
class Life:
    """Counts the calls of a worker, and ends it at the ones it is told."""

    ends: list[tuple[int, bool]]
    """After how many calls of each life it ends, and whether the last one still takes effect."""
    is_over: bool = False
    calls: int = 0
    deaths: int = 0

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        if self.is_over:
            raise Torn
        self.calls += 1
        if not self.ends or self.calls < self.ends[0][0]:
            return await work()
        self.is_over = True
        if self.ends[0][1]:
            await work()
        raise Torn

    def begin_anew(self) -> None:
        """Another worker starts."""
        self.is_over, self.calls = False, 0
        self.deaths += 1
        self.ends.pop(0)


class MortalBroker(Relay):
    """Calls of a worker that may end."""

    def __init__(self, broker: Broker, life: Life) -> None:
        super().__init__(broker)
        self._life = life

    async def _pass(self, call: str, work: Callable[[], Awaitable[T]]) -> T:
        return await (work() if call in {"declare", "close"} else self._life.call(work))


class MortalStore(FaultyStore):
    """Likewise."""

    def __init__(self, store: Store, life: Life) -> None:
        super().__init__(store)
        self._life = life

    async def _pass(self, call: str, work: Callable[[], Awaitable[T]]) -> T:
        assert call
        return await self._life.call(work)


@dataclass
class Shop:
    """An application whose handler does what each order's script says, run by run, and then handles it."""

    scripts: list[list[str]]
    fifo: bool
    app: App[None] = field(init=False)
    payments: Dependency[None] = field(init=False)
    queue: Queue[Order] = field(init=False)
    runs: Counter[str] = field(default_factory=Counter)
    raised: Counter[str] = field(default_factory=Counter)
    rejected: set[str] = field(default_factory=set)
    handled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.app = App("test")
        self.payments = self.app.dependency("payments", trip_after=2, canary=lambda: asyncio.sleep(0))
        self.queue = self.app.queue("orders", Order, fifo=self.fifo)

        @self.queue.consumer(
            needs=[self.payments], max_attempts=MAX_ATTEMPTS, backoff=Backoff(first=1.0, maximum=5.0), lease=30.0
        )
        async def handle(_ctx: Context[None], order: Order) -> None:
            script = self.scripts[int(order.id)]
            run, self.runs[order.id] = self.runs[order.id], self.runs[order.id] + 1
            match script[run] if run < len(script) else "handle":
                case "raise":
                    self.raised[order.id] += 1
                    raise ValueError(order.id)
                case "later":
                    raise RetryLater(after=3.0)
                case "reject":
                    self.rejected.add(order.id)
                    raise Reject("never")
                case "down":
                    async with self.payments:
                        raise Down
                case _:
                    self.handled.append(order.id)


@dataclass
class End:
    """How it was when it was over."""

    dead: list[Message]
    entries: set[str]
    ids: list[str]
    notes_left: int
    deaths: int


async def lived(shop: Shop, ends: list[tuple[int, bool]]) -> End:
    """Send everything, and let worker after worker run until nothing is left to do."""
    life = Life([])

    def less(real: Broker) -> PlainBroker:
        return PlainBroker(MortalBroker(real, life))

    async with shop.app.test(broker=less, store=lambda real: MortalStore(real, life)) as t:
        ids = [
            await shop.queue.send(Order(id=str(number)), group="ab"[number % 2]) for number in range(len(shop.scripts))
        ]
        life.ends, life.calls = list(ends), 0
        for _ in range(HORIZON):
            await _one_lease(t, life)
            if await _is_over(t, shop):
                break
        else:
            raise AssertionError("it is not over")
        life.ends = []
        entries = {one.id async for one in Operations.of(shop.app, who="me").letters(state=DEAD)}
        count = "SELECT count(*) FROM entry WHERE namespace = 'notes'"
        left = t._database.tables.connection.execute(count).get
        return End(await t.dead(shop.queue), entries, ids, left, life.deaths)


async def _one_lease(t: Harness[Any], life: Life) -> None:
    try:
        await t.advance(31)
    except Torn:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        life.begin_anew()
        t._set_up_leaders()


async def _is_over(t: Harness[Any], shop: Shop) -> bool:
    depths = [await t._broker.depth(one) for one in ("orders", "orders-parked-payments")]
    return not any(one.total for one in depths) and len(shop.runs) == len(shop.scripts)


OUTCOME = st.sampled_from(["raise", "raise", "later", "down", "reject", "handle"])
SCRIPTS = st.lists(st.lists(OUTCOME, max_size=6), min_size=1, max_size=4)
ENDS = st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=4)


def check(shop: Shop, end: End) -> None:
    """What holds whatever happened."""
    dead = Counter(message.id for message in end.dead)
    for number, identity in enumerate(end.ids):
        name = str(number)
        assert name in shop.handled or identity in dead, "lost"
        if identity in dead:
            assert identity in end.entries, "dead without an entry"
            assert name in shop.rejected or shop.raised[name] >= MAX_ATTEMPTS, "dead too early"
        again = end.deaths + 1
        assert shop.raised[name] <= MAX_ATTEMPTS * again + end.deaths, "run too often"
    for message in end.dead:
        record = message.notes.failure
        assert record is not None
        kinds = Counter(one.kind for one in record.recent)
        assert kinds["raised"] == message.notes.attempts
        assert message.notes.attempts == MAX_ATTEMPTS or record.last.kind == "rejected"
        assert message.notes.attempts <= MAX_ATTEMPTS
        if not shop.fifo:  # what waits in its place has its bounces counted, not written down
            assert kinds["unavailable"] >= message.notes.bounces


@pytest.mark.parametrize("fifo", [False, True])
@settings(max_examples=25)
@given(scripts=SCRIPTS, ends=ENDS)
def test_nothing_is_lost_or_miscounted(*, fifo: bool, scripts: list[list[str]], ends: list[tuple[int, bool]]) -> None:
    """Each message is handled, or dead after its attempts and with an entry, wherever workers were torn down."""
    shop = Shop(scripts, fifo)
    end = asyncio.run(lived(shop, ends))
    event(f"{end.deaths} workers torn down")
    check(shop, end)
    if fifo:
        handled = [one for one in dict.fromkeys(shop.handled) if end.ids[int(one)] not in {one.id for one in end.dead}]
        for group in ("0", "1"):
            of_group = [int(one) for one in handled if int(one) % 2 == int(group)]
            assert of_group == sorted(of_group), "out of order"
    if not end.deaths:
        assert len(set(shop.handled)) + len(end.dead) == len(scripts), "there twice"
        assert max(Counter(shop.handled).values(), default=1) == 1
        assert not end.notes_left


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fifo", [False, True])
@settings(max_examples=3_000)
@given(scripts=SCRIPTS, ends=st.lists(st.tuples(st.integers(1, 120), st.booleans()), max_size=8))
def test_nothing_is_lost_or_miscounted_at_length(
    *, fifo: bool, scripts: list[list[str]], ends: list[tuple[int, bool]]
) -> None:
    """The same, many more times."""
    shop = Shop(scripts, fifo)
    check(shop, asyncio.run(lived(shop, ends)))


@pytest.mark.parametrize(
    ("script", "happens"),
    [
        (["raise"] * 3, True),
        (["raise"] * 2 + ["reject"], False),
        pytest.param(["raise", "down", "raise", "raise"], True, marks=pytest.mark.long),
        pytest.param(["raise", "down", "raise", "raise"], False, marks=pytest.mark.long),
    ],
)
def test_a_worker_may_be_torn_down_at_every_single_call(script: list[str], *, happens: bool) -> None:
    """One message on its way to death, one teardown, at each call in turn: it is dead after exactly its attempts."""
    last = 1
    while True:
        shop = Shop([script], fifo=False)
        end = asyncio.run(lived(shop, [(last, happens)]))
        check(shop, end)
        if not end.deaths:
            break
        last += 1
    assert last > 20
