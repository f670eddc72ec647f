"""`once`: any function takes effect once for each idempotency key, and every caller gets its one result.

    @once(app, key=lambda order: order.id)
    async def charge(order: Order) -> Receipt: ...

The claim of the key is that of consumers: taken before the function runs, extended while it does, done with its result
when it returns, and free again when it raises. A crash leaves it in progress until its lease ends; then the next caller
runs the function anew. What the function sends is held, and leaves when it has returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import json
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar, cast

from redrive.backoff import seconds
from redrive.claims import Claim, Claims, Done, InProgress, payload_hash
from redrive.errors import ClaimLost, DeclarationError, OtherArguments, StillInProgress, StoreError
from redrive.finishing import Finishing
from redrive.holding import Holding, holding
from redrive.result import Result
from redrive.runtime import Runtime

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
_log = logging.getLogger("redrive.claims")
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.25


class Opened(Protocol):
    """The application, as `once` needs it."""

    name: str

    @property
    def runtime(self) -> Runtime:
        """What is open; NotOpen if nothing is."""
        ...

    def blocking(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function from code without an event loop."""
        ...


def once(
    app: Opened,
    *,
    key: Callable[..., object],
    name: str | None = None,
    compare: Callable[..., object] | None = None,
    lease: float | timedelta = 30.0,
    wait: float | timedelta = 30.0,
) -> Callable[[F], F]:
    """Let a function, `async def` or `def`, run to its end once for each key, for 14 days.

    Later callers get the first one's result, and callers at the same time wait for it. What the function returns is
    kept as JSON, by its return annotation, and read back for the first caller too, so that all get the same.
    A `def` function blocks its thread; the application is opened on a thread of its own if it is not open.

    Args:
        app: the application whose store keeps the claims.
        key: the idempotency key, from the function's arguments: a non-empty str, or an int.
        name: sets its keys apart from those of other functions; the function's qualified name unless given. Keys that
            were used under another name are not known.
        compare: what makes two calls under one key the same call, from the function's arguments, as JSON; all arguments
            unless given. Give it where an argument is no JSON: a connection, a client.
        lease: seconds that the key is ours without being extended: how long a crash holds the next caller up.
        wait: seconds to wait for a caller who is at it already.

    Raises (when called):
        StillInProgress: If somebody else is at it for longer than `wait`.
        OtherArguments: If the key was used for a call with other arguments.
        ResultNotKept: If the result is no JSON of at most 32 KB. The work is done, and not done again.
        ClaimLost: If the lease ended meanwhile and another caller took over; its outcome counts.
        StoreError: If the store is away; before the function ran, unless it happened at its end.
        BrokerError: If something that the function sent cannot leave; the next call under the key sends it.
    """

    def register(function: F) -> F:
        work = _Once(app, function, key=key, name=name, compare=compare, lease=seconds(lease), wait=seconds(wait))

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the function's own
            return await work.call(args, kwargs)

        @functools.wraps(function)
        def call_blocking(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the function's own
            return work.call_blocking(args, kwargs)

        return cast("F", call if inspect.iscoroutinefunction(inspect.unwrap(function)) else call_blocking)

    return register


@dataclass(slots=True)
class _Begun:
    """A call that is to be made: its claim, and what keeps the claim."""

    claim: Claim
    runtime: Runtime
    claims: Claims
    keeper: asyncio.Task[None]

    def holding(self) -> contextlib.AbstractContextManager[Holding]:
        return holding(self.runtime, f"{self.claim.key}/{self.claim.fence}", at_ms=self.runtime.clock.now_ms())


class _Once:
    """One function and its claims."""

    def __init__(
        self,
        app: Opened,
        function: Callable[..., Any],
        *,
        key: Callable[..., object],
        name: str | None,
        compare: Callable[..., object] | None,
        lease: float,
        wait: float,
    ) -> None:
        self._app, self._function, self._key_of, self._compare = app, function, key, compare
        self._name = name if name is not None else getattr(function, "__qualname__", "function")
        self._lease, self._wait = lease, wait
        self._result = Result(function)
        subject = f"function {self._name!r}"
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise DeclarationError(subject, "gives more than one result", "let it return a list")
        if lease < 1:
            raise DeclarationError(f"lease={lease:g} of {subject}", "is out of range", "use 1 second or more")

    async def call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the function's own
        key = self._checked(args, kwargs)
        begun = await self._begin(key, self._hash(args, kwargs))
        if isinstance(begun, Done):
            return self._result.read(key, begun.result)
        try:
            with begun.holding() as held:
                given = await self._function(*args, **kwargs)
        except BaseException:
            await asyncio.shield(self._release(begun))
            raise
        return await self._finish(begun, given, held)

    def call_blocking(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - likewise
        key = self._checked(args, kwargs)
        payload = self._hash(args, kwargs)
        begun = self._app.blocking(lambda: self._begin(key, payload))
        if isinstance(begun, Done):
            return self._result.read(key, begun.result)
        try:
            with begun.holding() as held:
                given = self._function(*args, **kwargs)
        except BaseException:
            self._app.blocking(lambda: self._release(begun))
            raise
        return self._app.blocking(lambda: self._finish(begun, given, held))

    def _checked(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """The key of a call; what can be wrong with the function is found before it runs."""
        self._result.check()
        value = self._key_of(*args, **kwargs)
        if not isinstance(value, (str, int)) or value == "":
            message = f"key= of {self._name!r} gave {value!r}; give a non-empty str or an int"
            raise TypeError(message)
        return f"once:{self._app.name}:{self._name}:{value}"

    def _hash(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        from pydantic_core import PydanticSerializationError, from_json, to_json  # noqa: PLC0415 - heavy, needed late

        if self._compare is not None:
            compared = self._compare(*args, **kwargs)
        else:
            bound = inspect.signature(self._function).bind(*args, **kwargs)
            bound.apply_defaults()
            compared = bound.arguments
        try:
            document = from_json(to_json(compared))
        except (PydanticSerializationError, ValueError) as error:
            subject = f"a call of {self._name!r}"
            problem = f"cannot be compared with others ({str(error).splitlines()[0]})"
            raise DeclarationError(subject, problem, "name what counts: compare=lambda ...: ...") from None
        return payload_hash(json.dumps(document, sort_keys=True).encode("utf-8", "surrogatepass"))

    async def _begin(self, key: str, payload: str) -> _Begun | Done:
        """Take the key, or learn what came of it; waits for whoever has it."""
        runtime, loop = self._app.runtime, asyncio.get_running_loop()
        claims = Claims(runtime.store, runtime.clock)
        give_up, pause = loop.time() + self._wait, _FIRST_PAUSE
        while True:
            taken = await claims.take(key, payload_hash=payload, message_id="", lease=self._lease)
            match taken:
                case Claim():
                    return _Begun(taken, runtime, claims, asyncio.create_task(self._keep(claims, taken)))
                case Done(same_payload=True):
                    await Finishing(runtime, claims).send_left(taken)
                    return taken
                case Done():
                    raise OtherArguments(key)
                case InProgress(left=left):
                    if (rest := give_up - loop.time()) <= 0:
                        raise StillInProgress(key, self._wait)
                    await asyncio.sleep(min(rest, left, pause * (0.5 + runtime.random.random())))
                    pause = min(2 * pause, _LONGEST_PAUSE)

    async def _keep(self, claims: Claims, claim: Claim) -> None:
        """Extend the claim for as long as the function runs."""
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                await claims.extend(claim)
            except ClaimLost as error:
                _log.warning("%s", error)
                return
            except StoreError as error:
                _log.warning("the claim of %r cannot be extended: %s", claim.key, error)

    async def _finish(self, begun: _Begun, given: object, held: Holding) -> object:
        begun.keeper.cancel()
        kept, problem = self._result.kept(begun.claim.key, given)
        await Finishing(begun.runtime, begun.claims).finish(begun.claim, kept, held.unsent)
        if problem is not None:
            raise problem
        return self._result.read(begun.claim.key, kept)

    async def _release(self, begun: _Begun) -> None:
        begun.keeper.cancel()
        try:
            await begun.claims.release(begun.claim, hold=False)
        except (ClaimLost, StoreError) as error:
            _log.warning("the claim of %r is not released: %s", begun.claim.key, error)
