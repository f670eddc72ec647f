"""Suspects: messages that were running when a worker died run one at a time, in a process of their own.

Only the one that takes that process down alone is charged a crash; its neighbours of the first time are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

from redrive.broker import Forward, Return, Settlement
from redrive.calling import Held
from redrive.consumer import Consumer
from redrive.errors import StoreError, VersionConflict
from redrive.message import Delivery
from redrive.runtime import Runtime
from redrive.store import SUSPECTS
from redrive.turn import Turns
from redrive.wire import delivery_to_json, settlement_from_json

_log = logging.getLogger("redrive.isolation")
READY = "ready"
"""What the child says first, once the application is open; before that nothing is a message's fault."""
_START_UP = 30.0
_START_AGAIN = 5.0
_AROUND = 10.0
_LAST_MOMENTS = 5.0
_LINE_LIMIT = 4 * 1024 * 1024


class Isolation:
    """Runs suspects in a child process that opens the application anew; one at a time."""

    def __init__(self, runtime: Runtime, consumers: Sequence[Consumer[Any]], command: Sequence[str]) -> None:
        """Be ready to start the child.

        Args:
            runtime: of this worker.
            consumers: whose messages may be suspects.
            command: what starts the child: it says that it is ready, then reads one delivery a line and answers with
                one settlement a line.
        """
        self._runtime = runtime
        self._consumers = {consumer.queue: consumer for consumer in consumers}
        self._command = command
        self._one_at_a_time = asyncio.Lock()

    async def run(self, delivery: Delivery) -> Settlement | None:
        """Run one suspect's turn; its settlement, or that of a crash when it takes the child down."""
        async with self._one_at_a_time:
            consumer = self._consumers[delivery.queue]
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LINE_LIMIT,
            )
            line = b""
            try:
                ready = await _line(child, _START_UP)
                if ready:
                    line = await _line(child, _patience(consumer), delivery_to_json(delivery))
            finally:
                status = await _end(child)
            turns = Turns(self._runtime, consumer)
            if not ready:
                _log.error("the process for suspects did not start: %s", _how_it_ended(status))
                return turns.back(delivery, _START_AGAIN)
            if line:
                settlement = settlement_from_json(line.decode(), delivery)
            else:
                reason = _how_it_ended(status)
                _log.warning("message %s took its process down: %s", delivery.message.id, reason)
                settlement = await turns.crashed(Held(delivery), reason)
            if not _comes_back(settlement, delivery):
                await self._clear(delivery)
            return settlement

    async def _clear(self, delivery: Delivery) -> None:
        key = f"{delivery.queue}/{delivery.message.id}"
        with contextlib.suppress(StoreError, VersionConflict):
            entry = await self._runtime.store.get(SUSPECTS, key)
            if entry is not None:
                await self._runtime.store.delete(SUSPECTS, key, if_version=entry.version)


async def _line(child: asyncio.subprocess.Process, patience: float, said: str | None = None) -> bytes:
    """What the child says next, after something was said to it; empty when it ended or took too long."""
    assert child.stdin is not None  # noqa: S101 - a pipe was asked for
    assert child.stdout is not None  # noqa: S101 - likewise
    try:
        if said is not None:
            child.stdin.write(said.encode() + b"\n")
        async with asyncio.timeout(patience):
            return await child.stdout.readline()
    except (TimeoutError, ConnectionError):
        return b""


async def _end(child: asyncio.subprocess.Process) -> int:
    """Kill it; its exit status. What is ending by itself is waited for: a kill at that moment loses its status."""
    if child.stdout is not None and child.stdout.at_eof():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_MOMENTS):
                return await child.wait()
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    return await child.wait()


def _patience(consumer: Consumer[Any]) -> float:
    """How long a turn may take: the handler's time, the degraded handler's, and what is written around them."""
    return consumer.timeout * (2 if consumer.degraded_handlers else 1) + _AROUND


def _comes_back(settlement: Settlement | None, delivery: Delivery) -> bool:
    """Whether the message will be received again from this queue: it stays a suspect until it is dead or done."""
    match settlement:
        case None | Return():
            return True
        case Forward(queue=queue):
            return queue == delivery.queue
        case _:
            return False


def _how_it_ended(status: int) -> str:
    if status == -9:  # noqa: PLR2004 - SIGKILL: by us after the time limit, by the system out of memory, or by a person
        return "killed, or no end within its timeout"
    return f"signal {-status}" if status < 0 else f"exit code {status}"
