"""How the store on DynamoDB lays entries out, and reads lists out of several shards."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from redrive.clock import ManualClock
from redrive.errors import DeclarationError, ValueTooLarge, VersionConflict
from redrive.store import ABSENT, BODIES, CLAIMS, LETTERS, SCHEDULES, SUSPECTS, TIMERS, WORKERS, Namespace
from redrive.stores.dynamodb import DynamoStore
from redrive.stores.dynamodb.layout import LONGEST_KEY, SWEEP_GRACE, Layout, content
from tests.stores.proxy import Proxy, Request, changed

KEYS = [secrets.token_hex(8) for _ in range(4_000)]


@pytest.fixture
async def proxy(endpoint: str) -> AsyncIterator[Proxy]:
    async with Proxy(endpoint).running() as proxy:
        yield proxy


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(proxy: Proxy, clock: ManualClock) -> AsyncIterator[DynamoStore]:
    store = DynamoStore(clock, region="eu-west-1", endpoint_url=proxy.url, declare="create", layout=Layout(others=8))
    await store.declare()
    yield store
    await store.close()


def _namespace() -> Namespace:
    return Namespace(name=f"list-{secrets.token_hex(8)}", listable=True, timed=True)


async def _fill(store: DynamoStore, space: Namespace, due: dict[str, int]) -> None:
    await asyncio.gather(
        *(store.put(space, key, key.encode(), if_version=ABSENT, due_at_ms=time) for key, time in due.items())
    )


# Partitions


@pytest.mark.parametrize("namespace", [CLAIMS, BODIES, SUSPECTS], ids=lambda namespace: namespace.name)
def test_what_is_never_listed_shares_no_partition(namespace: Namespace) -> None:
    """Invariant 2: each key has a partition key of its own, so that no claim waits for another one's limit."""
    assert len({Layout().place(namespace, key)["pk"]["S"] for key in KEYS}) == len(KEYS)


@pytest.mark.parametrize("namespace", [TIMERS, LETTERS], ids=lambda namespace: namespace.name)
def test_what_messages_write_to_is_spread(namespace: Namespace) -> None:
    """Over eight shards, none of which gets half as much again as its share."""
    counted = Counter(Layout().place(namespace, key)["pk"]["S"] for key in KEYS)
    assert sorted(counted) == Layout().partitions(namespace)
    assert len(counted) == 8
    assert max(counted.values()) < len(KEYS) / 8 * 1.5


def test_an_entry_is_found_where_an_earlier_version_put_it() -> None:
    """Invariant 3: where these stand was written down once, and may not change."""
    where = {
        (namespace.name, key): (place["pk"]["S"], place["sk"]["S"])
        for namespace, key in [
            (CLAIMS, "c1"),
            (TIMERS, "send/1"),
            (TIMERS, "send/2"),
            (LETTERS, "orders/☕"),
            (WORKERS, "shop/1"),
            (SCHEDULES, "shop/daily"),
        ]
        for place in [Layout().place(namespace, key)]
    }
    assert where == {
        ("claims", "c1"): ("claims/c1", "-"),
        ("timers", "send/1"): ("timers/7", "send/1"),
        ("timers", "send/2"): ("timers/1", "send/2"),
        ("letters", "orders/☕"): ("letters/2", "orders/☕"),
        ("workers", "shop/1"): ("workers/0", "shop/1"),
        ("schedules", "shop/daily"): ("schedules/0", "shop/daily"),
    }


def test_a_key_that_is_too_long_is_refused() -> None:
    """In bytes, not in characters."""
    Layout().place(LETTERS, "k" * LONGEST_KEY)
    with pytest.raises(ValueTooLarge, match="has 1026 bytes, over the store's limit of 1024"):
        Layout().place(LETTERS, "é" * 513)


