"""The story that the coffee shop tells, on real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from typing import Any

import pytest

from redrive.message import Message
from tests.e2e.conftest import CoffeeShop, redrive

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

CANARY_EVERY = 5.0
RAMP = 3.0
"""Ten messages at 5/s, then 10/s: two seconds, and one for the looks between."""


def paid(seen: dict[str, Any], *order_ids: str) -> bool:
    """Whether these orders are paid."""
    payments = {order["order_id"]: order["payment"] for order in seen.get("orders", ())}
    return all(payments.get(order_id) == "paid" for order_id in order_ids)


async def test_an_order_is_paid_within_a_second_while_payments_are_healthy(coffee_shop: CoffeeShop) -> None:
    """Healthy: accepted, handled and paid, and nothing waits anywhere."""
    order_id = await coffee_shop.order("Ann")
    await coffee_shop.until(lambda seen: paid(seen, order_id), within=1.0)
    assert (await coffee_shop.ledger())["calls"] == 1


async def test_ten_orders_survive_an_outage_and_heal_untouched_by_any_hand(coffee_shop: CoffeeShop) -> None:
    """Payments hang: everyone is served, few calls are wasted, all is parked. Fixed: all is paid, each exactly once."""
    await coffee_shop.set_fault("hang")
    first_sent = await ten_orders_while_paused(coffee_shop)
    await coffee_shop.until(lambda seen: seen["status"]["queue"]["parked"] == 10, within=20)

    orders = await coffee_shop.orders()
    assert [(one["payment"], one["times_served"]) for one in orders.values()] == [("pending", 1)] * 10
    assert (await coffee_shop.ledger())["calls"] <= 4  # the dependency's concurrency
    async with coffee_shop.operations() as operations:
        parked = (await operations.peek("orders-parked-payments", limit=100)).messages
        view = await operations.queue("orders")
    assert (view.dead, view.ready, view.in_flight, view.delayed) == (0, 0, 0, 0)
    assert [one.notes.attempts for one in parked] == [0] * 10
    assert identities(parked) == first_sent
    turns = [turn.took_ms for one in parked if one.notes.failure for turn in one.notes.failure.recent]
    assert len([took for took in turns if took >= 1_000]) <= 4, turns  # those that called waited for 2 s

    await coffee_shop.set_fault("none")
    await coffee_shop.until(lambda seen: paid(seen, *orders), within=CANARY_EVERY + RAMP)
    charges = (await coffee_shop.ledger())["charges"]
    assert sorted(charge["order_id"] for charge in charges) == sorted(orders)
    assert {one["times_served"] for one in (await coffee_shop.orders()).values()} == {1}
    await coffee_shop.until(lambda seen: not any(seen["status"]["queue"].values()), within=5)


async def test_a_malformed_order_is_dead_at_once_and_edited_back_to_life(coffee_shop: CoffeeShop) -> None:
    """No drink: dead, retried never; an edit that would not fit is refused, one that does is served under its id."""
    order = json.dumps({"order_id": "order-77", "customer": "Eve", "size": "small"})
    (sent,) = coffee_shop.cli("queue", "send", "orders", order, "--unchecked")
    await coffee_shop.until(lambda seen: seen["status"]["queue"]["dead"] == 1, within=5)

    (letter,) = coffee_shop.cli("dead", "ls")
    assert letter["id"] == sent["id"]
    (shown,) = coffee_shop.cli("dead", "show", letter["id"])
    assert "drink" in json.dumps(shown)
    assert (shown["kind"], shown["failures"]) == ("payload", 1)
    coffee_shop.cli("dead", "edit", letter["id"], "--set", "drink=gravel", "--yes", code=1)
    assert len(coffee_shop.cli("dead", "ls")) == 1
    coffee_shop.cli("dead", "edit", letter["id"], "--set", "drink=mocha", "--yes")

    await coffee_shop.until(lambda seen: paid(seen, "order-77"), within=5)
    (after,) = coffee_shop.cli("dead", "show", letter["id"])
    assert after["state"] == "redriven"
    assert (await coffee_shop.orders())["order-77"]["drink"] == "mocha"


async def test_a_killed_worker_in_mid_message_loses_nothing_and_charges_nothing_twice(coffee_shop: CoffeeShop) -> None:
    """`kill -9` of the worker while it waits for payments: another starts, and the orders are paid once."""
    await coffee_shop.set_fault("slow")
    order_ids = [await coffee_shop.order(f"Customer {n}") for n in range(4)]
    await coffee_shop.until(lambda seen: seen["status"]["queue"]["in_flight"] > 0, within=5)
    async with coffee_shop.operations() as operations:
        (worker,) = [one for one in await operations.workers() if one.alive]
    os.kill(worker.pid, signal.SIGKILL)
    await coffee_shop.set_fault("none")
    await coffee_shop.until(lambda seen: paid(seen, *order_ids), within=60)
    charged = [charge["order_id"] for charge in (await coffee_shop.ledger())["charges"]]
    assert sorted(charged) == sorted(order_ids)
    assert {one["times_served"] for one in (await coffee_shop.orders()).values()} == {1}


async def test_a_killed_demo_in_mid_outage_goes_on_where_it_was(coffee_shop: CoffeeShop) -> None:
    """`kill -9` of every process while orders are parked and in flight: after a restart all are paid, each once."""
    await coffee_shop.set_fault("hang")
    order_ids = [await coffee_shop.order(f"Customer {n}") for n in range(6)]
    await coffee_shop.until(lambda seen: seen["status"]["queue"]["parked"] >= 1, within=20)
    order_ids += [await coffee_shop.order(f"Late customer {n}") for n in range(4)]
    coffee_shop.kill_everything()

    coffee_shop.start()
    await coffee_shop.set_fault("none")
    await coffee_shop.until(lambda seen: paid(seen, *order_ids), within=60)
    charged = [charge["order_id"] for charge in (await coffee_shop.ledger())["charges"]]
    assert sorted(charged) == sorted(order_ids)
    assert {one["times_served"] for one in (await coffee_shop.orders()).values()} == {1}


async def test_ctrl_c_stops_everything_within_three_seconds(coffee_shop: CoffeeShop) -> None:
    """Also while calls hang and a page is open; nothing that was started is left."""
    await coffee_shop.set_fault("hang")
    await coffee_shop.order("Ann")
    await coffee_shop.until(lambda seen: seen["status"]["queue"]["in_flight"] > 0, within=5)
    assert coffee_shop.stop() < 3.0


def test_a_busy_port_is_named() -> None:
    """Somebody listens already: the error says on which port, and how to choose another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*redrive(), "demo", "--port", port], capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode == 1
    assert port in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


async def ten_orders_while_paused(coffee_shop: CoffeeShop) -> dict[str, tuple[int, bytes]]:
    """Ten orders at once, and what was first sent of each."""
    async with coffee_shop.operations() as operations:
        await operations.pause("orders")
        await coffee_shop.until(lambda seen: seen["status"]["payments"]["mode"] == "hang", within=5)
        for number in range(10):
            await coffee_shop.order(f"Customer {number}")
        messages = (await operations.peek("orders", limit=100)).messages
        await operations.resume("orders")
    return identities(messages)


def identities(messages: list[Message]) -> dict[str, tuple[int, bytes]]:
    """Id, original send time and body of each."""
    return {one.id: (one.sent_at_ms, one.body) for one in messages}
