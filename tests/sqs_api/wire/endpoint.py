"""A real endpoint on a free port, in a thread of its own, and ways to speak to it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode

import boto3
from botocore.config import Config

from redrive.sqs_api.contract import load
from redrive.sqs_api.door import Door, Settings
from redrive.sqs_api.hosts import listen
from redrive.sqs_api.server import answering, new_loop
from tests.sqs_api.wire.echo import Echo

CONTRACT = load()
DEADLINE = 10.0
KEY, SECRET = "test-key", "test-secret"


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def xml(self) -> ET.Element:
        return read_xml(self.body)


class Endpoint:
    """Where it is, what it was asked, and how to ask."""

    def __init__(self, port: int, service: Echo, stop: Any) -> None:
        self.port, self.service, self.stop = port, service, stop
        self.url = f"http://127.0.0.1:{port}"
        self.queue = f"{self.url}/000000000000/orders"

    def client(self, key: str = KEY, secret: str = SECRET) -> Any:
        return boto3.client(
            "sqs",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(retries={"max_attempts": 0}, read_timeout=DEADLINE, connect_timeout=DEADLINE),
        )

    def raw(self, content: bytes) -> bytes:
        """Send bytes, and return all that comes until the endpoint hangs up."""
        with closing(self.connect()) as connection:
            connection.sendall(content)
            return until_closed(connection)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request on a connection of its own; in header names, `_` stands for `-`."""
        given = {"host": f"127.0.0.1:{self.port}", "connection": "close", "content-length": str(len(body))}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        return parsed(self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body))

    def json(self, operation: str, body: bytes | dict[str, Any], **headers: str) -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"x_amz_target": f"AmazonSQS.{operation}", "content_type": "application/x-amz-json-1.0", **headers}
        return self.ask("POST", "/", content, **given)

    def query(self, given: dict[str, str], path: str = "/", **headers: str) -> Answer:
        kind = "application/x-www-form-urlencoded"
        return self.ask("POST", path, urlencode(given).encode(), content_type=kind, **headers)

    def is_well(self) -> bool:
        answer = self.json("SendMessage", {"QueueUrl": self.queue, "MessageBody": "hello"})
        return answer.status == 200 and answer.json()["MessageId"] == "m-1"


@contextmanager
def serving(service: Echo | None = None, **settings: Any) -> Iterator[Endpoint]:
    """An endpoint that stops at the end of the block; `stop()` stops it earlier, and returns when it has."""
    echo, ready = service or Echo(), threading.Event()
    found: list[Any] = []

    async def serve() -> None:
        settled = Settings(**settings)
        told, loop = asyncio.Event(), asyncio.get_running_loop()
        with listen(settled.host, 0, signed=bool(settled.keys)) as listener:
            async with answering(Door(echo, CONTRACT, settled), listener):
                found.extend((listener.getsockname()[1], lambda: loop.call_soon_threadsafe(told.set)))
                ready.set()
                await told.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(DEADLINE)

    def stop() -> None:
        if thread.is_alive():
            found[1]()
            thread.join(DEADLINE)
        assert not thread.is_alive()

    try:
        yield Endpoint(found[0], echo, stop)
    finally:
        stop()


def until_closed(connection: socket.socket) -> bytes:
    """All that comes until the other side hangs up."""
    found, closed = until_quiet(connection)
    assert closed, f"neither an end nor more within the timeout, after {found!r}"
    return found


def until_quiet(connection: socket.socket) -> tuple[bytes, bool]:
    """All that comes until the other side hangs up or the connection's timeout is over, and whether it hung up."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    except TimeoutError:
        return b"".join(parts), False
    return b"".join(parts), True


def read_xml(content: bytes) -> ET.Element:
    """As a client reads it."""
    return ET.fromstring(content)  # noqa: S314 - the endpoint under test wrote it


def parsed(content: bytes) -> Answer:
    """The first answer in what came."""
    head, _, rest = content.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), headers, rest[: int(headers.get("content-length", len(rest)))])
