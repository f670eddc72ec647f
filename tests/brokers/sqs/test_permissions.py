"""A worker on SQS whose credentials may receive and not settle."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import redrive.standstill
from redrive import App
from tests.brokers.sqs.proxy import Proxy, proxy_for, refusing
from tests.brokers.sqs.server_process import Server
from tests.runtime.fakes import Order, until, working

_TEXT = "User: arn:aws:iam::1:user/x is not authorized to perform: sqs:deletemessage on resource: y"


@pytest.fixture
async def proxy(ours: Server) -> AsyncIterator[Proxy]:
    async with proxy_for(ours.port) as proxy:
        yield proxy


async def test_what_may_not_be_deleted_is_handled_once(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker names the permission once, receives nothing more, and deletes what it handled once it may."""
    monkeypatch.setattr(redrive.standstill, "ASK_EVERY", 0.1)
    name = f"orders-{tmp_path.parent.name}"
    app: App[None] = App("test", broker=f"sqs://?endpoint_url={proxy.url}&store_url=sqlite:{tmp_path}/store.db")
    queue = app.queue(name, Order)
    handled: list[str] = []

    @queue.consumer(lease=1.0, concurrency=1)
    async def handle(order: Order) -> None:
        handled.append(order.id)

    async with app:
        await queue.send_many([Order(id="1"), Order(id="2")])
        proxy.spoil("DeleteMessageBatch", refusing("AccessDenied", 403, _TEXT), times=20)
        async with working(app):
            await until(lambda: proxy.asked["DeleteMessageBatch"] == 20)  # two seconds: the lease is over
            assert len(handled) == 1

            async def gone() -> bool:
                return len(handled) == 2 and (await app.runtime.broker.depth(name)).total == 0

            await until(gone)
    assert sorted(handled) == ["1", "2"]
    (said,) = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert f"may not call sqs:deletemessage on queue '{name}'" in said
