"""The store on Amazon DynamoDB: one table, one item for each entry, and every read strongly consistent.

A global secondary index is read eventually, so that an entry that was sent and deleted could be due once more and be
sent again, and what a schedule just moved on could tick twice. The index by due time is therefore a local one, which
answers what stands; its price is that the items of one partition key stay within 10 GB (see `layout`).

Invariants:
    1. Each write has a random version, so that one that was tried again recognises itself and is no conflict.
    2. A write whose answer was lost, and that then finds another's version, says that nothing is known.
    3. Expiry is judged by this process's clock, in reads and in the conditions of writes; the table's own time to live
       only cleans up, an hour later or days.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redrive.clock import Clock
from redrive.errors import DeclarationError, StoreUnavailable, ValueTooLarge, VersionConflict
from redrive.store import Entry, Namespace
from redrive.stores.dynamodb.layout import (
    DUE,
    MAX_VALUE,
    Item,
    Layout,
    after_key,
    content,
    due_before,
    due_of,
    entry_of,
    is_alive,
    key_of,
    only_if,
    version_of,
)
from redrive.stores.dynamodb.merging import Page, Shard, merged, page_size
from redrive.stores.dynamodb.refusals import CONDITION_FAILED, Refusal, problem_of

TABLE = "redrive"
"""The table's name, unless another one is given."""


