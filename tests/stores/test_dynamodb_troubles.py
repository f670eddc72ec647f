"""What the store on DynamoDB makes of lost answers, throttling, and credentials that ran out: over a real proxy."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from redrive.clock import ManualClock
from redrive.errors import StoreUnavailable, VersionConflict
from redrive.store import ABSENT, CLAIMS, TIMERS
from redrive.stores.dynamodb import DynamoStore
from redrive.stores.dynamodb.client import NEW_SESSION_EVERY, TRIES
from tests.stores.proxy import Answer, Proxy, Request, garbage, refused

THROTTLED = refused("ThrottlingException", "Rate exceeded")
BROKEN = refused("InternalServerError", "The request processing has failed", status=500)


@pytest.fixture
async def proxy(endpoint: str) -> AsyncIterator[Proxy]:
    async with Proxy(endpoint).running() as proxy:
        yield proxy


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(proxy: Proxy, clock: ManualClock) -> AsyncIterator[DynamoStore]:
    store = DynamoStore(clock, region="eu-west-1", endpoint_url=proxy.url, declare="create")
    await store.declare()
    yield store
    await store.close()


@pytest.fixture
async def other(endpoint: str, clock: ManualClock) -> AsyncIterator[DynamoStore]:
    """Another process, whose network is well."""
    other = DynamoStore(clock, region="eu-west-1", endpoint_url=endpoint, declare="create")
    yield other
    await other.close()


@pytest.fixture
def key() -> str:
    return secrets.token_hex(8)


# A write whose answer was lost


async def test_a_put_finds_its_own_version_and_is_no_conflict(store: DynamoStore, proxy: Proxy, key: str) -> None:
    """The answer was lost, the put is made again, its condition fails because of itself: it happened."""
    proxy.on("PutItem", proxy.answer_lost)
    version = await store.put(CLAIMS, key, b"mine", if_version=ABSENT)
    entry = await store.get(CLAIMS, key)
    assert entry is not None
    assert (entry.version, entry.value) == (version, b"mine")
    proxy.on("PutItem", proxy.answer_lost, proxy.answer_lost)
    changed = await store.put(CLAIMS, key, b"changed", if_version=version)
    assert await store.put(CLAIMS, key, b"again", if_version=changed) not in {version, changed}


async def test_a_put_that_got_lost_on_its_way_is_made_again(store: DynamoStore, proxy: Proxy, key: str) -> None:
    """Nothing happened the first time, and it happens once."""
    proxy.on("PutItem", proxy.request_lost, BROKEN, garbage)
    version = await store.put(CLAIMS, key, b"value", if_version=ABSENT)
    proxy.on("GetItem", garbage)
    entry = await store.get(CLAIMS, key)
    assert entry is not None
    assert entry.version == version


async def test_a_lost_answer_and_another_writer_leave_it_open(
    store: DynamoStore, other: DynamoStore, proxy: Proxy, key: str
) -> None:
    """Ours happened and was replaced, or did not: to call it a conflict would claim that nothing was written."""

    async def lost_and_overtaken(request: Request) -> None:
        await proxy.passed_on(request)
        entry = await other.get(CLAIMS, key)
        assert entry is not None
        await other.put(CLAIMS, key, b"theirs", if_version=entry.version)

    proxy.on("PutItem", lost_and_overtaken)
    with pytest.raises(StoreUnavailable, match="may have happened"):
        await store.put(CLAIMS, key, b"ours", if_version=ABSENT)
    entry = await other.get(CLAIMS, key)
    assert entry is not None
    assert entry.value == b"theirs"


async def test_a_throttled_try_leaves_no_doubt(store: DynamoStore, other: DynamoStore, proxy: Proxy, key: str) -> None:
    """It did nothing: who was faster in the meantime makes it a plain conflict."""

    async def throttled_and_overtaken(request: Request) -> bytes | None:
        await other.put(CLAIMS, key, b"theirs", if_version=ABSENT)
        return await THROTTLED(request)

    proxy.on("PutItem", throttled_and_overtaken)
    with pytest.raises(VersionConflict):
        await store.put(CLAIMS, key, b"ours", if_version=ABSENT)


async def test_a_delete_whose_answer_was_lost_is_not_known(store: DynamoStore, proxy: Proxy, key: str) -> None:
    """Absence has no version: it may have been this delete or another one."""
    version = await store.put(CLAIMS, key, b"value", if_version=ABSENT)
    proxy.on("DeleteItem", proxy.answer_lost)
    with pytest.raises(StoreUnavailable, match="may have happened"):
        await store.delete(CLAIMS, key, if_version=version)
    assert await store.get(CLAIMS, key) is None


async def test_writers_whose_answers_get_lost_count_right(store: DynamoStore, proxy: Proxy, key: str) -> None:
    """Thirty add one each, every fourth answer is lost: what was answered counts once, all else at most once."""
    turn = 0

    async def now_and_then(request: Request) -> bytes | None:
        nonlocal turn
        turn += request.operation == "PutItem"
        lost = request.operation == "PutItem" and turn % 4 == 0
        answer = await proxy.passed_on(request)
        return None if lost else answer

    await store.put(CLAIMS, key, b"0", if_version=ABSENT)
    proxy.always = now_and_then
    outcomes = await asyncio.gather(*(_add_one(store, key) for _ in range(30)))
    entry = await store.get(CLAIMS, key)
    assert entry is not None
    assert outcomes.count(True) <= int(entry.value) <= len(outcomes)
    assert outcomes.count(True) > 0
    assert turn >= 30


async def _add_one(store: DynamoStore, key: str) -> bool:
    """Whether it is known to have happened."""
    while True:
        entry = await store.get(CLAIMS, key)
        assert entry is not None
        try:
            await store.put(CLAIMS, key, b"%d" % (int(entry.value) + 1), if_version=entry.version)
        except VersionConflict:
            continue
        except StoreUnavailable:
            return False
        return True


# What passes, and what does not


@pytest.mark.parametrize(
    "trouble",
    [THROTTLED, refused("ProvisionedThroughputExceededException"), refused("RequestLimitExceeded"), BROKEN],
    ids=["throttled", "over the table's rate", "over the account's rate", "server fault"],
)
async def test_what_passes_is_tried_again(store: DynamoStore, proxy: Proxy, key: str, trouble: Answer) -> None:
    """A few times, in reads and in writes, and nobody notices."""
    proxy.on("PutItem", trouble, trouble)
    await store.put(TIMERS, key, b"value", if_version=ABSENT, due_at_ms=7)
    proxy.on("GetItem", trouble)
    assert await store.get(TIMERS, key) is not None
    proxy.on("Query", trouble)
    proxy.on("BatchGetItem", trouble)
    assert key in [entry.key for entry in await store.due(TIMERS, before_ms=7, limit=1000)]


async def test_throttling_that_goes_on_is_unavailable(store: DynamoStore, proxy: Proxy, key: str) -> None:
    """After four tries the store says so, with the reason; nothing was written, and later it works again."""
    proxy.always = THROTTLED
    proxy.seen.clear()
    with pytest.raises(StoreUnavailable, match="ThrottlingException: Rate exceeded, 4 times in a row"):
        await store.put(CLAIMS, key, b"value", if_version=ABSENT)
    assert proxy.seen["PutItem"] == TRIES
    proxy.always = None
    assert await store.get(CLAIMS, key) is None
    await store.put(CLAIMS, key, b"value", if_version=ABSENT)


async def test_a_server_that_does_not_answer_is_unavailable(
    store: DynamoStore, proxy: Proxy, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try has its time; a hung connection holds nobody for ever."""
    monkeypatch.setattr("redrive.stores.dynamodb.client.ANSWER_TIMEOUT", 0.05)
    proxy.always = proxy.never
    with pytest.raises(StoreUnavailable, match="no answer"):
        await asyncio.wait_for(store.get(CLAIMS, key), 4)  # the connection's own limit is five seconds


