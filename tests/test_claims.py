"""One effect for each idempotency key, whatever is delivered twice; invariants by their number in `redrive.claims`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from typing_extensions import override

from redrive.claims import KEPT_MS, Claim, Claims, Done, InProgress, digest, payload_hash
from redrive.clock import ManualClock
from redrive.errors import ClaimLost, NewerRecord, StoreUnavailable
from redrive.sqlite.writer import InlineDatabase
from redrive.store import ABSENT, CLAIMS, Store
from redrive.stores.sqlite import SqliteStore

DAYS_14 = KEPT_MS / 1000
ONE, OTHER = payload_hash(b"one"), payload_hash(b"other")


class Moody(SqliteStore):
    """A store that can be away, and lets others in between."""

    away = False

    @override
    async def put(self, *arguments: Any, **options: Any) -> int:
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable("moody", "it is away")
        return await super().put(*arguments, **options)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[Moody]:
    store = Moody(InlineDatabase(clock))
    yield store
    await store.close()


@pytest.fixture
def claims(store: Store, clock: ManualClock) -> Claims:
    return Claims(store, clock)


async def take(
    claims: Claims, *, message: str = "m1", payload: str = ONE, lease: float = 30.0
) -> Claim | InProgress | Done:
    return await claims.take("order 1", payload_hash=payload, message_id=message, lease=lease)


async def taken(claims: Claims, *, message: str = "m1", payload: str = ONE, lease: float = 30.0) -> Claim:
    claim = await take(claims, message=message, payload=payload, lease=lease)
    assert isinstance(claim, Claim), claim
    return claim


# What stands x who comes: the whole table


async def test_an_absent_key_is_taken(claims: Claims) -> None:
    """By the first who asks; its fence is one."""
    claim = await taken(claims)
    assert (claim.key, claim.message_id, claim.payload_hash, claim.fence) == ("order 1", "m1", ONE, 1)


@pytest.mark.parametrize(("message", "payload"), [("m1", ONE), ("m2", ONE), ("m2", OTHER)])
async def test_a_key_in_progress_is_waited_for(claims: Claims, clock: ManualClock, message: str, payload: str) -> None:
    """By copies of the message, other messages and other payloads alike, for what is left of the lease."""
    await taken(claims)
    clock.advance(10)
    assert await take(claims, message=message, payload=payload) == InProgress(left=20.0)
    clock.advance(19.999)
    found = await take(claims, message=message, payload=payload)
    assert isinstance(found, InProgress)
    assert found.left == pytest.approx(0.001)


@pytest.mark.parametrize(("message", "payload", "same"), [("m1", ONE, True), ("m2", ONE, True), ("m2", OTHER, False)])
async def test_a_key_that_is_done_is_refused(claims: Claims, message: str, payload: str, *, same: bool) -> None:
    """With what the finisher left, and whether it was done for this payload."""
    await claims.finish(await taken(claims), result={"charge": 7})
    assert await take(claims, message=message, payload=payload) == Done(same_payload=same, result={"charge": 7})


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("payload", [ONE, OTHER])
async def test_a_released_key_is_free(claims: Claims, payload: str, *, hold: bool) -> None:
    """At once, for whichever payload comes; the fence goes on."""
    await claims.release(await taken(claims), hold=hold)
    assert (await taken(claims, message="m2", payload=payload)).fence == 2


async def test_keys_do_not_disturb_one_another(claims: Claims) -> None:
    """Not even long ones that begin alike, nor those that are no proper text."""
    keys = ["a", "b", "a" * 10_000, "a" * 9_999 + "b", "", "☕", "\ud800", "\0"]
    for key in keys:
        found = await claims.take(key, payload_hash=ONE, message_id="m1", lease=30)
        assert isinstance(found, Claim)
        assert found.key == key


# Leases, takeovers, late finishers


async def test_a_lease_that_ended_is_taken_over(claims: Claims, clock: ManualClock) -> None:
    """Not a millisecond sooner; the fence rises by one (invariant 2)."""
    await taken(claims)
    clock.advance(29.999)
    assert isinstance(await take(claims, message="m2"), InProgress)
    clock.advance(0.001)
    assert (await taken(claims, message="m2")).fence == 2


@pytest.mark.parametrize("ending", ["finish", "hold", "release", "extend"])
async def test_a_late_finisher_writes_nothing(claims: Claims, clock: ManualClock, store: Store, ending: str) -> None:
    """Whatever it tries, it is told that its claim is lost, and the new holder's stands (invariant 1)."""
    late = await taken(claims)
    clock.advance(30)
    new = await taken(claims, message="m2")
    before = await store.get(CLAIMS, digest("order 1"))
    endings: dict[str, Callable[[], Awaitable[object]]] = {
        "finish": lambda: claims.finish(late, "late"),
        "hold": lambda: claims.release(late, hold=True),
        "release": lambda: claims.release(late, hold=False),
        "extend": lambda: claims.extend(late),
    }
    for _ in range(2):
        with pytest.raises(ClaimLost, match="order 1"):
            await endings[ending]()
    assert await store.get(CLAIMS, digest("order 1")) == before
    await claims.finish(new, "in time")
    assert await take(claims) == Done(same_payload=True, result="in time")


