"""Dataclasses as JSON documents and back: what has its default value is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_NONE: Mapping[str, Any] = MappingProxyType({})
_REQUIRED = object()
"""The default of what has none: no value is equal to it."""


class Form(Generic[T]):
    """How the values of one dataclass, of two fields or more, are written and read."""

    def __init__(
        self,
        kind: type[T],
        *,
        one: Mapping[str, Form[Any]] = _NONE,
        many: Mapping[str, Form[Any]] = _NONE,
        plain: Mapping[str, Callable[[Any], Any]] = _NONE,
    ) -> None:
        """Describe a dataclass.

        Args:
            kind: the dataclass.
            one: its fields that hold a value of another form, or None.
            many: those that hold a list of such values.
            plain: those that are JSON as they are, and what reads them.
        """
        self._kind = kind
        described = fields(kind)  # type: ignore[arg-type]
        names = [field.name for field in described]
        self._values = attrgetter(*names)
        writers: dict[str, Callable[[Any], Any]] = {name: form.written for name, form in one.items()}
        writers |= {name: form.all for name, form in many.items()}
        self._fields = [(field.name, _default(field), writers.get(field.name)) for field in described]
        self._readers: dict[str, Callable[[Any], Any]] = {
            **plain,
            **{name: form.read_or_none for name, form in one.items()},
            **{name: form.read_all for name, form in many.items()},
        }

    def written(self, value: T) -> dict[str, Any]:
        """The document of a value."""
        document = {}
        for (name, default, writer), one in zip(self._fields, self._values(value), strict=True):
            if one is not default and one != default:
                document[name] = one if writer is None else writer(one)
        return document

    def read(self, document: Mapping[str, Any]) -> T:
        """The value of a document."""
        readers = self._readers
        return self._kind(**{name: readers[name](one) if name in readers else one for name, one in document.items()})

    def all(self, values: list[T]) -> list[dict[str, Any]]:
        """The documents of several values."""
        return [self.written(one) for one in values]

    def read_all(self, documents: list[Mapping[str, Any]]) -> list[T]:
        """The values of several documents."""
        return [self.read(one) for one in documents]

    def read_or_none(self, document: Mapping[str, Any] | None) -> T | None:
        """The value of a document, where there is one."""
        return None if document is None else self.read(document)


def _default(field: Field[Any]) -> object:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return _REQUIRED if field.default is MISSING else field.default
