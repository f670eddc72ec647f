"""The healer: whatever is parked comes back once its dependency is well, at a pace that it can bear, by one leader."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from redrive import App, Dependency, Queue, Unavailable
from redrive import circuit as rules
from redrive.broker import Outgoing
from redrive.circuit import State
from redrive.gate import Gate
from redrive.harness import Harness
from redrive.healer import Healer
from redrive.message import Message, message_id
from redrive.operations import Operations
from redrive.worker import parked_queues
from tests.runtime.fakes import Down, Order, until, within

pytestmark = pytest.mark.usefixtures("any_broker")


class Shop:
    """An application whose payments can be broken for everybody or for some messages alone."""

    def __init__(self, *, canary: bool = True, **settings: Any) -> None:
        self.app: App[None] = App("test")
        self.down = False
        self.canaries: list[int] = []
        self.well = True
        self.payments: Dependency[None] = self.app.dependency(
            "payments",
            canary=self.ask if canary else None,
            **{"trip_after": 2, "canary_every": 60.0, "concurrency": 100, **settings},
        )
        self.queue: Queue[Order] = self.app.queue("orders", Order)
        self.handled: list[tuple[int, str]] = []
        self.poison: set[str] = set()
        self.t: Harness[None]

        @self.queue.consumer(needs=[self.payments], concurrency=100)
        async def handle(order: Order) -> None:
            async with self.payments:
                if self.down or order.id in self.poison:
                    raise Down(order.id)
            self.handled.append((self.t.clock.now_ms(), order.id))

    async def ask(self) -> None:
        self.canaries.append(self.t.clock.now_ms())
        if self.down or not self.well:
            raise Down("canary")

    def state(self) -> State:
        assert self.payments.gate is not None
        return self.payments.gate.shared.view.state

    async def park(self, count: int, *, name: str = "p") -> None:
        """Put messages straight into the parked queue, as if somebody had forwarded them."""
        runtime = self.t.runtime
        now = runtime.clock.now_ms()
        outgoing = [
            Outgoing(
                message=Message(
                    id=message_id(now, runtime.random.randbytes(10)),
                    body=Order(id=f"{name}{number}").model_dump_json().encode(),
                    sent_at_ms=now,
                )
            )
            for number in range(count)
        ]
        most = runtime.broker.capabilities.max_batch
        for start in range(0, count, most):
            await runtime.broker.send("orders-parked-payments", outgoing[start : start + most])

    def healer(self, holder: str, **changes: Any) -> Healer:
        runtime = replace(self.t.runtime, worker=holder, **changes)
        return Healer(runtime, self.payments, parked_queues(self.app.consumers, "payments"))


async def test_what_is_parked_while_the_circuit_is_closed_is_brought_back() -> None:
    """Level-triggered: nobody has to have seen an outage; parked and closed means that a redrive runs."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.t = t
        await shop.park(3)
        await t.advance(5)
        assert len(shop.handled) == 3
        assert not await t.parked(shop.queue)


async def test_the_ramp_starts_at_five_a_second_and_doubles_up_to_max_rate() -> None:
    """5, 10, 20, 40 and then 50 messages in the seconds of a redrive."""
    shop = Shop(max_rate=50.0)
    async with shop.app.test() as t:
        shop.t = t
        await shop.park(300)
        began = t.clock.now_ms()
        await t.advance(10)
        seconds = [sum(began + 1000 * n <= at < began + 1000 * (n + 1) for at, _ in shop.handled) for n in range(10)]
        assert sum(seconds) == 300
        assert seconds[0] <= 6
        for before, after in pairwise(seconds[:4]):
            assert before * 1.5 <= after <= before * 2.5 + 2
        assert all(40 <= one <= 52 for one in seconds[4:7])


async def test_a_failure_halves_the_pace() -> None:
    """One failure in the middle of a redrive: the next second brings half as much, not more."""
    shop = Shop(max_rate=50.0, trip_after=50)
    async with shop.app.test() as t:
        shop.t = t
        await shop.park(1000)
        await t.advance(6)
        before = len(shop.handled)
        shop.poison.add("x")
        await shop.queue.send(Order(id="x"))
        await t.advance(0.1)
        shop.poison.clear()
        at = len(shop.handled)
        await t.advance(1)
        assert before > 50
        assert len(shop.handled) - at <= 30


