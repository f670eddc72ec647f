"""The coffee shop's two queues.

At the counter coffee is served at once, and paid for as soon as the payment system can. A delivery is a saga: paid,
made and driven, or none of it.

`redrive dev app:app` runs it: worker, healer and timekeeper in one process.
"""

from __future__ import annotations

from datetime import timedelta

from delivery import DeliveringShop, open_delivering_shop, recipe
from orders import Order, Shop
from redrive import App, Backoff, Context, Outage, Reject, Saga, step

app = App("coffee", broker="sqlite:coffee.db", resources=open_delivering_shop)

# At the counter

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


# Deliveries


async def ask_the_stock(shop: DeliveringShop) -> None:
    """The canary of the stock."""
    await shop.stock.must_be_well()


async def ask_the_courier(shop: DeliveringShop) -> None:
    """The canary of the courier."""
    await shop.courier.must_be_well()


deliveries = app.queue("deliveries", Order)
stock = app.dependency("stock", timeout=5.0, canary=ask_the_stock, canary_every=5.0, trip_after=1)
courier = app.dependency("courier", timeout=5.0, canary=ask_the_courier, canary_every=5.0, trip_after=1)


async def refund(ctx: Context[DeliveringShop], _paid: str | None, order: Order) -> None:
    """Undo `charge`, whether it is known to have taken effect or not."""
    async with payments:
        await ctx.resources.gateway.refund(order.order_id, key=ctx.key)


@step(undo=refund, needs=[payments], attempts=12, backoff=Backoff(first=0.5, maximum=5.0))
async def charge(ctx: Context[DeliveringShop], order: Order) -> str:
    """Charge for the order; a refused card is a certain no, and nothing to undo."""
    async with payments:
        answer = await ctx.resources.gateway.charge(order, key=ctx.key)
    if answer == "refused":
        raise Reject("the card was refused")
    return answer


async def release(ctx: Context[DeliveringShop], _held: str | None, order: Order) -> None:
    """Undo `reserve`."""
    async with stock:
        await ctx.resources.stock.take_back(order.order_id, key=ctx.key)


@step(undo=release, needs=[stock])
async def reserve(ctx: Context[DeliveringShop], order: Order) -> str:
    """Have beans and oat milk held for the order."""
    async with stock:
        answer = await ctx.resources.stock.agree(order.order_id, recipe(order), key=ctx.key)
    if not answer.agreed:
        raise Reject(answer.words)
    return answer.words


async def cancel(ctx: Context[DeliveringShop], _rider: str | None, order: Order) -> None:
    """Undo `book`."""
    async with courier:
        await ctx.resources.courier.take_back(order.order_id, key=ctx.key)


@step(undo=cancel, needs=[courier])
async def book(ctx: Context[DeliveringShop], order: Order) -> str:
    """Book a rider; the rider's name."""
    async with courier:
        answer = await ctx.resources.courier.agree(order.order_id, {}, key=ctx.key)
    if not answer.agreed:
        raise Reject(answer.words)
    return answer.words


@step
async def confirm(ctx: Context[DeliveringShop], order: Order, rider: str) -> None:
    """Hand the cup to the rider."""
    ctx.resources.parcels.hand_over(order, rider)


@deliveries.saga(id=lambda order: order.order_id, deadline=timedelta(minutes=10), lease=5.0)
async def deliver(saga: Saga[DeliveringShop], order: Order) -> str:
    """Pay, have it made and driven, hand it over; what cannot be completed is undone, the last thing first."""
    await saga.run(charge, order)
    _, rider = await saga.gather(reserve(order), book(order))
    saga.point_of_no_return()
    await saga.run(confirm, order, rider)
    return rider
