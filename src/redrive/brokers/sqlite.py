"""The embedded broker: the asyncio face of the engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import NamedTuple

from redrive.broker import (
    LONGEST_DELAY,
    MOST_MOVES_LISTED,
    Capabilities,
    Depth,
    MoveTask,
    Outgoing,
    Page,
    QueueSpec,
    Results,
    Return,
    Sends,
    Settlement,
)
from redrive.errors import BrokerUnavailable, LimitExceeded, RedriveError
from redrive.message import Delivery
from redrive.sqlite.signals import BACKSTOP
from redrive.sqlite.writer import Database, Tables, Work

_CAPABILITIES = Capabilities(
    annotates_retry=True,
    atomic_forward=True,
    selects=True,
    browses=True,
    ordered=True,
    settles="message",
    max_delay=LONGEST_DELAY,
    max_batch=1_000,
)
_HELD_UP = 0.1
"""Seconds to wait when something is ready and may not be given, because too much is in flight."""
_LARGE = 100
"""Messages in one call that are not worth gathering: the writer begins with them while the loop goes on."""


class SqliteBroker:
    """A broker in one SQLite file, shared by any number of processes on one machine.

    What was answered is on disk, as the level of durability says. Calls that wait at the same time share one commit.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._outbox = _Outbox(database)

    @property
    def address(self) -> str:
        """`sqlite:`, the file and its level of durability."""
        return self._database.address

    @property
    def capabilities(self) -> Capabilities:
        """Everything there is."""
        return _CAPABILITIES

    async def declare(self, queues: Sequence[QueueSpec]) -> None:
        """Make the queues exist as described."""
        await self._database.run(lambda tables: tables.engine.declare(queues, tables.now_ms))

    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        """Put messages into a queue, in one commit."""
        return await self._outbox.send(queue, messages)

    async def receive(
        self, queue: str, *, limit: int, lease: float, wait: float = 0.0, ids: Sequence[str] | None = None
    ) -> list[Delivery]:
        """Take up to `limit` ready messages; waits without polling, woken by a send in any process."""
        if lease <= 0:
            raise LimitExceeded("lease", lease, "over 0 and at most 43200 seconds")

        def take(tables: Tables) -> Taken:
            taken = tables.engine.receive(queue, limit=limit, lease=lease, now_ms=tables.now_ms, ids=ids)
            return taken, BACKSTOP if taken else until_next(tables, queue)

        return await taken_within(self._database, queue, take, wait)

    async def settle(self, settlements: Sequence[Settlement]) -> Results:
        """Acknowledge, hand back or forward, in one commit."""
        return await self._database.run(lambda tables: tables.engine.settle(settlements, tables.now_ms))

    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Results:
        """Let the leases end `lease` seconds from now."""
        return await self._database.run(
            lambda tables: tables.engine.extend(deliveries, lease=lease, now_ms=tables.now_ms)
        )

    async def browse(self, queue: str, *, cursor: str | None = None, limit: int = 100) -> Page:
        """Look at messages without receiving them."""
        return await self._database.run(lambda tables: tables.engine.browse(queue, cursor=cursor, limit=limit))

    async def depth(self, queue: str) -> Depth:
        """Count a queue's messages."""
        return await self._database.run(lambda tables: tables.engine.depth(queue, tables.now_ms))

    async def queues(self) -> list[str]:
        """The names of all queues, sorted."""
        return await self._database.run(lambda tables: tables.engine.queues())

    async def purge(self, queue: str) -> int:
        """Delete everything in a queue."""
        return await self._database.run(lambda tables: tables.engine.purge(queue))

    async def start_move(self, source: str, destination: str | None = None, *, rate: int | None = None) -> str:
        """Begin to move what is in a dead-letter queue; the task's id.

        It goes on by itself, in whichever process has the file open, also after this one was killed.

        Args:
            source: some queue's dead-letter queue.
            destination: where to; None: each message back to the queue whose dead letter it is.
            rate: messages a second, 1 to 500; None: as fast as it goes.

        Raises:
            QueueNotFound: If one of the queues does not exist.
            QueueConflict: If the source is no dead-letter queue or is being moved already, or the two do not fit.
            LimitExceeded: If the rate is out of range.
        """

        def start(tables: Tables) -> str:
            tables.move_at_ms = 0
            return tables.engine.moves.start(source, destination, rate, tables.now_ms)

        return await self._database.run(start)

    async def moves(self, source: str) -> list[MoveTask]:
        """The latest move tasks of a dead-letter queue, the newest first; at most 10."""
        return await self._database.run(lambda tables: tables.engine.moves.list(source, MOST_MOVES_LISTED))

    async def cancel_move(self, task: str) -> int:
        """Stop a running move task; how many messages it had moved, which stay moved.

        Raises:
            LimitExceeded: If no task of this id is running.
        """
        return await self._database.run(lambda tables: tables.engine.moves.cancel(task))

    async def close(self) -> None:
        """Finish what is queued and close the file, unless the store did already."""
        await asyncio.to_thread(self._database.close)


