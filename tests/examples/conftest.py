"""The coffee shop is a folder of scripts; its tests import its modules as the scripts do."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from starlette.applications import Starlette

SHOP = Path(__file__).parents[2] / "examples" / "coffee_shop"
sys.path.insert(0, str(SHOP))


@asynccontextmanager
async def visiting(service: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that runs in this process."""
    async with service.router.lifespan_context(service):
        transport = httpx.ASGITransport(service, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield client


class Service:
    """A service that runs in a process of its own."""

    def __init__(self, script: str, *options: str, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SHOP / script), "--port", "0", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert ": http://127.0.0.1:" in line
        self.url = line.split(": ", 1)[1].strip()

    def end(self) -> None:
        with self.process:  # closes its pipes
            self.process.kill()


@pytest.fixture
def start() -> Iterator[Callable[..., Service]]:
    """Start services; what still runs at the end of the test is killed."""
    started: list[Service] = []

    def start_one(script: str, *options: str, **environment: str) -> Service:
        started.append(Service(script, *options, environment=environment))
        return started[-1]

    yield start_one
    for service in started:
        service.end()
