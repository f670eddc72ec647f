"""A shift in the coffee shop under one policy: orders come in steadily, and payments are down for a part of it.

    python -m outages.shift POLICY FOLDER ORDERS PER_SECOND DOWN_AT DOWN_FOR LEASE

The parts are real: the embedded broker, the shop's payment system in a process of its own (PAYMENTS_URL), its table.
`circuit` is the coffee shop's own application in redrive's own worker. The other three are a plain consumer on the
broker's port, four lanes of receive, call and acknowledge, as one would write it for Amazon SQS; they differ in what
happens to a message whose handler failed:

    no-dlq      nothing: its lease runs out, and it is received again
    dlq         the same; what was received three times is moved to a dead-letter queue by the broker
    backoff     it is handed back with a delay that doubles from 1 s to 60 s, with full jitter
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx

from orders import Order, OrderTable, Shop, open_shop
from redrive.backoff import Backoff
from redrive.broker import Acknowledge, Broker, Outgoing, QueueSpec, Return
from redrive.clock import SteadyClock, SystemClock
from redrive.connections import connect
from redrive.errors import BrokerError
from redrive.message import Delivery, Message, message_id

PLAIN = ("no-dlq", "dlq", "backoff")
_LANES = 4
"""As many handlers at once as the coffee shop's own application has."""
_RECEIVES = 3
_BACKOFF = Backoff(first=1.0, maximum=60.0)
_QUIET = 75.0
"""Seconds after the last thing that happened: nothing more is to come. Longer than any lease or delay."""
_PERIOD = 0.5


@dataclass(slots=True)
class Counts:
    """What the handlers did so far."""

    invocations: int = 0
    failed: int = 0
    paid: int = 0
    seconds: float = 0.0
    """That handlers ran, all together."""
    changed_at: float = field(default_factory=time.monotonic)

    async def watched(self, handling: Awaitable[Any]) -> Any:  # noqa: ANN401 - whatever the handler gives
        """Run a handler and count it."""
        self.invocations += 1
        began = time.monotonic()
        try:
            given = await handling
        except BaseException:
            self.failed += 1
            raise
        else:
            self.paid += 1
            return given
        finally:
            self.changed_at = time.monotonic()
            self.seconds += self.changed_at - began


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How the orders come, and when payments are down, in seconds from the first order; and how long a lease is."""

    orders: int
    per_second: float
    down_at: float
    down_for: float
    lease: float

    @property
    def ends(self) -> float:
        """When the last order has come and payments are well."""
        return max(self.orders / self.per_second, self.down_at + self.down_for)


@asynccontextmanager
async def plain(policy: str, folder: Path, counts: Counts, *, lease: float) -> AsyncIterator[Broker]:
    """A consumer as one writes it without redrive's worker; its broker."""
    broker, _ = await asyncio.to_thread(connect, f"sqlite:{folder / 'coffee.db'}", SteadyClock(SystemClock()))
    dead = {"dead_letter_queue": "orders-dead", "max_receives": _RECEIVES} if policy == "dlq" else {}
    await broker.declare([QueueSpec(name="orders-dead"), QueueSpec(name="orders", **dead)])  # type: ignore[arg-type]
    async with open_shop() as shop:
        lanes = [asyncio.create_task(_lane(broker, shop, policy, counts, lease=lease)) for _ in range(_LANES)]
        try:
            yield broker
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
            await broker.close()


async def _lane(broker: Broker, shop: Shop, policy: str, counts: Counts, *, lease: float) -> None:
    random = Random()  # noqa: S311 - jitter
    while True:
        for delivery in await broker.receive("orders", limit=1, lease=lease, wait=20.0):
            try:
                await counts.watched(_place(shop, delivery))
            except (httpx.HTTPError, TimeoutError):
                if policy == "backoff":
                    delay = _BACKOFF.delay(delivery.receive_count, random=random.random())
                    await broker.settle([Return(delivery=delivery, delay=delay)])
            else:
                await broker.settle([Acknowledge(delivery=delivery)])


async def _place(shop: Shop, delivery: Delivery) -> None:
    """What the shop's handler does, without redrive."""
    order = Order.model_validate_json(delivery.message.body)
    async with asyncio.timeout(2.0):
        payment = await shop.gateway.charge(order, key=order.order_id)
    await shop.served(order, payment=payment)