async def test_who_learned_while_extending_that_it_lost_cannot_finish(claims: Claims, clock: ManualClock) -> None:
    """The lease keeper finds out first; the turn must hear of it too, or it would acknowledge what it did not do."""
    late = await taken(claims)
    clock.advance(30)
    await taken(claims, message="m2")
    with pytest.raises(ClaimLost):
        await claims.extend(late)
    with pytest.raises(ClaimLost):
        await claims.finish(late)


async def test_a_late_finisher_whom_nobody_followed_finishes(claims: Claims, clock: ManualClock) -> None:
    """The lease ran out, and nobody came: the work counts."""
    claim = await taken(claims)
    clock.advance(3_600)
    await claims.finish(claim)
    assert isinstance(await take(claims), Done)


async def test_an_extended_lease_holds_longer(claims: Claims, clock: ManualClock) -> None:
    """From the moment of the extension; after the end there is nothing left to extend."""
    claim = await taken(claims)
    for _ in range(10):
        clock.advance(29)
        await claims.extend(claim)
    clock.advance(29)
    assert isinstance(await take(claims, message="m2"), InProgress)
    await claims.finish(claim)
    await claims.extend(claim)
    assert isinstance(await take(claims, message="m2"), Done)


async def test_extending_and_finishing_at_once_do_not_disturb_each_other(claims: Claims) -> None:
    """The turn and its lease keeper write one after the other: neither takes the other for a stranger."""
    for ending in range(20):
        claim = await claims.take(f"key {ending}", payload_hash=ONE, message_id="m1", lease=30)
        assert isinstance(claim, Claim)
        await asyncio.gather(claims.extend(claim), claims.finish(claim), claims.extend(claim))
        found = await claims.take(f"key {ending}", payload_hash=ONE, message_id="m2", lease=30)
        assert isinstance(found, Done)


# Expiry


async def test_a_finished_key_is_known_for_fourteen_days(claims: Claims, clock: ManualClock) -> None:
    """Then it is forgotten."""
    await claims.finish(await taken(claims))
    clock.advance(DAYS_14 - 0.001)
    assert isinstance(await take(claims), Done)
    clock.advance(0.001)
    assert (await taken(claims)).fence == 1


async def test_a_held_key_does_not_expire(claims: Claims, clock: ManualClock) -> None:
    """A parked or dead message's key is known for as long as the message is (invariant 3)."""
    await claims.release(await taken(claims, message="parked"), hold=True)
    clock.advance(DAYS_14 * 3)
    assert (await taken(claims, message="copy")).fence == 2