def test_the_sweep_comes_an_hour_late() -> None:
    """Whose clock is behind by less finds an entry where it was; parts of a second are rounded up."""
    item = content(b"", 1, None, 1_700_000_000_001)
    assert item["swept_after_s"] == {"N": str(1_700_000_001 + SWEEP_GRACE)}
    assert "swept_after_s" not in content(b"", 1, 5, None)


# Lists


async def test_lists_of_many_shards_are_in_order(store: DynamoStore) -> None:
    """Page after page, whatever stands in which shard, and more of it than one page of each."""
    space = _namespace()
    due = {f"{number:03d}": (number * 37) % 101 for number in range(101)}
    await _fill(store, space, due)
    assert [entry.key for entry in await store.scan(space, limit=1_000)] == sorted(due)
    seen: list[str] = []
    while page := await store.scan(space, after=seen[-1] if seen else "", limit=7):
        seen += [entry.key for entry in page]
    assert seen == sorted(due)
    for limit in (1, 9, 64, 500):
        found = await store.due(space, before_ms=80, limit=limit)
        assert [entry.key for entry in found] == sorted(due, key=lambda key: due[key])[: min(limit, 81)]
        assert all(entry.value == entry.key.encode() for entry in found)


async def test_a_list_asks_each_shard_once(store: DynamoStore, proxy: Proxy) -> None:
    """Where entries are spread as usual: a look costs eight queries, and one read of what was found."""
    space = _namespace()
    await _fill(store, space, {f"{number}": number for number in range(40)})
    proxy.seen.clear()
    assert len(await store.due(space, before_ms=100, limit=40)) == 40
    assert proxy.seen == {"Query": 8, "BatchGetItem": 1}
    proxy.seen.clear()
    assert await store.due(space, before_ms=-1, limit=40) == []
    assert proxy.seen == {"Query": 8}


