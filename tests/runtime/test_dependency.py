"""A dependency: one try each time, what counts as its fault, and never more calls at once than were allowed."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from redrive import App, Context, Dependency, Reject, RetryLater, Unavailable
from redrive.circuit import State
from redrive.store import CIRCUITS
from tests.runtime.fakes import Down, FailingStore, Order, opened, until, within, working


class ValidationError(Exception):
    """Named like pydantic's."""


def an_app(**settings: Any) -> tuple[App[None], Dependency[None]]:
    app = App("test")
    return app, app.dependency("payments", **{"trip_after": 100, **settings})


async def fails(dependency: Dependency[Any], error: BaseException) -> BaseException:
    """One try in which `error` is raised; what left the block."""
    try:
        async with dependency:
            raise error  # noqa: TRY301 - what the block raises
    except Exception as left:  # noqa: BLE001 - whatever it is
        return left


async def test_a_fault_leaves_the_block_as_unavailable_with_its_cause() -> None:
    """What fails inside is `Unavailable`, says what it was, and was counted."""
    app, payments = an_app()
    async with app.test() as t:
        error = await fails(payments, Down("connection refused"))
        assert isinstance(error, Unavailable)
        assert (error.dependency, error.circuit_open, error.counted) == ("payments", False, True)
        assert "connection refused" in error.reason
        assert isinstance(error.__cause__, Down)
        assert t.runtime.counters.calls["payments"] == 1
        assert t.runtime.counters.failures["payments"] == 1


@pytest.mark.parametrize(
    "error",
    [TypeError("x"), AttributeError("x"), NameError("x"), KeyError("x"), IndexError("x"), AssertionError("x"),
     ValidationError("x"), Reject("x"), RetryLater("x"), Unavailable("other", "x")],
)  # fmt: skip
async def test_bugs_and_decisions_are_no_faults(error: Exception) -> None:
    """A bug, a decision and another dependency's outage leave the block as they are and never open the circuit."""
    app, payments = an_app(trip_after=1)
    async with app.test() as t:
        assert await fails(payments, error) is error
        assert t.runtime.counters.failures["payments"] == 0
        assert payments.gate is not None
        assert not payments.gate.open_here


async def test_faults_may_be_types() -> None:
    """With `faults=` of types only these count, whatever they are."""
    app, payments = an_app(faults=(KeyError, OSError))
    async with app.test():
        assert isinstance(await fails(payments, KeyError("x")), Unavailable)
        assert isinstance(await fails(payments, ConnectionResetError()), Unavailable)
        bug = ZeroDivisionError()
        assert await fails(payments, bug) is bug


async def test_faults_may_be_a_predicate() -> None:
    """With a predicate it alone decides."""
    app, payments = an_app(faults=lambda error: "500" in str(error))
    async with app.test():
        assert isinstance(await fails(payments, ValueError("500")), Unavailable)
        answer = ValueError("404")
        assert await fails(payments, answer) is answer


async def test_of_a_group_one_fault_is_enough() -> None:
    """What a task group inside the block raises is a fault if one of its errors is."""
    app, payments = an_app()
    async with app.test():
        assert isinstance(await fails(payments, ExceptionGroup("x", [TypeError(), Down()])), Unavailable)
        bug = ExceptionGroup("x", [TypeError(), KeyError()])
        assert await fails(payments, bug) is bug


async def test_a_predicate_that_raises_does_not_keep_its_place() -> None:
    """A bug in `faults=` shows itself, and costs no place: the next calls go through."""
    app, payments = an_app(concurrency=1, faults=lambda error: error.response.status >= 500)
    async with app.test():
        for _ in range(3):
            assert isinstance(await within(fails(payments, Down("no response")), 1), AttributeError)
        async with asyncio.timeout(1), payments:
            pass


async def test_the_time_limit_is_a_fault_whatever_else_is() -> None:
    """No answer within `timeout` is the dependency's fault, also where `faults=` names other types only."""
    for faults in (None, (OSError,), lambda _: False):
        app, payments = an_app(timeout=0.02, faults=faults)
        async with app.test() as t:
            with pytest.raises(Unavailable, match=r"no answer within 0\.02 s"):
                async with payments:
                    await asyncio.Event().wait()
            assert t.runtime.counters.failures["payments"] == 1


