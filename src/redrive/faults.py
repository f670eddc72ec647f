"""Faults injected on purpose: a dependency that is made to fail, for tests and rehearsals."""

from __future__ import annotations

from redrive.errors import RedriveError


class InjectedFault(RedriveError):
    """A failure that somebody asked for."""

    def __init__(self, dependency: str) -> None:
        super().__init__(dependency)
        self.dependency = dependency

    def __str__(self) -> str:
        return f"dependency {self.dependency!r} was made to fail, on purpose"


class Faults:
    """The dependencies that are made to fail in this process."""

    def __init__(self) -> None:
        self._down: set[str] = set()

    def down(self, dependency: str) -> None:
        """From now on every call and every canary of it fails at once."""
        self._down.add(dependency)

    def heal(self, dependency: str) -> None:
        """From now on it is as it is."""
        self._down.discard(dependency)

    def check(self, dependency: str) -> None:
        """Fail if this dependency is made to.

        Raises:
            InjectedFault: If it is.
        """
        if dependency in self._down:
            raise InjectedFault(dependency)
