"""A step: one effect in one place, how often it is tried, and how it is undone."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from types import CodeType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from redrive.backoff import Backoff, seconds
from redrive.consumer import Function
from redrive.context import Context
from redrive.dependency import Dependency
from redrive.errors import DeclarationError
from redrive.sagas.codec import Parameters, nonlocals_of

R = TypeVar("R")
P = ParamSpec("P")
T = TypeVar("T")
U_contra = TypeVar("U_contra", contravariant=True)

_LONGEST_TIMEOUT = 3600.0
FORWARD = Backoff(first=0.5, factor=2.0, maximum=30.0)
BACKWARD = Backoff(first=0.5, factor=2.0, maximum=300.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSettings:
    """How a step is tried, and its undo; the defaults are those of `@step`."""

    attempts: int = 5
    """Tries of the step, the first one included; 1 or more."""
    backoff: Backoff = FORWARD
    timeout: float = 30.0
    """Seconds that one attempt may take, of the step and of its undo; at most an hour."""
    undo_for: float = 86_400.0
    """Seconds for which the undo is tried before a person has to look; time parked is not counted."""
    undo_backoff: Backoff = BACKWARD


class Step(Generic[R, P, T]):
    """What `@step` makes of a function. Calling it runs nothing: it makes the `Call` that a saga runs.

    `function` and `undo` are the user's own, for tests of them.
    """

    def __init__(
        self,
        function: Callable[Concatenate[Context[R], P], Any],
        *,
        undo: Callable[Concatenate[Context[R], T | None, P], Any] | None,
        needs: Sequence[Dependency[Any]],
        name: str | None,
        settings: StepSettings,
    ) -> None:
        self.name = name or function.__name__
        _check(self.name, settings)
        self.function, self.undo = function, undo
        self.place = f"{function.__module__}:{function.__qualname__}"
        self.needs = {dependency.name: dependency for dependency in needs}
        self.settings = settings
        self.parameters = Parameters(f"step {self.name!r}", function)
        if undo is not None:
            _check_undo(self.name, function, undo)
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"Step({self.name!r})"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Call[R, T]:
        """One call of the step, to be run by `saga.run` or beside others by `saga.gather`."""
        return Call(self, args, kwargs)

    @cached_property
    def forward(self) -> Function:
        """The step as `redrive.calling` calls it: with the context and its arguments."""
        return _callable(self.function, lambda context, values: self.parameters.call(self.function, (context,), values))

    @cached_property
    def backward(self) -> Function:
        """The undo as `redrive.calling` calls it: with the context, and the step's result and arguments."""
        undo = self.undo
        if undo is None:
            raise DeclarationError(f"step {self.name!r}", "has no undo", "give it undo=...")

        def call(context: Context[Any], given: tuple[Any, dict[str, Any]]) -> Any:  # noqa: ANN401
            result, values = given
            return self.parameters.call(undo, (context, result), values)

        return _callable(undo, call)

    @property
    def needs_threads(self) -> bool:
        """Whether the step or its undo is a plain function."""
        both = (self.forward, *(() if self.undo is None else (self.backward,)))
        return not all(one.is_async for one in both)


class Call(Generic[R, T]):
    """A step and the arguments of one call of it."""

    __slots__ = ("args", "kwargs", "step")

    def __init__(self, step: Step[R, Any, T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.step, self.args, self.kwargs = step, args, kwargs


class Decorator(Generic[R, P, U_contra]):
    """What `step(undo=...)` gives. The undo has to take None for the result, too: nobody may know it."""

    def __init__(self, make: Callable[[Callable[..., Any]], Step[Any, Any, Any]]) -> None:
        self._make = make

    @overload
    def __call__(
        self: Decorator[R, P, None], function: Callable[Concatenate[Context[R], P], Awaitable[T]], /
    ) -> Step[R, P, T]: ...
    @overload
    def __call__(
        self: Decorator[R, P, None], function: Callable[Concatenate[Context[R], P], T], /
    ) -> Step[R, P, T]: ...

    def __call__(self, function: Callable[..., Any], /) -> Step[Any, Any, Any]:
        """Make the function a step."""
        return self._make(function)


class FreeDecorator(Protocol):
    """What `step(...)` without an undo gives."""

    @overload
    def __call__(self, function: Callable[Concatenate[Context[R], P], Awaitable[T]], /) -> Step[R, P, T]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Context[R], P], T], /) -> Step[R, P, T]: ...


@overload
def step(function: Callable[Concatenate[Context[R], P], Awaitable[T]], /) -> Step[R, P, T]: ...
@overload
def step(function: Callable[Concatenate[Context[R], P], T], /) -> Step[R, P, T]: ...
@overload
def step(
    *,
    undo: Callable[Concatenate[Context[R], U_contra, P], object],
    needs: Sequence[Dependency[Any]] = (),
    name: str | None = None,
    attempts: int = 5,
    backoff: Backoff = FORWARD,
    timeout: float | timedelta = 30.0,
    undo_for: float | timedelta = 86_400.0,
    undo_backoff: Backoff = BACKWARD,
) -> Decorator[R, P, U_contra]: ...
@overload
def step(
    *,
    needs: Sequence[Dependency[Any]] = (),
    name: str | None = None,
    attempts: int = 5,
    backoff: Backoff = FORWARD,
    timeout: float | timedelta = 30.0,
) -> FreeDecorator: ...