Taken = tuple[list[Delivery], float]
"""What was received; and where that is nothing, how many seconds to wait for what comes by itself. 0: nothing will."""


async def taken_within(database: Database, queue: str, take: Work[Taken], wait: float) -> list[Delivery]:
    """Receive, and again whenever the queue may have something, until there is something or `wait` seconds are over.

    A caller who is cancelled has what was on its way handed back, as if it had not been received.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    with database.signals.listening(queue) as changed:
        while True:
            taken, pause = await _kept(database, database.run(take))
            left = deadline - loop.time()
            if taken or left <= 0 or not pause:
                return taken
            try:
                async with asyncio.timeout(min(left, pause)):
                    await changed.wait()
            except TimeoutError:
                pass
            changed.clear()


def until_next(tables: Tables, queue: str) -> float:
    """Seconds to wait for a message that becomes ready by itself; never longer than the backstop."""
    at_ms = tables.engine.next_visible_ms(queue)
    if at_ms is None:
        return BACKSTOP
    if at_ms <= tables.now_ms:
        return _HELD_UP
    return min(BACKSTOP, (at_ms - tables.now_ms) / 1000)


async def _kept(database: Database, taking: asyncio.Future[Taken]) -> Taken:
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        taking.add_done_callback(lambda done: _hand_back(database, done))
        raise


def _hand_back(database: Database, taking: asyncio.Future[Taken]) -> None:
    if taking.cancelled() or taking.exception() is not None or not taking.result()[0]:
        return
    returns = [Return(delivery=delivery, uncounted=True) for delivery in taking.result()[0]]
    with contextlib.suppress(BrokerUnavailable):  # closed meanwhile: the leases run out
        database.run(lambda tables: tables.engine.settle(returns, tables.now_ms))


class _Post(NamedTuple):
    """One caller's messages."""

    messages: Sequence[Outgoing]
    answer: asyncio.Future[Sends]


class _Outbox:
    """Gathers what one turn of a loop sends into one piece of work: many small sends cost as little as a large one.

    Nobody waits for it: the writer gets the work at the end of the same turn.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._posts: dict[tuple[asyncio.AbstractEventLoop, str], list[_Post]] = {}

    def send(self, queue: str, messages: Sequence[Outgoing]) -> asyncio.Future[Sends]:
        """Send with whatever else this turn of the running loop sends there; done when it is on disk."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sends] = loop.create_future()
        if len(messages) >= _LARGE:
            self._run(queue, [_Post(messages, answer)])
            return answer
        posts = self._posts.get((loop, queue))
        if posts is None:
            posts = self._posts[loop, queue] = []
            loop.call_soon(self._hand_over, loop, queue)
        posts.append(_Post(messages, answer))
        return answer

    def _hand_over(self, loop: asyncio.AbstractEventLoop, queue: str) -> None:
        self._run(queue, self._posts.pop((loop, queue)))

    def _run(self, queue: str, posts: list[_Post]) -> None:
        messages = posts[0].messages if len(posts) == 1 else [one for post in posts for one in post.messages]
        try:
            sending = self._database.run(lambda tables: _send(tables, queue, messages))
        except BrokerUnavailable as error:
            _refuse(posts, error)
        else:
            sending.add_done_callback(lambda done: self._answer(queue, posts, done))

    def _answer(self, queue: str, posts: list[_Post], sent: asyncio.Future[Sends]) -> None:
        error = sent.exception()
        if error is None:
            results, start = sent.result(), 0
            for messages, answer in posts:
                if not answer.done():
                    answer.set_result(results[start : start + len(messages)])
                start += len(messages)
        elif len(posts) == 1 or isinstance(error, RedriveError):
            _refuse(posts, error)
        else:  # nothing was written, and one of them is to blame: the others must not suffer
            for post in posts:
                self._run(queue, [post])


def _send(tables: Tables, queue: str, messages: Sequence[Outgoing]) -> Sends:
    tables.refuse_if_full()
    return tables.engine.send(queue, messages, tables.now_ms)


def _refuse(posts: list[_Post], error: BaseException) -> None:
    for post in posts:
        if not post.answer.done():
            post.answer.set_exception(error)
