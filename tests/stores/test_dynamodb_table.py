"""The table of the store on DynamoDB: made, or looked at, and all that is wrong with it is said."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiobotocore.session import get_session

from redrive.clock import ManualClock
from redrive.errors import DeclarationError, StoreUnavailable
from redrive.store import ABSENT, CLAIMS
from redrive.stores.dynamodb import DynamoStore
from redrive.stores.dynamodb.table import definition
from tests.stores.proxy import Answer, Proxy, Request, changed, refused

Open = Callable[..., DynamoStore]


@pytest.fixture
async def proxy(endpoint: str) -> AsyncIterator[Proxy]:
    async with Proxy(endpoint).running() as proxy:
        yield proxy


@pytest.fixture
def table() -> str:
    return f"table-{secrets.token_hex(8)}"


@pytest.fixture
async def opened(proxy: Proxy, table: str) -> AsyncIterator[Open]:
    """Opens stores on one table, and closes them."""
    stores: list[DynamoStore] = []

    def open_one(declare: str) -> DynamoStore:
        stores.append(
            DynamoStore(ManualClock(), table=table, region="eu-west-1", endpoint_url=proxy.url, declare=declare)
        )
        return stores[-1]

    yield open_one
    for store in stores:
        await store.close()


@pytest.fixture
async def dynamodb(endpoint: str) -> AsyncIterator[Any]:
    """A client of the tests' own, which makes other tables than redrive would."""
    async with get_session().create_client("dynamodb", region_name="eu-west-1", endpoint_url=endpoint) as client:
        yield client


