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

from redrive.broker import Return, Settlement
from redrive.consumer import Consumer
from redrive.errors import StoreError, VersionConflict
from redrive.message import Delivery
from redrive.runtime import Runtime
from redrive.store import SUSPECTS
from redrive.turn import Held, Turns
from redrive.wire import delivery_to_json, settlement_from_json

_log = logging.getLogger("redrive.isolation")
_START_UP = 30.0
_LINE_LIMIT = 4 * 1024 * 1024


class Isolation:
    """Runs suspects in a child process that opens the application anew; one at a time."""

    def __init__(self, runtime: Runtime, consumers: Sequence[Consumer[Any]], command: Sequence[str]) -> None:
        """Be ready to start the child.

        Args:
            runtime: of this worker.
            consumers: whose messages may be suspects.
            command: what starts the child: it reads one delivery a line and answers with one settlement a line.
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
            assert child.stdin is not None  # noqa: S101 - a pipe was asked for
            assert child.stdout is not None  # noqa: S101 - likewise
            try:
                child.stdin.write(delivery_to_json(delivery).encode() + b"\n")
                async with asyncio.timeout(_START_UP + consumer.timeout):
                    line = await child.stdout.readline()
            except (TimeoutError, ConnectionError):
                line = b""
            finally:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                status = await child.wait()
            if line:
                settlement = settlement_from_json(line.decode(), delivery)
            else:
                reason = _how_it_ended(status)
                _log.warning("message %s took its process down: %s", delivery.message.id, reason)
                settlement = await Turns(self._runtime, consumer).crashed(Held(delivery), reason)
                if isinstance(settlement, Return):
                    return settlement  # still a suspect, until it is dead or handled
            await self._clear(delivery)
            return settlement

    async def _clear(self, delivery: Delivery) -> None:
        key = f"{delivery.queue}/{delivery.message.id}"
        with contextlib.suppress(StoreError, VersionConflict):
            entry = await self._runtime.store.get(SUSPECTS, key)
            if entry is not None:
                await self._runtime.store.delete(SUSPECTS, key, if_version=entry.version)


def _how_it_ended(status: int) -> str:
    if status == -9:  # noqa: PLR2004 - SIGKILL: by us after the time limit, by the system out of memory, or by a person
        return "killed, or no end within its timeout"
    return f"signal {-status}" if status < 0 else f"exit code {status}"
