"""Every error: it has its place in the tree that the docstring shows, says something, and survives pickling."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any, get_type_hints

import pytest

from redrive import errors
from redrive.errors import RedriveError, RetryLater, Unavailable

CLASSES = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, RedriveError)]


def arguments(kind: type[RedriveError]) -> list[Any]:
    """Something for each argument of the constructor, by its type."""
    if kind.__init__ is Exception.__init__:
        return []
    hints = get_type_hints(kind.__init__)
    samples = {str: "orders", int: 7, float: 1.5, object: 3, bool: True, float | None: 2.5}
    return [samples[hints[name]] for name in list(inspect.signature(kind.__init__).parameters)[1:]]


def instances() -> list[RedriveError]:
    made = [kind(*arguments(kind)) for kind in CLASSES]
    return [*made, RetryLater(), RetryLater("busy"), RetryLater(after=0.0), Unavailable("payments", "Timeout")]


@pytest.mark.parametrize("error", instances(), ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: RedriveError) -> None:
    """With the same type, the same sentence and the same facts, under every protocol, and copied."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)
    assert str(copy.copy(error)) == str(error)


@pytest.mark.parametrize("error", instances(), ids=lambda error: type(error).__name__)
def test_an_error_says_something(error: RedriveError) -> None:
    """In one line, with its facts, not with Python's own shape of them."""
    text = str(error)
    if type(error).__str__ is not Exception.__str__:
        assert text
        assert "\n" not in text
        assert not text.startswith("(")
        assert "None" not in text


@pytest.mark.parametrize(
    "kind", [one for one in CLASSES if one.__str__ is Exception.__str__], ids=lambda kind: kind.__name__
)
def test_only_branches_say_nothing_of_their_own(kind: type[RedriveError]) -> None:
    """A class without a sentence is there to be caught, and others stand below it."""
    assert kind.__subclasses__()


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    """Class by class, branch by branch."""
    drawn: dict[str, str] = {}
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ([│├└─ ]*)([A-Z]\w+)(?:  |$)", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        above[depth] = match[2]
        if depth:
            drawn[match[2]] = above[depth - 1]
    real = {one.__name__: one.__bases__[0].__name__ for one in CLASSES if one is not RedriveError}
    assert drawn == real


def test_every_class_has_a_sentence_of_documentation() -> None:
    """The type answers whose fault it is and whether to retry."""
    for kind in CLASSES:
        assert kind.__doc__
        assert kind.__doc__.rstrip().endswith(".")
