"""In an account that others use too, operators see what is theirs."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from redrive import App
from redrive.broker import QueueSpec
from redrive.brokers.sqs import SqsAddress, SqsBroker
from redrive.operations import Operations
from tests.brokers.sqs.server_process import Server
from tests.runtime.fakes import Order, working

Open = Callable[..., SqsBroker]


@pytest.fixture
async def opened(ours: Server) -> AsyncIterator[Open]:
    brokers: list[SqsBroker] = []

    def open_it(prefix: str = "") -> SqsBroker:
        brokers.append(SqsBroker(SqsAddress(endpoint_url=ours.url, prefix=prefix)))
        return brokers[-1]

    yield open_it
    for broker in brokers:
        await broker.close()


async def test_a_queue_of_somebodys_own_that_is_called_anchor_is_not_hidden(opened: Open) -> None:
    """Only what stands behind a parked queue is an anchor; a dependency may be called so too."""
    name = f"ship-{secrets.token_hex(4)}"
    broker = opened()
    own = [f"{name}-anchor", f"{name}-parked-sheet-anchor"]
    await broker.declare([QueueSpec(name=one) for one in own])
    assert {*own} <= {*await broker.queues()}
    await broker.declare([QueueSpec(name=f"{name}-parked-sheet", fifo=False)])
    names = await broker.queues()
    assert f"{name}-parked-sheet" in names
    assert f"{name}-parked-sheet-anchor-anchor" not in names


async def test_the_list_of_queues_is_that_of_the_applications(ours: Server, opened: Open, tmp_path: Path) -> None:
    """Those it declares, those that a worker left in its manifest, those something is parked for; no others."""
    name = secrets.token_hex(4)
    mine, sent_only, stranger, left = f"mine-{name}", f"log-{name}", f"stranger-{name}", f"left-{name}"
    await opened().declare([QueueSpec(name=one) for one in (stranger, f"{stranger}-dead", left, f"{left}-parked-x")])
    address = f"sqs://?endpoint_url={ours.url}&store_url=sqlite:{tmp_path / 'store.db'}"
    app: App[None] = App("test", broker=address)
    queue = app.queue(mine, Order)
    app.queue(sent_only, Order)

    @queue.consumer()
    async def handle(order: Order) -> None:
        """Nothing is sent."""

    async with app:
        listed = (await Operations.of(app).overview()).queues
        assert {mine, sent_only, left} <= {*listed}
        assert stranger not in listed
        async with working(app):
            pass
    async with Operations.open(address) as operations:
        listed = (await operations.overview()).queues
        assert {mine, left} <= {*listed}
        assert not {stranger, sent_only} & {*listed}
        assert (await operations.queue(stranger)).ready == 0  # by its name it can be looked at all the same


async def test_below_a_prefix_every_queue_is_ours(ours: Server, opened: Open, tmp_path: Path) -> None:
    """And nothing above it."""
    prefix = f"p{secrets.token_hex(4)}-"
    await opened(prefix=prefix).declare([QueueSpec(name="one"), QueueSpec(name="two")])
    await opened().declare([QueueSpec(name="above")])
    address = f"sqs://?endpoint_url={ours.url}&store_url=sqlite:{tmp_path / 'store.db'}&prefix={prefix}"
    async with Operations.open(address) as operations:
        assert [*(await operations.overview()).queues] == ["one", "two"]