def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    undo: Callable[..., object] | None = None,
    needs: Sequence[Dependency[Any]] = (),
    name: str | None = None,
    attempts: int = 5,
    backoff: Backoff = FORWARD,
    timeout: float | timedelta = 30.0,
    undo_for: float | timedelta = 86_400.0,
    undo_backoff: Backoff = BACKWARD,
) -> Any:
    """Make a function a step of sagas: `function(ctx, ...)`, with annotations by which its journal is read.

    Args:
        function: the function, where `@step` stands without parentheses.
        undo: takes the context, the step's result (None: nobody knows whether it took effect) and its arguments.
        needs: the dependencies that the step and its undo use.
        name: by which the journal knows it; the function's own unless given. Renaming it strands running instances.
        attempts: tries of the step, the first one included.
        backoff: between them; 0.5 s, doubled up to 30 s.
        timeout: seconds that one attempt may take, of the step and of its undo.
        undo_for: seconds for which the undo is tried before a person has to look.
        undo_backoff: between those tries; 0.5 s, doubled up to five minutes.

    Raises:
        DeclarationError: If the function takes no context, or something that a journal cannot keep, or the undo does
            not take what it is given, or a setting is out of range.
    """
    settings = StepSettings(
        attempts=attempts,
        backoff=backoff,
        timeout=seconds(timeout),
        undo_for=seconds(undo_for),
        undo_backoff=undo_backoff,
    )

    def register(function: Callable[..., Any]) -> Step[Any, Any, Any]:
        return Step(function, undo=undo, needs=needs, name=name, settings=settings)

    return Decorator(register) if function is None else register(function)


def found_at(place: str) -> Step[Any, Any, Any] | None:
    """The step at `module:qualname`; None where there is none any more."""
    module, _, qualname = place.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError):
        return None
    return found if isinstance(found, Step) else None


def used_by(function: Callable[..., Any]) -> list[Step[Any, Any, Any]]:
    """The steps that a function names: itself, in its closure, through a module, or in a function that it names."""
    found: dict[int, Step[Any, Any, Any]] = {}
    _look_into(inspect.unwrap(function), found, set())
    return list(found.values())


def _look_into(function: Callable[..., Any], found: dict[int, Step[Any, Any, Any]], seen: set[int]) -> None:
    seen.add(id(function))
    names, outside = _names_in(function.__code__), function.__globals__
    values = [outside[name] for name in names if name in outside] + [*nonlocals_of(function).values()]
    values += [getattr(one, name) for one in values if inspect.ismodule(one) for name in names if hasattr(one, name)]
    for one in values:
        if isinstance(one, Step):
            found.setdefault(id(one), one)
        elif inspect.isfunction(one) and id(one) not in seen and one.__module__ == function.__module__:
            _look_into(one, found, seen)


def _names_in(code: CodeType) -> list[str]:
    """The names that code uses, and the code of functions and comprehensions within it."""
    inner = [name for one in code.co_consts if isinstance(one, CodeType) for name in _names_in(one)]
    return [*code.co_names, *inner]


def _callable(function: Callable[..., Any], call: Callable[..., Any]) -> Function:
    """A function with the context and one more argument, a coroutine function where the user's is one."""
    if not inspect.iscoroutinefunction(inspect.unwrap(function)):

        def called_in_thread(context: Context[Any], given: Any) -> Any:  # noqa: ANN401
            return call(context, given)

        return Function(called_in_thread, "step")

    async def called(context: Context[Any], given: Any) -> Any:  # noqa: ANN401
        return await call(context, given)

    return Function(called, "step")


def _check(name: str, settings: StepSettings) -> None:
    for what, good, limit in (
        ("attempts", settings.attempts >= 1, "1 or more"),
        ("timeout", 0 < settings.timeout <= _LONGEST_TIMEOUT, "over 0 and up to 3600 seconds"),
        ("undo_for", settings.undo_for > 0, "over 0 seconds"),
    ):
        if not good:
            value = getattr(settings, what)
            raise DeclarationError(f"{what}={value!r} of step {name!r}", "is out of range", f"use {limit}")
    if not name or "/" in name or not name.isprintable() or len(name) > 100:  # noqa: PLR2004 - it stands in keys
        raise DeclarationError(f"step {name!r}", "has a name that cannot stand in a key", "use up to 100 letters, no /")


def _check_undo(name: str, function: Callable[..., Any], undo: Callable[..., Any]) -> None:
    """That the undo can be called with the context, a result and what the step takes."""
    taken = list(inspect.signature(undo).parameters.values())
    positional = [one for one in taken if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}]
    of_step = list(inspect.signature(function).parameters.values())
    wanted = 1 + len([one for one in of_step if one.kind is not one.KEYWORD_ONLY])
    by_name = {one.name for one in of_step if one.kind is one.KEYWORD_ONLY}
    takes_any = any(one.kind is one.VAR_POSITIONAL for one in taken)
    if (len(positional) != wanted and not takes_any) or not by_name <= {one.name for one in taken}:
        raise DeclarationError(
            f"the undo of step {name!r}",
            "does not take the context, the step's result and the step's arguments",
            f"let it take (ctx, result, {', '.join(one.name for one in of_step[1:])})",
        )
