"""The one place that speaks to Amazon SQS: aiobotocore's client, made when it is first needed, and its failures.

Invariants:
    1. What failed before anything can have happened is tried again; what may have happened, only where doing it twice
       is doing it once.
    2. After `close` every call, also one under way, raises BrokerUnavailable.
    3. A client whose credentials were refused is replaced, once it is old enough; its last user closes it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from redrive.brokers.sqs.address import SqsAddress
from redrive.brokers.sqs.failures import CredentialsRefused, NotNow, Place, Throttled
from redrive.errors import BrokerError, BrokerUnavailable, DeclarationError, OutcomeUnknown

T = TypeVar("T")

LONGEST_POLL = 20
"""Seconds. Source: Amazon SQS, ReceiveMessage `WaitTimeSeconds`: 0 to 20."""
_CONNECT, _ANSWER = 5.0, 15.0
"""Seconds until a connection has to stand, and until an answer has to begin after the long poll."""
_TRIES = 4
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_THROTTLED_PAUSE = 0.25
_CONNECTIONS = 1_000
"""A long poll keeps one for itself, and there is one for each queue."""
NEW_CLIENT_EVERY = 5.0
"""Seconds between two looks for credentials, while those that were found are refused."""
_FALLBACK_REGION = "us-east-1"

Call = Callable[..., Awaitable[dict[str, Any]]]


@dataclass(slots=True)
class _Opened:
    """One client of aiobotocore, with the credentials that were found when it was made."""

    client: Any
    stack: AsyncExitStack
    at: float
    users: int = 0
    distrusted: bool = False


class Client:
    """Calls Amazon SQS. Belongs to the event loop of its first call."""

    def __init__(self, address: SqsAddress) -> None:
        self.address = address
        self.place = Place(str(address))
        self._closing = asyncio.Event()
        self._opening = asyncio.Lock()
        self._opened: _Opened | None = None
        self._calls: set[asyncio.Task[Any]] = set()
        self._random = random.Random()  # noqa: S311 - jitter, no secret

    @property
    def closed(self) -> bool:
        """Whether it answers no more."""
        return self._closing.is_set()

    async def read(self, action: str, queue: str, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - as botocore has it
        """Ask something that changes nothing, or that may be asked twice (a receive: its leases run out).

        Raises:
            BrokerUnavailable: If there was no answer.
            QueueNotFound: If the queue does not exist.
            Refused: If the request is not as Amazon SQS wants it.
        """
        try:
            return await self.write(action, queue, **request)
        except OutcomeUnknown as error:
            raise BrokerUnavailable(error.address, error.problem) from error

    async def write(self, action: str, queue: str, *, repeatable: bool = True, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - likewise
        """Change something.

        Args:
            action: as Amazon SQS names it, `SendMessageBatch`.
            queue: redrive's name of the queue, for errors.
            repeatable: whether doing it twice is doing it once (invariant 1).
            request: the action's parameters.

        Raises:
            OutcomeUnknown: If there was no answer, and it may have happened.
            BrokerUnavailable: If nothing happened.
            QueueNotFound: If the queue does not exist.
            Refused: If the request is not as Amazon SQS wants it.
        """
        return await self._guarded(self._tried(action, queue, request, repeatable=repeatable))

    async def close(self) -> None:
        """End what is under way and let go of the connections."""
        if self.closed:
            return
        self._closing.set()
        for task in list(self._calls):
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.stack.aclose()

    async def _guarded(self, call: Coroutine[Any, Any, T]) -> T:
        """A call that `close` can end (invariant 2)."""
        if self.closed:
            call.close()
            raise self._is_closed()
        task = asyncio.get_running_loop().create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        try:
            return await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if self._closing.is_set() and not (caller and caller.cancelling()):
                raise self._is_closed() from None
            raise

    def _is_closed(self) -> BrokerUnavailable:
        return BrokerUnavailable(str(self.address), "it is closed")

    async def _tried(self, action: str, queue: str, request: dict[str, Any], *, repeatable: bool) -> dict[str, Any]:
        """Invariant 1."""
        doubt: OutcomeUnknown | None = None
        pause = _FIRST_PAUSE
        for tries_left in reversed(range(_TRIES)):
            try:
                return await self._once(action, queue, request)
            except (BrokerUnavailable, OutcomeUnknown) as error:
                if isinstance(error, OutcomeUnknown):
                    doubt = error
                if isinstance(error, NotNow) or not tries_left or (doubt and not repeatable):
                    raise doubt or error from None  # nothing that came later makes the doubt go away
                if isinstance(error, Throttled):
                    pause = max(pause, _THROTTLED_PAUSE)
            await asyncio.sleep(pause * self._random.uniform(0.5, 1.0))
            pause = min(_LONGEST_PAUSE, pause * 2)
        raise AssertionError(action)  # the last try returned or raised

    async def _once(self, action: str, queue: str, request: dict[str, Any]) -> dict[str, Any]:
        opened = self._opened
        if opened is None or opened.distrusted:
            opened = await self._current()
        opened.users += 1
        try:
            async with asyncio.timeout(request.get("WaitTimeSeconds", 0) + _CONNECT + _ANSWER):
                answer: dict[str, Any] = await opened.client._make_api_call(action, request)  # noqa: SLF001 - what each of its methods calls
        except Exception as error:
            failure = self._failure(error, action, queue)
            opened.distrusted |= isinstance(failure, CredentialsRefused)
            raise failure from error
        finally:
            opened.users -= 1
            if opened is not self._opened and not opened.users:
                await opened.stack.aclose()
        return answer

    def _failure(self, error: Exception, action: str, queue: str) -> BrokerError:
        response = getattr(error, "response", None)
        if isinstance(response, dict) and "Error" in response:
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return self.place.of_answer(response["Error"], status, action, queue)
        return self.place.of_exception(error, action)

    async def _current(self) -> _Opened:
        """Invariant 3."""
        async with self._opening:
            now, opened = time.monotonic(), self._opened
            if opened is not None:
                if not opened.distrusted or now - opened.at < NEW_CLIENT_EVERY:
                    return opened
                opened.at = now  # should the new one fail
            try:
                self._opened = await self._open(now)
            except DeclarationError:
                raise
            except Exception as error:
                raise self.place.of_opening(error) from error
            if opened is not None and not opened.users:
                await opened.stack.aclose()
            return self._opened

    async def _open(self, now: float) -> _Opened:
        from aiobotocore.config import AioConfig  # noqa: PLC0415 - an extra, imported when it is asked for

        from redrive.brokers.sqs.answers import session  # noqa: PLC0415 - likewise
        from redrive.brokers.sqs.signing import sign_with_it  # noqa: PLC0415 - likewise

        found = session(without_machine=self.address.is_local)
        config = AioConfig(
            connect_timeout=_CONNECT,
            read_timeout=LONGEST_POLL + _ANSWER,
            max_pool_connections=_CONNECTIONS,
            parameter_validation=False,  # the requests are ours, and checking them costs as much as signing them
            user_agent="redrive",  # botocore's own is put together anew for each request: a tenth of its cost
            retries={"mode": "standard", "total_max_attempts": 1},  # ours know what may be repeated
        )
        region = self.address.region or found.get_config_variable("region")
        if not region:
            if self.address.endpoint_url is None:
                remedy = "write sqs://REGION, or set AWS_DEFAULT_REGION"
                raise DeclarationError("the region of Amazon SQS", "is not known", remedy)
            region = _FALLBACK_REGION
        keys: dict[str, str] = {}
        if self.address.is_local and await found.get_credentials() is None:
            keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}  # somebody on this machine
        made = found.create_client(
            "sqs", region_name=region, endpoint_url=self.address.endpoint_url, config=config, **keys
        )
        stack = AsyncExitStack()
        client = await stack.enter_async_context(made)
        sign_with_it(client)
        return _Opened(client, stack, now)


def check_installed() -> None:
    """See whether aiobotocore is there.

    Raises:
        DeclarationError: If it is not.
    """
    from importlib.util import find_spec  # noqa: PLC0415 - asked once

    if find_spec("aiobotocore") is None:
        raise DeclarationError("aiobotocore", "is not installed", "pip install 'redrive[sqs]'")
