"""What a handler raises decides what becomes of its message, and of no other."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from redrive import App, Backoff, Context, Reject, RetryLater, Unavailable
from redrive.errors import UndeclaredDependency
from redrive.message import MAX_RECORD, Message
from tests.runtime.fakes import Order

pytestmark = pytest.mark.usefixtures("any_broker")


def an_app(*raises: BaseException | None, **settings: Any) -> tuple[App[None], Any, list[Context[None]]]:
    """An application whose handler raises what is given, run by run, and the last one for ever."""
    app = App("test", redact=settings.pop("redact", None), code_version="v7")
    needs = [app.dependency("payments", trip_after=100)] if settings.pop("needs", True) else []
    queue = app.queue("orders", Order)
    runs: list[Context[None]] = []

    @queue.consumer(needs=needs, **settings)
    async def handle(ctx: Context[None], _order: Order) -> None:
        runs.append(ctx)
        error = raises[min(len(runs), len(raises)) - 1]
        if error is not None:
            error.__traceback__ = None  # one error is raised many times here, and would gather traces
            raise error

    return app, queue, runs


async def the_dead(app: App[None], queue: Any, order: Order | None = None) -> Message:
    """The one message that is dead once everything had time to happen."""
    async with app.test() as t:
        await queue.send(order or Order(id="1"))
        await t.advance(3600)
        (dead,) = await t.dead(queue)
        return dead


async def test_reject_is_dead_at_once_with_its_reason() -> None:
    """`Reject` makes a message dead in its first turn, and says why."""
    app, queue, runs = an_app(Reject("no such drink"))
    dead = await the_dead(app, queue)
    assert len(runs) == 1
    assert dead.notes.failure is not None
    assert dead.notes.failure.reason == "rejected by the handler: no such drink"
    assert dead.notes.failure.last.kind == "rejected"
    assert dead.notes.attempts == 0


async def test_a_type_in_dead_on_is_dead_at_once() -> None:
    """An error of a type in `dead_on`, or below it, is never retried."""
    app, queue, runs = an_app(KeyError("drink"), dead_on=[LookupError])
    dead = await the_dead(app, queue)
    assert len(runs) == 1
    assert dead.notes.failure is not None
    assert "KeyError: 'drink'" in dead.notes.failure.reason


@pytest.mark.parametrize("after", [90.0, 90, timedelta(seconds=90)])
async def test_retry_later_comes_back_when_it_said_and_counts_nothing(after: Any) -> None:
    """`RetryLater(after=...)` is not delivered before its time, given in seconds or as a timedelta, nor counted."""
    app, queue, runs = an_app(RetryLater("busy", after=after), None, max_attempts=1)
    async with app.test() as t:
        await queue.send(Order(id="1"))
        await t.advance(89)
        assert len(runs) == 1
        await t.advance(2)
        assert len(runs) == 2
        assert [run.attempt for run in runs] == [1, 1]
        assert not await t.waiting(queue)
        assert not await t.dead(queue)


@pytest.mark.parametrize("after", [float("nan"), float("inf"), -5.0, "soon", None])
async def test_retry_later_with_a_senseless_time_still_comes_back(after: Any) -> None:
    """A time that is none delays the message by the backoff or not at all; it neither loses nor kills it."""
    app, queue, runs = an_app(RetryLater("busy", after=after), None, needs=False)
    async with app.test() as t:
        await queue.send(Order(id="1"))
        await t.advance(13 * 3600)
        assert len(runs) == 2
        assert not await t.dead(queue)


async def test_retry_later_may_be_raised_for_ever() -> None:
    """Throttling is not failure: a hundred times `RetryLater` never make a message dead, by nobody's limit."""
    app, queue, runs = an_app(*[RetryLater(after=5.0)] * 100, None)
    async with app.test() as t:
        await queue.send(Order(id="1"))
        await t.advance(1000)
        assert len(runs) == 101
        assert not await t.dead(queue)
        assert not await t.waiting(queue)


