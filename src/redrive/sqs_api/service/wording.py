"""Errors in the words of Amazon SQS."""

from __future__ import annotations

from redrive.attributes import ID
from redrive.errors import LimitExceeded, QueueConflict, QueueNotFound, RedriveError
from redrive.sqs_api.calls import QUERY, Refused

_SEQUENCE_DIGITS = 20


def bad_value(parameter: str, value: object, reason: str) -> Refused:
    """A parameter is out of its range."""
    return Refused("InvalidParameterValue", f"Value {value} for parameter {parameter} is invalid. Reason: {reason}")


def bad_attribute(name: str, reason: str = "") -> Refused:
    """An attribute of a queue is out of its range."""
    why = reason and f" Reason: {reason}"
    return Refused("InvalidAttributeValue", f"Invalid value for the parameter {name}.{why}")


def not_for_this_kind(parameter: str, value: object) -> Refused:
    """A parameter belongs to the other kind of queue."""
    return bad_value(parameter, value, "The request include parameter that is not valid for this queue type.")


def missing(parameter: str) -> Refused:
    """A parameter is not there."""
    return Refused("MissingParameter", f"The request must contain the parameter {parameter}.")


def checked_range(parameter: str, value: int, least: int, most: int, reason: str | None = None) -> int:
    """The value.

    Raises:
        Refused: If it is out of its range.
    """
    if not least <= value <= most:
        raise bad_value(parameter, value, reason or f"Must be between {least} and {most}, if provided.")
    return value


def checked_id(parameter: str, value: str) -> str:
    """The id of a group, a message or an attempt.

    Raises:
        Refused: If it is none.
    """
    if not ID.fullmatch(value):
        reason = f"{parameter} can only include alphanumeric and punctuation characters. 1 to 128 in length."
        raise bad_value(parameter, value, reason)
    return value


def in_words_of(protocol: str, refused: Refused) -> Refused:
    """The Query protocol has kept a former text. Source: recorded answers."""
    if protocol == QUERY and refused.code == "QueueDoesNotExist":
        return Refused(refused.code, "The specified queue does not exist for this wsdl version.")
    return refused


def refusal_of(error: RedriveError) -> Refused:
    """What the engine refuses that was not refused before it; what the disk or the file refuses is our fault."""
    match error:
        case QueueNotFound():
            return Refused("QueueDoesNotExist", "The specified queue does not exist.")
        case LimitExceeded() | QueueConflict():
            return Refused("InvalidParameterValue", str(error))
        case _:
            return Refused("ServiceUnavailable", str(error))


def sequence_number(sequence: int) -> str:
    """As Amazon SQS shows one: twenty digits."""
    return str(sequence).zfill(_SEQUENCE_DIGITS)
