# ruff: noqa: S101, PLR2004 - tests: assert is how they speak, and their numbers are the test
"""The behaviour of every store, as tests: an adapter that passes keeps the promises of `redrive.store`.

    class TestMyStore(StoreSuite):
        @pytest.fixture
        async def store(self) -> AsyncIterator[Store]:
            store = await MyStore.connect("...")
            yield store
            await store.close()

Run it with pytest-asyncio in its mode `auto`. Every test uses namespaces of its own, so that a shared store will do.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

import pytest

from redrive.errors import StoreUnavailable, ValueTooLarge, VersionConflict
from redrive.store import ABSENT, Namespace, Store

RACERS = 50


class StoreSuite:
    """Subclass it, and give it a fixture `store`; `let_pass` and `now_ms` too where time can be made to pass faster."""

    pytestmark = pytest.mark.asyncio

    lifetime: float = 30.0
    """How long entries live in the tests of expiry, in seconds; short where time is real."""

    @pytest.fixture
    def store(self) -> Store:
        """An open store; the subclass provides it and closes it."""
        missing = "a subclass of StoreSuite has to have a fixture `store`"
        raise NotImplementedError(missing)

    async def let_pass(self, seconds: float) -> None:
        """Let time pass for the store."""
        await asyncio.sleep(seconds)

    def now_ms(self) -> int:
        """The store's time."""
        return time.time_ns() // 1_000_000

    # One entry

    async def test_what_was_put_is_read(self, store: Store) -> None:
        """Value, version and due time are those of the last put; other keys and namespaces know nothing of it."""
        space, other = namespace(), namespace()
        version = await store.put(space, "key", b"value", if_version=ABSENT, due_at_ms=1_234)
        entry = await store.get(space, "key")
        assert entry is not None
        assert (entry.key, entry.value, entry.version, entry.due_at_ms) == ("key", b"value", version, 1_234)
        assert version > ABSENT
        assert await store.get(space, "another") is None
        assert await store.get(other, "key") is None

    async def test_a_put_replaces_everything(self, store: Store) -> None:
        """The due time of before is not kept; the version is a new one."""
        space = namespace()
        first = await store.put(space, "key", b"one", if_version=ABSENT, due_at_ms=1_234)
        second = await store.put(space, "key", b"two", if_version=first)
        entry = await store.get(space, "key")
        assert entry is not None
        assert (entry.value, entry.version, entry.due_at_ms) == (b"two", second, None)
        assert second != first
        assert list(await store.due(space, before_ms=10_000, limit=10)) == []

    async def test_values_of_every_kind_are_read_unchanged(self, store: Store) -> None:
        """Empty, NUL, no text at all, and keys in every script."""
        space = namespace(listable=True)
        values = {
            "empty": b"",
            "nul": b"\0",
            "all": bytes(range(256)),
            "☕/naïve 'x' \"y\"": "☕".encode(),
            "%_": b"like",
        }
        for key, value in values.items():
            await store.put(space, key, value, if_version=ABSENT)
        for key, value in values.items():
            entry = await store.get(space, key)
            assert entry is not None
            assert entry.value == value
        assert {one.key: one.value for one in await store.scan(space)} == values

    async def test_a_deleted_entry_is_absent(self, store: Store) -> None:
        """To every read; and it can be made again."""
        space = namespace()
        version = await store.put(space, "key", b"value", if_version=ABSENT, due_at_ms=1)
        await store.delete(space, "key", if_version=version)
        assert await store.get(space, "key") is None
        assert list(await store.scan(space)) == []
        assert list(await store.due(space, before_ms=10, limit=10)) == []
        await store.put(space, "key", b"again", if_version=ABSENT)

    async def test_a_value_over_the_limit_is_refused(self, store: Store) -> None:
        """The largest value is kept whole; one byte more is an error naming size and limit, and writes nothing."""
        space = namespace()
        largest = secrets.token_bytes(1_000) * (store.max_value // 1_000 + 1)
        version = await store.put(space, "key", largest[: store.max_value], if_version=ABSENT)
        with pytest.raises(ValueTooLarge, match=str(store.max_value + 1)):
            await store.put(space, "key", largest[: store.max_value + 1], if_version=version)
        entry = await store.get(space, "key")
        assert entry is not None
        assert (entry.version, entry.value) == (version, largest[: store.max_value])

    # Versions

    async def test_only_the_version_that_stands_can_be_replaced(self, store: Store) -> None:
        """Absent, former and made-up versions are conflicts; the entry stays as it is."""
        space = namespace()
        former = await store.put(space, "key", b"one", if_version=ABSENT)
        stands = await store.put(space, "key", b"two", if_version=former)
        for wrong in (ABSENT, former, stands + 1):
            with pytest.raises(VersionConflict, match="key"):
                await store.put(space, "key", b"three", if_version=wrong)
            with pytest.raises(VersionConflict, match="key"):
                await store.delete(space, "key", if_version=wrong)
        entry = await store.get(space, "key")
        assert entry is not None
        assert (entry.value, entry.version) == (b"two", stands)

    async def test_what_is_absent_can_only_be_created(self, store: Store) -> None:
        """Replacing or deleting it is a conflict, with a version it once had, too."""
        space = namespace()
        once = await store.put(space, "gone", b"value", if_version=ABSENT)
        await store.delete(space, "gone", if_version=once)
        for key, version in (("gone", once), ("never", once), ("never", 1)):
            with pytest.raises(VersionConflict):
                await store.put(space, key, b"value", if_version=version)
            with pytest.raises(VersionConflict):
                await store.delete(space, key, if_version=version)
            assert await store.get(space, key) is None

    async def test_a_version_never_comes_back(self, store: Store) -> None:
        """Delete and create as often as you like: whoever kept an old version cannot write with it (no ABA)."""
        space = namespace()
        seen: set[int] = set()
        for _ in range(20):
            made = await store.put(space, "key", b"same", if_version=ABSENT)
            changed = await store.put(space, "key", b"same", if_version=made)
            for old in seen | {made}:
                with pytest.raises(VersionConflict):
                    await store.put(space, "key", b"late", if_version=old)
            assert made != changed
            assert not {made, changed} & seen
            seen |= {made, changed}
            await store.delete(space, "key", if_version=changed)

    async def test_a_race_to_create_has_one_winner(self, store: Store) -> None:
        """Fifty create the same key at once: one does, the others are told."""
        space = namespace()
        results = await asyncio.gather(
            *(store.put(space, "key", b"%d" % racer, if_version=ABSENT) for racer in range(RACERS)),
            return_exceptions=True,
        )
        won = [racer for racer, result in enumerate(results) if not isinstance(result, BaseException)]
        assert len(won) == 1
        assert all(isinstance(one, int | VersionConflict) for one in results)
        entry = await store.get(space, "key")
        assert entry is not None
        assert (entry.value, entry.version) == (b"%d" % won[0], results[won[0]])

    async def test_a_race_to_change_loses_no_step(self, store: Store) -> None:
        """Fifty read, add one and write until they succeed: the sum is fifty."""
        space = namespace()
        await store.put(space, "sum", b"0", if_version=ABSENT)

        async def add_one() -> None:
            while True:
                entry = await store.get(space, "sum")
                assert entry is not None
                try:
                    await store.put(space, "sum", b"%d" % (int(entry.value) + 1), if_version=entry.version)
                except VersionConflict:
                    continue
                return

        await asyncio.gather(*(add_one() for _ in range(RACERS)))
        entry = await store.get(space, "sum")
        assert entry is not None
        assert entry.value == b"%d" % RACERS

    # Expiry

    async def test_an_expired_entry_is_absent_to_every_read(self, store: Store) -> None:
        """At once, not when it is swept; before its time it is there."""
        space = namespace()
        await store.put(space, "key", b"value", if_version=ABSENT, due_at_ms=5, expires_at_ms=self._later())
        await store.put(space, "stays", b"value", if_version=ABSENT, due_at_ms=6)
        await self.let_pass(self.lifetime * 0.5)
        assert await store.get(space, "key") is not None
        assert [one.key for one in await store.scan(space)] == ["key", "stays"]
        assert [one.key for one in await store.due(space, before_ms=10, limit=1)] == ["key"]
        await self.let_pass(self.lifetime * 0.6)
        assert await store.get(space, "key") is None
        assert [one.key for one in await store.scan(space)] == ["stays"]
        assert [one.key for one in await store.due(space, before_ms=10, limit=1)] == ["stays"]

    async def test_an_expired_entry_is_absent_to_every_write(self, store: Store) -> None:
        """It cannot be replaced or deleted under its version, and it can be created, under a new one."""
        space = namespace()
        version = await store.put(space, "key", b"old", if_version=ABSENT, expires_at_ms=self._later())
        await self.let_pass(self.lifetime * 1.1)
        with pytest.raises(VersionConflict):
            await store.put(space, "key", b"late", if_version=version)
        with pytest.raises(VersionConflict):
            await store.delete(space, "key", if_version=version)
        created = await store.put(space, "key", b"new", if_version=ABSENT)
        assert created != version
        entry = await store.get(space, "key")
        assert entry is not None
        assert (entry.value, entry.version) == (b"new", created)

    async def test_a_put_without_expiry_keeps_for_ever(self, store: Store) -> None:
        """What expired once, or was going to, does not when it is written again without."""
        space = namespace()
        version = await store.put(space, "renewed", b"1", if_version=ABSENT, expires_at_ms=self._later())
        await store.put(space, "renewed", b"2", if_version=version)
        await store.put(space, "remade", b"1", if_version=ABSENT, expires_at_ms=self._later())
        await self.let_pass(self.lifetime * 1.1)
        await store.put(space, "remade", b"2", if_version=ABSENT)
        await self.let_pass(self.lifetime * 1.1)
        assert [one.key for one in await store.scan(space)] == ["remade", "renewed"]

    # Lists

    async def test_due_entries_come_earliest_first(self, store: Store) -> None:
        """At or before the given time, no more than the limit; what is not due or has no time is left out."""
        space, other = namespace(), namespace()
        for key, due in (("c", 30), ("a", 20), ("b", 10), ("late", 41), ("never", None), ("d", 40), ("zero", 0)):
            await store.put(space, key, b"value", if_version=ABSENT, due_at_ms=due)
        await store.put(other, "other", b"value", if_version=ABSENT, due_at_ms=1)
        assert [one.key for one in await store.due(space, before_ms=40, limit=100)] == ["zero", "b", "a", "c", "d"]
        first = await store.due(space, before_ms=40, limit=2)
        assert [(one.key, one.due_at_ms) for one in first] == [("zero", 0), ("b", 10)]
        assert list(await store.due(space, before_ms=-1, limit=100)) == []

    async def test_what_was_due_and_is_done_is_not_due_again(self, store: Store) -> None:
        """A new due time replaces the former one; a deleted entry is never due."""
        space = namespace()
        for key in ("again", "done"):
            await store.put(space, key, b"value", if_version=ABSENT, due_at_ms=10)
        again, done = await store.due(space, before_ms=10, limit=10)
        await store.put(space, again.key, b"value", if_version=again.version, due_at_ms=20)
        await store.delete(space, done.key, if_version=done.version)
        assert list(await store.due(space, before_ms=10, limit=10)) == []
        assert [one.key for one in await store.due(space, before_ms=20, limit=10)] == ["again"]

    async def test_scanning_turns_pages(self, store: Store) -> None:
        """Page after page shows each entry of a namespace once, by key, with its value and version."""
        space, other = namespace(), namespace()
        keys = [f"{group}/{number:02d}" for group in ("a", "b", "c") for number in range(5)]
        versions = {key: await store.put(space, key, key.encode(), if_version=ABSENT) for key in reversed(keys)}
        await store.put(other, "b/00x", b"other", if_version=ABSENT)
        seen: list[str] = []
        for _ in range(5):
            page = await store.scan(space, after=seen[-1] if seen else "", limit=4)
            assert len(page) <= 4
            assert all((one.value, one.version) == (one.key.encode(), versions[one.key]) for one in page)
            seen += [one.key for one in page]
        assert seen == keys
        assert list(await store.scan(space, after=seen[-1])) == []

    async def test_scanning_begins_after_a_prefix(self, store: Store) -> None:
        """`after` need not be a key that exists: a prefix leads to what begins with it."""
        space = namespace()
        for key in ("orders", "orders/1", "orders/2", "orders0", "payments/1", "Orders/1"):
            await store.put(space, key, b"value", if_version=ABSENT)
        assert [one.key for one in await store.scan(space, after="orders/", limit=2)] == ["orders/1", "orders/2"]
        assert [one.key for one in await store.scan(space, after="orders/2")] == ["orders0", "payments/1"]
        assert list(await store.scan(space, after="q")) == []

    # Closing

    async def test_a_closed_store_says_so(self, store: Store) -> None:
        """After `close` every call is answered with StoreUnavailable; closing again is fine."""
        space = namespace()
        await store.close()
        await store.close()
        asked: list[Callable[[], Awaitable[object]]] = [
            lambda: store.get(space, "key"),
            lambda: store.put(space, "key", b"value", if_version=ABSENT),
            lambda: store.delete(space, "key", if_version=1),
            lambda: store.due(space, before_ms=1, limit=1),
            lambda: store.scan(space),
        ]
        for call in asked:
            with pytest.raises(StoreUnavailable):
                await call()

    def _later(self) -> int:
        return self.now_ms() + int(self.lifetime * 1000)


def namespace(*, listable: bool = True, timed: bool = True) -> Namespace:
    """A namespace that nobody used before."""
    return Namespace(name=f"suite-{secrets.token_hex(8)}", listable=listable, timed=timed)
