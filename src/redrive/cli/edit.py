"""Changing a body: its members by name, or the whole of it as text. Pure: bytes in, bytes out.

What is not touched keeps its meaning and its place. A body that would not survive being read and written again (no
JSON, a number with more digits than a float holds, a key that stands twice) is only ever edited as a whole.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from redrive.cli.printable import body_text
from redrive.errors import OperationRefused, PayloadError
from redrive.payload import check_json

_INDEX = re.compile(r"0|[1-9][0-9]{0,6}")
_LONGEST_DIFF = 20_000


def with_members(body: bytes, assignments: Iterable[tuple[str, str]]) -> bytes:
    """The body with members set.

    Args:
        body: JSON, an object or an array.
        assignments: a path, dotted (`customer.name`, `items.0`) or a JSON pointer (`/customer/name`), and a value: JSON
            if it parses as JSON, else a string. A missing object on the way is made; index `-` appends to an array.

    Raises:
        OperationRefused: If the body cannot be edited by members, or a path does not fit it.
    """
    document = _document(body)
    for path, value in assignments:
        _assign(document, path, _value(value))
    return _compact(document)


def pretty(body: bytes) -> str:
    """The body as text to read and edit: indented where that keeps what it says, as it is elsewhere."""
    try:
        return json.dumps(_document(body), indent=2, ensure_ascii=False)
    except (OperationRefused, RecursionError):
        return body_text(body)


def from_text(text: str) -> bytes:
    """The body that an edited text means: compact where that keeps what it says, else the text itself."""
    body = text.rstrip("\n").encode("utf-8", "surrogatepass")
    try:
        return _compact(_document(body))
    except (OperationRefused, RecursionError):
        return body


def difference(before: bytes, after: bytes) -> str:
    """What changed, as a unified diff of the pretty forms."""
    old, new = pretty(before).splitlines(), pretty(after).splitlines()
    if len(old) + len(new) > _LONGEST_DIFF:
        return f"({len(old)} lines before, {len(new)} after: too long to compare)"
    return "\n".join(difflib.unified_diff(old, new, "before", "after", lineterm=""))


def _document(body: bytes) -> Any:  # noqa: ANN401 - JSON is any of six types
    """Read a body that will be written again.

    Raises:
        OperationRefused: If writing it again would not give the same.
    """
    try:
        check_json("", body)
        return json.loads(body, parse_float=_exact)
    except PayloadError as error:
        problem = error.problem
    except ValueError as error:
        problem = str(error)
    raise OperationRefused("the body", f"cannot be edited by members: {problem}", _AS_A_WHOLE)


_AS_A_WHOLE = "edit it as a whole, with --editor, --body or --body-file"


def _exact(text: str) -> float:
    """A number that can be written again.

    Raises:
        ValueError: If a float cannot hold it.
    """
    number = float(text)
    try:
        exact = math.isfinite(number) and Decimal(text) == Decimal(repr(number))
    except ArithmeticError:  # an exponent beyond what even Decimal reads
        exact = False
    if not exact:
        raise ValueError(f"number {text[:40]} has more digits than can be kept")
    return number


def _value(text: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return _document(text.encode())
    except OperationRefused:
        return text


def _compact(document: Any) -> bytes:  # noqa: ANN401 - JSON
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _assign(document: Any, path: str, value: Any) -> None:  # noqa: ANN401 - JSON
    *way, last = _steps(path)
    place = document
    for step in way:
        place = _entered(place, step, path)
    match place:
        case dict():
            place[last] = value
        case list() if last in {"-", str(len(place))}:
            place.append(value)
        case list():
            place[_index(place, last, path)] = value
        case _:
            raise _misfit(path, f"cannot be set: what holds {last!r} is {_kind(place)}")


def _entered(place: Any, step: str, path: str) -> Any:  # noqa: ANN401 - JSON
    match place:
        case dict():
            return place.setdefault(step, {})
        case list():
            return place[_index(place, step, path)]
        case _:
            raise _misfit(path, f"cannot be set: what holds {step!r} is {_kind(place)}")


def _index(place: list[Any], step: str, path: str) -> int:
    if not _INDEX.fullmatch(step) or int(step) >= len(place):
        raise _misfit(path, f"cannot be set: {step!r} is no index of an array of {len(place)}")
    return int(step)


def _steps(path: str) -> list[str]:
    if path.startswith("/"):
        return [step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/")]
    steps = path.split(".")
    if not all(steps):
        raise _misfit(path, "has an empty part")
    return steps


def _misfit(path: str, problem: str) -> OperationRefused:
    return OperationRefused(f"member {path!r}", problem, "name it like customer.name, items.0 or /customer/name")


def _kind(value: Any) -> str:  # noqa: ANN401 - JSON
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case dict():
            return "an object"
        case _:
            return "an array"
