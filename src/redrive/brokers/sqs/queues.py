"""The names of queues: redrive's and those of Amazon SQS, and where each is.

A FIFO queue `orders` is `orders.fifo` there, and an address may put a prefix before every name. The same name of the
other kind is another queue to SQS; here it is the same, and whichever exists is meant.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Any, NamedTuple

from redrive.brokers.sqs.client import Client
from redrive.brokers.sqs.failures import Refused
from redrive.errors import LimitExceeded, QueueNotFound

FIFO = ".fifo"
PARKED = "-parked-"
"""In the names of parked queues, and in no other that redrive makes; each of them has an anchor."""
_ANCHOR = "-anchor"
_LONGEST = 80
"""Characters of a name, `.fifo` included. Source: Amazon SQS quotas, "Queue name"."""
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_PAGE = 1_000
"""Source: Amazon SQS, ListQueues `MaxResults`: 1 to 1,000."""


class Located(NamedTuple):
    """Where a queue is."""

    url: str
    fifo: bool


class Queues:
    """Finds queues, and remembers where they are."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._prefix = client.address.prefix
        self._known: dict[str, Located] = {}
        self._asking: dict[str, asyncio.Task[Located]] = {}

    def sqs_name(self, name: str, *, fifo: bool) -> str:
        """Its name at SQS."""
        return f"{self._prefix}{name}{FIFO if fifo else ''}"

    def refused_name(self, name: str, *, fifo: bool) -> LimitExceeded | None:
        """Why no queue can have this name."""
        if _NAME.fullmatch(name) and len(self.sqs_name(name, fifo=fifo)) <= _LONGEST:
            return None
        most = _LONGEST - len(self.sqs_name("", fifo=fifo))
        return LimitExceeded("name of a queue", name, f"1 to {most} of the characters A-Z, a-z, 0-9, _ and -")

    def anchor_of(self, name: str, *, fifo: bool) -> str:
        """The empty queue whose dead-letter queue a parked queue is made, so that SQS moves messages from it."""
        whole = f"{name}{_ANCHOR}"
        if len(self.sqs_name(whole, fifo=fifo)) <= _LONGEST:
            return whole
        kept = _LONGEST - len(self.sqs_name(_ANCHOR, fifo=fifo)) - 9
        return f"{name[:kept]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}{_ANCHOR}"

    def located_now(self, name: str) -> Located | None:
        """Where it is, if that is known."""
        return self._known.get(name)

    async def located(self, name: str) -> Located:
        """Where it is.

        Raises:
            QueueNotFound: If it is nowhere.
        """
        if found := self._known.get(name):
            return found
        asking = self._asking.get(name)
        if asking is None:
            asking = self._asking[name] = asyncio.create_task(self._ask(name))
            asking.add_done_callback(lambda done: self._asked(name, done))
        return await asyncio.shield(asking)

    async def found(self, name: str, *, fifo: bool) -> str | None:
        """The URL of a queue of this kind, asked anew; None: there is none."""
        if self.refused_name(name, fifo=fifo):
            return None
        request: dict[str, Any] = {"QueueName": self.sqs_name(name, fifo=fifo)}
        if self._client.address.account:
            request["QueueOwnerAWSAccountId"] = self._client.address.account
        try:
            answer = await self._client.read("GetQueueUrl", name, **request)
        except QueueNotFound:
            return None
        except Refused as error:
            raise QueueNotFound(name) from error
        url: str = answer["QueueUrl"]
        return url

    def remember(self, name: str, located: Located) -> None:
        """It is there now."""
        self._known[name] = located

    def forget(self, name: str) -> None:
        """Ask anew next time: it is not where it was."""
        self._known.pop(name, None)

    async def names(self) -> list[str]:
        """All names, sorted; not the anchors of parked queues that are there."""
        found: set[tuple[str, bool]] = set()
        token: str | None = None
        while True:
            request: dict[str, Any] = {"MaxResults": _PAGE}
            if self._prefix:
                request["QueueNamePrefix"] = self._prefix
            if token:
                request["NextToken"] = token
            answer = await self._client.read("ListQueues", "*", **request)
            found |= {self._name_in(url) for url in answer.get("QueueUrls") or ()}
            token = answer.get("NextToken")
            if not token:
                anchors = {self.anchor_of(name, fifo=fifo) for name, fifo in found if PARKED in name}
                return sorted({name for name, _ in found} - anchors)

    def name_of_arn(self, arn: str) -> str:
        """The name in an ARN, as redrive has it."""
        return self._plain(arn.rpartition(":")[2])

    async def _ask(self, name: str) -> Located:
        for fifo in (False, True):
            if url := await self.found(name, fifo=fifo):
                return self._known.setdefault(name, Located(url, fifo))
        raise QueueNotFound(name)

    def _asked(self, name: str, done: asyncio.Task[Located]) -> None:
        self._asking.pop(name, None)
        if not done.cancelled():
            done.exception()  # whoever asked may have gone

    def _name_in(self, url: str) -> tuple[str, bool]:
        """The name, and whether it is a FIFO queue's."""
        name = url.rpartition("/")[2]
        return self._plain(name), name.endswith(FIFO)

    def _plain(self, name: str) -> str:
        return name.removesuffix(FIFO).removeprefix(self._prefix)
