"""What a review held against the runtime: what operators and users of the fixture see."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any

import pytest

from redrive import App, CircuitChange, Context, State
from redrive.circuits import SharedCircuit
from redrive.errors import OperationRefused
from redrive.harness import Harness, outage
from redrive.loading import log_to_stderr
from redrive.manifest import leave_manifest, manifest, manifests
from redrive.operations import Operations
from redrive.store import CLAIMS

pytestmark = pytest.mark.usefixtures("any_broker")


def shop() -> tuple[App[None], Any, Any, list[int]]:
    """A queue whose consumer needs payments and runs once for each key; the fences it saw."""
    app = App("shop")
    orders = app.queue("orders", str)
    payments = app.dependency("payments", trip_after=1)
    fences: list[int] = []

    @orders.consumer(needs=[payments], once_by=lambda order: order)
    async def pay(ctx: Context[None], _order: str) -> dict[str, str]:
        assert ctx.fence is not None
        fences.append(ctx.fence)
        async with payments:
            return {"receipt": "r-1"}

    return app, orders, payments, fences


async def test_the_fixture_opens_an_application_and_rehearses_an_outage(
    redrive_app: Callable[..., Harness[Any]],
) -> None:
    """`redrive_app` as the documentation shows it: parked in the outage, handled after it."""
    app, orders, payments, fences = shop()
    async with redrive_app(app) as t:
        async with outage(payments, minutes=5):
            await orders.send("one")
            await t.drain()
            assert len(await t.parked(orders)) == 1
        await t.advance(120)
        assert await t.parked(orders) == []
        assert fences[0] == 1
        assert fences == sorted(set(fences)), "each take of the key raises the fence"


async def test_a_finished_key_keeps_what_the_handler_gave() -> None:
    """The claim is done with the handler's result, as JSON."""
    app, orders, _, _ = shop()
    async with app.test() as t:
        await orders.send("one")
        await t.drain()
        tables = t._database.tables
        values = [
            value
            for (value,) in tables.connection.execute("SELECT value FROM entry WHERE namespace = ?", (CLAIMS.name,))
        ]
        assert any(b'"result": {"receipt": "r-1"}' in value for value in values)


async def test_a_purged_parked_queue_leaves_no_key_behind_for_ever() -> None:
    """What was deleted needs no key: each may expire."""
    app, orders, payments, _ = shop()
    async with app.test() as t:
        t.down(payments)
        for number in range(4):
            await orders.send(f"order-{number}")
        await t.drain()
        assert await Operations.of(app).purge("orders-parked-payments") == 4
        kept = "SELECT count(*) FROM entry WHERE namespace = ? AND expires_at_ms IS NULL"
        assert t._database.tables.connection.execute(kept, (CLAIMS.name,)).get == 0


async def test_only_a_queue_with_a_consumer_can_be_paused() -> None:
    """Pausing a dead-letter queue would say done and do nothing."""
    app, _, _, _ = shop()
    async with app.test():
        with pytest.raises(OperationRefused, match="has no consumer"):
            await Operations.of(app).pause("orders-dead")


async def test_a_process_that_starts_in_an_outage_does_not_tell_of_a_change() -> None:
    """The circuit opened long ago: observers hear of changes, not of how things stand."""
    app, orders, payments, _ = shop()
    async with app.test() as t:
        t.down(payments)
        await orders.send("one")
        await t.drain()
        told: list[CircuitChange] = []
        other = SharedCircuit("payments", t.runtime.store, t.clock, told.append)
        assert (await other.read()).state is State.OPEN
        assert told == []


async def test_a_log_line_made_inside_a_handler_ends_with_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a line of somebody else's logger; lines made elsewhere stay as they are."""
    root = logging.getLogger()
    before, level, stream = root.handlers[:], root.level, io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    app = App("shop")
    orders = app.queue("orders", str)

    @orders.consumer()
    async def log(_order: str) -> None:
        logging.getLogger("somebody.else").warning("inside")

    try:
        log_to_stderr("info")
        async with app.test() as t:
            sent = await orders.send("one")
            await t.drain()
        logging.getLogger("somebody.else").warning("outside")
    finally:
        root.handlers[:], root.level = before, level
    inside, outside = (line for line in stream.getvalue().splitlines() if "side" in line)
    assert inside.endswith(f"inside [orders {sent}]")
    assert outside.endswith("outside")


async def test_the_manifest_tells_the_whole_policy_and_leaves_out_what_is_newer() -> None:
    """Backoff, `dead_on` and degraded handlers stand in it; a later version's manifest is not read."""
    app, _, _, _ = shop()
    async with app.test() as t:
        document = manifest("shop", app.consumers, list(app.dependencies.values()))
        await leave_manifest(t.runtime.store, document)
        await leave_manifest(t.runtime.store, {"v": 99, "app": "later"})
        assert await manifests(t.runtime.store) == [document]
        queue = document["queues"]["orders"]
        assert queue["backoff"] == {"first": 1.0, "factor": 2.0, "maximum": 300.0}
        assert (queue["dead_on"], queue["degraded"]) == ([], [])
