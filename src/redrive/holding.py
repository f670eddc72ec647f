"""Holding what is sent while something runs, until it has succeeded.

    with holding(runtime, origin="orders/0190...", at_ms=message.sent_at_ms) as held:
        ...                    # whatever is sent in here, and in tasks and threads that it starts, is held
    unsent = held.unsent       # [] unless it was; whoever drops the list sends nothing

Invariants:
    1. The id of what is held is made of its origin, its queue, its group and its body, and of how many like it were
       held before. So the same work, done again, sends the same messages, in whatever order its tasks run; and work
       that says something else the second time sends something else, and nothing is taken for what it is not.
    2. After the end nothing is held any more: what comes then is refused rather than lost.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from redrive.errors import HandlerEnded, LimitExceeded
from redrive.message import message_id
from redrive.runtime import Runtime
from redrive.unsent import Unsent

MOST_HELD = 32 * 1024 * 1024
"""Bytes of bodies that one origin may hold: they are in memory, and in the store for a moment."""
_AROUND: ContextVar[Holding | None] = ContextVar("redrive_holding", default=None)


class Holding:
    """What one origin has sent so far. Safe from every thread."""

    def __init__(self, runtime: Runtime, origin: str, at_ms: int) -> None:
        self._runtime, self._origin, self._at_ms = runtime, origin, at_ms
        self._lock = threading.Lock()
        self._alike: Counter[bytes] = Counter()
        self._size = 0
        self._ended = False
        self.unsent: list[Unsent] = []
        """In the order in which they were sent."""

    def holds(self, runtime: Runtime) -> bool:
        """Whether what is sent by this open application is held here; another application's is not."""
        return self._runtime is runtime

    def identify(self, queue: str, group: str | None, body: bytes) -> str:
        """The id of what is sent now (invariant 1)."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self._origin, queue, group or ""):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
        digest.update(body)
        like = digest.digest()
        with self._lock:
            self._alike[like] += 1
            number = self._alike[like]
        random = hashlib.blake2b(like + number.to_bytes(8), digest_size=10).digest()
        return message_id(self._at_ms, random)

    def hold(self, unsent: Sequence[Unsent]) -> None:
        """Keep them.

        Raises:
            HandlerEnded: If the origin has ended (invariant 2).
            LimitExceeded: If it is too much; none of these is held.
        """
        size = sum(len(one.message.body) for one in unsent)
        with self._lock:
            if self._ended:
                raise HandlerEnded(self._origin)
            if self._size + size > MOST_HELD:
                limit = f"at most {MOST_HELD}: handle less in one turn, or send(..., now=True)"
                raise LimitExceeded("bytes held for one turn", self._size + size, limit)
            self._size += size
            self.unsent += unsent

    def end(self) -> None:
        """Nothing more is held."""
        with self._lock:
            self._ended = True


@contextmanager
def holding(runtime: Runtime, origin: str, *, at_ms: int) -> Iterator[Holding]:
    """Hold what is sent inside the block, and inside no other block within it.

    Args:
        runtime: of the application whose sends are held.
        origin: what the ids are made of: the same when the same work is done again, and no other work's.
        at_ms: the time in the ids, in milliseconds; the same when the same work is done again.
    """
    held = Holding(runtime, origin, at_ms)
    token = _AROUND.set(held)
    try:
        yield held
    finally:
        held.end()
        _AROUND.reset(token)


def holding_here(runtime: Runtime) -> Holding | None:
    """What holds the sends of this application here; None: they leave at once."""
    held = _AROUND.get()
    return held if held is not None and held.holds(runtime) else None
