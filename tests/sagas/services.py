"""What the steps of these tests act on: services that remember what was done and undone, and fail as they are told."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Any

from redrive import Context, Step, step

Raised = Callable[[], BaseException] | type[BaseException] | BaseException


class Services:
    """One ledger for all of them. `charge` is the step of that name, `undo charge` its undo."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        """Every body that began, by its key."""
        self.effects: Counter[str] = Counter()
        """How often each key took effect."""
        self.undone: list[str] = []
        """The steps' keys, in the order in which they were undone."""
        self.given: dict[str, Any] = {}
        """What each undo was given as the step's result."""
        self._plans: defaultdict[str, deque[Raised]] = defaultdict(deque)
        self._always: dict[str, Raised] = {}
        self.before: dict[str, Callable[[], Any]] = {}
        """Called when a body begins."""

    def fail(self, what: str, *errors: Raised) -> None:
        """Let the next calls of a step or an undo raise these, one after the other."""
        self._plans[what].extend(errors)

    def fail_always(self, what: str, error: Raised) -> None:
        """Let every call raise this, until it is mended."""
        self._always[what] = error

    def mend(self) -> None:
        """From now on nothing fails."""
        self._plans.clear()
        self._always.clear()

    def names(self) -> list[str]:
        """The bodies that began, without the instance: `charge/1`, `charge/1/undo`."""
        return [one.partition("/")[2] for one in self.calls]

    def did(self, name: str) -> int:
        """How many bodies of this name began."""
        return self.names().count(name)

    async def do(self, key: str) -> str:
        """One call of a step."""
        self._begin(key, key.split("/")[-2])
        self.effects[key] += 1
        return f"receipt of {key}"

    async def undo(self, key: str, result: Any) -> None:
        """One call of an undo."""
        done = key.removesuffix("/undo")
        self._begin(key, "undo " + done.split("/")[-2])
        self.undone.append(done)
        self.given[done] = result

    def _begin(self, key: str, what: str) -> None:
        self.calls.append(key)
        if what in self.before:
            self.before[what]()
        if self._plans[what]:
            raise _made(self._plans[what].popleft())
        if what in self._always:
            raise _made(self._always[what])


def _made(error: Raised) -> BaseException:
    return error if isinstance(error, BaseException) else error()


def a_step(name: str, **settings: Any) -> Step[Any, Any, Any]:
    """A step with an undo, both of which act on the services."""

    async def undo(ctx: Context[Services], result: str | None, what: str) -> None:  # noqa: ARG001
        await ctx.resources.undo(ctx.key, result)

    @step(undo=undo, name=name, **settings)
    async def do(ctx: Context[Services], what: str) -> str:  # noqa: ARG001
        return await ctx.resources.do(ctx.key)

    return do


charge, reserve, book, confirm = a_step("charge"), a_step("reserve"), a_step("book"), a_step("confirm")
