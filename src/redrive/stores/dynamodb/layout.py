"""Where an entry stands in the table, and how it is written down. Pure.

    asked of the namespace      partition (pk)          sort key (sk)
    neither `scan` nor `due`    namespace/key           -
    one of them, or both        namespace/shard         key

Invariants:
    1. An entry is one item; its key alone says where. A write is one call with one condition.
    2. What is asked neither `scan` nor `due` (claims, bodies, suspects) has a partition key of its own, so that no two
       keys ever share a limit.
    3. The numbers of shards below, and what a namespace is asked for, never change for a table that has entries:
       they would be looked for elsewhere.

One partition takes 1,000 write units and 3,000 read units a second; of a table with a local secondary index, all items
of one `pk` stay within one partition, and within 10 GB. So the two namespaces that messages write to, one entry for
each delayed send or dead letter, have eight shards, and their lists are merged. The others get a few writes a second
from each process, and one shard: a list costs one call.

Source: Amazon DynamoDB developer guide, "Best practices for designing and using partition keys effectively" and
"Local secondary indexes" (item collections).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redrive.errors import ValueTooLarge
from redrive.store import ABSENT, LETTERS, TIMERS, Entry, Namespace

MAX_VALUE = 346 * 1024
"""Largest value, in bytes: with up to 4 KB of keys and times its item stays within 350 KB, well under DynamoDB's 400.

Source: Amazon DynamoDB developer guide, "Quotas in Amazon DynamoDB": item size.
"""
LONGEST_KEY = 1024
"""Longest key, in bytes of UTF-8. Source: the same page, sort key."""
PARTITION, SORT, DUE, EXPIRES, SWEPT = "pk", "sk", "due_at_ms", "expires_at_ms", "swept_after_s"
INDEX = "due"
SWEEP_GRACE = 3600
"""Seconds between an entry's expiry and its sweep: until then even a machine whose clock is late finds it there."""
_ALONE = "-"

Item = dict[str, dict[str, Any]]
"""An item as the protocol has it: `{"pk": {"S": "…"}}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How many shards a namespace has; another one than the default is for tests."""

    shards: Mapping[str, int] = field(default_factory=lambda: {TIMERS.name: 8, LETTERS.name: 8})
    others: int = 1

    def partitions(self, namespace: Namespace) -> list[str]:
        """The partitions of a namespace that `scan` or `due` is asked of."""
        return [f"{namespace.name}/{shard}" for shard in range(self._shards_of(namespace))]

    def place(self, namespace: Namespace, key: str) -> Item:
        """The primary key of an entry.

        Raises:
            ValueTooLarge: If the key is over 1,024 bytes.
        """
        size = len(key.encode())
        if size > LONGEST_KEY:
            raise ValueTooLarge(namespace.name, key, size, LONGEST_KEY)
        if namespace.listable or namespace.timed:
            digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
            partition, sort = f"{namespace.name}/{int.from_bytes(digest) % self._shards_of(namespace)}", key
        else:
            partition, sort = f"{namespace.name}/{key}", _ALONE
        return {PARTITION: {"S": partition}, SORT: {"S": sort}}

    def _shards_of(self, namespace: Namespace) -> int:
        return self.shards.get(namespace.name, self.others)


def content(value: bytes, version: int, due_at_ms: int | None, expires_at_ms: int | None) -> Item:
    """An item without its primary key."""
    item: Item = {"content": {"B": value}, "version": _number(version)}
    if due_at_ms is not None:
        item[DUE] = _number(due_at_ms)
    if expires_at_ms is not None:
        item[EXPIRES] = _number(expires_at_ms)
        item[SWEPT] = _number(-(-expires_at_ms // 1000) + SWEEP_GRACE)
    return item


def only_if(version: int, now_ms: int) -> dict[str, Any]:
    """The condition of a write: the version stands; an expired entry is absent, swept or not."""
    values = {":now": _number(now_ms)}
    if version == ABSENT:
        condition = f"attribute_not_exists({PARTITION}) OR {EXPIRES} <= :now"
    else:
        condition = f"version = :version AND (attribute_not_exists({EXPIRES}) OR {EXPIRES} > :now)"
        values[":version"] = _number(version)
    return {"ConditionExpression": condition, "ExpressionAttributeValues": values}


def after_key(partition: str, after: str) -> dict[str, Any]:
    """What a query asks for whose answer is ordered by key."""
    condition, values = f"{PARTITION} = :partition", {":partition": {"S": partition}}
    if after:
        condition += f" AND {SORT} > :after"
        values[":after"] = {"S": after}
    return {"KeyConditionExpression": condition, "ExpressionAttributeValues": values}


def due_before(partition: str, before_ms: int) -> dict[str, Any]:
    """What a query asks for whose answer is ordered by due time; of the index, which knows keys and times alone."""
    return {
        "IndexName": INDEX,
        "KeyConditionExpression": f"{PARTITION} = :partition AND {DUE} <= :before",
        "ExpressionAttributeValues": {":partition": {"S": partition}, ":before": _number(before_ms)},
    }


def entry_of(item: Item, key: str) -> Entry:
    """The entry that an item is."""
    value = bytes(item["content"]["B"])
    return Entry(key=key, value=value, version=version_of(item), due_at_ms=due_of(item) if DUE in item else None)


def is_alive(item: Item, now_ms: int) -> bool:
    """Whether an item is not expired."""
    return EXPIRES not in item or int(item[EXPIRES]["N"]) > now_ms


def version_of(item: Item) -> int:
    """The version of an item, expired or not."""
    return int(item["version"]["N"])


def due_of(item: Item) -> int:
    """The due time of an item that has one."""
    return int(item[DUE]["N"])


def key_of(item: Item) -> str:
    """The key of an item of a namespace that is listed."""
    key: str = item[SORT]["S"]
    return key


def _number(value: int) -> dict[str, str]:
    return {"N": str(value)}