async def test_a_circuit_that_opens_again_stops_the_redrive() -> None:
    """Nothing is moved while the circuit is open; what was moved is parked again, uncounted but for the calls made."""
    shop = Shop(max_rate=50.0)
    async with shop.app.test() as t:
        shop.t = t
        await shop.park(100)
        await t.advance(2)
        shop.down = True
        await t.advance(1)
        assert shop.state() is State.OPEN
        done = len(shop.handled)
        parked = len(await t.parked(shop.queue))
        await t.advance(5)
        assert len(shop.handled) == done
        assert done + len(await t.parked(shop.queue)) + len(await t.waiting(shop.queue)) == 100
        assert len(await t.parked(shop.queue)) >= parked
        shop.down = False
        await t.advance(120)
        assert len(shop.handled) == 100
        assert not await t.dead(shop.queue)


async def test_a_redrive_moves_at_most_what_was_there_when_it_began() -> None:
    """Messages that are parked again at once do not keep one redrive going for ever."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.t = t
        await shop.park(3)
        moved = 0
        (healer,) = t._healers
        await healer.step()
        redrive = healer._redrive
        assert redrive is not None
        while healer._redrive is redrive:
            before = (await t.runtime.broker.depth("orders")).total
            await shop.park(1, name="q")
            t.clock.advance(1)
            await healer.step()
            moved += (await t.runtime.broker.depth("orders")).total - before
        assert moved + 1 == 3


async def test_the_canary_is_asked_on_its_period_and_never_less_often() -> None:
    """In an outage of an hour: first soon, then backing off, never more than a period apart, never in step."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.t = t
        shop.down = True
        await shop.queue.send_many([Order(id="1"), Order(id="2")])
        await t.advance(3600)
        gaps = [(after - before) / 1000 for before, after in pairwise(shop.canaries)]
        assert 60 <= len(shop.canaries) <= 80
        assert max(gaps) <= 61
        assert min(gaps[4:]) >= 48
        assert len({round(gap) for gap in gaps}) > 3
        shop.down = False
        healed_at = t.clock.now_ms()
        await t.advance(65)
        assert len(shop.handled) == 2
        assert max(at for at, _ in shop.handled) - healed_at <= 65_000


async def test_without_a_canary_one_parked_message_is_the_probe() -> None:
    """Nothing else to ask with: one message tries, fails and waits again, uncounted, until one succeeds."""
    shop = Shop(canary=False)
    async with shop.app.test() as t:
        shop.t = t
        shop.down = True
        await shop.queue.send_many([Order(id=str(number)) for number in range(5)])
        await t.advance(30)
        assert len(await t.parked(shop.queue)) == 5
        bounces = sorted(one.notes.bounces for one in await t.parked(shop.queue))
        await t.advance(1800)
        assert t.runtime.counters.calls["payments"] <= 2 + 1800 / 15 + 3
        assert sorted(one.notes.bounces for one in await t.parked(shop.queue)) == bounces
        shop.down = False
        await t.advance(70)
        assert len(shop.handled) == 5


async def test_a_canary_that_is_well_while_calls_fail_does_not_flood() -> None:
    """The canary passes and real calls do not: one trial for each probe, and nothing is dead in half an hour."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.t = t
        shop.down = True
        shop.canaries.clear()

        async def fine() -> None:
            shop.canaries.append(0)

        shop.payments.canary = fine
        await shop.queue.send_many([Order(id=str(number)) for number in range(30)])
        await t.advance(1800)
        assert t.runtime.counters.calls["payments"] <= 2 + 3 * len(shop.canaries)
        assert not await t.dead(shop.queue)
        shop.down = False
        await t.advance(120)
        assert len(shop.handled) == 30


@pytest.mark.parametrize("canary", [True, False])
async def test_poison_among_healthy_messages_ends_dead_and_holds_nobody_up(*, canary: bool) -> None:
    """One message whose call always fails among fifty that are well: it is dead by `max_bounces`, they are handled."""
    shop = Shop(canary=canary)
    shop.poison.add("poison")
    async with shop.app.test() as t:
        shop.t = t
        shop.down = True
        await shop.queue.send(Order(id="poison"))
        await shop.queue.send_many([Order(id=str(number)) for number in range(50)])
        await t.advance(60)
        assert len(await t.parked(shop.queue)) == 51
        shop.down = False
        await t.advance(300)
        assert len(shop.handled) == 50
        await t.advance(2 * 3600)
        (dead,) = await t.dead(shop.queue)
        assert b"poison" in dead.body
        assert dead.notes.bounces == 20
        assert not await t.parked(shop.queue)
        assert shop.state() is State.CLOSED


@pytest.mark.parametrize("canary", [True, False])
async def test_poison_alone_does_not_keep_the_circuit_open_for_ever(*, canary: bool) -> None:
    """With nothing parked but the one whose call always fails, others get through all the same, and close it."""
    shop = Shop(canary=canary, trip_after=1)
    shop.poison.add("poison")
    async with shop.app.test() as t:
        shop.t = t
        await shop.queue.send(Order(id="poison"))
        await t.advance(3600)
        assert len(await t.dead(shop.queue)) == canary  # without a canary it looks like an outage, which kills nobody
        await shop.queue.send(Order(id="well"))
        await t.advance(180)
        assert [name for _, name in shop.handled] == ["well"]


@pytest.mark.parametrize("error", [SystemExit(1), KeyError("bug"), ValueError("x")])
async def test_a_canary_may_raise_anything(error: BaseException) -> None:
    """Whatever a canary raises means: not healthy."""
    shop = Shop()

    async def broken() -> None:
        shop.canaries.append(0)
        raise error

    shop.payments.canary = broken
    async with shop.app.test() as t:
        shop.t = t
        shop.down = True
        await shop.queue.send_many([Order(id="1"), Order(id="2")])
        await t.advance(100)
        assert shop.state() is State.OPEN
        assert shop.canaries


def leads(healer: Healer) -> bool:
    return healer._leadership.leads


async def test_of_two_healers_one_leads_and_the_other_follows_a_dead_one() -> None:
    """One canary, one redrive; a leader that is gone is followed after its leadership's length."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.t = t
        first, second = shop.healer("a"), shop.healer("b")
        await first.step()
        await shop.park(50)
        for _ in range(30):
            t.clock.advance(0.2)
            await first.step()
            await second.step()
        assert leads(first)
        assert not leads(second)
        await shop.park(3, name="q")
        waited = 0.0
        while not leads(second):  # the first one was killed
            t.clock.advance(0.5)
            waited += 0.5
            await second.step()
        assert 6 <= waited <= 8
        for _ in range(60):
            t.clock.advance(0.5)
            await second.step()
        assert not await t.parked(shop.queue)


