"""The coffee shop's queue: coffee is served at once, and paid for as soon as the payment system can.

`redrive dev app:app` runs it: worker, healer and timekeeper in one process.
"""

from __future__ import annotations

from orders import Order, Shop, open_shop
from redrive import App, Backoff, Context, Outage

app = App("coffee", broker="sqlite:coffee.db", resources=open_shop)
orders = app.queue("orders", Order)


async def charge_nothing(shop: Shop) -> None:
    """Ask the payment system for 0.00, which it never books: the canary that says when payments work again."""
    await shop.gateway.charge_nothing()


payments = app.dependency(
    "payments",
    timeout=2.0,  # a customer is waiting
    canary=charge_nothing,
    canary_every=5.0,
    trip_after=2,
    concurrency=4,  # the most calls that an outage can waste at once
)


@orders.consumer(
    needs=[payments],
    once_by=lambda order: order.order_id,
    max_attempts=3,
    backoff=Backoff(first=1.0, maximum=60.0),
    lease=10.0,
)
async def place_order(ctx: Context[Shop], order: Order) -> None:
    """Charge for the order, then serve it; a refused card is an answer too, and no fault of the payment system."""
    async with payments:
        payment = await ctx.resources.gateway.charge(order, key=ctx.key)
    await ctx.resources.served(order, payment=payment)


@place_order.degraded(payments)
async def coffee_now_payment_later(outage: Outage[Shop], order: Order) -> None:
    """Serve the coffee while payments are away; the order is parked and comes back to `place_order` once they heal."""
    await outage.resources.served(order, payment="pending")
