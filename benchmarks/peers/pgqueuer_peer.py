"""PgQueuer on PostgreSQL, fsync and `synchronous_commit` on, its tables logged (`durable`).

A crash in mid-message: the job is picked again once its heartbeat is old. Tuned: uvloop, as its own command line takes
it; batches of 1,000 jobs, of which each costs a round trip to take and one to settle; sends over a pool of connections.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import asyncpg
import uvloop
from peers.contest import Peer, answer, handler
from pgqueuer import PgQueuer, Queries
from pgqueuer.models import Job
from servers import POSTGRES_URL
from workload import Order

TASKS = 128
CONNECTIONS = 16
BATCH = 1_000
_QUEUE = "orders"
url = os.environ[POSTGRES_URL]


async def _prepare() -> None:
    """Tables as its installer makes them, anew."""
    connection = await asyncpg.connect(url)
    queries = Queries.from_asyncpg_connection(connection)
    if await queries.has_table("pgqueuer"):
        await queries.uninstall()
    await queries.install()
    await connection.close()


async def _concurrently(orders: Sequence[Order]) -> None:
    """Single sends from 128 tasks over a pool: each is a commit of its own, and PostgreSQL groups their fsyncs."""
    async with asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        queries = Queries.from_asyncpg_pool(pool)
        waiting = iter(orders)

        async def sender() -> None:
            for one in waiting:
                await queries.enqueue(_QUEUE, one.model_dump_json().encode())

        await asyncio.gather(*(sender() for _ in range(TASKS)))


class Connection:
    """One connection, and a loop to use it on."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._open: asyncpg.Connection | None = None

    def send(self, order: Order) -> None:
        """One job."""
        self._loop.run_until_complete(self._send(order))

    def left(self) -> int:
        """How many jobs are in its table: a settled one is not."""
        return int(self._loop.run_until_complete(self._left()))

    async def _send(self, order: Order) -> None:
        queries = Queries.from_asyncpg_connection(await self._connected())
        await queries.enqueue(_QUEUE, order.model_dump_json().encode())

    async def _left(self) -> int:
        return int(await (await self._connected()).fetchval("SELECT count(*) FROM pgqueuer"))

    async def _connected(self) -> asyncpg.Connection:
        if self._open is None:
            self._open = await asyncpg.connect(url)
        return self._open


async def work() -> None:
    """Its worker, until SIGTERM."""
    pgqueuer = PgQueuer.from_asyncpg_connection(await asyncpg.connect(url))
    handle = handler()

    async def take(job: Job) -> None:
        handle(job.payload or b"")

    pgqueuer.entrypoint(_QUEUE)(take)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, pgqueuer.shutdown.set)
    await pgqueuer.run(batch_size=BATCH)


_connection = Connection()
PEER = Peer(
    prepare=lambda: uvloop.run(_prepare()),
    concurrently=lambda orders: uvloop.run(_concurrently(orders)),
    send=_connection.send,
    left=_connection.left,
    worker=["-m", "peers.pgqueuer_peer", "worker"],
)

if __name__ == "__main__":
    if sys.argv[1] == "worker":
        uvloop.run(work())
    else:
        answer(PEER)