async def test_anything_else_is_an_attempt_and_max_attempts_is_exact() -> None:
    """The handler runs `max_attempts` times and not once more; each attempt stands in the record."""
    app, queue, runs = an_app(ValueError("one"), OSError("two"), ZeroDivisionError("three"), ValueError("four"))
    dead = await the_dead(app, queue)
    assert [run.attempt for run in runs] == [1, 2, 3]
    record = dead.notes.failure
    assert record is not None
    assert dead.notes.attempts == 3
    assert [one.text for one in record.recent] == ["one", "two", "three"]
    assert record.total == 3
    assert record.first.text == "one"
    assert record.last.error == "ZeroDivisionError"
    assert "raise error" in record.last.traceback
    assert (record.last.queue, record.last.code_version) == ("orders", "v7")
    assert record.last.worker
    assert record.reason == "3 of 3 attempts: ZeroDivisionError: three"


@pytest.mark.parametrize("attempts", [1, 7, 40, 1500])
async def test_any_number_of_attempts_can_be_asked_for(attempts: int) -> None:
    """`max_attempts` is kept however large it is: no limit of the broker comes before it."""
    app, queue, runs = an_app(
        ValueError("no"), max_attempts=attempts, backoff=Backoff(first=0.001, maximum=0.001, factor=1.0)
    )
    dead = await the_dead(app, queue)
    assert len(runs) == attempts
    assert dead.notes.attempts == attempts
    assert dead.notes.failure is not None
    assert dead.notes.failure.total == attempts
    assert len(dead.notes.failure.recent) == min(attempts, 20)


async def test_the_backoff_is_full_jitter_within_its_bounds() -> None:
    """The n-th delay lies between 0 and min(maximum, first x 2^(n-1)), and is not always the same."""
    delays: dict[int, set[float]] = {1: set(), 2: set(), 3: set()}
    for seed in range(20):
        backoff = Backoff(first=10.0, maximum=15.0)
        app, queue, runs = an_app(ValueError("no"), max_attempts=4, backoff=backoff, needs=False)
        times: list[int] = []
        async with app.test(seed=seed) as t:
            await queue.send(Order(id="1"))
            while len(runs) < 4:
                await t.advance(0.05)
                times += [t.clock.now_ms()] * (len(runs) - len(times))
        for number, seen in delays.items():
            seen.add((times[number] - times[number - 1]) / 1000)
    for number, longest in ((1, 10.0), (2, 15.0), (3, 15.0)):
        assert max(delays[number]) <= longest + 0.1
        assert max(delays[number]) > longest * 0.8
        assert min(delays[number]) < longest * 0.2
        assert len(delays[number]) > 10


GROUPS = [
    (ExceptionGroup("all", [Unavailable("payments", "x"), ValueError("bug"), Reject("never")]), "rejected"),
    (ExceptionGroup("all", [Unavailable("payments", "x"), ExceptionGroup("in", [Reject("never")])]), "rejected"),
    (ExceptionGroup("all", [Unavailable("payments", "x"), ValueError("bug")]), "raised"),
    (ExceptionGroup("all", [RetryLater(after=1), ValueError("bug")]), "raised"),
    (ExceptionGroup("all", [RetryLater(after=1), Unavailable("payments", "x")]), "unavailable"),
    (ExceptionGroup("all", [RetryLater(after=1), RetryLater(after=2)]), "later"),
    (BaseExceptionGroup("all", [SystemExit(1), Unavailable("payments", "x")]), "raised"),
]


@pytest.mark.parametrize(("group", "kind"), GROUPS)
async def test_the_leaves_of_a_group_decide(group: BaseException, kind: str) -> None:
    """Of an exception group `Reject` counts first, then any other error, then `Unavailable`."""
    app, queue, _ = an_app(group, None)
    async with app.test() as t:
        await queue.send(Order(id="1"))
        await t.drain()
        assert dict(t.runtime.counters.outcomes) == {kind: 1}


