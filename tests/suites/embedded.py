"""The embedded broker as the suite drives it: in virtual time, in memory or on a file."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from typing_extensions import override

from redrive.broker import Broker
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import ManualClock
from redrive.sqlite.writer import FileDatabase, InlineDatabase
from redrive.testing.broker_suite import BrokerSuite


class InMemory(BrokerSuite):
    """SqliteBroker on InlineDatabase."""

    patience = math.inf

    def open(self, kind: type[SqliteBroker] = SqliteBroker) -> SqliteBroker:
        self.clock = ManualClock()
        return kind(InlineDatabase(self.clock))

    @override
    async def let_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)


class OnFile(BrokerSuite):
    """SqliteBroker on FileDatabase."""

    patience = math.inf

    def open(self, folder: Path) -> SqliteBroker:
        self.clock = ManualClock()
        self.path = folder / "broker.db"
        self.brokers = [SqliteBroker(FileDatabase(str(self.path), self.clock))]
        return self.brokers[0]

    async def close(self) -> None:
        for broker in self.brokers:
            await broker.close()

    @override
    async def let_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @override
    async def reopened(self, broker: Broker) -> Broker:
        """On a copy of what is on disk at this moment, as a crash would leave it."""
        crashed = self.path.with_name("crashed.db")
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.path}{suffix}", f"{crashed}{suffix}")
        self.brokers.append(SqliteBroker(FileDatabase(str(crashed), self.clock)))
        return self.brokers[-1]