async def test_nobody_there_is_unavailable(clock: ManualClock) -> None:
    """A port at which nothing listens: the first call says so, and names the address."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    store = DynamoStore(clock, region="eu-west-1", endpoint_url=f"http://127.0.0.1:{port}")
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}"):
        await store.get(CLAIMS, "key")
    await store.close()


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (refused("AccessDeniedException", "User: x is not authorized"), "dynamodb:PutItem is not allowed"),
        (refused("ResourceNotFoundException", "Requested resource not found"), "its table does not exist"),
        (refused("ItemCollectionSizeLimitExceededException"), "10 GB stand under one partition key"),
        (refused("ValidationException", "One or more parameter values"), "ValidationException: One or more"),
    ],
    ids=["permission", "table", "10 GB", "invalid"],
)
async def test_what_does_not_pass_is_said_at_once(
    store: DynamoStore, proxy: Proxy, key: str, refusal: Answer, words: str
) -> None:
    """Once, and with what helps: a table that was deleted or closed while workers run is an outage of the store."""
    proxy.on("PutItem", refusal)
    proxy.seen.clear()
    with pytest.raises(StoreUnavailable, match=words):
        await store.put(CLAIMS, key, b"value", if_version=ABSENT)
    assert proxy.seen["PutItem"] == 1


# Credentials


async def test_credentials_that_ran_out_are_looked_for_anew(
    proxy: Proxy, clock: ManualClock, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are refused: unavailable. A file with new ones is found by itself, five seconds after the last look."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    async def old_ones_refused(request: Request) -> bytes | None:
        expired = refused("ExpiredTokenException", "The security token included in the request is expired: TOKEN")
        return await expired(request) if b"Credential=OLD/" in request.head else await proxy.passed_on(request)

    _write_credentials(tmp_path, "OLD")
    proxy.always = old_ones_refused
    store = DynamoStore(clock, region="eu-west-1", endpoint_url=proxy.url, declare="create")
    with pytest.raises(StoreUnavailable, match="credentials were refused") as caught:
        await store.put(CLAIMS, key, b"value", if_version=ABSENT)
    assert "TOKEN" not in str(caught.value)
    _write_credentials(tmp_path, "NEW")
    with pytest.raises(StoreUnavailable):
        await store.put(CLAIMS, key, b"value", if_version=ABSENT)
    clock.advance(NEW_SESSION_EVERY)
    await store.put(CLAIMS, key, b"value", if_version=ABSENT)
    await store.close()


def _write_credentials(folder: Path, key: str) -> None:
    text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {key}\n"
    (folder / "credentials").write_text(text, "ascii")


async def test_no_credentials_at_all_are_unavailable(
    endpoint: str, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hands them out may be late: they are looked for again. On this machine any will do."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    local = DynamoStore(clock, endpoint_url=endpoint, declare="create", local=True)
    assert await local.get(CLAIMS, "key") is None
    await local.close()
    store = DynamoStore(clock, region="eu-west-1", endpoint_url=endpoint, declare="create")
    with pytest.raises(StoreUnavailable, match=r"nothing was asked: .*credentials"):
        await store.get(CLAIMS, "key")
    _write_credentials(tmp_path, "NEW")
    clock.advance(NEW_SESSION_EVERY)
    assert await store.get(CLAIMS, "key") is None
    await store.close()


async def test_a_profile_that_is_not_there_is_unavailable(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file may come later, as credentials do."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    store = DynamoStore(clock, region="eu-west-1", endpoint_url="http://127.0.0.1:1")
    with pytest.raises(StoreUnavailable, match="nobody"):
        await store.get(CLAIMS, "key")
    await store.close()


async def test_closing_ends_what_is_under_way(store: DynamoStore, proxy: Proxy, key: str) -> None:
    """A call that waits for its answer is answered with StoreUnavailable, and does not hold the closing up."""
    arrived = asyncio.Event()

    async def hung(request: Request) -> None:
        arrived.set()
        await proxy.never(request)

    proxy.on("GetItem", hung)
    waiting = asyncio.create_task(store.get(CLAIMS, key))
    await asyncio.wait_for(arrived.wait(), 10)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(waiting, 10)
