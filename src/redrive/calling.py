"""Calling a user's function: within its time limit, in a thread where it is a plain one, and whatever it raises."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import signal
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

from redrive.claims import Claim
from redrive.clock import Clock
from redrive.consumer import Function
from redrive.context import Context, entering, leaving
from redrive.message import Delivery

_Answer = asyncio.Future[tuple[Any, BaseException | None] | None]
"""What a function in a thread gave and raised; None: it did not end in time."""


@dataclass(slots=True)
class Held:
    """What this worker holds of one message while its turn runs; the lease keeper extends it."""

    delivery: Delivery
    claim: Claim | None = None
    extend_until: float = float("inf")
    """Seconds of the monotonic clock after which the lease is no longer extended."""
    began: float | None = None
    """When its turn began, in seconds of the monotonic clock; None: it waits in hand."""
    leased_until: float = float("inf")
    """Seconds of the monotonic clock at which the lease ends, as far as is known; what waits is not started after."""
    stuck: bool = False
    """Whether its handler's thread outlived the timeout and still runs."""


class Caller:
    """Calls the functions of one consumer."""

    def __init__(self, clock: Clock, *, timeout: float, threads: Executor | None) -> None:
        """Be ready to call.

        Args:
            clock: for the lease of a message whose thread runs on.
            timeout: seconds that one call may take.
            threads: where plain functions run; None: on the caller's own thread, for tests.
        """
        self._clock, self._timeout, self._threads = clock, timeout, threads
        self._ended: deque[tuple[_Answer, tuple[Any, BaseException | None]]] = deque()
        self._telling = False

    async def call(
        self, held: Held, function: Function, context: Context[Any], payload: object
    ) -> tuple[Any, BaseException | None]:
        """Call a user's function within the time limit; what it gave, and what it raised or None."""
        arguments = (context, payload) if function.takes_context else (payload,)
        token, task = entering(context), _current_task()
        try:
            if function.is_async:
                async with asyncio.timeout(self._timeout):
                    given = await function.call(*arguments)
            else:
                given = await self._in_thread(held, function.call, arguments)
                if inspect.isawaitable(given):  # a callable that does not look like a coroutine function, and is one
                    async with asyncio.timeout(self._timeout):
                        given = await given
        except TimeoutError as error:
            return None, error
        except (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit) as error:
            if comes_from_outside(error, task):
                raise
            return None, error
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises decides about its message alone
            return None, error
        finally:
            leaving(token)
        return given, None

    async def _in_thread(self, held: Held, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401
        """Call a plain function in a thread; what it gave."""
        loop = asyncio.get_running_loop()
        if self._threads is None:
            return call(*arguments)
        held.extend_until = self._clock.monotonic() + self._timeout
        context = contextvars.copy_context()
        ended: _Answer = loop.create_future()
        self._threads.submit(self._ends, loop, ended, context, call, arguments)
        patience = loop.call_later(self._timeout, _resolve, ended, None)
        try:
            answer = await ended
        finally:
            patience.cancel()
        if answer is None:
            held.stuck = True
            message = f"no end within {self._timeout:g} s, and a thread cannot be stopped"
            raise TimeoutError(message)
        given, raised = answer
        if raised is not None:
            raise raised
        return given

    def _ends(
        self,
        loop: asyncio.AbstractEventLoop,
        ended: _Answer,
        context: contextvars.Context,
        call: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        """In a thread: call, and tell the loop; of threads that end close together only the first one wakes it."""
        self._ended.append((ended, context.run(_caught, call, arguments)))
        if not self._telling:
            self._telling = True
            with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
                loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._telling = False  # before looking: what comes from now on is either seen here or told anew
        while self._ended:
            _resolve(*self._ended.popleft())


def comes_from_outside(error: BaseException, task: asyncio.Task[Any] | None) -> bool:
    """Whether this stops a handler that runs in the task, or the handler raised it itself.

    A worker takes SIGINT, so that a KeyboardInterrupt in one is no person's; where Python's own or asyncio.run's
    function has it, as in tests, it may be.
    """
    match error:
        case asyncio.CancelledError():
            return task is not None and task.cancelling() > 0
        case GeneratorExit():
            return _current_task() is not task  # its coroutine is being closed
        case _:
            taken = signal.getsignal(signal.SIGINT)
            return taken is signal.default_int_handler or isinstance(taken, partial)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None


def _resolve(ended: _Answer, answer: tuple[Any, BaseException | None] | None) -> None:
    if not ended.done():
        ended.set_result(answer)


def _caught(call: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    """What a function gave or raised, as a value: a future cannot carry every exception (StopIteration, for one)."""
    try:
        return call(*arguments), None
    except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for it
        return None, error