async def test_a_held_key_that_is_done_is_known_until_its_message_comes_back(
    claims: Claims, clock: ManualClock
) -> None:
    """A copy did the work while the message was parked: a year later the message must not do it again."""
    await claims.release(await taken(claims, message="parked"), hold=True)
    await claims.finish(await taken(claims, message="copy"))
    clock.advance(DAYS_14 * 26)
    assert isinstance(await take(claims, message="parked"), Done)
    clock.advance(DAYS_14 - 0.001)
    assert isinstance(await take(claims, message="another copy"), Done)
    clock.advance(0.001)
    assert isinstance(await take(claims, message="another copy"), Claim)


async def test_a_key_is_held_for_each_of_its_messages(claims: Claims, clock: ManualClock) -> None:
    """Two are parked, one comes back: the other still counts on it."""
    for message in ("first", "second"):
        await claims.release(await taken(claims, message=message), hold=True)
    await claims.finish(await taken(claims, message="copy"))
    assert isinstance(await take(claims, message="first"), Done)
    clock.advance(DAYS_14 * 2)
    assert isinstance(await take(claims, message="second"), Done)
    clock.advance(DAYS_14)
    assert isinstance(await take(claims, message="third"), Claim)


async def test_a_message_that_comes_back_and_succeeds_lets_its_key_go(claims: Claims, clock: ManualClock) -> None:
    """It was parked, is healed, and done: fourteen days from then."""
    await claims.release(await taken(claims, message="parked"), hold=True)
    clock.advance(DAYS_14 * 2)
    await claims.finish(await taken(claims, message="parked"))
    clock.advance(DAYS_14 - 0.001)
    assert isinstance(await take(claims), Done)
    clock.advance(0.001)
    assert isinstance(await take(claims), Claim)


async def test_a_claim_of_a_held_key_whose_worker_died_is_still_held(claims: Claims, clock: ManualClock) -> None:
    """A copy's worker crashed in the middle: the hold of the parked message outlives it."""
    await claims.release(await taken(claims, message="parked"), hold=True)
    await taken(claims, message="copy")
    clock.advance(DAYS_14 * 2)
    assert (await taken(claims, message="parked")).fence == 3


# Races and troubles


async def test_fifty_at_once_have_one_winner(claims: Claims) -> None:
    """The others wait for it."""
    results = await asyncio.gather(*(take(claims, message=f"m{number}") for number in range(50)))
    assert [type(one) for one in results].count(Claim) == 1
    assert [type(one) for one in results].count(InProgress) == 49


async def test_fifty_takers_over_have_one_winner(claims: Claims, clock: ManualClock) -> None:
    """Of a key whose holder died."""
    await taken(claims)
    clock.advance(30)
    results = await asyncio.gather(*(take(claims, message=f"m{number}") for number in range(50)))
    (winner,) = [one for one in results if isinstance(one, Claim)]
    assert winner.fence == 2
    await claims.finish(winner)


async def test_without_the_store_nothing_is_taken(claims: Claims, store: Moody) -> None:
    """The work must not be done unguarded."""
    store.away = True
    with pytest.raises(StoreUnavailable):
        await take(claims)


async def test_a_finish_that_found_no_store_can_be_repeated(claims: Claims, store: Moody) -> None:
    """It has not ended before it is written."""
    claim = await taken(claims)
    store.away = True
    with pytest.raises(StoreUnavailable):
        await claims.finish(claim, "done")
    store.away = False
    await claims.finish(claim, "done")
    assert await take(claims) == Done(same_payload=True, result="done")


async def test_a_newer_claim_is_left_to_newer_workers(claims: Claims, store: Store) -> None:
    """It is not guessed at, and not written over."""
    value = json.dumps({"v": 3, "condition": "other"}).encode()
    version = await store.put(CLAIMS, digest("order 1"), value, if_version=ABSENT)
    with pytest.raises(NewerRecord, match="version 3"):
        await take(claims)
    entry = await store.get(CLAIMS, digest("order 1"))
    assert entry is not None
    assert (entry.version, entry.value) == (version, value)


def test_payloads_are_told_apart() -> None:
    """By their bytes."""
    assert payload_hash(b"a") == payload_hash(b"a")
    assert len({payload_hash(b"%d" % number) for number in range(1_000)}) == 1_000
