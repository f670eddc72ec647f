"""What a function returns, as JSON by its return annotation, and back."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

from redrive.errors import DeclarationError, ResultNotKept

if TYPE_CHECKING:
    from pydantic import TypeAdapter

LARGEST_RESULT = 32 * 1024
"""Bytes of JSON."""


class Result:
    """The results of one function. pydantic is imported at the first call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def check(self) -> None:
        """Be sure that results can be read.

        Raises:
            DeclarationError: If the annotation cannot be used.
        """
        self._adapter  # noqa: B018 - made once, and kept

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        from pydantic import PydanticUserError, TypeAdapter  # noqa: PLC0415 - most of the import time of redrive

        function = inspect.unwrap(self._function)
        name = getattr(function, "__qualname__", repr(function))
        annotations = {key: value for key, value in inspect.get_annotations(function).items() if key == "return"}
        names = getattr(function, "__globals__", None)
        try:
            hints = get_type_hints(SimpleNamespace(__annotations__=annotations), names, include_extras=True)
            return TypeAdapter(hints.get("return", Any))
        except (PydanticUserError, NameError) as error:
            problem = f"cannot be used ({str(error).splitlines()[0]})"
            raise DeclarationError(f"the return annotation of {name!r}", problem, "see pydantic's types") from None

    def kept(self, key: str, given: object) -> tuple[dict[str, Any], ResultNotKept | None]:
        """The JSON form of a result, to keep; and why it is not kept, or None."""
        try:
            value = self._adapter.dump_json(given, warnings=False)
            self._adapter.validate_json(value)
        except ValueError as error:
            return _refused(key, f"cannot be kept as JSON ({str(error).splitlines()[0][:200]})")
        if len(value) > LARGEST_RESULT:
            return _refused(key, f"has {len(value)} bytes of JSON, over the limit of {LARGEST_RESULT}")
        return {"value": json.loads(value)}, None

    def read(self, key: str, kept: dict[str, Any] | None) -> Any:  # noqa: ANN401 - the function's own
        """The result of the JSON form.

        Raises:
            ResultNotKept: If it was not kept, or does not fit the annotation any more.
        """
        if kept is None or "refused" in kept:
            raise ResultNotKept(key, "was not kept" if kept is None else kept["refused"])
        try:
            return self._adapter.validate_json(json.dumps(kept["value"]))
        except ValueError as error:
            raise ResultNotKept(key, f"does not fit its annotation any more ({str(error).splitlines()[0]})") from None


def _refused(key: str, problem: str) -> tuple[dict[str, Any], ResultNotKept]:
    return {"refused": problem}, ResultNotKept(key, problem)