class Unprintable(Exception):
    """Neither its text nor its representation can be had, and it cannot be pickled."""

    def __init__(self) -> None:
        self.callback = lambda: None

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    def __reduce__(self) -> Any:
        raise TypeError("no pickle")


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), asyncio.CancelledError(), Unprintable(), StopAsyncIteration(), StopIteration(), TimeoutError()],
)
async def test_odd_exceptions_are_attempts_like_any_other(error: BaseException) -> None:
    """SystemExit, a CancelledError of its own making and what cannot be printed end a turn, not a worker."""
    app, queue, runs = an_app(error)
    dead = await the_dead(app, queue)
    assert len(runs) == 3
    assert dead.notes.failure is not None
    assert dead.notes.attempts == 3
    assert dead.notes.failure.last.error


async def test_a_plain_function_that_raises_stop_iteration_is_an_attempt() -> None:
    """A `def` handler may raise what a future cannot carry."""
    app = App("test")
    queue = app.queue("orders", Order)

    @queue.consumer(max_attempts=1)
    def handle(_order: Order) -> None:
        next(iter(()))

    dead = await the_dead(app, queue)
    assert dead.notes.attempts == 1


async def test_lone_surrogates_and_endless_texts_are_written_down() -> None:
    """Whatever an error says can be recorded."""
    app, queue, _ = an_app(ValueError("\ud800 \x00 " + "x" * 1_000_000))
    dead = await the_dead(app, queue)
    assert dead.notes.failure is not None
    assert dead.notes.failure.last.text.startswith("\\ud800")


async def test_a_record_is_never_larger_than_32_kb() -> None:
    """ASCII JSON of at most 32 KB, whatever stood in texts and traces; times, types and the count stay."""
    error: BaseException = ValueError("\U0001f525" * 100_000)
    for _ in range(40):
        try:
            raise RuntimeError("\U0001f525" * 10_000) from error  # noqa: TRY301 - a chain of causes
        except RuntimeError as next_error:
            error = next_error
    app, queue, _ = an_app(error, max_attempts=60, backoff=Backoff(first=0.01, maximum=0.01))
    dead = await the_dead(app, queue)
    record = dead.notes.failure
    assert record is not None
    text = dead.notes.to_json()
    assert text is not None
    assert text.isascii()
    assert len(json.dumps(record.to_document())) <= MAX_RECORD
    assert record.total == 60
    assert record.last.error == "RuntimeError"


async def test_redaction_reaches_every_text_of_a_failure() -> None:
    """Nothing that `redact` takes away can be found in the record, the catalogue or the dead letter."""
    app, queue, _ = an_app(
        ValueError("card 4111-1111 refused"), max_attempts=2, redact=lambda text: text.replace("4111-1111", "****")
    )
    told: list[str] = []
    app.on_dead(lambda message, reason: told.append(reason + str(message.notes.to_json())))
    async with app.test() as t:
        await queue.send(Order(id="1"))
        await t.advance(100)
        (dead,) = await t.dead(queue)
        rows = t.runtime.store._database.tables.connection.execute("SELECT value FROM entry").fetchall()  # type: ignore[attr-defined]
    assert dead.notes.failure is not None
    assert "card ****" in dead.notes.failure.last.text
    assert "4111" not in str(dead.notes.to_json())
    assert all(b"4111" not in value for (value,) in rows)
    assert told
    assert "4111" not in told[0]


async def test_redaction_reaches_what_is_said_of_a_dependency() -> None:
    """The reason of a circuit, the error of a canary and what a parked message carries are texts of failures too."""
    app: App[None] = App("test", redact=lambda text: text.replace("4111", "****"))

    async def canary() -> None:
        raise ConnectionError("canary 4111")

    payments = app.dependency("payments", trip_after=1, canary=canary)
    queue = app.queue("orders", Order)

    @queue.consumer(needs=[payments])
    async def handle(_order: Order) -> None:
        async with payments:
            raise ConnectionError("no route for 4111")

    async with app.test() as t:
        await queue.send(Order(id="1"))
        await t.advance(100)
        rows = t.runtime.store._database.tables.connection.execute("SELECT value FROM entry").fetchall()  # type: ignore[attr-defined]
        (parked,) = await t.parked(queue)
    assert any(b"****" in value for (value,) in rows)
    assert all(b"4111" not in value for (value,) in rows)
    assert "4111" not in str(parked.notes.to_json())


