"""Whatever a client asks of the whole endpoint, database and all: no 5xx, no hang, and a sane request works afterwards.

The long form is for `make test-long`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redrive.sqs_api.door import Settings
from redrive.sqs_api.running import running
from redrive.sqs_api.server import new_loop
from tests.sqs_api.wire.endpoint import DEADLINE, Answer, Endpoint
from tests.sqs_api.wire.plausible import CALLS, KEPT, PREFIX, form, harmless
from tests.sqs_api.wire.test_fuzz import INPUTS

SHORT = settings(max_examples=350, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(SHORT, max_examples=6_000)
STEPS = st.lists(st.tuples(st.booleans(), CALLS), min_size=1, max_size=6)
"""Calls one after the other; True: in JSON."""


class Asked:
    """An endpoint, and the handles that it gave."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._receipts: list[str] = []
        self._tasks: list[str] = []
        self._number = 0
        for name, dead in KEPT.items():
            attributes = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
            if dead:
                attributes["RedrivePolicy"] = f'{{"deadLetterTargetArn":"{PREFIX}{dead}","maxReceiveCount":3}}'
            self.sanely("CreateQueue", QueueName=name, Attributes=attributes)

    def step(self, *, in_json: bool, operation: str, request: Any) -> None:
        """Ask, and look that the answer is one."""
        fitting = harmless(operation, request, self._receipts, self._tasks)
        answer = self._in_json(operation, fitting) if in_json else self._in_a_form(operation, fitting)
        assert answer.status < 500, (operation, fitting, answer)
        if in_json and answer.status == 200 and answer.body:
            self._keep(operation, fitting, answer.json())

    def is_well(self) -> None:
        """A message goes the whole way."""
        self._number += 1
        self.sanely("SendMessage", QueueUrl="sane", MessageBody=str(self._number))
        (message,) = self.sanely("ReceiveMessage", QueueUrl="sane", WaitTimeSeconds=1)["Messages"]
        assert message["Body"] == str(self._number)
        self.sanely("DeleteMessage", QueueUrl="sane", ReceiptHandle=message["ReceiptHandle"])

    def sanely(self, operation: str, **request: Any) -> Any:
        answer = self._endpoint.json(operation, request)
        assert answer.status == 200, (operation, answer)
        return answer.json() if answer.body else {}

    def _in_json(self, operation: str, request: Any) -> Answer:
        answer = self._endpoint.json(operation, json.dumps(request).encode())
        if answer.body:
            answer.json()
        return answer

    def _in_a_form(self, operation: str, request: Any) -> Answer:
        named = [("Action", operation), *form("", request, INPUTS[operation])]
        body = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in named).encode()
        answer = self._endpoint.ask("POST", "/", body)
        answer.xml()
        return answer

    def _keep(self, operation: str, request: Any, answer: Any) -> None:
        failed = answer.get("Failed", [])
        assert all(one["SenderFault"] for one in failed), (operation, request, failed)
        self._receipts += [one["ReceiptHandle"] for one in answer.get("Messages", [])]
        self._tasks += [answer["TaskHandle"]] if "TaskHandle" in answer else []


def _quoted(text: str) -> str:
    return quote_plus(text.encode(errors="surrogatepass"))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """On a database file; for all examples together."""
    path, ready = tmp_path_factory.mktemp("fuzz") / "endpoint.db", threading.Event()
    found: list[Any] = []

    async def serve() -> None:
        told, loop = asyncio.Event(), asyncio.get_running_loop()
        async with running(str(path), 0, Settings(), durability="relaxed") as address:
            found.extend((address[1], lambda: loop.call_soon_threadsafe(told.set)))
            ready.set()
            await told.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(DEADLINE)
    try:
        yield Asked(Endpoint(found[0], None, found[1]))  # type: ignore[arg-type] # there is no echo behind it
    finally:
        found[1]()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def check(asked: Asked, steps: list[tuple[bool, tuple[str, Any]]]) -> None:
    for in_json, (operation, request) in steps:
        asked.step(in_json=in_json, operation=operation, request=request)
    asked.is_well()


@given(steps=STEPS)
@SHORT
def test_what_a_client_might_ask_is_answered(asked: Asked, steps: list[tuple[bool, tuple[str, Any]]]) -> None:
    """In both protocols, with queues, receipts and batches that are real and others that are not."""
    check(asked, steps)


@pytest.mark.long
@pytest.mark.timeout(900)
@given(steps=STEPS)
@LONG
def test_whatever_a_client_might_ask_is_answered(asked: Asked, steps: list[tuple[bool, tuple[str, Any]]]) -> None:
    """The same, for minutes."""
    check(asked, steps)
