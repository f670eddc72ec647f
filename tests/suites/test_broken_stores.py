"""A suite is worth what it catches: stores that are broken on purpose, and the test that has to notice each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from typing_extensions import override

from redrive.clock import ManualClock
from redrive.errors import ValueTooLarge, VersionConflict
from redrive.sqlite.writer import InlineDatabase
from redrive.store import ABSENT, Entry, Namespace, Store
from redrive.stores.sqlite import SqliteStore
from redrive.testing.store_suite import StoreSuite
from tests.suites.running import fails, names_of


class IgnoresVersions(SqliteStore):
    @override
    async def put(
        self,
        namespace: Namespace,
        key: str,
        value: bytes,
        *,
        if_version: int,
        due_at_ms: int | None = None,
        expires_at_ms: int | None = None,
    ) -> int:
        entry = await self.get(namespace, key)
        stands = ABSENT if entry is None else entry.version
        return await super().put(
            namespace, key, value, if_version=stands, due_at_ms=due_at_ms, expires_at_ms=expires_at_ms
        )


class LooksBeforeItLeaps(SqliteStore):
    """Compares first and writes later: two of them find the same."""

    @override
    async def put(
        self,
        namespace: Namespace,
        key: str,
        value: bytes,
        *,
        if_version: int,
        due_at_ms: int | None = None,
        expires_at_ms: int | None = None,
    ) -> int:
        entry = await self.get(namespace, key)
        if if_version != (ABSENT if entry is None else entry.version):
            raise VersionConflict(namespace.name, key)
        await asyncio.sleep(0)
        entry = await self.get(namespace, key)
        stands = ABSENT if entry is None else entry.version
        return await super().put(
            namespace, key, value, if_version=stands, due_at_ms=due_at_ms, expires_at_ms=expires_at_ms
        )


class IgnoresTheVersionOfADelete(SqliteStore):
    @override
    async def delete(self, namespace: Namespace, key: str, *, if_version: int) -> None:
        entry = await self.get(namespace, key)
        await super().delete(namespace, key, if_version=if_version if entry is None else entry.version)


class ReturnsExpired(SqliteStore):
    @override
    async def put(
        self,
        namespace: Namespace,
        key: str,
        value: bytes,
        *,
        if_version: int,
        due_at_ms: int | None = None,
        expires_at_ms: int | None = None,
    ) -> int:
        return await super().put(namespace, key, value, if_version=if_version, due_at_ms=due_at_ms)


class ExpiresEarly(SqliteStore):
    @override
    async def put(
        self,
        namespace: Namespace,
        key: str,
        value: bytes,
        *,
        if_version: int,
        due_at_ms: int | None = None,
        expires_at_ms: int | None = None,
    ) -> int:
        early = None if expires_at_ms is None else expires_at_ms - 20_000
        return await super().put(namespace, key, value, if_version=if_version, due_at_ms=due_at_ms, expires_at_ms=early)


class _Counting(SqliteStore):
    """Versions of its own, beside those of the store below."""

    def __init__(self, database: InlineDatabase) -> None:
        super().__init__(database)
        self.below: dict[tuple[str, str], tuple[int, int]] = {}

    @override
    async def put(
        self,
        namespace: Namespace,
        key: str,
        value: bytes,
        *,
        if_version: int,
        due_at_ms: int | None = None,
        expires_at_ms: int | None = None,
    ) -> int:
        shown, real = self.below.get((namespace.name, key), (ABSENT, ABSENT))
        version = await super().put(
            namespace,
            key,
            value,
            if_version=real if if_version == shown else if_version + 2**62,
            due_at_ms=due_at_ms,
            expires_at_ms=expires_at_ms,
        )
        self.below[namespace.name, key] = (shown + 1, version)
        return shown + 1

    @override
    async def get(self, namespace: Namespace, key: str) -> Entry | None:
        entry = await super().get(namespace, key)
        if entry is None:
            return None
        return Entry(key=key, value=entry.value, version=self.below[namespace.name, key][0], due_at_ms=entry.due_at_ms)

    @override
    async def delete(self, namespace: Namespace, key: str, *, if_version: int) -> None:
        shown, real = self.below.get((namespace.name, key), (ABSENT, ABSENT))
        await super().delete(namespace, key, if_version=real if if_version == shown else if_version + 2**62)
        del self.below[namespace.name, key]


class ReusesVersions(_Counting):
    """One, two, three for each key; after a deletion it begins at one again."""


class KeepsTheDueTime(SqliteStore):
    @override
    async def put(
        self,
        namespace: Namespace,
        key: str,
        value: bytes,
        *,
        if_version: int,
        due_at_ms: int | None = None,
        expires_at_ms: int | None = None,
    ) -> int:
        entry = await self.get(namespace, key)
        if due_at_ms is None and entry is not None:
            due_at_ms = entry.due_at_ms
        return await super().put(
            namespace, key, value, if_version=if_version, due_at_ms=due_at_ms, expires_at_ms=expires_at_ms
        )


class CutsValues(SqliteStore):
    @override
    async def put(
        self,
        namespace: Namespace,
        key: str,
        value: bytes,
        *,
        if_version: int,
        due_at_ms: int | None = None,
        expires_at_ms: int | None = None,
    ) -> int:
        if len(value) > self.max_value + 1:
            raise ValueTooLarge(namespace.name, key, len(value), self.max_value)
        value = value[: self.max_value]
        return await super().put(
            namespace, key, value, if_version=if_version, due_at_ms=due_at_ms, expires_at_ms=expires_at_ms
        )


class IsDueInDisorder(SqliteStore):
    @override
    async def due(self, namespace: Namespace, *, before_ms: int, limit: int) -> Sequence[Entry]:
        found = await super().due(namespace, before_ms=before_ms, limit=limit)
        return sorted(found, key=lambda entry: entry.key)


class IsDueTooEarly(SqliteStore):
    @override
    async def due(self, namespace: Namespace, *, before_ms: int, limit: int) -> Sequence[Entry]:
        return await super().due(namespace, before_ms=before_ms + 1, limit=limit)


class IgnoresTheLimitOfDue(SqliteStore):
    @override
    async def due(self, namespace: Namespace, *, before_ms: int, limit: int) -> Sequence[Entry]:
        return await super().due(namespace, before_ms=before_ms, limit=1_000)


class ScansFromTheBeginning(SqliteStore):
    @override
    async def scan(self, namespace: Namespace, *, after: str = "", limit: int = 100) -> Sequence[Entry]:
        found = await super().scan(namespace, limit=1_000)
        return [one for one in found if one.key >= after][:limit]


class ScansOnlyAfterWhatExists(SqliteStore):
    @override
    async def scan(self, namespace: Namespace, *, after: str = "", limit: int = 100) -> Sequence[Entry]:
        if after and await self.get(namespace, after) is None:
            return []
        return await super().scan(namespace, after=after, limit=limit)


CAUGHT_BY: dict[type[SqliteStore], str] = {
    IgnoresVersions: "test_only_the_version_that_stands_can_be_replaced",
    LooksBeforeItLeaps: "test_a_race_to_create_has_one_winner",
    IgnoresTheVersionOfADelete: "test_only_the_version_that_stands_can_be_replaced",
    ReturnsExpired: "test_an_expired_entry_is_absent_to_every_read",
    ExpiresEarly: "test_an_expired_entry_is_absent_to_every_read",
    ReusesVersions: "test_a_version_never_comes_back",
    KeepsTheDueTime: "test_a_put_replaces_everything",
    CutsValues: "test_a_value_over_the_limit_is_refused",
    IsDueInDisorder: "test_due_entries_come_earliest_first",
    IsDueTooEarly: "test_due_entries_come_earliest_first",
    IgnoresTheLimitOfDue: "test_due_entries_come_earliest_first",
    ScansFromTheBeginning: "test_scanning_turns_pages",
    ScansOnlyAfterWhatExists: "test_scanning_begins_after_a_prefix",
}


def _opened(kind: type[SqliteStore]) -> tuple[StoreSuite, Store]:
    clock = ManualClock()

    class Suite(StoreSuite):
        @override
        async def let_pass(self, seconds: float) -> None:
            clock.advance(seconds)

        @override
        def now_ms(self) -> int:
            return clock.now_ms()

    return Suite(), kind(InlineDatabase(clock))


async def _fails(kind: type[SqliteStore], name: str) -> bool:
    suite, store = _opened(kind)
    failed = await fails(lambda: getattr(suite, name)(store))
    await store.close()
    return failed


@pytest.mark.parametrize("kind", CAUGHT_BY, ids=lambda kind: kind.__name__)
async def test_the_suite_catches(kind: type[SqliteStore]) -> None:
    """Each broken store fails the test of the promise that it breaks."""
    assert await _fails(kind, CAUGHT_BY[kind])


async def test_the_suite_catches_nothing_else() -> None:
    """The store that they are made from passes: what is caught is the fault."""
    assert [name for name in names_of(StoreSuite) if await _fails(SqliteStore, name)] == []
