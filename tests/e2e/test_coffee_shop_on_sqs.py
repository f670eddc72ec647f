"""The coffee shop's story on Amazon SQS, as `redrive serve` answers it, with two workers: nothing else is changed."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import CoffeeShopOnSqs
from tests.e2e.test_coffee_deliveries import ALL_OF_IT, stands
from tests.e2e.test_coffee_shop import CANARY_EVERY, RAMP, paid

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ORDERS = 10
CONCURRENCY, WORKERS = 4, 2


async def test_an_order_is_paid_within_a_second(coffee_shop_on_sqs: CoffeeShopOnSqs) -> None:
    """Healthy: accepted, handled and paid."""
    order_id = await coffee_shop_on_sqs.order("Ann")
    await coffee_shop_on_sqs.until(lambda seen: paid(seen, order_id), within=1.5)
    assert (await coffee_shop_on_sqs.ledger())["calls"] == 1


async def test_ten_orders_survive_an_outage_and_heal_untouched_by_any_hand(
    coffee_shop_on_sqs: CoffeeShopOnSqs,
) -> None:
    """Payments hang: everyone is served once, few calls are wasted. Fixed: all is paid, each exactly once."""
    shop = coffee_shop_on_sqs
    await shop.set_fault("hang")
    order_ids = [await shop.order(f"Customer {number}") for number in range(ORDERS)]
    await shop.until(lambda seen: seen["status"]["queue"]["parked"] == ORDERS, within=30)
    orders = await shop.orders()
    assert [(one["payment"], one["times_served"]) for one in orders.values()] == [("pending", 1)] * ORDERS
    assert (await shop.ledger())["calls"] <= CONCURRENCY * WORKERS

    await shop.set_fault("none")
    await shop.until(lambda seen: paid(seen, *order_ids), within=CANARY_EVERY + RAMP + 3.0)
    charges = (await shop.ledger())["charges"]
    assert sorted(charge["order_id"] for charge in charges) == sorted(order_ids)
    assert {one["times_served"] for one in (await shop.orders()).values()} == {1}
    await shop.until(lambda seen: not any(seen["status"]["queue"].values()), within=10)


async def test_a_malformed_order_is_edited_back_to_life(coffee_shop_on_sqs: CoffeeShopOnSqs) -> None:
    """No drink: dead at once; edited, it is served under its id, though nobody can look into a queue there."""
    shop = coffee_shop_on_sqs
    order = json.dumps({"order_id": "order-77", "customer": "Eve", "size": "small"})
    (sent,) = shop.cli("queue", "send", "orders", order, "--unchecked")
    await shop.until(lambda seen: seen["status"]["queue"]["dead"] == 1, within=5)
    (letter,) = shop.cli("dead", "ls")
    assert letter["id"] == sent["id"]
    shop.cli("dead", "edit", letter["id"], "--set", "drink=gravel", "--yes", code=1)
    shop.cli("dead", "edit", letter["id"], "--set", "drink=mocha", "--yes")
    await shop.until(lambda seen: paid(seen, "order-77"), within=10)
    (after,) = shop.cli("dead", "show", letter["id"])
    assert after["state"] == "redriven"


async def test_deliveries_are_all_or_none_there_too(coffee_shop_on_sqs: CoffeeShopOnSqs) -> None:
    """Without a courier one waits and is handed over later; without oat milk the next is refunded, once."""
    shop = coffee_shop_on_sqs
    await shop.break_partner("courier", "down")
    first = await shop.have_delivered("Ann")
    await shop.until(stands(first, "running", book="parked"), within=15)
    await shop.break_partner("courier", "none")
    await shop.until(stands(first, "completed"), within=2 * CANARY_EVERY + RAMP)
    assert await shop.effects(first) == ALL_OF_IT
    await shop.break_partner("stock", "refuse")
    second = await shop.have_delivered("Ben")
    await shop.until(stands(second, "undone", charge="undone"), within=10)
    assert await shop.effects(second) == {"charged": 1, "refunded": 1, "booked": 1, "cancelled": 1}


async def test_everything_may_be_killed_in_mid_outage(coffee_shop_on_sqs: CoffeeShopOnSqs) -> None:
    """`kill -9` of every process, the endpoint's too: after a restart all orders are paid, each once."""
    shop = coffee_shop_on_sqs
    await shop.set_fault("hang")
    order_ids = [await shop.order(f"Customer {number}") for number in range(6)]
    await shop.until(lambda seen: seen["status"]["queue"]["parked"] >= 1, within=30)
    order_ids += [await shop.order(f"Late customer {number}") for number in range(4)]
    shop.kill_endpoint()
    shop.kill_everything()

    shop.serve()
    shop.start()
    await shop.set_fault("none")
    await shop.until(lambda seen: paid(seen, *order_ids), within=80)
    charged = [charge["order_id"] for charge in (await shop.ledger())["charges"]]
    assert sorted(charged) == sorted(order_ids)
    assert {one["times_served"] for one in (await shop.orders()).values()} == {1}