class DynamoStore:
    """A store in one table. For one event loop; the first call declares the table, once."""

    def __init__(
        self,
        clock: Clock,
        *,
        table: str = TABLE,
        region: str | None = None,
        endpoint_url: str | None = None,
        local: bool = False,
        declare: str = "verify",
        layout: Layout | None = None,
    ) -> None:
        """Open nothing yet; credentials are found, when they are first needed, where botocore always looks.

        Args:
            clock: whose wall clock decides what is expired; machines should agree within seconds.
            table: its name.
            region: as AWS names it; None or empty: botocore's setting.
            endpoint_url: where something else than AWS answers; None: AWS, or botocore's setting.
            local: the endpoint is on this machine: where nobody says a region or has credentials, any will do.
            declare: `create` makes the table if it is missing; `verify` only looks at it.
            layout: for tests.

        Raises:
            DeclarationError: If aiobotocore is not installed, or `declare` is another word.
        """
        if declare not in {"create", "verify"}:
            raise DeclarationError(f"declare={declare!r}", "is not known", "use 'create' or 'verify'")
        self._address = _address(table, region, endpoint_url)
        try:
            from redrive.stores.dynamodb.client import Calls  # noqa: PLC0415 - imports aiobotocore
            from redrive.stores.dynamodb.table import Table  # noqa: PLC0415 - likewise
        except ModuleNotFoundError as missing:
            package = str(missing.name).partition(".")[0]
            problem, remedy = f"needs {package}, which is not installed", "pip install 'redrive[sqs]'"
            raise DeclarationError(f"store {self._address!r}", problem, remedy) from missing
        self._clock, self._layout = clock, layout or Layout()
        self._calls = Calls(
            table=table,
            region=region or None,
            endpoint_url=endpoint_url,
            local=local,
            clock=clock,
            address=self._address,
        )
        self._table, self._how = Table(self._calls), declare
        self._declaring, self._declared = asyncio.Lock(), False

    @property
    def address(self) -> str:
        """`dynamodb://REGION/TABLE`, with the endpoint where it is not AWS's own."""
        return self._address

    @property
    def max_value(self) -> int:
        """346 KB, so that an item stays within 350 KB."""
        return MAX_VALUE

    async def declare(self) -> None:
        """Make sure of the table, once; the first other call does it too.

        Raises:
            DeclarationError: If the table is not what it must be, or may not be used.
            StoreUnavailable: If DynamoDB cannot be asked; the next call tries again.
        """
        if self._declared:
            return
        async with self._declaring:
            if not self._declared:
                await self._table.declare("create" if self._how == "create" else "verify")
                self._declared = True

    async def get(self, namespace: Namespace, key: str) -> Entry | None:
        """The entry, or None when it is absent or expired."""
        answer = await self._ask("get_item", Key=self._layout.place(namespace, key), ConsistentRead=True)
        alive = "Item" in answer and is_alive(answer["Item"], self._clock.now_ms())
        return entry_of(answer["Item"], key) if alive else None

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
        """Write the entry if its version still is `if_version`; the new version."""
        if len(value) > MAX_VALUE:
            raise ValueTooLarge(namespace.name, key, len(value), MAX_VALUE)
        version = secrets.randbits(62) + 1
        item = self._layout.place(namespace, key) | content(value, version, due_at_ms, expires_at_ms)
        refusal = await self._write("put_item", if_version, Item=item)
        if refusal is None or (refusal.item is not None and version_of(refusal.item) == version):
            return version
        raise self._conflict(refusal, namespace, key)

    async def delete(self, namespace: Namespace, key: str, *, if_version: int) -> None:
        """Remove the entry if its version still is `if_version`."""
        refusal = await self._write("delete_item", if_version, Key=self._layout.place(namespace, key))
        if refusal is not None:
            raise self._conflict(refusal, namespace, key)

    async def due(self, namespace: Namespace, *, before_ms: int, limit: int) -> Sequence[Entry]:
        """Entries due at or before `before_ms`, earliest first.

        The index says which, then they are read; one that was changed in between is judged as it stands then.
        """
        found = await self._list(namespace, lambda partition: due_before(partition, before_ms), _by_due_time, limit)
        items = await self._fetch([self._layout.place(namespace, key_of(item)) for item in found])
        items = [item for item in self._alive(items) if DUE in item and due_of(item) <= before_ms]
        return [entry_of(item, key_of(item)) for item in sorted(items, key=_by_due_time)]

    async def scan(self, namespace: Namespace, *, after: str = "", limit: int = 100) -> Sequence[Entry]:
        """Entries whose key is greater than `after`, by key: by its UTF-8, as DynamoDB orders text."""
        found = await self._list(namespace, lambda partition: after_key(partition, after), key_of, limit)
        return [entry_of(item, key_of(item)) for item in found]

    async def close(self) -> None:
        """Close the client; calls under way end with StoreUnavailable."""
        await self._calls.close()

    async def _list(
        self, namespace: Namespace, query: Callable[[str], dict[str, Any]], by: Callable[[Item], Any], limit: int
    ) -> list[Item]:
        partitions = self._layout.partitions(namespace)
        size = page_size(limit, len(partitions))
        shards = [Shard(partial(self._page, query(partition), size)) for partition in partitions]
        return await merged(shards, by=by, limit=limit)

    async def _page(self, query: dict[str, Any], size: int, start: object) -> Page:
        begin = {} if start is None else {"ExclusiveStartKey": start}
        answer = await self._ask("query", **query, **begin, Limit=size, ConsistentRead=True)
        return self._alive(answer["Items"]), answer.get("LastEvaluatedKey")

    def _alive(self, items: Sequence[Item]) -> list[Item]:
        now_ms = self._clock.now_ms()
        return [item for item in items if is_alive(item, now_ms)]

    async def _write(self, operation: str, if_version: int, **arguments: Any) -> Refusal | None:  # noqa: ANN401
        """Write under a condition; None, or the refusal if the condition failed."""
        condition = only_if(if_version, self._clock.now_ms())
        try:
            await self._ask(operation, **arguments, **condition, ReturnValuesOnConditionCheckFailure="ALL_OLD")
        except Refusal as refusal:
            return refusal
        return None

    async def _ask(self, operation: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - as botocore takes them
        """One answer; of the refusals only a failed condition is left to the caller."""
        await self.declare()
        try:
            return await self._calls.call(operation, **arguments)
        except Refusal as refusal:
            if refusal.code == CONDITION_FAILED:
                raise
            raise StoreUnavailable(self._address, problem_of(refusal, operation)) from refusal

    async def _fetch(self, keys: Sequence[Item]) -> list[Item]:
        try:
            return await self._calls.fetch(keys)
        except Refusal as refusal:
            raise StoreUnavailable(self._address, problem_of(refusal, "batch_get_item")) from refusal

    def _conflict(self, refusal: Refusal, namespace: Namespace, key: str) -> Exception:
        if refusal.doubtful:
            problem = "a write was not answered, and is a conflict now; it may have happened before somebody else's"
            return StoreUnavailable(self._address, problem)
        return VersionConflict(namespace.name, key)


def _by_due_time(item: Item) -> tuple[int, str]:
    return due_of(item), key_of(item)


def _address(table: str, region: str | None, endpoint_url: str | None) -> str:
    """Where it is; whoever writes a password into a URL does not find it in the log."""
    address = f"dynamodb://{region or ''}/{table}"
    if endpoint_url is None:
        return address
    parts = urlsplit(endpoint_url)
    return f"{address}?endpoint_url={urlunsplit((parts.scheme, parts.netloc.rpartition('@')[2], parts.path, '', ''))}"
