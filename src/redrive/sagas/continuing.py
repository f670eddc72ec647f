"""What of an instance the code cannot continue: asked before a deploy, so that nothing gets stuck after it."""

from __future__ import annotations

import json
from typing import Any

from redrive.errors import CannotContinue, NotKept
from redrive.sagas.deeds import RESUME
from redrive.sagas.definition import SagaConsumer
from redrive.sagas.journal import Journal, State, StepRecord, StepState
from redrive.sagas.replay import replayed


async def hindrances(consumer: SagaConsumer[Any], journal: Journal) -> list[str]:
    """Why this code cannot take an instance to its end, forward or back; empty: nothing is known against it.

    An instance that is being undone does not need its function. One that goes forward is replayed, and what it has done
    must be found and read in case it is undone, unless it is past its point of no return.
    """
    if journal.is_settled:
        return []
    going_back = State.UNDOING in {journal.state, journal.stuck_while}
    wanted = journal.steps if not journal.beyond_return or going_back else [one for one in journal.steps if one.is_open]
    found = [problem for step in wanted for problem in _of_step(consumer, journal, step)] + _of_id(consumer, journal)
    if not going_back:
        found += [one for one in await replayed(consumer, journal) if one not in found]
    return found


def _of_id(consumer: SagaConsumer[Any], journal: Journal) -> list[str]:
    """Whether the message that it began with would begin another one: it comes back after a pause or a crash."""
    if any(one.what == RESUME for one in journal.deeds):
        return []
    try:
        found = consumer.id_of(consumer.payload.read(json.dumps(journal.input).encode()))
    except Exception:  # noqa: BLE001 - the user's types and function; the replay says what is wrong
        return []
    if found == journal.id:
        return []
    return [f"its payload would begin {found!r} now: with another id function its own message begins it once more"]


def _of_step(consumer: SagaConsumer[Any], journal: Journal, record: StepRecord) -> list[str]:
    """What of a step cannot be found or read any more, where it may still be run or undone."""
    if not (record.is_open or record.wants_undo):
        return []
    key = journal.key_of(record)
    try:
        step = consumer.step_of(record)
    except CannotContinue as error:
        return [error.problem]
    found = []
    if step.undo is None and record.wants_undo and record.undoable:
        found.append(f"step {key!r} had an undo when it was begun, and the code has none any more")
    try:
        step.parameters.read(record.arguments)
    except NotKept as error:
        found.append(f"step {key!r}: {error}")
    if record.state is StepState.DONE and step.undo is not None:
        try:
            step.parameters.result.read(record.result)
        except NotKept as error:
            found.append(f"step {key!r}: {error}")
    return found