async def test_create_makes_all_and_verify_is_content(opened: Open, dynamodb: Any, table: str) -> None:
    """The key, the index by due time and the sweep, paid by the request; a second `create` finds it done."""
    await opened("create").declare()
    description = (await dynamodb.describe_table(TableName=table))["Table"]
    assert description["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert [one["IndexName"] for one in description["LocalSecondaryIndexes"]] == ["due"]
    swept = (await dynamodb.describe_time_to_live(TableName=table))["TimeToLiveDescription"]
    assert swept == {"TimeToLiveStatus": "ENABLED", "AttributeName": "swept_after_s"}
    await opened("verify").declare()
    await opened("create").declare()


async def test_several_create_at_once(opened: Open) -> None:
    """Workers that start together make one table, and none of them fails."""
    stores = [opened("create") for _ in range(5)]
    await asyncio.gather(*(store.declare() for store in stores))
    await stores[0].put(CLAIMS, "key", b"value", if_version=ABSENT)
    assert await stores[-1].get(CLAIMS, "key") is not None


async def test_who_lost_the_race_to_create_waits_for_the_winner(opened: Open, proxy: Proxy) -> None:
    """Another process makes the table between our look and our try."""

    async def overtaken(request: Request) -> bytes | None:
        await proxy.passed_on(request)
        return await refused("ResourceInUseException", "Table already exists")(request)

    proxy.on("CreateTable", overtaken)
    await opened("create").declare()


async def test_a_missing_table_is_made_or_named(opened: Open, proxy: Proxy, table: str) -> None:
    """`verify` makes nothing, and says what would; the first call of any kind verifies."""
    says = rf"table '{table}' .* does not exist; let declare='create' make it"
    with pytest.raises(DeclarationError, match=says):
        await opened("verify").declare()
    with pytest.raises(DeclarationError, match=says):
        await opened("verify").get(CLAIMS, "key")
    assert not {"CreateTable", "UpdateTimeToLive"} & set(proxy.seen)


async def test_a_table_is_looked_at_once(opened: Open, proxy: Proxy) -> None:
    """However many calls come first at once."""
    store = opened("create")
    await asyncio.gather(*(store.get(CLAIMS, f"{number}") for number in range(10)))
    looks = proxy.seen["DescribeTable"]
    await store.get(CLAIMS, "another")
    assert proxy.seen["DescribeTable"] == looks
    assert proxy.seen["CreateTable"] == 1


async def test_a_table_that_is_being_made_is_waited_for(
    opened: Open, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS takes seconds, and may not even know of it at first; what never gets ready is an outage."""
    monkeypatch.setattr("redrive.stores.dynamodb.table._POLL", 0.01)
    missing = refused("ResourceNotFoundException", "Requested resource not found: Table: x not found")
    creating = changed(proxy, lambda _, said: said["Table"].update(TableStatus="CREATING"))
    proxy.on("DescribeTable", missing, missing, missing, creating, creating)
    await opened("create").declare()
    proxy.on("DescribeTable", creating, creating, creating)
    await opened("verify").declare()
    monkeypatch.setattr("redrive.stores.dynamodb.table._POLLS", 2)
    proxy.on("DescribeTable", creating, creating, creating, creating)
    with pytest.raises(StoreUnavailable, match="still being made"):
        await opened("verify").declare()


async def _made(dynamodb: Any, table: str, **otherwise: Any) -> None:
    await dynamodb.create_table(TableName=table, **{**definition(), **otherwise})
    on = {"Enabled": True, "AttributeName": "swept_after_s"}
    await dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=on)


async def _other_keys(dynamodb: Any, table: str) -> None:
    types = [{"AttributeName": name, "AttributeType": "S"} for name in ("id", "of", "at")]
    index = {**definition()["LocalSecondaryIndexes"][0], "KeySchema": _by("id", "at")}
    keys = _by("id", "of")
    await _made(dynamodb, table, AttributeDefinitions=types, KeySchema=keys, LocalSecondaryIndexes=[index])


def _by(first: str, second: str) -> list[dict[str, str]]:
    return [{"AttributeName": first, "KeyType": "HASH"}, {"AttributeName": second, "KeyType": "RANGE"}]


def _types(due: str) -> list[dict[str, str]]:
    types = {"pk": "S", "sk": "S", "due_at_ms": due}
    return [{"AttributeName": name, "AttributeType": kind} for name, kind in types.items()]


async def _no_index(dynamodb: Any, table: str) -> None:
    settings = {name: value for name, value in definition().items() if name != "LocalSecondaryIndexes"}
    settings["AttributeDefinitions"] = _types("N")[:2]
    await dynamodb.create_table(TableName=table, **settings)


async def _other_index(dynamodb: Any, table: str) -> None:
    index = {"IndexName": "due", "KeySchema": _by("pk", "at"), "Projection": {"ProjectionType": "ALL"}}
    types = [*_types("N")[:2], {"AttributeName": "at", "AttributeType": "N"}]
    await _made(dynamodb, table, AttributeDefinitions=types, LocalSecondaryIndexes=[index])


async def _keys_only(dynamodb: Any, table: str) -> None:
    index = {**definition()["LocalSecondaryIndexes"][0], "Projection": {"ProjectionType": "KEYS_ONLY"}}
    await _made(dynamodb, table, LocalSecondaryIndexes=[index])


async def _due_as_text(dynamodb: Any, table: str) -> None:
    await _made(dynamodb, table, AttributeDefinitions=_types("S"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_other_keys, "its key is 'id' and 'of', not 'pk' and 'sk'; its index 'due' is by 'id' and 'at', not"),
        (_no_index, "it has no local secondary index 'due' by 'pk' and 'due_at_ms'"),
        (_other_index, "its index 'due' is by 'pk' and 'at', not 'pk' and 'due_at_ms'"),
        (_keys_only, "its index 'due' does not hold 'expires_at_ms'"),
        (_due_as_text, "'due_at_ms' is text, not a number"),
    ],
    ids=["keys", "no index", "another index", "projection", "type"],
)
async def test_what_differs_is_said(
    opened: Open, dynamodb: Any, table: str, make: Callable[[Any, str], Awaitable[None]], words: str
) -> None:
    """What cannot be changed is not touched, in neither mode."""
    await make(dynamodb, table)
    for declare in ("create", "verify"):
        with pytest.raises(DeclarationError) as caught:
            await opened(declare).declare()
        assert words in str(caught.value)
        assert "use a table of another name" in str(caught.value)


async def test_a_projection_of_everything_will_do(opened: Open, dynamodb: Any, table: str) -> None:
    """It costs more, and is no fault."""
    index = {**definition()["LocalSecondaryIndexes"][0], "Projection": {"ProjectionType": "ALL"}}
    await _made(dynamodb, table, LocalSecondaryIndexes=[index])
    await opened("verify").declare()


async def test_a_sweep_that_is_off_is_said_or_switched_on(opened: Open, dynamodb: Any, table: str) -> None:
    """As it is after a crash between the making of the table and of its sweep."""
    await dynamodb.create_table(TableName=table, **definition())
    with pytest.raises(DeclarationError, match="has time to live off; switch it on by the attribute 'swept_after_s'"):
        await opened("verify").declare()
    await opened("create").declare()
    await opened("verify").declare()


async def test_a_sweep_that_is_being_switched_is_what_it_will_be(opened: Open, proxy: Proxy) -> None:
    """AWS takes up to an hour over it: on its way on will do, on its way off will not."""

    def said(status: str) -> Answer:
        sweep = {"TimeToLiveStatus": status, "AttributeName": "swept_after_s"}
        return changed(proxy, lambda _, said: said.update(TimeToLiveDescription=sweep))

    await opened("create").declare()
    proxy.on("DescribeTimeToLive", said("ENABLING"), said("ENABLING"))
    await opened("verify").declare()
    proxy.on("DescribeTimeToLive", said("DISABLING"), said("DISABLING"))
    with pytest.raises(DeclarationError, match="has time to live off"):
        await opened("verify").declare()


async def test_a_sweep_by_another_attribute_is_not_touched(opened: Open, dynamodb: Any, table: str) -> None:
    """Somebody meant it; it is theirs to change."""
    await dynamodb.create_table(TableName=table, **definition())
    on = {"Enabled": True, "AttributeName": "theirs"}
    await dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=on)
    with pytest.raises(DeclarationError, match="has time to live by 'theirs'"):
        await opened("create").declare()


async def test_a_sweep_that_somebody_else_switches_on_is_well(opened: Open, proxy: Proxy) -> None:
    """Of two that create at once, one is told that it is on already."""

    async def overtaken(request: Request) -> bytes | None:
        await proxy.passed_on(request)
        return await refused("ValidationException", "TimeToLive is already enabled")(request)

    proxy.on("UpdateTimeToLive", overtaken)
    await opened("create").declare()


def _denied(proxy: Proxy, *operations: str) -> None:
    """From now on, as AWS says it."""

    async def answer(request: Request) -> bytes | None:
        if request.operation not in operations:
            return await proxy.passed_on(request)
        who, what = "arn:aws:iam::123456789012:user/shop", f"dynamodb:{request.operation}"
        why = (
            f"User: {who} is not authorized to perform: {what} on resource: arn because no identity-based policy allows"
        )
        return await refused("AccessDeniedException", why)(request)

    proxy.always = answer


async def test_all_missing_permissions_are_said_at_once(opened: Open, proxy: Proxy) -> None:
    """Those of looking and those of working, before the first message needs them."""
    await opened("create").declare()
    _denied(proxy, "DescribeTimeToLive", "Query", "DeleteItem", "BatchGetItem")
    with pytest.raises(DeclarationError) as caught:
        await opened("verify").declare()
    said = "does not permit dynamodb:BatchGetItem, dynamodb:DeleteItem, dynamodb:DescribeTimeToLive, dynamodb:Query to"
    assert said in str(caught.value)


@pytest.mark.parametrize("operation", ["CreateTable", "UpdateTimeToLive", "GetItem", "PutItem", "DescribeTable"])
async def test_each_missing_permission_is_said(opened: Open, proxy: Proxy, operation: str) -> None:
    """Those of making too, when it comes to that."""
    _denied(proxy, operation)
    with pytest.raises(DeclarationError, match=f"does not permit dynamodb:{operation} to its credentials"):
        await opened("create").declare()


async def test_a_permission_for_the_key_is_said_too(opened: Open, proxy: Proxy) -> None:
    """A table under a key of the customer's own needs more than DynamoDB's permissions: AWS says which."""
    why = "User: arn is not authorized to perform: kms:Decrypt on the resource associated with this ciphertext"
    proxy.on("GetItem", refused("AccessDeniedException", why))
    with pytest.raises(DeclarationError, match="does not permit kms:Decrypt to its credentials"):
        await opened("create").declare()


async def test_what_nobody_expected_is_said_as_it_is(opened: Open, proxy: Proxy) -> None:
    """No refusal of DynamoDB's leaves the store as something else than its own errors."""
    for operation in ("DescribeTable", "CreateTable", "UpdateTimeToLive", "DescribeTimeToLive"):
        odd = refused("SubscriptionRequiredException", "The AWS Access Key Id needs a subscription for the service")
        proxy.on(operation, odd, odd)
        with pytest.raises(StoreUnavailable, match="SubscriptionRequiredException: The AWS"):
            await opened("create").declare()
        proxy.troubles.clear()


async def test_looking_leaves_nothing_behind(opened: Open, dynamodb: Any, table: str) -> None:
    """The writes that only ask whether they are permitted change nothing."""
    await opened("create").declare()
    await opened("verify").declare()
    assert (await dynamodb.scan(TableName=table))["Count"] == 0


async def test_an_outage_while_declaring_passes(opened: Open, proxy: Proxy) -> None:
    """Nothing is concluded from it: the next call declares again."""
    store = opened("create")
    proxy.always = refused("ThrottlingException", "Rate exceeded")
    with pytest.raises(StoreUnavailable, match="ThrottlingException"):
        await store.get(CLAIMS, "key")
    proxy.always = None
    assert await store.get(CLAIMS, "key") is None
