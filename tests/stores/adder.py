"""Adds one to an entry, again and again, until it is killed: a line for each time that is known to have happened."""

from __future__ import annotations

import asyncio
import os
import sys

from redrive.clock import SystemClock
from redrive.errors import StoreUnavailable, VersionConflict
from redrive.store import CLAIMS
from redrive.stores.dynamodb import DynamoStore


async def main(endpoint_url: str, key: str) -> None:
    store = DynamoStore(SystemClock(), region="eu-west-1", endpoint_url=endpoint_url)
    while True:
        entry = await store.get(CLAIMS, key)
        assert entry is not None
        try:
            await store.put(CLAIMS, key, b"%d" % (int(entry.value) + 1), if_version=entry.version)
        except (VersionConflict, StoreUnavailable):
            continue
        os.write(1, b".\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