async def test_a_dependency_taken_down_in_a_test_is_down_whatever_its_faults_are() -> None:
    """`t.down(payments)` is an outage also where `faults=` names other types only."""
    app, payments = an_app(faults=(OSError,))
    async with app.test() as t:
        t.down(payments)
        with pytest.raises(Unavailable):
            async with payments:
                pytest.fail("was let in")


async def test_two_dependencies_may_be_nested() -> None:
    """Each try knows its own; the inner one's outage is not charged to the outer one."""
    app, payments = an_app(timeout=5.0)
    fraud = app.dependency("fraud", timeout=3.0)
    async with app.test() as t:
        async with payments:
            assert 4 < payments.remaining() <= 5
            async with fraud:
                assert 2 < fraud.remaining() <= 3
                assert 4 < payments.remaining() <= 5
            left = await fails(fraud, Down())
            assert isinstance(left, Unavailable)
            assert left.dependency == "fraud"
        with pytest.raises(Unavailable, match="fraud"):
            async with payments, fraud:
                raise Down
        assert dict(t.runtime.counters.failures) == {"fraud": 2}


async def test_two_tries_at_once_in_one_handler_do_not_mix() -> None:
    """Tries in tasks of their own each have their own time and their own end."""
    app, payments = an_app(timeout=1.0)

    async def one(error: Exception | None) -> None:
        async with payments:
            await asyncio.sleep(0)
            if error is not None:
                raise error

    async with app.test() as t:
        results = await asyncio.gather(one(None), one(Down()), one(KeyError()), one(None), return_exceptions=True)
        assert [type(one) for one in results] == [type(None), Unavailable, KeyError, type(None)]
        assert t.runtime.counters.failures["payments"] == 1
        assert payments.gate is not None
        assert payments.gate._busy == 0


async def test_call_tries_again_and_counts_each_try() -> None:
    """`call(fn, tries=3)` is up to three tries; each is a call of the dependency."""
    app, payments = an_app()
    calls: list[int] = []

    async def charge(amount: int) -> str:
        calls.append(amount)
        if len(calls) < 3:
            raise Down
        return "paid"

    async with app.test() as t:
        assert await payments.call(charge, 5, tries=3) == "paid"
        assert calls == [5, 5, 5]
        assert t.runtime.counters.calls["payments"] == 3
        assert t.runtime.counters.failures["payments"] == 2


async def test_waiting_between_tries_takes_no_time_in_a_test() -> None:
    """In virtual time the pauses of `call` cost none."""
    app, payments = an_app()

    async def charge() -> None:
        raise Down

    async with app.test():
        began = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable):
            await payments.call(charge, tries=6)
        assert asyncio.get_running_loop().time() - began < 0.3


async def test_retries_draw_from_one_budget() -> None:
    """Ten retries at first, then one for each ten calls: an outage is not multiplied by `tries`."""
    app, payments = an_app(trip_after=10_000)
    calls = 0

    async def charge() -> None:
        nonlocal calls
        calls += 1
        raise Down

    async with app.test():
        for _ in range(100):
            with pytest.raises(Unavailable):
                await payments.call(charge, tries=5)
        assert 110 <= calls <= 125


async def test_call_does_not_try_again_what_is_no_fault_of_its_own() -> None:
    """A bug, a decision, and the outage of another dependency inside end `call` at once."""
    app, payments = an_app()
    fraud = app.dependency("fraud", trip_after=100)
    calls = 0

    async def charge(error: Exception) -> None:
        nonlocal calls
        calls += 1
        async with fraud:
            raise error

    async with app.test():
        for error in (KeyError("bug"), Reject("no"), RetryLater(), Down()):
            calls = 0
            with pytest.raises((KeyError, Reject, RetryLater, Unavailable)):
                await payments.call(charge, error, tries=4)
            assert calls == 1, error


