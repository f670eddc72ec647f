"""Failures that are alike have one fingerprint; whatever an exception does, it can be described."""

from __future__ import annotations

import pytest
from typing_extensions import override

from redrive.errors import Unavailable
from redrive.fingerprint import fingerprint, innermost, place_of, text_of, type_name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 17 failed", "order 4711 failed"),
        ("at 0x7f001", "at 0x7fFFF"),
        ("id 0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "id ffffffff-0000-7000-8000-000000000000"),
        ("key deadbeefdeadbeef", "key 0123456789abcdef"),
    ],
)
def test_numbers_and_ids_make_no_difference(one: str, other: str) -> None:
    """They are what differs between failures that are alike."""
    assert fingerprint("ValueError", "a.py:f", one) == fingerprint("ValueError", "a.py:f", other)


def test_type_place_and_words_make_a_difference() -> None:
    """Each of them."""
    prints = {
        fingerprint("ValueError", "a.py:f", "no milk"),
        fingerprint("KeyError", "a.py:f", "no milk"),
        fingerprint("ValueError", "a.py:g", "no milk"),
        fingerprint("ValueError", "a.py:f", "no beans"),
    }
    assert len(prints) == 4
    assert all(len(one) == 12 for one in prints)
    assert fingerprint("ValueError", "a.py:f", "\ud800")


def test_the_innermost_error_began_it() -> None:
    """Down the causes, and into the first of a group."""
    root = ValueError("root")
    middle = RuntimeError("middle")
    middle.__cause__ = root
    assert innermost(middle) is root
    assert innermost(ExceptionGroup("many", [ExceptionGroup("more", [middle]), KeyError("other")])) is root
    assert innermost(root) is root
    root.__cause__ = middle  # a circle ends
    assert innermost(middle) in {root, middle}


def test_types_are_named_with_their_module() -> None:
    """Builtins without."""
    assert type_name(ValueError()) == "ValueError"
    assert type_name(Unavailable("payments", "r")) == "redrive.errors.Unavailable"


def test_what_cannot_be_printed_is_said_so() -> None:
    """An exception's own text may raise, or be no text."""

    class Rude(Exception):
        @override
        def __str__(self) -> str:
            raise RuntimeError

    class Odd(Exception):
        @override
        def __str__(self) -> str:
            return 7  # type: ignore[return-value]  # noqa: PLE0307 - a user's may

    assert text_of(Rude()) == "<its text cannot be shown: RuntimeError>"
    assert text_of(Odd()) == "<its text cannot be shown: TypeError>"
    assert text_of(ValueError("\ud800")) == "\\ud800"
    assert text_of(ValueError("fine ☕")) == "fine ☕"


def test_the_place_is_in_the_user_s_own_code() -> None:
    """The last frame that is neither redrive's nor a package's."""
    with pytest.raises(TypeError) as caught:
        fingerprint(None, "", "")  # type: ignore[arg-type]
    assert place_of(caught.value.__traceback__) == "test_fingerprint.py:test_the_place_is_in_the_user_s_own_code"
    assert place_of(None) == ""
