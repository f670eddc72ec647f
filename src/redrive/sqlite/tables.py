"""What a piece of work is given: the engine, the entries, the time, and what the writer knows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import apsw

from redrive.errors import RedriveError
from redrive.sqlite.engine import Engine
from redrive.sqlite.entries import Entries
from redrive.sqlite.sqs import SqsQueues

T = TypeVar("T")


class Tables:
    """One connection's tables. Only for the length of a piece of work, on the thread that runs it."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.engine = Engine(connection)
        self.entries = Entries(connection)
        self.sqs = SqsQueues(connection)
        self.now_ms = 0
        """Engine time of this transaction."""
        self.full: RedriveError | None = None
        """Why nothing more may be sent; None while there is room on the disk."""
        self.move_at_ms: int | None = 0
        """Engine time from which the engine wants to go on with message moves; None: none is running.

        Work that starts a move sets it to 0; otherwise the move begins within a second.
        """

    def refuse_if_full(self) -> None:
        """For work that sends: nothing, while there is room on the disk.

        Raises:
            DiskNearlyFull: If there is not.
        """
        if self.full is not None:
            raise copy.copy(self.full)  # each caller's own: a traceback belongs to one

    def move(self) -> None:
        """Go on with the message moves that are due."""
        self.move_at_ms = self.engine.move(self.now_ms)


Work = Callable[[Tables], T]
