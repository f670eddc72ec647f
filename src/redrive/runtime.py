"""What an open application consists of, handed to everything that makes messages move."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from redrive.broker import Broker
from redrive.circuits import CircuitChange
from redrive.clock import Clock
from redrive.faults import Faults
from redrive.message import Message
from redrive.store import Store
from redrive.telemetry import Counters

_log = logging.getLogger("redrive.app")
_OBSERVED_PER_MINUTE = 60
GRACE = 25.0
"""Seconds that running handlers have to finish after a worker was asked to stop, unless told otherwise."""


class Observers:
    """Functions that are told what happened; they cannot change it, and never hear of more than 60 things a minute."""

    def __init__(self) -> None:
        self.on_dead: list[Callable[[Message, str], Any]] = []
        self.on_circuit: list[Callable[[CircuitChange], Any]] = []
        self._minute = -1
        self._told = 0

    def dead(self, message: Message, reason: str, now_ms: int) -> None:
        """A message died."""
        self._tell([lambda tell=tell: tell(message, reason) for tell in self.on_dead], now_ms)  # type: ignore[misc]

    def circuit(self, change: CircuitChange, now_ms: int) -> None:
        """A circuit changed."""
        self._tell([lambda tell=tell: tell(change) for tell in self.on_circuit], now_ms)  # type: ignore[misc]

    def _tell(self, calls: list[Callable[[], Any]], now_ms: int) -> None:
        minute = now_ms // 60_000
        if minute != self._minute:
            self._minute, self._told = minute, 0
        for call in calls:
            self._told += 1
            if self._told > _OBSERVED_PER_MINUTE:
                return
            try:
                call()
            except Exception:  # noqa: BLE001 - an outermost loop: logged, counted, survived
                _log.exception("an observer raised")


@dataclass(slots=True, kw_only=True)
class Runtime:
    """One open application."""

    app: str
    """The application's name."""
    broker: Broker
    store: Store
    clock: Clock
    random: Random
    worker: str
    """This process's name among the workers."""
    code_version: str = ""
    redact: Callable[[str], str] | None = None
    """Applied to every text of a failure before it is written."""
    resources: Any = None
    """What the application opened; None in a process that only sends."""
    counters: Counters = field(default_factory=Counters)
    faults: Faults = field(default_factory=Faults)
    observers: Observers = field(default_factory=Observers)

    def redacted(self, text: str) -> str:
        """A text of a failure as it may be written; left out where the application's own `redact` fails at it."""
        if self.redact is None:
            return text
        try:
            return str(self.redact(text))
        except Exception as problem:  # noqa: BLE001 - a user's function
            _log.error("redact raised %s: the text is left out", type(problem).__name__)
            return f"<left out: redact raised {type(problem).__name__}>"
