"""Readers of plain values, made from the model once: types are checked, unknown members dropped, nothing is guessed.

A reader takes what JSON can say and returns what the model means. It is the same for both protocols, since a form is
first brought into the shape that JSON would have.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from redrive.sqs_api.calls import Refused
from redrive.sqs_api.names import Shape, Shapes, query_name

Reader = Callable[[object], Any]

INTEGER_BITS: Final[Mapping[str, int]] = {"integer": 32, "long": 64}


class Unfit(Exception):
    """A value is not of its type."""

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(problem, path)
        self.problem, self.path = problem, path

    def within(self, step: str) -> Unfit:
        """The same, seen from one floor up."""
        return Unfit(self.problem, f"{step}.{self.path}" if self.path else step)


class Absent(Exception):
    """A required member is missing."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def within(self, step: str) -> Absent:
        """The same, seen from one floor up."""
        return Absent(f"{step}.{self.path}")


class Readers:
    """The readers of a model's shapes, each made when it is first asked for."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._made: dict[str, Reader] = {}

    def of(self, name: str) -> Reader:
        """The reader of a shape. What it raises: `Unfit` and `Absent`."""
        if name not in self._made:
            self._made[name] = self._make(self._shapes[name])
        return self._made[name]

    def request(self, name: str) -> Callable[[object], dict[str, Any]]:
        """The reader of an operation's input, which refuses as SQS does."""
        read = self.of(name)

        def reading(value: object) -> dict[str, Any]:
            try:
                found: dict[str, Any] = read(value)
            except Unfit as unfit:
                raise Refused("MalformedInput", _sentence(unfit)) from None
            except Absent as absent:
                raise refused_without(absent.path) from None
            return found

        return reading

    def _make(self, shape: Shape) -> Reader:
        match shape["type"]:
            case "structure":
                return self._structure(shape)
            case "list":
                return _listing(self.of(shape["member"]["shape"]))
            case "map":
                return _mapping(self.of(shape["value"]["shape"]))
            case "integer" | "long":
                return _integer(INTEGER_BITS[shape["type"]])
            case other:
                return {"boolean": _boolean, "blob": _blob}.get(other, _string)

    def _structure(self, shape: Shape) -> Reader:
        given = {name: self._shapes[member["shape"]] for name, member in shape["members"].items()}
        members = {
            name: (self.of(shape["members"][name]["shape"]), query_name(name, one, self._shapes))
            for name, one in given.items()
        }
        required = tuple(shape.get("required", ()))
        batches = [name for name in required if self._is_batch(given[name])]
        return _structure(members, tuple(name for name in required if name not in batches), batches)

    def _is_batch(self, shape: Shape) -> bool:
        """Whether it is a list of structures: without one, a batch is empty, for which SQS has an error of its own."""
        return bool(shape["type"] == "list" and self._shapes[shape["member"]["shape"]]["type"] == "structure")


def refused_without(path: str) -> Refused:
    """How SQS refuses a request that lacks a required member.

    Source: recorded answers of SQS: a queue that is not named does not exist, a name that is not given is no good one,
    and all else is missing.
    """
    if path == "QueueUrl":
        return Refused("QueueDoesNotExist", "The specified queue does not exist.")
    if path == "QueueName":
        return Refused("InvalidParameterValue", "Value for parameter QueueName is invalid. Reason: Must not be empty.")
    return Refused("MissingParameter", f"The request must contain the parameter {path}.")


def _structure(members: Mapping[str, tuple[Reader, str]], required: Sequence[str], batches: Sequence[str]) -> Reader:
    needed = frozenset(required)

    def read(value: object) -> dict[str, Any]:
        if type(value) is not dict:
            raise Unfit(f"{_kind(value)} cannot be converted to a structure")
        found: dict[str, Any] = {name: [] for name in batches} if batches else {}
        for name, inner in value.items():
            if inner is None or name not in members:
                continue
            member, step = members[name]
            try:
                found[name] = member(inner)
            except (Unfit, Absent) as error:
                raise error.within(step) from None
        if not needed <= found.keys():
            raise Absent(next(name for name in required if name not in found))
        return found

    return read


def _listing(item: Reader) -> Reader:
    def read(value: object) -> list[Any]:
        if type(value) is not list:
            raise Unfit(f"{_kind(value)} cannot be converted to a list")
        found: list[Any] = []
        try:
            for one in value:
                found.append(item(one))  # noqa: PERF401 - how far it came says which one was wrong
        except (Unfit, Absent) as error:
            raise error.within(str(len(found) + 1)) from None
        return found

    return read


def _mapping(item: Reader) -> Reader:
    def read(value: object) -> dict[str, Any]:
        if type(value) is not dict:
            raise Unfit(f"{_kind(value)} cannot be converted to a map")
        found = {}
        for key, one in value.items():
            try:
                found[key] = item(one)
            except (Unfit, Absent) as error:
                raise error.within(key) from None
        return found

    return read


def _integer(bits: int) -> Reader:
    limit = 1 << (bits - 1)

    def read(value: object) -> int:
        if type(value) is not int:
            raise Unfit(f"{_kind(value)} cannot be converted to an integer")
        if not -limit <= value < limit:
            raise Unfit(f"the number does not fit into {bits} bits")
        return value

    return read


def _string(value: object) -> str:
    if type(value) is not str:
        raise Unfit(f"{_kind(value)} cannot be converted to a string")
    return value


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        raise Unfit(f"{_kind(value)} cannot be converted to a boolean")
    return value


def _blob(value: object) -> bytes:
    try:
        return binascii.a2b_base64(_string(value), strict_mode=True)
    except ValueError:
        raise Unfit("the text is no base64") from None


def _sentence(unfit: Unfit) -> str:
    return f"{unfit.problem} ({unfit.path})" if unfit.path else unfit.problem


def _kind(value: object) -> str:
    """What JSON calls it, in the words of AWS's parser."""
    match value:
        case bool():
            return f"{value!s}_VALUE".upper()
        case int() | float():
            return "NUMBER_VALUE"
        case str():
            return "STRING_VALUE"
        case None:
            return "NULL_VALUE"
        case _:
            return "START_OF_LIST" if isinstance(value, list) else "START_OF_STRUCTURE"