async def test_redaction_that_raises_hides_the_text_and_holds_nothing_up() -> None:
    """A broken `redact` leaks nothing: the text is left out, and the message goes its way."""

    def broken(_: str) -> str:
        raise KeyError("oops")

    app, queue, runs = an_app(ValueError("card 4111"), max_attempts=2, redact=broken)
    dead = await the_dead(app, queue)
    assert len(runs) == 2
    assert dead.notes.failure is not None
    assert "4111" not in str(dead.notes.to_json())
    assert dead.notes.failure.last.error == "ValueError"


async def test_unavailable_raised_by_hand_bounces_and_parks_nothing_while_the_circuit_is_closed() -> None:
    """`raise Unavailable(...)` with the circuit closed is a bounce: delayed, no attempt."""
    app, queue, runs = an_app(Unavailable("payments", "I said so"), None)
    async with app.test() as t:
        await queue.send(Order(id="1"))
        await t.drain()
        (waiting,) = await t.waiting(queue)
        assert (waiting.notes.bounces, waiting.notes.attempts) == (1, 0)
        assert not await t.parked(queue)
        await t.advance(60)
        assert [run.bounces for run in runs] == [0, 1]
        assert not await t.waiting(queue)


async def test_unavailable_raised_by_hand_for_what_nobody_declared_is_delayed() -> None:
    """Of a dependency that `needs` does not name there is no parked queue: the message is delayed, and it says so."""
    app, queue, _ = an_app(Unavailable("elsewhere", "gone", circuit_open=True), max_bounces=3)
    dead = await the_dead(app, queue)
    assert dead.notes.bounces == 3
    assert dead.notes.failure is not None
    assert dead.notes.failure.reason == "3 of 3 bounces: dependency 'elsewhere' is unavailable: gone"


async def test_using_what_needs_does_not_name_is_an_error_that_says_so() -> None:
    """A handler that uses a dependency it did not declare fails with the remedy in the text."""
    app = App("test")
    fraud = app.dependency("fraud")
    queue = app.queue("orders", Order)

    @queue.consumer(max_attempts=1)
    async def handle(_order: Order) -> None:
        async with fraud:
            pass

    dead = await the_dead(app, queue)
    assert dead.notes.failure is not None
    assert dead.notes.failure.last.text == str(UndeclaredDependency("fraud", "orders"))
    assert "needs=[...]" in dead.notes.failure.last.text


async def test_a_handler_that_takes_too_long_is_an_attempt() -> None:
    """The time limit of a turn ends it, as an attempt of the kind `timeout`."""
    app = App("test")
    queue = app.queue("orders", Order)

    @queue.consumer(max_attempts=1, timeout=0.05)
    async def handle(_order: Order) -> None:
        await asyncio.Event().wait()

    dead = await the_dead(app, queue)
    assert dead.notes.failure is not None
    assert dead.notes.failure.last.kind == "timeout"


async def test_a_callable_that_gives_an_awaitable_is_awaited() -> None:
    """A handler that is no coroutine function but gives a coroutine is not taken for done before it ran."""
    app = App("test")
    queue = app.queue("orders", Order)
    done: list[str] = []

    async def inner(order: Order) -> None:
        await asyncio.sleep(0)
        done.append(order.id)

    @queue.consumer()
    def handle(order: Order) -> Any:
        return inner(order)

    async with app.test() as t:
        await queue.send(Order(id="1"))
        await t.drain()
    assert done == ["1"]
