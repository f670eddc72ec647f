"""Declaring makes queues at Amazon SQS, or says exactly what differs."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiobotocore.session import get_session

from redrive.broker import QueueSpec
from redrive.brokers.sqs import SqsAddress, SqsBroker
from redrive.brokers.sqs.address import Mode
from redrive.brokers.sqs.failures import PermissionMissing
from redrive.errors import DeclarationError, LimitExceeded
from redrive.testing.broker_suite import message, receive, send
from tests.brokers.sqs.proxy import Proxy, answering, as_it_is, proxy_for, refusing, saying
from tests.brokers.sqs.server_process import Server

Open = Callable[..., SqsBroker]


@pytest.fixture
async def proxy(moto: Server) -> AsyncIterator[Proxy]:
    async with proxy_for(moto.port) as proxy:
        yield proxy


@pytest.fixture
async def opened(proxy: Proxy) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        def open_(mode: Mode = "create", prefix: str = "") -> SqsBroker:
            broker = SqsBroker(SqsAddress(endpoint_url=proxy.url, declare=mode, prefix=prefix))
            stack.push_async_callback(broker.close)
            return broker

        yield open_


@pytest.fixture
async def attributes_of(moto: Server) -> AsyncIterator[Callable[[str], Awaitable[dict[str, Any]]]]:
    """A queue's attributes, as another client sees them."""
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    client = get_session().create_client("sqs", endpoint_url=moto.url, region_name="us-east-1", **keys)
    async with client as found:

        async def ask(name: str) -> dict[str, Any]:
            url = (await found.get_queue_url(QueueName=name))["QueueUrl"]
            attributes: dict[str, Any] = (await found.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]))[
                "Attributes"
            ]
            return attributes

        yield ask


def _specs(name: str, *, fifo: bool = False) -> list[QueueSpec]:
    """As an application declares them."""
    return [
        QueueSpec(name=name, fifo=fifo, dead_letter_queue=f"{name}-dead", max_receives=30),
        QueueSpec(name=f"{name}-dead", fifo=fifo),
        QueueSpec(name=f"{name}-parked-payments", fifo=fifo),
    ]


def _name() -> str:
    return f"orders-{secrets.token_hex(4)}"


