"""Calls to DynamoDB: one client for the running loop, and tries that know whether an earlier one may have happened.

botocore's own retries are off: they do not tell a throttled call, which did nothing, from one whose answer was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoRegionError
from botocore.exceptions import ConnectionError as NoConnection
from botocore.loaders import create_loader
from botocore.parsers import ResponseParserError

from redrive.backoff import Backoff
from redrive.clock import Clock
from redrive.errors import DeclarationError, StoreUnavailable
from redrive.stores.dynamodb.layout import Item
from redrive.stores.dynamodb.refusals import CREDENTIALS, PASSING, Refusal, problem_of

CONNECT_TIMEOUT, ANSWER_TIMEOUT = 2.0, 5.0
"""Seconds for a connection, and for a try as a whole."""
TRIES = 4
"""How often a call is made before it counts as unavailable."""
PATIENCE = 5.0
"""Seconds after which no further try begins; so a call takes about ten at most."""
NEW_SESSION_EVERY = 5.0
"""Seconds between two looks for credentials, while those that were found are refused."""
_BACKOFF = Backoff(first=0.05, maximum=1.0)
_CONNECTIONS = 50
_MOST_FETCHED = 100  # BatchGetItem takes no more
_SERVER_FAULT = 500
_SOME_REGION = "us-east-1"


@dataclass(slots=True)
class _Opened:
    """A client, closed by its last user once it is not the one in use any more."""

    client: Any
    stack: contextlib.AsyncExitStack
    at: float
    users: int = 0
    distrusted: bool = False


class Calls:
    """Makes the calls of one table. For one event loop; its first call makes the client, which takes some 40 ms."""

    def __init__(
        self, *, table: str, region: str | None, endpoint_url: str | None, local: bool, clock: Clock, address: str
    ) -> None:
        self.table, self.address = table, address
        self._region, self._endpoint_url, self._local, self._clock = region, endpoint_url, local, clock
        self._opened: _Opened | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def call(self, operation: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - as botocore takes them
        """The answer to an operation on the table, named as botocore names its methods.

        Raises:
            Refusal: If DynamoDB refused it for good; `doubtful` if a try before that was not answered.
            StoreUnavailable: If it was throttled, not answered or not believed for too long.
            DeclarationError: If there is no region.
        """
        return await self._persist(operation, {"TableName": self.table, **arguments})

    async def fetch(self, keys: Sequence[Item]) -> list[Item]:
        """The items with these primary keys that are there, as they stand, in no order. Raises what `call` raises."""
        found: list[Item] = []
        for start in range(0, len(keys), _MOST_FETCHED):
            wanted: dict[str, Any] = {self.table: {"Keys": keys[start : start + _MOST_FETCHED], "ConsistentRead": True}}
            while wanted:  # each answer has one item at least, or is a refusal
                answer = await self._persist("batch_get_item", {"RequestItems": wanted})
                found += answer["Responses"].get(self.table, [])
                wanted = answer.get("UnprocessedKeys", {})
        return found

    async def close(self) -> None:
        """Close the client; calls under way end with StoreUnavailable. Closing again is fine."""
        self._closed = True
        async with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            await opened.stack.aclose()

    async def _persist(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        doubtful, begun = False, self._clock.monotonic()
        for attempt in itertools.count(1):
            try:
                return await self._once(operation, arguments)
            except ClientError as error:
                refusal = _refusal(error, doubtful=doubtful)
                if not (fault := _is_fault(error)) and refusal.code not in PASSING:
                    raise refusal from error
                doubtful, problem = doubtful or fault, problem_of(refusal, operation)
            except (HTTPClientError, NoConnection, ResponseParserError, TimeoutError) as error:
                doubtful, problem = True, f"no answer ({type(error).__name__})"
            if attempt == TRIES or self._clock.monotonic() - begun >= PATIENCE:
                raise StoreUnavailable(self.address, f"{problem}, {attempt} times in a row")
            await asyncio.sleep(_BACKOFF.delay(attempt, random=secrets.randbits(32) / 2**32))
        raise AssertionError  # pragma: no cover - the loop has no end

    async def _once(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        async with self._client() as opened:
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    answer: dict[str, Any] = await getattr(opened.client, operation)(**arguments)
            except ClientError as error:
                opened.distrusted |= error.response.get("Error", {}).get("Code") in CREDENTIALS
                raise
            except (HTTPClientError, NoConnection):
                raise
            except BotoCoreError as error:  # it has no credentials, or could not get them
                opened.distrusted = True
                raise StoreUnavailable(self.address, f"nothing was asked: {error}") from error
            if "RequestId" not in answer["ResponseMetadata"]:
                raise ResponseParserError("not an answer of DynamoDB")  # botocore takes anybody's 200 for an empty one
            return answer

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[_Opened]:
        opened = await self._current()
        opened.users += 1
        try:
            yield opened
        finally:
            opened.users -= 1
            if opened is not self._opened and not opened.users:
                await opened.stack.aclose()

    async def _current(self) -> _Opened:
        async with self._opening:
            now = self._clock.monotonic()
            opened = self._opened
            if opened is not None and opened.distrusted and now - opened.at >= NEW_SESSION_EVERY:
                self._opened = None
                if not opened.users:
                    await opened.stack.aclose()
            if self._closed:
                raise StoreUnavailable(self.address, "it is closed")
            if self._opened is None:
                self._opened = await self._open(now)
            return self._opened

    async def _open(self, now: float) -> _Opened:
        """A client of a new session, which looks for credentials where botocore always does."""
        config = AioConfig(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=ANSWER_TIMEOUT,
            max_pool_connections=_CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": 1},
        )
        _quieten()
        stack, session = contextlib.AsyncExitStack(), get_session()
        try:
            session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
            settings = {"region_name": self._region, "endpoint_url": self._endpoint_url, "config": config}
            if self._local:
                settings |= await self._of_this_machine(session)
            client = await stack.enter_async_context(session.create_client("dynamodb", **settings))
        except NoRegionError as error:
            remedy = "name one in the broker's address, or set AWS_DEFAULT_REGION"
            raise DeclarationError(f"store {self.address!r}", "has no region", remedy) from error
        except BotoCoreError as error:
            raise StoreUnavailable(self.address, f"no client could be made: {error}") from error
        return _Opened(client, stack, now)

    async def _of_this_machine(self, session: Any) -> dict[str, str]:  # noqa: ANN401 - aiobotocore's have no type
        """What a stand-in on this machine does not ask about, where nobody says it."""
        session.get_component("credential_provider").remove("iam-role")  # takes seconds not to answer on a laptop
        settings = {"region_name": self._region or session.get_config_variable("region") or _SOME_REGION}
        if await session.get_credentials() is None:
            settings |= {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
        return settings


@functools.cache
def _loader(data_path: str | None) -> Any:  # noqa: ANN401 - botocore's have no type
    """What reads DynamoDB's model: once, though there may be a new session every few seconds."""
    return create_loader(data_path)


def _quieten() -> None:
    """Where botocore found credentials is no news to who runs a worker; a level that somebody set stays."""
    for name in ("aiobotocore.credentials", "botocore.credentials"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)


def _refusal(error: ClientError, *, doubtful: bool) -> Refusal:
    said = error.response.get("Error", {})
    code, message = said.get("Code", "no code"), said.get("Message", "")
    return Refusal(code, message, item=error.response.get("Item"), doubtful=doubtful)


def _is_fault(error: ClientError) -> bool:
    """Whether the server failed: then a write may have happened."""
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= _SERVER_FAULT
