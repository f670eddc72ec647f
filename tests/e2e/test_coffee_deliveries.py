"""Deliveries of the coffee shop, on real processes: paid, made and driven, or none of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import CoffeeShop

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ALL_OF_IT = {"charged": 1, "reserved": 1, "booked": 1, "handed over": 1}
LEASE = 5.0
CANARY_EVERY = 5.0
Seen = Callable[[dict[str, Any]], bool]


def stands(order_id: str, state: str, **steps: str) -> Seen:
    """Whether the page shows a delivery in this state, and these of its steps in these."""

    def look(seen: dict[str, Any]) -> bool:
        found = [one for one in seen["deliveries"]["deliveries"] or () if one["order_id"] == order_id]
        return any(
            one["state"] == state and steps.items() <= {step["name"]: step["state"] for step in one["steps"]}.items()
            for one in found
        )

    return look


async def test_a_delivery_is_paid_made_driven_and_handed_over(coffee_shop: CoffeeShop) -> None:
    """Healthy: every step takes effect once, within two seconds."""
    order_id = await coffee_shop.have_delivered("Ann")
    await coffee_shop.until(stands(order_id, "completed", confirm="done"), within=2.0)
    assert await coffee_shop.effects(order_id) == ALL_OF_IT


async def test_without_oat_milk_the_customer_is_refunded_exactly_once(coffee_shop: CoffeeShop) -> None:
    """The stock says no: the payment and the rider are undone, once each; a drink without milk is still delivered."""
    await coffee_shop.break_partner("stock", "refuse")
    latte = await coffee_shop.have_delivered("Ann", drink="latte")
    steps = {"charge": "undone", "reserve": "rejected", "book": "undone", "confirm": "next"}
    await coffee_shop.until(stands(latte, "undone", **steps), within=5.0)
    assert await coffee_shop.effects(latte) == {"charged": 1, "refunded": 1, "booked": 1, "cancelled": 1}
    espresso = await coffee_shop.have_delivered("Ben", drink="espresso")
    await coffee_shop.until(stands(espresso, "completed"), within=5.0)
    assert await coffee_shop.effects(espresso) == ALL_OF_IT


async def test_a_delivery_waits_parked_for_the_courier_and_goes_on_when_he_is_back(coffee_shop: CoffeeShop) -> None:
    """The courier is down: parked, with what was done kept; mended: handed over, and nothing was done twice."""
    await coffee_shop.break_partner("courier", "down")
    order_id = await coffee_shop.have_delivered("Ann")
    waiting = stands(order_id, "running", charge="done", reserve="done", book="parked", confirm="next")
    await coffee_shop.until(waiting, within=10.0)
    assert await coffee_shop.effects(order_id) == {"charged": 1, "reserved": 1}

    await coffee_shop.break_partner("courier", "none")
    await coffee_shop.until(stands(order_id, "completed"), within=2 * CANARY_EVERY)
    assert await coffee_shop.effects(order_id) == ALL_OF_IT


async def test_one_delivery_alone_outlasts_an_outage_of_payments(coffee_shop: CoffeeShop) -> None:
    """Nobody else's order shows that payments are down: the charge is tried again until it can be made, once."""
    await coffee_shop.set_fault("down")
    order_id = await coffee_shop.have_delivered("Ann")
    await coffee_shop.until(stands(order_id, "running", charge="again"), within=5.0)
    await coffee_shop.set_fault("none")
    await coffee_shop.until(stands(order_id, "completed"), within=15.0)
    assert await coffee_shop.effects(order_id) == ALL_OF_IT


async def test_a_refused_card_is_charged_nothing_and_books_nothing(coffee_shop: CoffeeShop) -> None:
    """The first step is rejected: there is nothing to undo, and no other step has begun."""
    await coffee_shop.set_fault("refuse")
    order_id = await coffee_shop.have_delivered("Ann")
    steps = {"charge": "rejected", "reserve": "next", "book": "next", "confirm": "next"}
    await coffee_shop.until(stands(order_id, "undone", **steps), within=5.0)
    assert await coffee_shop.effects(order_id) == {}


async def test_a_worker_killed_while_a_rider_is_booked_leaves_each_effect_once(coffee_shop: CoffeeShop) -> None:
    """`kill -9` when the courier has booked and not answered: the next worker asks again under the same key."""
    await coffee_shop.break_partner("courier", "slow")
    order_id = await coffee_shop.have_delivered("Ann")
    await coffee_shop.until(stands(order_id, "running", reserve="done", book="started"), within=5.0)
    assert (await coffee_shop.effects(order_id)).get("booked") == 1
    await coffee_shop.kill_worker()
    await coffee_shop.break_partner("courier", "none")
    await coffee_shop.until(stands(order_id, "completed"), within=4 * LEASE)
    assert await coffee_shop.effects(order_id) == ALL_OF_IT
    steps = (await coffee_shop.delivery(order_id))["steps"]
    assert [(one["name"], one["attempts"]) for one in steps] == [
        ("charge", 1),
        ("reserve", 1),
        ("book", 2),
        ("confirm", 1),
    ]


async def test_a_worker_killed_while_it_undoes_refunds_exactly_once(coffee_shop: CoffeeShop) -> None:
    """`kill -9` in the middle of the undo, before the refund: another worker undoes the rest, once."""
    await coffee_shop.break_partner("courier", "slow")
    await coffee_shop.break_partner("stock", "refuse")
    order_id = await coffee_shop.have_delivered("Ann")
    await coffee_shop.until(stands(order_id, "undoing", book="undoing"), within=15.0)
    await coffee_shop.kill_worker()
    await coffee_shop.break_partner("courier", "none")
    await coffee_shop.until(stands(order_id, "undone", charge="undone"), within=4 * LEASE)
    assert await coffee_shop.effects(order_id) == {"charged": 1, "refunded": 1, "booked": 1, "cancelled": 1}


async def test_a_killed_demo_goes_on_with_its_deliveries(coffee_shop: CoffeeShop) -> None:
    """`kill -9` of every process, the partners too: after a restart each delivery is handed over, once."""
    await coffee_shop.break_partner("courier", "slow")
    order_ids = [await coffee_shop.have_delivered(f"Customer {number}") for number in range(3)]
    await coffee_shop.until(stands(order_ids[-1], "running", book="started"), within=10.0)
    coffee_shop.kill_everything()

    coffee_shop.start()
    await coffee_shop.break_partner("courier", "none")
    for order_id in order_ids:
        await coffee_shop.until(stands(order_id, "completed"), within=60)
        assert await coffee_shop.effects(order_id) == ALL_OF_IT