@pytest.mark.parametrize("fifo", [False, True])
async def test_queues_are_made_as_sqs_has_them(
    opened: Open, attributes_of: Callable[[str], Awaitable[dict[str, Any]]], *, fifo: bool
) -> None:
    """Kept as long as it can, room for a record, dead letters to their queue, and an anchor behind what is parked."""
    name, end = _name(), ".fifo" if fifo else ""
    broker = opened()
    await broker.declare(_specs(name, fifo=fifo))
    queue = await attributes_of(f"{name}{end}")
    dead = await attributes_of(f"{name}-dead{end}")
    anchor = await attributes_of(f"{name}-parked-payments-anchor{end}")
    parked = await attributes_of(f"{name}-parked-payments{end}")
    assert (queue["MessageRetentionPeriod"], queue["MaximumMessageSize"]) == ("1209600", "1048576")
    assert parked["MessageRetentionPeriod"] == "1209600"
    assert json.loads(queue["RedrivePolicy"]) == {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": 30}
    assert json.loads(anchor["RedrivePolicy"])["deadLetterTargetArn"] == parked["QueueArn"]
    names = await broker.queues()
    assert {name, f"{name}-dead", f"{name}-parked-payments"} <= set(names)
    assert not any(one.endswith(("-anchor", ".fifo")) for one in names)


async def test_what_is_as_it_should_be_is_left_alone(proxy: Proxy, opened: Open) -> None:
    """Declaring again asks and writes nothing; a change writes that one queue."""
    name = _name()
    await opened().declare(_specs(name))
    written = proxy.asked["CreateQueue"] + proxy.asked["SetQueueAttributes"]
    broker = opened()
    await broker.declare(_specs(name))
    assert proxy.asked["CreateQueue"] + proxy.asked["SetQueueAttributes"] == written
    await broker.declare([QueueSpec(name=f"{name}-dead", retention=86_400)])
    assert proxy.asked["SetQueueAttributes"] == 1
    assert proxy.requests[-1].body["Attributes"] == {"MessageRetentionPeriod": "86400"}


async def test_a_queue_that_was_just_made_may_not_be_known_yet(proxy: Proxy, opened: Open) -> None:
    """Amazon SQS needs a moment: it is asked again, and so is what names the new queue."""
    name = _name()
    proxy.spoil("GetQueueAttributes", refusing("QueueDoesNotExist"))
    proxy.spoil("CreateQueue", as_it_is)
    proxy.spoil("CreateQueue", refusing("InvalidParameterValue", text="Reason: Dead letter target does not exist."))
    broker = opened()
    await broker.declare([QueueSpec(name=name, dead_letter_queue=f"{name}-dead", max_receives=3), _specs(name)[1]])
    assert {name, f"{name}-dead"} <= set(await broker.queues())


async def test_a_dead_letter_queue_may_be_taken_away(
    opened: Open, attributes_of: Callable[[str], Awaitable[dict[str, Any]]]
) -> None:
    """A queue that is declared without one has none."""
    name = _name()
    broker = opened()
    await broker.declare(_specs(name))
    await broker.declare([QueueSpec(name=name)])
    assert not (await attributes_of(name)).get("RedrivePolicy")


async def test_verifying_makes_nothing_and_names_all_that_differs(proxy: Proxy, opened: Open) -> None:
    """Which attribute of which queue, what it is, what it should be; what is missing; and what to do."""
    name = _name()
    maker = opened()
    await maker.declare(
        [QueueSpec(name=name, delay=5), QueueSpec(name=f"{name}-dead", retention=345_600), QueueSpec(name=f"{name}-x")]
    )
    written = proxy.asked["CreateQueue"] + proxy.asked["SetQueueAttributes"]
    with pytest.raises(DeclarationError) as caught:
        await opened("verify").declare([*_specs(name), QueueSpec(name=f"{name}-x", fifo=True)])
    said = str(caught.value)
    for words in (
        f"{name}: DelaySeconds is 5 and should be 0",
        f"{name}: RedrivePolicy is not set and should be {{",
        f"{name}-dead: MessageRetentionPeriod is 345600 and should be 1209600",
        f"{name}-parked-payments: does not exist",
        f"{name}-parked-payments-anchor: does not exist",
        f"{name}-x.fifo: is a standard queue and cannot become a FIFO queue",
        "declare=create",
    ):
        assert words in said
    assert proxy.asked["CreateQueue"] + proxy.asked["SetQueueAttributes"] == written
    assert f"{name}-parked-payments" not in await maker.queues()


async def test_what_is_verified_is_good(opened: Open) -> None:
    """What was made is as declared, for both kinds; then messages go through it."""
    for fifo in (False, True):
        specs = _specs(_name(), fifo=fifo)
        await opened("create").declare(specs)
        await opened("verify").declare(specs)


async def test_whose_dead_letters_are_taken_is_verified(proxy: Proxy, opened: Open) -> None:
    """`allowAll` is as good as nothing; a policy that names other queues differs."""
    name = _name()
    await opened().declare([QueueSpec(name=name)])
    for policy, differs in (
        ({"redrivePermission": "allowAll"}, False),
        ({"redrivePermission": "denyAll"}, True),
    ):
        proxy.spoil("GetQueueAttributes", answering(_with(policy)))
        verifying = opened("verify").declare([QueueSpec(name=name)])
        if differs:
            with pytest.raises(DeclarationError, match="RedriveAllowPolicy"):
                await verifying
        else:
            await verifying


def _with(policy: dict[str, str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda body: {"Attributes": {**body["Attributes"], "RedriveAllowPolicy": json.dumps(policy)}}


async def test_a_permission_that_is_missing_is_named(proxy: Proxy, opened: Open) -> None:
    """In either mode, with the action; verifying goes on to name the rest."""
    name = _name()
    await opened().declare([QueueSpec(name=name)])
    proxy.spoil(
        "GetQueueAttributes", refusing("AccessDenied", 403, "not authorized to perform: sqs:getqueueattributes")
    )
    with pytest.raises(DeclarationError) as caught:
        await opened("verify").declare([QueueSpec(name=name), QueueSpec(name=f"{name}-other")])
    assert f"{name}: the credentials may not call sqs:getqueueattributes" in str(caught.value)
    assert f"{name}-other: does not exist" in str(caught.value)
    proxy.spoil("CreateQueue", refusing("AccessDenied", 403))
    with pytest.raises(PermissionMissing, match="sqs:CreateQueue"):
        await opened().declare([QueueSpec(name=f"{name}-new")])


async def test_deployments_share_an_account_by_a_prefix(opened: Open) -> None:
    """Each sees its own queues alone, by their plain names."""
    name = _name()
    ours, theirs = opened(prefix="blue-"), opened(prefix="green-")
    for broker in (ours, theirs):
        await broker.declare([QueueSpec(name=name)])
    await send(ours, name, message(b"ours"))
    assert await receive(theirs, name, lease=30) == []
    assert name in await ours.queues()
    assert f"blue-{name}" in await opened().queues()


async def test_names_are_as_long_as_sqs_lets_them_be(opened: Open) -> None:
    """`.fifo` and the prefix count; the anchor of a long name is cut, and its own."""
    broker = opened()
    await broker.declare([QueueSpec(name="x" * 75, fifo=True)])
    for name, prefix in (("x" * 76, ""), ("x" * 74, "p-")):
        with pytest.raises(LimitExceeded, match="name of a queue"):
            await opened(prefix=prefix).declare([QueueSpec(name=name, fifo=True)])
    long = [f"{'o' * 33}-parked-{'p' * 30}{number}" for number in range(2)]
    await broker.declare([QueueSpec(name=name, fifo=True) for name in long])
    assert set(long) <= set(await broker.queues())


async def test_lists_are_read_to_their_end(proxy: Proxy, opened: Open) -> None:
    """Page by page."""
    broker = opened()
    proxy.spoil("ListQueues", saying({"QueueUrls": ["http://x/1/a"], "NextToken": "t"}))
    proxy.spoil("ListQueues", saying({"QueueUrls": ["http://x/1/b.fifo"]}))
    assert await broker.queues() == ["a", "b"]
    assert proxy.requests[-1].body["NextToken"] == "t"