async def test_a_canary_that_hangs_is_not_asked_by_two() -> None:
    """While one leader waits for a canary longer than a leadership lasts, another one does not ask as well."""
    shop = Shop(timeout=20.0)
    asked = 0

    async def hang() -> None:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    shop.payments.canary = hang
    async with shop.app.test() as t:
        shop.t = t
        first, second = shop.healer("a"), shop.healer("b")
        await first.step()
        now_ms, policy = t.clock.now_ms(), shop.payments.circuit
        assert shop.payments.gate is not None
        await shop.payments.gate.shared.change(
            lambda old: rules.trip(old, policy, owner="a", reason="x", now_ms=now_ms, random=0.5)
        )
        t.clock.advance(16)
        waiting = asyncio.create_task(first.step())
        await until(lambda: asked)
        for _ in range(18):
            t.clock.advance(1)
            stepping = asyncio.create_task(second.step())
            for _ in range(10):
                await asyncio.sleep(0)
            stepping.cancel()
            await asyncio.gather(stepping, return_exceptions=True)
        assert asked == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_two_applications_with_one_dependency_heal_their_own_queues() -> None:
    """Both call the same thing by the same name on one broker: each brings back what it parked."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.t = t
        other = shop.healer("b", app="other")
        other._parked = []
        await other.step()
        mine = shop.healer("a")
        await shop.park(3)
        for _ in range(30):
            t.clock.advance(0.5)
            await other.step()
            await mine.step()
        assert not await t.parked(shop.queue)


# The operator's hand


async def test_forced_open_lets_nothing_through_until_it_is_given_back() -> None:
    """Held open: no call, no canary, nothing moves; given back, its canary is asked and it heals."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.t = t
        operations = Operations.of(shop.app, who="me")
        view = await operations.force("payments", "open", reason="maintenance")
        assert (view.state, view.owner, view.reason) == ("forced-open", "me", "maintenance")
        t.clock.advance(1)
        await shop.queue.send(Order(id="1"))
        await t.advance(3600)
        assert shop.handled == []
        assert shop.canaries == []
        assert t.runtime.counters.calls["payments"] == 0
        (parked,) = await t.parked(shop.queue)
        assert (parked.notes.bounces, parked.notes.attempts) == (0, 0)
        assert (await operations.automatic("payments")).state == "open"
        await t.advance(70)
        assert len(shop.handled) == 1
        assert shop.canaries


