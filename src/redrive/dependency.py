"""A dependency: something outside that a handler needs and that can be down."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

from redrive.circuit import CircuitPolicy
from redrive.context import running
from redrive.errors import Decision, DeclarationError, Reject, Unavailable, UndeclaredDependency
from redrive.faults import InjectedFault
from redrive.fingerprint import text_of, type_name
from redrive.gate import Gate, Permit

T = TypeVar("T")
R = TypeVar("R")

Faults = tuple[type[Exception], ...] | Callable[[Exception], bool]
_BUGS = (TypeError, AttributeError, NameError, LookupError, AssertionError)
_LONGEST_PAUSE = 2.0


@dataclass(frozen=True, slots=True)
class _Try:
    dependency: str
    permit: Permit | None
    limit: asyncio.Timeout | None
    began: float
    seconds: float = 0.0


_TRIES: ContextVar[tuple[_Try, ...]] = ContextVar("redrive_tries", default=())


class Dependency(Generic[R]):
    """Something that a handler needs and that can be down.

    `async with payments:` is one try, and `with payments:` is one for handlers that run in threads. What fails inside
    leaves it as `Unavailable`; a bug (TypeError, LookupError, ...), a `Reject` and a `RetryLater` leave it as they are.
    """

    def __init__(
        self,
        name: str,
        *,
        timeout: float,
        concurrency: int,
        canary: Callable[..., Any] | None,
        circuit: CircuitPolicy,
        faults: Faults | None,
        max_rate: float,
    ) -> None:
        if timeout <= 0 or concurrency < 1 or max_rate <= 0:
            raise DeclarationError(
                f"dependency {name!r} with timeout={timeout!r}, concurrency={concurrency!r}, max_rate={max_rate!r}",
                "has a setting out of range",
                "use timeout > 0, concurrency >= 1 and max_rate > 0",
            )
        self.name = name
        self.timeout = timeout
        """Seconds that one try may take."""
        self.concurrency = concurrency
        """Calls under way at once in one worker: the most that an outage can waste."""
        self.canary = canary
        """Asks the dependency something harmless; raises when it is not healthy."""
        self.circuit = circuit
        """When the circuit trips and how often it is probed."""
        self.max_rate = max_rate
        """The fastest redrive, in messages a second."""
        self._faults = faults
        self.probe_error = ""
        """What the last canary failed with."""
        self.gate: Gate | None = None
        """Set while the application is open. Without it there is the timeout, and no circuit."""

    def __repr__(self) -> str:
        return f"Dependency({self.name!r})"

    async def __aenter__(self) -> None:
        permit = await self._begin()
        loop = asyncio.get_running_loop()
        seconds = self._time_limit()
        limit = asyncio.timeout(seconds)
        await limit.__aenter__()
        _TRIES.set((*_TRIES.get(), _Try(self.name, permit, limit, loop.time(), seconds)))
        try:
            if self.gate is not None:
                self.gate.faults.check(self.name)
        except Exception as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = self._pop()
        assert entered.limit is not None  # noqa: S101 - set by __aenter__
        try:
            await entered.limit.__aexit__(kind, error, trace)
        except TimeoutError as expired:
            expired.args = (f"no answer within {entered.seconds:g} s",)
            await self._end(entered.permit, expired, fault=True)
        else:
            await self._end(entered.permit, error)

    def __enter__(self) -> None:
        permit = self._in_loop(self._begin()) if self.gate is not None else None
        began = self._monotonic()
        _TRIES.set((*_TRIES.get(), _Try(self.name, permit, None, began)))
        try:
            if self.gate is not None:
                self.gate.faults.check(self.name)
        except Exception as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = self._pop()
        if self.gate is not None:
            self._in_loop(self._end(entered.permit, error))
        elif isinstance(error, Exception) and self.is_fault(error):
            raise self._translated(None, error) from error

    async def call(self, fn: Callable[..., Awaitable[T]], *args: Any, tries: int = 1) -> T:  # noqa: ANN401 - passed on
        """`await fn(*args)` as one try, or as up to `tries` of them with jitter between.

        Each try is counted, and each retry is drawn from the dependency's one budget, so that retries cannot multiply.

        Raises:
            Unavailable: If the last try failed, the budget is empty or the circuit is not closed.
        """
        for left in reversed(range(tries)):
            try:
                async with self:
                    return await fn(*args)
            except Unavailable as error:
                gate = self.gate
                if error.dependency != self.name or error.circuit_open or not left:
                    raise
                if gate is None or not gate.may_try_again():
                    raise
                await gate.pause(_LONGEST_PAUSE * 2.0**-left)
        raise DeclarationError(f"tries={tries!r}", "is out of range", "use 1 or more")

    def remaining(self) -> float:
        """Seconds left of the try that is under way here, within the handler's own time; the client's time limit."""
        began = next((one.began for one in reversed(_TRIES.get()) if one.dependency == self.name), None)
        used = 0.0 if began is None else self._monotonic() - began
        return max(0.0, self._time_limit() - used)

    def is_fault(self, error: BaseException) -> bool:
        """Whether this error says that the dependency is unwell."""
        if isinstance(error, BaseExceptionGroup):
            return any(self.is_fault(leaf) for leaf in error.exceptions)
        if isinstance(error, InjectedFault):
            return True
        context = running()
        of_the_message: tuple[type[BaseException], ...] = (
            (Decision,) if context is None else (Decision, *context.dead_on)
        )
        if not isinstance(error, Exception) or isinstance(error, of_the_message):
            return False
        if callable(self._faults) and not isinstance(self._faults, tuple):
            return self._faults(error)
        if self._faults is not None:
            return isinstance(error, self._faults)
        return not isinstance(error, _BUGS) and type(error).__name__ != "ValidationError"

    async def probe(self, resources: object) -> bool:
        """Ask the canary; True when the dependency is healthy. There has to be one."""
        if self.canary is None:
            raise DeclarationError(f"dependency {self.name!r}", "has no canary", "give it canary=...")
        try:
            async with asyncio.timeout(self.timeout):
                if self.gate is not None:
                    self.gate.faults.check(self.name)
                await _called(self.canary, resources)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a canary raises means: not healthy
            self.probe_error = self._reason(error)
            return False
        return True

    async def _begin(self) -> Permit | None:
        context = running()
        if context is not None and self.name not in context.needs:
            raise UndeclaredDependency(self.name, context.queue)
        if self.gate is None:
            return None
        return await self.gate.enter(f"{self.name} caller" if context is None else context.message_id)

    async def _end(self, permit: Permit | None, error: BaseException | None, *, fault: bool | None = None) -> None:
        if fault is None:
            try:
                fault = error is not None and self.is_fault(error)
            except BaseException:  # the user's predicate: its bug shows, and costs no place
                await self._leave(permit, ok=None, error=error)
                raise
        answered = error is None or isinstance(error, Reject)
        await self._leave(permit, ok=False if fault else (True if answered else None), error=error)
        if fault and error is not None:
            raise self._translated(permit, error) from error

    async def _leave(self, permit: Permit | None, *, ok: bool | None, error: BaseException | None) -> None:
        if permit is not None and self.gate is not None:
            await self.gate.leave(permit, ok=ok, reason="" if error is None else self._reason(error))

    def _reason(self, error: BaseException) -> str:
        text = f"{type_name(error)}: {text_of(error)}"
        return (text if self.gate is None else self.gate.redacted(text))[:300]

    def _translated(self, permit: Permit | None, error: BaseException) -> Unavailable:
        reason = self._reason(error)
        if permit is None or self.gate is None:
            return Unavailable(self.name, reason)
        return self.gate.unavailable(permit, reason)

    def _pop(self) -> _Try:
        *others, entered = _TRIES.get()
        _TRIES.set(tuple(others))
        return entered

    def _time_limit(self) -> float:
        context = running()
        return self.timeout if context is None else min(self.timeout, max(0.001, context.remaining()))

    def _monotonic(self) -> float:
        context = running()
        if self.gate is not None and self.gate.loop is not None:
            return self.gate.loop.time()
        return 0.0 if context is None else context.clock.monotonic()

    def _in_loop(self, work: Any) -> Any:  # noqa: ANN401 - any coroutine of this class
        """Run the gate's part on the worker's loop and wait for it; for handlers in threads."""
        loop = self.gate.loop if self.gate is not None else None
        if loop is None:
            raise DeclarationError(f"`with` of dependency {self.name!r}", "needs a running worker", "use `async with`")
        return asyncio.run_coroutine_threadsafe(work, loop).result()


async def _called(function: Callable[..., Any], resources: object) -> None:
    takes_resources = bool(inspect.signature(function).parameters)
    result = function(resources) if takes_resources else function()
    if inspect.isawaitable(result):
        await result