async def test_call_stops_trying_when_the_circuit_opens() -> None:
    """Once the circuit is open there is nothing to try."""
    app, payments = an_app(trip_after=1)
    calls = 0

    async def charge() -> None:
        nonlocal calls
        calls += 1
        raise Down

    async with app.test():
        with pytest.raises(Unavailable) as caught:
            await payments.call(charge, tries=4)
        assert calls == 1
        assert caught.value.circuit_open


async def test_no_more_calls_at_once_than_concurrency() -> None:
    """Twenty callers, three places: never more than three inside, and all come through."""
    app, payments = an_app(concurrency=3)
    inside = most = 0

    async def one() -> None:
        nonlocal inside, most
        async with payments:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    async with app.test():
        await within(asyncio.gather(*(one() for _ in range(20))))
    assert most == 3


async def test_whoever_waits_for_a_place_fails_fast_once_the_circuit_opens() -> None:
    """Callers that wait for a place are told at once, and make no call, when those before them trip the circuit."""
    app, payments = an_app(concurrency=2, trip_after=2)
    go_on = asyncio.Event()
    inside = 0

    async def one() -> None:
        nonlocal inside
        async with payments:
            inside += 1
            await go_on.wait()
            raise Down

    async with app.test() as t:
        calls = [asyncio.create_task(named(one, str(number))) for number in range(10)]
        await until(lambda: inside == 2)
        go_on.set()
        results = await within(asyncio.gather(*calls, return_exceptions=True), 2)
        assert all(isinstance(one, Unavailable) for one in results)
        assert inside == 2
        assert t.runtime.counters.calls["payments"] == 2


async def named(call: Any, subject: str) -> Any:
    """Run as the handler of a message with this id, so that failures are of different messages."""
    from redrive.context import entering, leaving  # noqa: PLC0415 - only here

    token = entering(Context(message_id=subject, key=subject, queue="q", resources=None, needs=frozenset({"payments"})))
    try:
        return await call()
    finally:
        leaving(token)


