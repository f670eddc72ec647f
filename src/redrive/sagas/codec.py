"""What goes into a journal and comes out of it: arguments and results as JSON, by their annotations.

What a function is given the first time is what it is given when it is run again: the value read back from its JSON.
"""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Callable
from functools import cached_property, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

from redrive.errors import DeclarationError, NotKept

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_ONLY)


class Kind:
    """One annotation. pydantic is imported when the first value passes."""

    def __init__(self, what: str, annotation: Callable[[], Any]) -> None:
        """Be ready to read and write.

        Args:
            what: for errors.
            annotation: gives it, when it is first needed.
        """
        self._what, self._annotation = what, annotation

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        from pydantic import PydanticUserError, TypeAdapter  # noqa: PLC0415 - most of the import time of redrive

        try:
            return TypeAdapter(self._annotation())
        except PydanticUserError as error:
            problem = str(error).splitlines()[0]
            raise DeclarationError(
                self._what, f"has a type that cannot be kept ({problem})", "see pydantic's types"
            ) from None

    def check(self) -> None:
        """That its values can be kept, before anything is done that gives one.

        Raises:
            DeclarationError: If the annotation cannot be found, or is none that pydantic knows.
        """
        self._adapter  # noqa: B018 - made, and kept

    def written(self, value: object, *, most: int | None = None) -> tuple[Any, Any]:
        """A value as JSON, and as it is read back from that.

        Raises:
            NotKept: If it does not fit the annotation, or is over `most` bytes.
        """
        try:
            text = self._adapter.serializer.to_json(value, warnings=False)
            back = self._adapter.validator.validate_json(text)
        except ValueError as error:
            raise NotKept(
                self._what, f"does not fit its annotation ({_first_line(error)})", "mend the annotation"
            ) from None
        except TypeError as error:
            raise NotKept(self._what, f"is no JSON ({_first_line(error)})", "return what pydantic can write") from None
        if most is not None and len(text) > most:
            problem = f"has {len(text)} bytes, over the limit of {most}"
            raise NotKept(self._what, problem, "keep it elsewhere and return its key")
        return json.loads(text), back

    def read(self, document: Any) -> Any:  # noqa: ANN401 - JSON, and whatever it stands for
        """The value of a JSON document.

        Raises:
            NotKept: If it does not fit the annotation any more.
        """
        try:
            return self._adapter.validator.validate_json(json.dumps(document))
        except Exception as error:  # noqa: BLE001 - the user's validators may raise anything
            problem = f"as journaled does not fit its annotation any more ({_first_line(error)})"
            raise NotKept(self._what, problem, "give the new fields defaults") from None


class Parameters:
    """The parameters of a step's function after its context, and its result."""

    def __init__(self, what: str, function: Callable[..., Any]) -> None:
        self._what, self._function = what, function
        context, *rest = inspect.signature(function).parameters.values() or (None,)
        if context is None or context.kind is inspect.Parameter.KEYWORD_ONLY:
            raise DeclarationError(what, "takes no context", "let its first parameter be ctx: Context[...]")
        if others := [one.name for one in rest if one.kind not in _NAMED]:
            raise DeclarationError(what, f"takes {others}, which a journal cannot name", "give each parameter a name")
        self._signature = inspect.Signature(rest)
        self._positional = [one.name for one in rest if one.kind is not inspect.Parameter.KEYWORD_ONLY]
        self._is_plain = len(self._positional) == len(rest)
        self._kinds = {
            name: Kind(f"argument {name!r} of {what}", partial(annotation_of, what, function, name))
            for name in self._signature.parameters
        }
        self.result = Kind(f"the result of {what}", partial(annotation_of, what, function, "return"))
        """What the function returns."""

    def written(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The arguments of a call, defaults among them, as JSON, and as they are read back from that.

        Raises:
            NotKept: If one of them does not fit its annotation.
            TypeError: If they are no arguments of the function.
        """
        if not kwargs and self._is_plain and len(args) == len(self._positional):
            given = dict(zip(self._positional, args, strict=True))
        else:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given = bound.arguments
        both = {name: self._kinds[name].written(value) for name, value in given.items()}
        return {name: one for name, (one, _) in both.items()}, {name: one for name, (_, one) in both.items()}

    def read(self, document: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a journaled call.

        Raises:
            NotKept: If the function takes others by now.
        """
        values = {name: self._kinds[name].read(value) for name, value in document.items() if name in self._kinds}
        missing = [
            name for name, one in self._signature.parameters.items() if name not in values and one.default is one.empty
        ]
        if missing or len(values) < len(document):
            problem = f"was journaled with arguments {sorted(document)}, and takes {sorted(self._kinds)}"
            raise NotKept(self._what, problem, "keep the parameters, or give new ones defaults")
        return values

    def call(self, function: Callable[..., Any], before: tuple[Any, ...], values: dict[str, Any]) -> Any:  # noqa: ANN401
        """Call a function of the same parameters; what it gives."""
        positional = [values[name] for name in self._positional if name in values]
        if len(positional) == len(values) == len(self._positional):
            return function(*before, *positional)
        bound = self._signature.bind_partial()
        bound.arguments.update(values)
        return function(*before, *bound.args, **bound.kwargs)


def annotation_of(what: str, function: Callable[..., Any], name: str) -> Any:  # noqa: ANN401 - any type form
    """The annotation of a parameter, or of what a function returns; Any where there is none.

    Raises:
        DeclarationError: If it names what its module does not have.
    """
    function = inspect.unwrap(function)
    # The others may not be found, and need not be.
    alone = SimpleNamespace(__annotations__={name: function.__annotations__.get(name, Any)})
    around = nonlocals_of(function)
    try:
        return get_type_hints(alone, globalns=function.__globals__, localns=around, include_extras=True)[name]
    except NameError as error:
        problem = f"has an annotation that cannot be found ({error})"
        raise DeclarationError(what, problem, "import it in its module, outside of TYPE_CHECKING") from None


def nonlocals_of(function: Callable[..., Any]) -> dict[str, Any]:
    """What a function sees of the functions around it; what they have not assigned yet is left out."""
    found: dict[str, Any] = {}
    code = getattr(function, "__code__", None)
    names = () if code is None else code.co_freevars
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=False):
        with contextlib.suppress(ValueError):  # empty: assigned later, if at all
            found[name] = cell.cell_contents
    return found


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