async def test_what_a_read_leaves_over_is_read_again(store: DynamoStore, proxy: Proxy) -> None:
    """DynamoDB answers at most 16 MB at once, less when it is busy, and in any order; the rest is asked for."""
    space = _namespace()
    await _fill(store, space, {f"{number}": number for number in range(9)})

    def leave_over_half(asked: dict[str, dict[str, dict[str, list[object]]]], said: dict[str, object]) -> None:
        ((table, wanted),) = asked["RequestItems"].items()
        responses = said["Responses"]
        assert isinstance(responses, dict)
        answered = responses[table][::-1]
        done, rest = answered[: len(answered) // 2], answered[len(answered) // 2 :]
        left = [{name: item[name] for name in ("pk", "sk")} for item in rest]
        said["Responses"] = {table: done}
        said["UnprocessedKeys"] = {table: {**wanted, "Keys": left}}

    proxy.on("BatchGetItem", *[changed(proxy, leave_over_half)] * 3)
    assert [entry.key for entry in await store.due(space, before_ms=9, limit=100)] == [f"{one}" for one in range(9)]
    assert proxy.seen["BatchGetItem"] == 1 + 4  # the first asked whether it may


async def test_lists_are_longer_than_one_answer(proxy: Proxy) -> None:
    """DynamoDB answers 1 MB at most to one query."""
    space = _namespace()
    one = DynamoStore(ManualClock(), region="eu-west-1", endpoint_url=proxy.url, declare="create")
    value = bytes(300_000)
    await asyncio.gather(*(one.put(space, f"{key}", value, if_version=ABSENT, due_at_ms=9 - key) for key in range(8)))
    proxy.seen.clear()
    assert [entry.key for entry in await one.scan(space)] == [f"{key}" for key in range(8)]
    assert proxy.seen["Query"] > 1
    found = await one.due(space, before_ms=100, limit=100)
    assert [(entry.key, entry.value) for entry in found] == [(f"{key}", value) for key in reversed(range(8))]
    await one.close()


async def test_more_than_a_hundred_are_read_in_parts(store: DynamoStore) -> None:
    """BatchGetItem takes no more at once."""
    space = _namespace()
    await _fill(store, space, {f"{number:03d}": number for number in range(110)})
    assert len(await store.due(space, before_ms=1_000, limit=1_000)) == 110


async def test_what_was_settled_since_the_index_was_read_is_not_due(
    store: DynamoStore, proxy: Proxy, clock: ManualClock
) -> None:
    """Each is judged as it stands when it is read."""
    space = _namespace()
    await _fill(store, space, dict.fromkeys(("done", "later", "stays"), 1))
    soon = clock.now_ms() + 1_000
    await store.put(space, "expires", b"value", if_version=ABSENT, due_at_ms=1, expires_at_ms=soon)
    versions = {entry.key: entry.version for entry in await store.due(space, before_ms=1, limit=10)}

    async def settled_first(request: Request) -> bytes:
        await store.delete(space, "done", if_version=versions["done"])
        await store.put(space, "later", b"value", if_version=versions["later"], due_at_ms=2)
        clock.advance(1)
        return await proxy.passed_on(request)

    proxy.on("BatchGetItem", settled_first)
    assert sorted(versions) == ["done", "expires", "later", "stays"]
    assert [entry.key for entry in await store.due(space, before_ms=1, limit=10)] == ["stays"]


# Expiry


async def test_an_entry_expires_at_its_millisecond(store: DynamoStore, clock: ManualClock) -> None:
    """Not after it: reads and the conditions of writes agree to the millisecond."""
    space, at = _namespace(), clock.now_ms() + 1_000
    version = await store.put(space, "key", b"value", if_version=ABSENT, due_at_ms=1, expires_at_ms=at)
    clock.advance(0.999)
    assert await store.get(space, "key") is not None
    with pytest.raises(VersionConflict):
        await store.put(space, "key", b"other", if_version=ABSENT)
    clock.advance(0.001)
    assert await store.get(space, "key") is None
    assert await store.scan(space) == await store.due(space, before_ms=1, limit=1) == []
    with pytest.raises(VersionConflict):
        await store.put(space, "key", b"late", if_version=version)
    with pytest.raises(VersionConflict):
        await store.delete(space, "key", if_version=version)
    await store.put(space, "key", b"new", if_version=ABSENT)


# Around it


def test_importing_it_imports_no_client() -> None:
    """Neither `import redrive` nor the package of the store costs what AWS's client costs."""
    code = "import sys, redrive, redrive.stores.dynamodb; sys.exit(any('botocore' in name for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_client_it_says_what_to_install() -> None:
    """When a store is made, not when it is first asked."""
    code = (
        "import sys; sys.modules['aiobotocore'] = None\n"
        "from redrive.clock import ManualClock\n"
        "from redrive.errors import DeclarationError\n"
        "from redrive.stores.dynamodb import DynamoStore\n"
        "try: DynamoStore(ManualClock())\n"
        "except DeclarationError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=os.environ)
    assert done.stdout == (
        "store 'dynamodb:///redrive' needs aiobotocore, which is not installed; pip install 'redrive[sqs]'\n"
    )


def test_an_unknown_way_to_declare_is_refused() -> None:
    """With the ways that there are."""
    with pytest.raises(DeclarationError, match="declare='maybe' is not known; use 'create' or 'verify'"):
        DynamoStore(ManualClock(), declare="maybe")


async def test_without_a_region_it_says_how_to_name_one() -> None:
    """At the first call: botocore may have been told meanwhile."""
    store = DynamoStore(ManualClock())
    with pytest.raises(DeclarationError, match="has no region; name one in the broker's address, or set AWS_"):
        await store.get(CLAIMS, "key")
    await store.close()


def test_an_address_tells_no_secret() -> None:
    """Whatever was written into the URL."""
    store = DynamoStore(
        ManualClock(), region="eu-west-1", table="shop", endpoint_url="http://user:secret@127.0.0.1:1/x"
    )
    assert store.address == "dynamodb://eu-west-1/shop?endpoint_url=http://127.0.0.1:1/x"
