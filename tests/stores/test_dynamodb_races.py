"""Many writers of one entry on DynamoDB: in one process, in several, and some of them killed."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from redrive.claims import Claim, Claims, InProgress
from redrive.clock import SystemClock
from redrive.errors import VersionConflict
from redrive.leadership import Leadership
from redrive.store import ABSENT, CLAIMS
from redrive.stores.dynamodb import DynamoStore

ADDER = str(Path(__file__).with_name("adder.py"))


@contextlib.asynccontextmanager
async def _stores(endpoint: str, count: int) -> AsyncIterator[list[DynamoStore]]:
    stores = [
        DynamoStore(SystemClock(), region="eu-west-1", endpoint_url=endpoint, declare="create") for _ in range(count)
    ]
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()


async def test_a_claim_is_taken_by_one_of_many_workers(endpoint: str) -> None:
    """Forty take the same idempotency key, through four stores: one has it, the others see that somebody has."""
    async with _stores(endpoint, 4) as stores:
        for _ in range(5):
            key = secrets.token_hex(8)
            taken = await asyncio.gather(
                *(
                    Claims(stores[one % 4], SystemClock()).take(key, payload_hash="", message_id=f"{one}", lease=30)
                    for one in range(40)
                )
            )
            assert sum(isinstance(claim, Claim) for claim in taken) == 1
            assert sum(isinstance(claim, InProgress) for claim in taken) == 39


async def test_a_task_has_one_leader(endpoint: str) -> None:
    """Of twenty that want to lead one does; once it resigns, another one."""
    async with _stores(endpoint, 4) as stores:
        task = secrets.token_hex(8)
        would = [Leadership(stores[one % 4], SystemClock(), task=task, holder=f"{one}") for one in range(20)]
        assert sum(await asyncio.gather(*(one.held() for one in would))) == 1
        await next(one for one in would if one.leads).resign()
        assert sum(await asyncio.gather(*(one.held() for one in would))) == 1


async def test_deletes_have_one_winner(endpoint: str) -> None:
    """Of ten deletes under one version one is told that it did it."""
    async with _stores(endpoint, 2) as stores:
        key = secrets.token_hex(8)
        version = await stores[0].put(CLAIMS, key, b"value", if_version=ABSENT)
        results = await asyncio.gather(
            *(stores[one % 2].delete(CLAIMS, key, if_version=version) for one in range(10)), return_exceptions=True
        )
        assert results.count(None) == 1
        assert sum(isinstance(result, VersionConflict) for result in results) == 9


@pytest.mark.e2e
async def test_processes_that_are_killed_lose_and_repeat_nothing(endpoint: str) -> None:
    """What was answered counts once; of each process that was killed one write more may have happened, no more."""
    await _kill_and_count(endpoint, processes=3, kills=3, lines=10)


@pytest.mark.e2e
@pytest.mark.long
async def test_many_processes_that_are_killed_lose_and_repeat_nothing(endpoint: str) -> None:
    """The same, with five at a time, forty kills and some thousand writes."""
    await _kill_and_count(endpoint, processes=5, kills=40, lines=40)


async def _kill_and_count(endpoint: str, *, processes: int, kills: int, lines: int) -> None:
    """Let processes add to one number; kill one after so many lines from all together, and start another one."""
    random, key, answered = Random(0), secrets.token_hex(8), 0  # noqa: S311 - repeatable on purpose
    async with _stores(endpoint, 1) as (store,):
        await store.put(CLAIMS, key, b"0", if_version=ABSENT)
        running = [await _started(endpoint, key) for _ in range(processes)]
        try:
            for _ in range(kills):
                answered += await _read(running, lines)
                answered += await _killed(running.pop(random.randrange(len(running))))
                running.append(await _started(endpoint, key))
        finally:
            answered += sum([await _killed(process) for process in running])
        entry = await store.get(CLAIMS, key)
    assert entry is not None
    assert answered >= kills * lines
    assert answered <= int(entry.value) <= answered + kills + processes


async def _started(endpoint: str, key: str) -> Process:
    return await asyncio.create_subprocess_exec(sys.executable, ADDER, endpoint, key, stdout=PIPE)


async def _read(running: list[Process], lines: int) -> int:
    """Read from whoever writes; how many lines there were, of which the last ones may be more than asked."""
    seen = 0

    async def follow(process: Process) -> None:
        nonlocal seen
        assert process.stdout is not None
        while seen < lines:
            assert await process.stdout.readline() == b".\n"
            seen += 1

    await asyncio.wait_for(asyncio.gather(*(follow(process) for process in running)), 60)
    return seen


async def _killed(process: Process) -> int:
    """Kill it; how many lines it had written that nobody had read."""
    process.kill()
    rest, _ = await process.communicate()
    return len(rest.splitlines())
