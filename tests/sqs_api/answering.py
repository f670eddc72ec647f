"""The whole endpoint on a free port: a database file, the service, the wire and a socket, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from redrive.sqs_api.contract import load
from redrive.sqs_api.door import Door, Settings
from redrive.sqs_api.hosts import listen
from redrive.sqs_api.server import answering, new_loop
from redrive.sqs_api.service import open_service

DEADLINE = 10.0
ACCOUNT, REGION = "000000000000", "us-east-1"
KEY, SECRET = "AKIDEXAMPLE", "a secret"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running endpoint."""

    url: str
    database: Path

    def client(self) -> Any:
        """Of boto3, which speaks JSON; the same one each time, for to make one costs more than a test."""
        return _client(self.url)

    def new_client(self) -> Any:
        """One of its own."""
        config = Config(retries={"total_max_attempts": 1})
        session = boto3.Session(aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name=REGION)
        return session.client("sqs", endpoint_url=self.url, config=config)


@cache
def _client(url: str) -> Any:
    return Endpoint(url, Path()).new_client()


def environment(url: str) -> dict[str, str]:
    """For a program that finds its endpoint as SDKs do."""
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": url,
    }


@contextmanager
def endpoint(folder: Path) -> Iterator[Endpoint]:
    """Answers until the end of the block."""
    database, ready = folder / "endpoint.db", threading.Event()
    found: list[Any] = []

    async def serve() -> None:
        settings, contract = Settings(account=ACCOUNT, region=REGION), load()
        told, loop = asyncio.Event(), asyncio.get_running_loop()
        with listen(settings.host, 0, signed=False) as listener:
            async with (
                open_service(str(database), durability="relaxed") as service,
                answering(Door(service, contract, settings), listener),
            ):
                found.extend((listener.getsockname()[1], lambda: loop.call_soon_threadsafe(told.set)))
                ready.set()
                await told.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name="endpoint")
    thread.start()
    assert ready.wait(DEADLINE)
    try:
        yield Endpoint(f"http://127.0.0.1:{found[0]}", database)
    finally:
        found[1]()
        thread.join(DEADLINE)
        assert not thread.is_alive()
