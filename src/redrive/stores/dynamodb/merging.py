"""One ordered list out of several shards, each asked page by page and no further than needed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from redrive.stores.dynamodb.layout import Item

T = TypeVar("T")
Page = tuple[list[Item], Any]
"""Items in order, and where the next page begins; None: there is none."""
Ask = Callable[[Any], Awaitable[Page]]


class Shard:
    """One shard's items, in order."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._next: Any = None
        self._ended = False
        self.waiting: deque[Item] = deque()

    async def fill(self) -> None:
        """Ask until an item waits or the shard ends; a page of which nothing is left is passed over."""
        while not self.waiting and not self._ended:
            items, self._next = await self._ask(self._next)
            self.waiting.extend(items)
            self._ended = self._next is None


def page_size(limit: int, shards: int) -> int:
    """How many items to ask of each shard at once: twice its even share, so that a second page is rare."""
    return min(limit, 2 * -(-limit // shards))


async def merged(shards: Sequence[Shard], *, by: Callable[[Item], Any], limit: int) -> list[Item]:
    """The first `limit` items of all shards together, each of which is in the order of `by`."""
    found: list[Item] = []
    await together(shard.fill() for shard in shards)
    while len(found) < limit and (waiting := [shard for shard in shards if shard.waiting]):
        first = min(waiting, key=lambda shard: by(shard.waiting[0]))
        found.append(first.waiting.popleft())
        if not first.waiting and len(found) < limit:
            await first.fill()
    return found


async def together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """What all of them return; if one raises, that, but not before all have ended: none is left behind."""
    found: list[T] = []
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found
