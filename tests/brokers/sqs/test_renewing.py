"""Credentials that are renewed while a process runs are found by it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from redrive.brokers.sqs import SqsAddress, SqsBroker
from redrive.errors import BrokerUnavailable
from redrive.testing.broker_suite import DEADLINE, message, new_queue, send
from tests.brokers.sqs.proxy import Answer, Ask, Proxy, Request, proxy_for, refusing
from tests.brokers.sqs.server_process import Server


class Account:
    """The shared credentials file, and an endpoint that takes one key alone."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.key = "OLD"

    def write(self, key: str) -> None:
        self._file.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key=secret\n")

    async def __call__(self, request: Request, ask: Ask) -> Answer:
        if f"Credential={self.key}/".encode() in request.head:
            return await ask(request)
        return await refusing("InvalidClientTokenId", 403)(request, ask)


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    account = Account(tmp_path / "credentials")
    account.write("OLD")
    return account


@pytest.fixture
async def proxy(moto: Server, account: Account) -> AsyncIterator[Proxy]:
    async with proxy_for(moto.port) as proxy:
        for action in ("ListQueues", "ReceiveMessage"):
            proxy.spoil(action, account, times=100)
        yield proxy


@pytest.fixture
async def broker(proxy: Proxy) -> AsyncIterator[SqsBroker]:
    broker = SqsBroker(SqsAddress(endpoint_url=proxy.url))
    yield broker
    await broker.close()


def _keys_used(proxy: Proxy) -> list[str]:
    heads = [one.head.decode() for one in proxy.requests if one.action == "ListQueues"]
    return [head.partition("Credential=")[2].partition("/")[0] for head in heads]


async def test_renewed_credentials_are_used(
    account: Account, broker: SqsBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once those in use are refused, the next request looks for new ones."""
    monkeypatch.setattr("redrive.brokers.sqs.client.NEW_CLIENT_EVERY", 0.0)
    await broker.queues()
    account.key = "NEW"
    with pytest.raises(BrokerUnavailable, match="credentials are not accepted"):
        await broker.queues()
    account.write("NEW")
    await broker.queues()


async def test_they_are_not_looked_for_at_each_request(
    account: Account, proxy: Proxy, broker: SqsBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is young is kept: finding credentials may cost a call to somebody else."""
    monkeypatch.setattr("redrive.brokers.sqs.client.NEW_CLIENT_EVERY", 3_600.0)
    account.key = "NEW"
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match="credentials are not accepted"):
            await broker.queues()
        account.write("NEW")
    assert _keys_used(proxy) == ["OLD"] * 8


async def test_what_is_under_way_ends_with_its_own_client(
    account: Account, proxy: Proxy, broker: SqsBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long poll that was accepted is not cut when others get new credentials."""
    monkeypatch.setattr("redrive.brokers.sqs.client.NEW_CLIENT_EVERY", 0.0)
    queue = await new_queue(broker)
    async with asyncio.timeout(DEADLINE):
        polling = asyncio.create_task(broker.receive(queue, limit=1, lease=30, wait=20))
        await proxy.until_asked("ReceiveMessage")
        account.key = "NEW"
        account.write("NEW")
        await broker.queues()
        assert not polling.done()
        await send(broker, queue, message(b"1"))
        assert [one.message.body for one in await polling] == [b"1"]
    assert proxy.asked["ReceiveMessage"] == 1
    assert _keys_used(proxy) == ["OLD", "NEW"]


async def test_where_credentials_were_found_is_not_logged(broker: SqsBroker, caplog: pytest.LogCaptureFixture) -> None:
    """A worker's log begins with what redrive says."""
    caplog.set_level(logging.INFO)
    await broker.queues()
    assert not [one for one in caplog.records if one.name.endswith(".credentials")]