async def test_forced_states_end_by_themselves() -> None:
    """Held for ten minutes: afterwards it is the rules' again."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.t = t
        operations = Operations.of(shop.app, who="me")
        await operations.force("payments", "open", reason="x", minutes=10)
        t.clock.advance(1)
        await shop.queue.send(Order(id="1"))
        await t.advance(590)
        assert shop.handled == []
        await t.advance(80)
        assert len(shop.handled) == 1
        await operations.force("payments", "closed", reason="x", minutes=10)
        shop.down = True
        await shop.queue.send_many([Order(id=f"{number}") for number in range(20)])
        await t.advance(120)
        assert (await operations.circuit("payments")).state == "forced-closed"
        await t.advance(500)
        assert (await operations.circuit("payments")).state in {"closed", "open", "half-open"}


async def test_forced_closed_never_trips_and_brings_back_what_is_parked() -> None:
    """Held closed: calls go through whatever becomes of them, and failures are bounces."""
    shop = Shop(trip_after=1)
    async with shop.app.test() as t:
        shop.t = t
        shop.down = True
        await shop.queue.send(Order(id="1"))
        await t.drain()
        assert len(await t.parked(shop.queue)) == 1
        await Operations.of(shop.app, who="me").force("payments", "closed", reason="trust me")
        t.clock.advance(2)
        for number in range(20):
            await shop.queue.send(Order(id=f"x{number}"))
        await t.advance(2)
        assert (await Operations.of(shop.app, who="me").circuit("payments")).state == "forced-closed"
        assert not [one for one in await t.parked(shop.queue) if one.body != b'{"id":"1","drink":"tea"}']
        shop.down = False
        await t.advance(400)
        assert len(shop.handled) == 21


# The shared circuit


def gates(t: Any, shop: Shop, count: int) -> list[Any]:
    """The gates of several workers of one application."""
    found = []
    for number in range(count):
        gate = shop.app._gate(shop.payments, replace(t.runtime, worker=f"w{number}"))
        gate.alone = count == 1
        found.append(gate)
    return found


async def call(gate: Any, subject: str, *, ok: bool) -> None:
    permit = await gate.enter(subject)
    await gate.leave(permit, ok=ok, reason="Down")


def is_closed(gate: Gate) -> bool:
    return gate.shared.view.state is State.CLOSED


async def test_a_row_of_different_messages_trips_and_one_message_alone_never_does() -> None:
    """Five failures of one message are poison; of five messages, an outage."""
    shop = Shop(trip_after=5)
    async with shop.app.test() as t:
        shop.t = t
        (gate,) = gates(t, shop, 1)
        for _ in range(6):
            await call(gate, "same", ok=False)
        await call(gate, "well", ok=True)
        t.clock.advance(31)
        assert is_closed(gate)
        for number in range(3):
            await call(gate, str(number), ok=False)
        await call(gate, "well", ok=True)
        for number in range(4):
            await call(gate, str(number), ok=False)
        assert is_closed(gate)
        await call(gate, "5", ok=False)
        assert not is_closed(gate)


async def test_half_of_ten_calls_in_half_a_minute_trips_too() -> None:
    """By ratio: never under ten calls, never for calls longer ago."""
    shop = Shop(trip_after=100)
    async with shop.app.test() as t:
        shop.t = t
        (gate,) = gates(t, shop, 1)
        for number in range(4):
            await call(gate, f"a{number}", ok=True)
            await call(gate, f"b{number}", ok=False)
        assert is_closed(gate)
        t.clock.advance(31)
        for number in range(4):
            await call(gate, f"a{number}", ok=True)
            await call(gate, f"b{number}", ok=False)
        assert is_closed(gate)
        await call(gate, "c", ok=False)
        await call(gate, "d", ok=False)
        assert not is_closed(gate)


async def test_one_worker_of_several_opens_its_own_gate_at_once_and_the_shared_circuit_with_a_second_one() -> None:
    """The first report opens only its own gate; the second, within ten seconds, opens it for everybody."""
    shop = Shop(trip_after=1)
    async with shop.app.test() as t:
        shop.t = t
        first, second, third = gates(t, shop, 3)
        for gate in (first, second, third):
            gate.ask = None
        await call(first, "1", ok=False)
        assert first.open_here
        assert first.shared.view.state is State.CLOSED
        await call(third, "x", ok=True)
        t.clock.advance(11)
        await call(second, "2", ok=False)
        assert second.shared.view.state is State.CLOSED
        t.clock.advance(2)
        await call(third, "3", ok=False)
        assert third.shared.view.state is State.OPEN
        t.clock.advance(1.1)
        with pytest.raises(Unavailable):
            await second.enter("4")


@pytest.mark.parametrize("well", [True, False])
async def test_a_worker_that_trips_alone_is_believed_when_the_canary_fails_too(*, well: bool) -> None:
    """The canary is asked: failing, it opens the circuit for all; passing, only the worker's own gate stays shut."""
    shop = Shop(trip_after=1)
    async with shop.app.test() as t:
        shop.t = t
        first, _ = gates(t, shop, 2)

        async def ask() -> bool:
            return well

        first.ask = ask
        await call(first, "1", ok=False)
        await until(lambda: first._confirming is None)
        assert first.shared.view.state is (State.CLOSED if well else State.OPEN)
        assert first.open_here
        t.clock.advance(16)
        if well:
            await within(call(first, "2", ok=True))