async def test_a_cancelled_call_gives_its_place_back() -> None:
    """Inside the block or waiting for a place: whoever is cancelled holds nobody up, and says nothing of the other."""
    app, payments = an_app(concurrency=1)
    entered = asyncio.Event()

    async def hang() -> None:
        async with payments:
            entered.set()
            await asyncio.Event().wait()

    async with app.test() as t:
        inside = asyncio.create_task(hang())
        await within(entered.wait())
        waiting = [asyncio.create_task(hang()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        inside.cancel()
        entered.clear()
        await within(entered.wait(), 1)
        for task in waiting:
            task.cancel()
        await asyncio.gather(inside, *waiting, return_exceptions=True)
        async with asyncio.timeout(1), payments:
            pass
        assert t.runtime.counters.failures["payments"] == 0


@pytest.mark.usefixtures("failing_store")
async def test_a_place_given_to_one_who_is_cancelled_while_looking_goes_to_the_next() -> None:
    """Between getting a place and taking it a caller reads the circuit: cancelled there, it wakes the next one."""
    app, payments = an_app(concurrency=1)
    entered: list[str] = []
    go_on = asyncio.Event()

    async def one(name: str) -> None:
        async with payments:
            entered.append(name)
            if name == "first":
                await go_on.wait()

    async with app.test() as t:
        store: Any = t.runtime.store
        first = asyncio.create_task(one("first"))
        await until(lambda: entered)
        second, third = asyncio.create_task(one("second")), asyncio.create_task(one("third"))
        await asyncio.sleep(0)
        reading, get = asyncio.Event(), store._store.get

        async def slow(namespace: Any, key: str) -> Any:
            if namespace is CIRCUITS and not reading.is_set():
                reading.set()
                await asyncio.Event().wait()
            return await get(namespace, key)

        store._store.get = slow
        t.clock.advance(2)  # so that the circuit has to be read again
        go_on.set()
        await within(reading.wait())
        second.cancel()
        await within(third, 2)
        assert entered == ["first", "third"]
        await asyncio.gather(first, second, return_exceptions=True)


@pytest.mark.usefixtures("failing_store")
async def test_with_the_store_away_each_worker_is_on_its_own() -> None:
    """The circuit cannot be read or written: calls go on, and a trip opens this worker's own gate."""
    app, payments = an_app(trip_after=2)
    async with app.test() as t:
        store: Any = t.runtime.store
        assert isinstance(store, FailingStore)
        store.away()

        async def down() -> None:
            async with payments:
                raise Down

        for number in range(2):
            with pytest.raises(Unavailable):
                await named(down, str(number))
        with pytest.raises(Unavailable, match="open in this worker"):
            await named(down, "3")
        t.clock.advance(16)
        with pytest.raises(Unavailable, match="Down"):
            await named(down, "4")


# Handlers in threads


async def test_a_plain_function_uses_with_in_a_test() -> None:
    """`with payments:` in a `def` handler is one try, in `app.test()` too."""
    app, payments = an_app(trip_after=1)
    queue = app.queue("orders", Order)
    threads: list[str] = []

    @queue.consumer(needs=[payments], max_attempts=1)
    def handle(ctx: Context[None], order: Order) -> None:
        threads.append(threading.current_thread().name)
        with payments:
            assert payments.remaining() > 0
            if order.drink == "bug":
                raise KeyError("bug")
            if ctx.bounces == 0:
                raise Down

    async with app.test() as t:
        await queue.send(Order(id="1"))
        await within(t.drain(), 5)
        assert t.runtime.counters.failures["payments"] == 1
        (parked,) = await t.parked(queue)
        assert parked.notes.bounces == 1
        await t.advance(60)
        assert t.runtime.counters.outcomes["handled"] == 1
        assert not await t.parked(queue)
        await queue.send(Order(id="2", drink="bug"))
        await t.drain()
        assert t.runtime.counters.outcomes["raised"] == 1
    assert all(name.startswith("redrive-handler") for name in threads)


async def test_plain_functions_in_a_worker_keep_to_the_bound(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads wait for a place like everybody; never more are inside than `concurrency`."""
    app, payments = an_app(concurrency=2)
    queue = app.queue("orders", Order)
    lock = threading.Lock()
    inside = most = handled = 0

    @queue.consumer(needs=[payments], concurrency=8)
    def handle(_order: Order) -> None:
        nonlocal inside, most, handled
        with payments:
            with lock:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.005)
            with lock:
                inside -= 1
                handled += 1

    async with opened(app, tmp_path, monkeypatch), working(app):
        await queue.send_many([Order(id=str(number)) for number in range(20)])
        await until(lambda: handled == 20)
    assert most <= 2


# Half-open


async def test_half_open_lets_one_call_through_at_a_time() -> None:
    """While a call is on trial others are refused; its success closes the circuit, for everybody."""
    app, payments = an_app(trip_after=1)
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def trial() -> None:
        async with payments:
            entered.set()
            await go_on.wait()

    async with app.test() as t:
        await half_open(t, payments)
        first = asyncio.create_task(trial())
        await within(entered.wait())
        with pytest.raises(Unavailable, match="half-open and a call is on trial") as caught:
            await trial()
        assert caught.value.circuit_open
        assert not caught.value.counted
        go_on.set()
        await within(first)
        assert payments.gate is not None
        assert payments.gate.shared.view.state is State.CLOSED
        await trial()


async def half_open(t: Any, dependency: Dependency[Any]) -> None:
    """Trip the circuit, and let its probe pass."""
    await fails(dependency, Down())
    assert dependency.gate is not None
    assert dependency.gate.shared.view.state is State.OPEN
    await wait_for_half_open(t, dependency)


async def test_reject_inside_closes_half_open() -> None:
    """A business answer is an answer: the dependency is well."""
    app, payments = an_app(trip_after=1)
    async with app.test() as t:
        await half_open(t, payments)
        await fails(payments, Reject("card refused"))
        assert payments.gate is not None
        assert payments.gate.shared.view.state is State.CLOSED


async def test_a_failure_in_half_open_opens_again_for_longer() -> None:
    """Each failed trial makes the next one later, up to the period, and resets only after five minutes closed."""
    app, payments = an_app(trip_after=1, canary_every=60.0)
    async with app.test() as t:
        waits = []
        await fails(payments, Down())
        assert payments.gate is not None
        for _ in range(6):
            view = payments.gate.shared.view
            assert view.state is State.OPEN
            waits.append(((view.probe_at_ms or 0) - t.clock.now_ms()) / 1000)
            await wait_for_half_open(t, payments)
            await fails(payments, Down())
        assert [round(one / 60, 1) for one in waits[:2]] == pytest.approx([0.25, 0.5], abs=0.11)
        assert all(48 <= one <= 60 for one in waits[2:])
        assert len(set(waits[2:])) > 1
        await wait_for_half_open(t, payments)
        async with payments:
            pass
        t.clock.advance(299)
        await fails(payments, Down())
        assert payments.gate.shared.view.failed_probes > 0
        await wait_for_half_open(t, payments)
        async with payments:
            pass
        t.clock.advance(301)
        await fails(payments, Down())
        assert payments.gate.shared.view.failed_probes == 0


async def wait_for_half_open(t: Any, dependency: Dependency[Any]) -> None:
    assert dependency.gate is not None
    while dependency.gate.shared.view.state is not State.HALF_OPEN:
        t.clock.advance(1)
        for healer in t._healers:
            await healer.step()
    t.clock.advance(1)


@pytest.mark.parametrize("end", ["cancelled", "bug", "never"])
async def test_half_open_cannot_wedge(end: str) -> None:
    """A trial that is cut off, ends in a bug, or never ends lets another one try, at the latest after its permit."""
    app, payments = an_app(trip_after=1, timeout=10.0)
    entered = asyncio.Event()

    async def trial() -> None:
        async with payments:
            entered.set()
            if end == "bug":
                raise KeyError("bug")
            await asyncio.Event().wait()

    async with app.test() as t:
        await half_open(t, payments)
        first = asyncio.create_task(trial())
        await within(entered.wait())
        if end == "cancelled":
            first.cancel()
        if end == "never":
            with pytest.raises(Unavailable):
                async with payments:
                    pytest.fail("was let in")
            t.clock.advance(20)
        else:
            await asyncio.gather(first, return_exceptions=True)
        async with payments:
            pass
        assert payments.gate is not None
        assert payments.gate.shared.view.state is State.CLOSED
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_what_comes_late_from_before_the_outage_changes_nothing() -> None:
    """A result counts only in the generation that it began in: a late one neither closes nor opens."""
    app, payments = an_app(trip_after=1, concurrency=5)
    go_on = asyncio.Event()
    inside = 0

    async def late(error: Exception | None) -> None:
        nonlocal inside
        async with payments:
            inside += 1
            await go_on.wait()
            if error is not None:
                raise error

    async with app.test() as t:
        tasks = [asyncio.create_task(late(error)) for error in (None, Down())]
        await until(lambda: inside == 2)
        await half_open(t, payments)
        go_on.set()
        await within(asyncio.gather(*tasks, return_exceptions=True))
        assert payments.gate is not None
        assert payments.gate.shared.view.state is State.HALF_OPEN


async def test_what_the_consumer_says_is_dead_is_no_fault_of_the_dependency() -> None:
    """A type in `dead_on`, raised inside the block: the message is dead at once, and the circuit does not count it."""
    app = App("shop")
    orders = app.queue("orders", str)
    payments = app.dependency("payments", trip_after=1)

    @orders.consumer(needs=[payments], dead_on=[ValueError])
    async def pay(_order: str) -> None:
        async with payments:
            raise ValueError("no such account")

    async with app.test() as t:
        await orders.send("one")
        await t.drain()
        (dead,) = await t.dead(orders)
        assert dead.notes.failure is not None
        assert dead.notes.failure.last.kind == "rejected"
        assert t.runtime.counters.failures["payments"] == 0
