"""From a payload to a body and back: JSON that everybody reads alike, of the queue's type."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from math import isinf
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from redrive.errors import BodyTooLarge, DeclarationError, PayloadError
from redrive.message import MAX_BODY

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

Unwrap = Callable[[bytes], bytes]
"""Takes a body out of a foreign envelope: raises ValueError where it does not fit."""
_SHOWN_PROBLEMS = 3
_TOO_DEEP = "it is nested too deeply; keep it under 200 levels"


class Payload(Generic[T]):
    """Encodes and decodes the payloads of one queue. pydantic is imported when the first one passes."""

    def __init__(self, queue: str, type_: Any, unwrap: Unwrap | None = None) -> None:  # noqa: ANN401 - any type form
        self._queue = queue
        self._type = type_
        self._unwrap = unwrap

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        from pydantic import PydanticUserError, TypeAdapter  # noqa: PLC0415 - most of the import time of redrive

        try:
            return TypeAdapter(self._type)
        except PydanticUserError as error:
            raise DeclarationError(
                f"the type of queue {self._queue!r}", f"cannot be used ({_first_line(error)})", "see pydantic's types"
            ) from None

    @cached_property
    def _serialize(self) -> Callable[..., bytes]:
        return self._adapter.serializer.to_json  # what dump_json calls, in half its time

    @cached_property
    def _validate(self) -> Callable[[bytes], T]:
        return self._adapter.validator.validate_json  # likewise

    @cached_property
    def _is_canonical(self) -> Callable[[bytes], bool]:
        """Whether a body is exactly what is written for what is read from it; then nobody reads it differently.

        What redrive sends mostly is, and this costs a third of `check_json`: a duplicate key would be missing from what
        is written, and NaN, half of a surrogate pair and what is nested too deeply are not read at all.
        """
        from pydantic_core import from_json, to_json  # noqa: PLC0415 - as above

        def is_canonical(body: bytes) -> bool:
            try:
                return to_json(from_json(body, allow_inf_nan=False)) == body
            except ValueError:
                return False  # check_json says why

        return is_canonical

    def encode(self, payload: T) -> bytes:
        """The body of a payload; checked by reading it back, so that what cannot be handled cannot be sent.

        Raises:
            PayloadError: If it cannot be written as JSON, or does not fit the type when read back.
            BodyTooLarge: If it is over 1 MiB less 40 KB.
        """
        body = self.written(payload)
        self.decode(body)
        return body

    def written(self, payload: T) -> bytes:
        """A payload as JSON, not checked: alike for payloads that are alike, however their bodies were written.

        Raises:
            PayloadError: If it cannot be written as JSON.
        """
        try:
            return self._serialize(payload, warnings=False)
        except Exception as error:
            raise PayloadError(self._queue, f"cannot be written as JSON ({_first_line(error)})") from error

    def decode(self, body: bytes) -> T:
        """The payload of a body.

        Raises:
            PayloadError: If it is not JSON, reads differently for different readers (duplicate keys, NaN), is nested
                too deeply, or does not fit the type. The error names fields and problems, never values.
            BodyTooLarge: If it is over 1 MiB less 40 KB.
        """
        if len(body) > MAX_BODY:
            raise BodyTooLarge(self._queue, len(body), MAX_BODY)
        if self._unwrap is not None:
            body = self._unwrapped(body)
        if not self._is_canonical(body):
            check_json(self._queue, body)
        try:
            return self._validate(body)
        except ValueError as error:
            raise PayloadError(self._queue, _problems(error)) from None

    def read(self, body: bytes) -> T:
        """The payload of what `written` gave: JSON without an envelope.

        Raises:
            PayloadError: If it does not fit the type any more.
        """
        try:
            return self._validate(body)
        except ValueError as error:
            raise PayloadError(self._queue, _problems(error)) from None

    def schema(self) -> dict[str, Any] | None:
        """The type's JSON Schema (draft 2020-12); None where it has none."""
        from pydantic.errors import PydanticInvalidForJsonSchema  # noqa: PLC0415 - as above

        try:
            return self._adapter.json_schema()
        except PydanticInvalidForJsonSchema:
            return None

    def _unwrapped(self, body: bytes) -> bytes:
        try:
            return self._unwrap(body) if self._unwrap is not None else body
        except ValueError as error:
            raise PayloadError(self._queue, f"its envelope cannot be opened ({_first_line(error)})") from None


def check_json(queue: str, body: bytes) -> Any:  # noqa: ANN401 - JSON is any of six types
    """Read JSON as strictly as RFC 8259 allows; what it holds.

    Raises:
        PayloadError: If it is not UTF-8, not JSON, holds NaN, Infinity, a duplicate key or a lone surrogate, or is
            nested too deeply to be read.
    """
    try:
        document = _STRICT.decode(body.decode("utf-8"))
    except RecursionError:
        raise PayloadError(queue, _TOO_DEEP) from None
    except UnicodeDecodeError as error:
        raise PayloadError(queue, f"it is not UTF-8 (byte {error.start}); encode it as UTF-8") from None
    except ValueError as error:
        raise PayloadError(queue, f"it is not valid JSON: {_first_line(error)}") from None
    if b"\\ud" in body or b"\\uD" in body:
        _refuse_surrogates(queue, document)
    return document


def _refuse_surrogates(queue: str, document: Any) -> None:  # noqa: ANN401 - JSON
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise PayloadError(queue, "it holds half of a surrogate pair; write the character itself") from None
    except RecursionError:  # writing goes a little less deep than reading
        raise PayloadError(queue, _TOO_DEEP) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        message = f"key {twice!r} stands twice in one object"
        raise ValueError(message)
    return document


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON; use null or a string"
    raise ValueError(message)


def _finite(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        message = "a number is too large for everybody; write it as a string"
        raise ValueError(message)
    return number


_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)


def _problems(error: ValueError) -> str:
    """What pydantic found, by field, without the values."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return _first_line(error)
    found = errors(include_url=False, include_input=False, include_context=False)
    shown = [f"{'.'.join(map(str, one['loc'])) or 'the whole'}: {one['msg']}" for one in found[:_SHOWN_PROBLEMS]]
    more = len(found) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
