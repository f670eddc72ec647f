"""A café whose messages went wrong in every way, on a real SQLite file; each test gets a copy of it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from redrive.broker import Broker
from redrive.catalogue import Letter
from redrive.cli import main
from redrive.clock import Clock, SteadyClock, SystemClock
from redrive.connections import connect
from redrive.loading import load_app
from redrive.message import Message
from redrive.operations import Operations
from redrive.store import Store
from redrive.testing import PlainBroker

APP = """
from dataclasses import dataclass

from redrive import App, Backoff

app = App("cafe", broker="sqlite:cafe.db")


@dataclass
class Order:
    customer: str
    drink: str
    size: int = 2


orders = app.queue("orders", Order)
payments = app.dependency("payments")


@orders.consumer(needs=[payments], max_attempts=2, backoff=Backoff(first=0.01, maximum=0.01))
async def place(order: Order) -> None:
    if order.drink == "bomb":
        raise RuntimeError("boom \\x1b[2J [red]alarm[/red]\\nsecond line")
    async with payments:
        pass
"""
MALFORMED = b'{"customer":"Ada","price":1.10}'
HOSTILE = b"\x1b[31mred\x1b]0;owned\x07 [bold]x[/bold] \xe2\x80\xaetxt \xc2\x9b2J \x00 \xff"
BOMB = b'{"customer":"Eve","drink":"bomb"}'
PARKED = b'{"customer":"Joe","drink":"latte"}'


@dataclass(frozen=True, slots=True)
class Cafe:
    """One copy of the café, and how to give orders about it."""

    folder: Path
    malformed: str
    """The id of a letter without a drink."""
    hostile: str
    """The id of a letter that is no JSON and attacks terminals."""
    bomb: str
    """The id of a letter whose handler raised twice."""
    parked: str
    """The id of a message that waits for payments."""

    @property
    def address(self) -> str:
        return f"sqlite:{self.folder / 'cafe.db'}"

    @property
    def with_code(self) -> list[str]:
        """The options that name the application."""
        return ["--app", "cafe:app", "--app-dir", str(self.folder), *self.without_code]

    @property
    def without_code(self) -> list[str]:
        """The options that name the broker alone."""
        return ["--broker", self.address]

    def run(self, *arguments: str, given: bytes | None = None, code: int = 0, app: bool = False) -> Result:
        """Run an operator's command in this process; `code` is the exit code that it must end with."""
        target = self.with_code if app else self.without_code
        result = CliRunner().invoke(main, [*arguments, *target], input=given, catch_exceptions=False)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.stderr
        return result

    def json(self, *arguments: str, **settings: Any) -> list[dict[str, Any]]:
        """What a command prints with --json."""
        return [json.loads(line) for line in self.run(*arguments, "--json", **settings).stdout.splitlines()]

    def refused(self, *arguments: str, code: int = 1, **settings: Any) -> str:
        """The one line with which a command is refused."""
        result = self.run(*arguments, code=code, **settings)
        lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, result.stderr
        return lines[0]

    def ask(self, question: Callable[[Operations], Awaitable[Any]]) -> Any:
        """Look at the database without the command line."""

        async def asking() -> Any:
            clock = SteadyClock(SystemClock())
            broker, store = connect(self.address, clock)
            try:
                return await question(Operations(broker, store, clock=clock))
            finally:
                await broker.close()
                await store.close()

        return asyncio.run(asking())

    def messages(self, queue: str = "orders") -> list[Message]:
        """What a queue holds."""

        async def peek(operations: Operations) -> list[Message]:
            return (await operations.peek(queue, limit=100)).messages

        found: list[Message] = self.ask(peek)
        return found

    def letter(self, identity: str) -> Letter:
        """A letter as the catalogue has it."""

        async def find(operations: Operations) -> Letter:
            return await operations.letter(identity)

        found: Letter = self.ask(find)
        return found

    def dead(self) -> set[str]:
        """The ids of all dead letters."""

        async def find(operations: Operations) -> set[str]:
            return {letter.id async for letter in operations.letters()}

        found: set[str] = self.ask(find)
        return found


@pytest.fixture(scope="session")
def broken_cafe(tmp_path_factory: pytest.TempPathFactory) -> Cafe:
    """Made once, by a real worker: three letters and a parked message."""
    folder = tmp_path_factory.mktemp("cafe")
    (folder / "cafe.py").write_text(APP)
    return asyncio.run(_break(folder))


@pytest.fixture
def cafe(broken_cafe: Cafe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cafe:
    """A café of one's own, in a folder from which no other application can be seen."""
    shutil.copytree(broken_cafe.folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for name in ("REDRIVE_BROKER", "REDRIVE_APP"):
        monkeypatch.setenv(name, "")  # so that what a command sets is undone too
        monkeypatch.delenv(name)
    copy = broken_cafe
    return Cafe(tmp_path, copy.malformed, copy.hostile, copy.bomb, copy.parked)


@pytest.fixture(params=["embedded", "plain"])
def any_broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Commands that run in this process get the embedded broker, then one that can do less."""

    def connected(address: str, clock: Clock) -> tuple[Broker, Store]:
        broker, store = connect(address, clock)
        return PlainBroker(broker), store

    if request.param == "plain":
        monkeypatch.setattr("redrive.app.connect", connected)
        monkeypatch.setattr("redrive.operations.connect", connected)
    return str(request.param)


@pytest.fixture
def environment(cafe: Cafe) -> dict[str, str]:
    """What a process of its own needs to find this redrive and to be free of settings."""
    source = os.fspath(Path(__file__).parents[2] / "src")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REDRIVE_", "COV_"))}
    return {**kept, "PYTHONPATH": source, "PYTHONWARNINGS": "error", "HOME": str(cafe.folder), "TERM": "xterm"}


@pytest.fixture
def redrive() -> list[str]:
    """The command line, as a process of its own."""
    return [sys.executable, "-m", "redrive"]


async def _break(folder: Path) -> Cafe:
    app = load_app("cafe:app", str(folder))
    async with app:
        operations = Operations.of(app)
        bodies = [MALFORMED, HOSTILE, BOMB, PARKED]
        sent = [await operations.send("orders", body, {"from": "till\x1b[5m"}, unchecked=True) for body in bodies]
        await app.runtime.broker.depth("orders")
        await operations.force("payments", "open", reason="for the test")
        stop = asyncio.Event()
        working = asyncio.create_task(app.work(stop=stop))
        async with asyncio.timeout(30):
            while not await _settled(operations):  # noqa: ASYNC110 - no event tells of parked messages
                await asyncio.sleep(0.02)
        stop.set()
        await working
    return Cafe(folder, *sent)


async def _settled(operations: Operations) -> bool:
    view = await operations.queue("orders")
    return (view.ready, view.in_flight, view.delayed, view.parked, view.dead) == (0, 0, 0, 1, 3)
