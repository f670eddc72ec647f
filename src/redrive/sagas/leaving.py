"""How a turn of a saga leaves its function before the end: past whatever the function catches."""

from __future__ import annotations

from redrive.sagas.journal import Cause


class Leave(BaseException):
    """The function ends here for now; no `except Exception` of the user's holds it."""


class Waits(Leave):
    """For a time or a signal: no message stands for the instance."""


class Later(Leave):
    """The same wake-up comes back, not before `at_ms`."""

    def __init__(self, at_ms: int) -> None:
        super().__init__(at_ms)
        self.at_ms = at_ms


class Parks(Leave):
    """The wake-up waits for a dependency."""

    def __init__(self, dependency: str, reason: str) -> None:
        super().__init__(dependency, reason)
        self.dependency, self.reason = dependency, reason


class Undoes(Leave):
    """What was done is undone."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause


class Sticks(Leave):
    """A person has to look."""

    def __init__(self, cause: Cause, error: BaseException | None = None) -> None:
        super().__init__(cause, error)
        self.cause, self.error = cause, error
