"""What a raised error says of its message, and how it is written down."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from math import isnan
from typing import Any

from redrive.backoff import seconds
from redrive.consumer import Consumer
from redrive.errors import Reject, RetryLater, Unavailable
from redrive.fingerprint import text_of, type_name
from redrive.verdict import Happening, Outcome

Redact = Callable[[str], str]


def outcome_of(error: BaseException, consumer: Consumer[Any], redacted: Redact) -> Outcome:
    """What a raised error says: of a group, `Reject` counts first, then any other error, then `Unavailable`."""
    leaves = list(_leaves(error))
    reason = _text(error, redacted)[:500]
    if rejected := [one for one in leaves if isinstance(one, (Reject, *consumer.dead_on))]:
        first = rejected[0]
        text = redacted(text_of(first)) if isinstance(first, Reject) else _text(first, redacted)
        return Outcome(happening=Happening.REJECTED, reason=text[:500])
    if any(not isinstance(one, (Unavailable, RetryLater)) for one in leaves):
        timeout = isinstance(error, TimeoutError)
        return Outcome(happening=Happening.TIMEOUT if timeout else Happening.RAISED, reason=reason)
    if unavailable := [one for one in leaves if isinstance(one, Unavailable)]:
        return _unavailable(unavailable[0], consumer, redacted)
    return Outcome(happening=Happening.LATER, reason=reason, after=_seconds(getattr(leaves[0], "after", None)))


def _text(error: BaseException, redacted: Redact) -> str:
    return redacted(f"{type_name(error)}: {text_of(error)}")


def _unavailable(error: Unavailable, consumer: Consumer[Any], redacted: Redact) -> Outcome:
    dependency = consumer.needs.get(error.dependency)
    open_here = dependency is not None and dependency.gate is not None and dependency.gate.open_here
    return Outcome(
        happening=Happening.UNAVAILABLE,
        reason=redacted(text_of(error)),
        dependency=error.dependency,
        circuit_open=open_here or (error.circuit_open and dependency is not None),
        counted=error.counted,
    )


def traceback_of(error: BaseException) -> str:
    """The whole traceback; says so where it cannot be shown."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception as problem:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<the traceback cannot be shown: {type(problem).__name__}>"


def _seconds(after: object) -> float | None:
    """What `RetryLater` asked for, also as a timedelta; None where that is no length of time."""
    try:
        asked = seconds(after)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return None if isnan(asked) else asked


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
