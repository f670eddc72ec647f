"""What an error of PostgreSQL's means: whether it passes, whether the connection is of use, whether it was done."""

from __future__ import annotations

from typing import NamedTuple

import psycopg

_WORDS = {
    "42P01": "its table does not exist",
    "25006": "the server takes no writes: it is a standby",
}
_NOT_PERMITTED = "42501"
_PASSING = ("40", "53", "55P03", "57014")
"""Deadlocks, a server that lacks something, waits that took too long: all of it was rolled back."""
_PASSING_ELSEWHERE = ("08", "0A000", "25006", "26000", "57P")
"""What a new connection may mend: a lost one, an altered table, a standby, a pooler's other server, a restart."""


class Trouble(NamedTuple):
    """What became of a statement that raised."""

    problem: str
    """In words, without values or credentials."""
    passes: bool
    """Whether to try again, after a while."""
    lost: bool
    """Whether the connection is of no more use."""
    doubtful: bool
    """Whether the statement may have been carried out all the same."""


def trouble_of(error: Exception, *, sent: bool) -> Trouble:
    """What an error means; `sent` says whether a statement was under way, or only a connection was asked for."""
    state = getattr(error, "sqlstate", None) or ""
    if not isinstance(error, psycopg.Error | OSError):
        return Trouble(f"{type(error).__name__}: {error}", passes=False, lost=True, doubtful=sent)
    if not state:  # nobody answered
        answered = not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | OSError)
        return Trouble(_first_line(error), passes=not answered, lost=True, doubtful=sent and not answered)
    elsewhere = state.startswith(_PASSING_ELSEWHERE)
    return Trouble(
        _WORDS.get(state, _said(error, state)),
        passes=elsewhere or state.startswith(_PASSING),
        lost=elsewhere,
        doubtful=sent and state.startswith(("08", "57P")),
    )


def _said(error: Exception, state: str) -> str:
    message = _primary(error)
    return f"{message}; grant it" if state == _NOT_PERMITTED else f"{message} ({state})"


def _primary(error: Exception) -> str:
    """The first sentence; the others may show values."""
    diagnosis = getattr(error, "diag", None)
    return (diagnosis and diagnosis.message_primary) or _first_line(error)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