@asynccontextmanager
async def circuit(folder: Path, counts: Counts) -> AsyncIterator[Broker]:
    """The coffee shop's own application, in redrive's worker; its broker."""
    os.environ["REDRIVE_BROKER"] = f"sqlite:{folder / 'coffee.db'}"
    from app import app, place_order  # noqa: PLC0415 - the shop's own module, named as its users name it

    inner: Callable[..., Awaitable[Any]] = place_order.handler.call
    place_order.handler.call = lambda *arguments: counts.watched(inner(*arguments))
    stop = asyncio.Event()
    async with app:
        work = asyncio.create_task(app.work(stop=stop))
        try:
            yield app.runtime.broker
        finally:
            stop.set()
            await work


async def shift(policy: str, folder: Path, plan: Shift) -> dict[str, Any]:
    """All of it; what there was to see every half second, and in the end."""
    counts, database = Counts(), Path(os.environ["SHOP_DATABASE"])
    opened = plain(policy, folder, counts, lease=plan.lease) if policy in PLAIN else circuit(folder, counts)
    samples: list[dict[str, float]] = []
    async with opened as broker, httpx.AsyncClient(base_url=os.environ["PAYMENTS_URL"], timeout=10.0) as payments:
        OrderTable(database).close()  # the handlers' own may not be there yet
        table = sqlite3.connect(database)
        queues = [queue for queue in await broker.queues() if queue.startswith("orders")]
        began = time.monotonic()
        coming = asyncio.create_task(_customers(broker, plan))
        going = asyncio.create_task(_break(payments, plan))
        while True:
            samples.append(await _sample(broker, queues, counts, time.monotonic() - began))
            samples[-1]["served"] = table.execute("SELECT count(*) FROM cups").fetchone()[0]
            now = time.monotonic()
            nothing = not any(one["waiting"] for one in samples[-2:])  # twice: one may move between two looks
            if now - began > plan.ends and (nothing or now - counts.changed_at > _QUIET):
                break
            await asyncio.sleep(_PERIOD)
        await asyncio.gather(coming, going)
        table.close()
        ledger = (await payments.get("/charges")).json()
    paid = {charge["order_id"] for charge in ledger["charges"]}
    return {"samples": samples, "booked": len(paid), "charges": len(ledger["charges"]), "calls": ledger["calls"]}


async def _sample(broker: Broker, queues: list[str], counts: Counts, at: float) -> dict[str, float]:
    depths = {queue: (await broker.depth(queue)).total for queue in queues}
    dead = depths.pop("orders-dead", 0)
    parked = sum(depth for queue, depth in depths.items() if "-parked-" in queue)
    return {
        "at": round(at, 2),
        "paid": counts.paid,
        "dead": dead,
        "parked": parked,
        "waiting": sum(depths.values()),
        "invocations": counts.invocations,
        "failed": counts.failed,
        "seconds": round(counts.seconds, 4),
    }


async def _customers(broker: Broker, plan: Shift) -> None:
    """Orders, one after the other, at the times at which they are due."""
    began, random = time.monotonic(), Random()  # noqa: S311 - ids
    for number in range(plan.orders):
        await asyncio.sleep(max(0.0, began + number / plan.per_second - time.monotonic()))
        now_ms = time.time_ns() // 1_000_000
        order = Order(order_id=f"order-{number}", customer="Ada", drink="flat white", size="small")
        identity = message_id(now_ms, random.randbytes(10))
        message = Message(id=identity, body=order.model_dump_json().encode(), sent_at_ms=now_ms)
        for result in await broker.send("orders", [Outgoing(message=message)]):
            if isinstance(result, BrokerError):
                raise result


async def _break(payments: httpx.AsyncClient, plan: Shift) -> None:
    """The outage, by the payment system's own button."""
    await asyncio.sleep(plan.down_at)
    (await payments.put("/faults", json={"mode": "down"})).raise_for_status()
    await asyncio.sleep(plan.down_for)
    (await payments.put("/faults", json={"mode": "none"})).raise_for_status()


def main() -> None:
    """Print what there was to see, as one line of JSON."""
    policy, folder, orders, *numbers = sys.argv[1:]
    per_second, down_at, down_for, lease = map(float, numbers)
    plan = Shift(orders=int(orders), per_second=per_second, down_at=down_at, down_for=down_for, lease=lease)
    print(json.dumps(asyncio.run(shift(policy, Path(folder), plan))), flush=True)


if __name__ == "__main__":
    main()
