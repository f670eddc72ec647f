"""Bodies are changed where they were told to be, and nowhere else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.cli.edit import difference, from_text, pretty, with_members
from redrive.errors import OperationRefused

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("aé☕\n"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab/~."), inner, max_size=4),
)


@pytest.mark.parametrize(
    ("body", "path", "value", "after"),
    [
        ("{}", "drink", "mocha", '{"drink":"mocha"}'),
        ('{"size":1}', "size", "3", '{"size":3}'),
        ("{}", "extras", '["milk",null]', '{"extras":["milk",null]}'),
        ("{}", "note", "NaN", '{"note":"NaN"}'),
        ("{}", "note", '{"a":1,"a":2}', '{"note":"{\\"a\\":1,\\"a\\":2}"}'),
        ("{}", "customer.name", "Ada", '{"customer":{"name":"Ada"}}'),
        ('{"items":[{"size":1},{}]}', "items.0.size", "2", '{"items":[{"size":2},{}]}'),
        ('{"items":[1]}', "items.1", "2", '{"items":[1,2]}'),
        ('{"items":[1]}', "/items/-", "2", '{"items":[1,2]}'),
        ("[1,2]", "/0", "9", "[9,2]"),
        ("{}", "/a~1b/c~0d", "1", '{"a/b":{"c~d":1}}'),
        ('{"a.b":1}', "/a.b", "2", '{"a.b":2}'),
        ("{}", "drink", "", '{"drink":""}'),
        ("{}", "drink", "café", '{"drink":"café"}'),
    ],
)
def test_a_member_is_set(body: str, path: str, value: str, after: str) -> None:
    """Paths are dotted or JSON pointers; values are JSON, or strings."""
    assert with_members(body.encode(), [(path, value)]).decode() == after


@pytest.mark.parametrize(
    ("body", "path", "problem"),
    [
        ('{"drink":"mocha"}', "drink.name", "is a string"),
        ('{"drink":null}', "drink.name.x", "is null"),
        ("7", "drink", "is a number"),
        ("true", "drink", "is a boolean"),
        ("[1]", "5", "is no index of an array of 1"),
        ("[1]", "x.y", "is no index"),
        ("[1]", "/01", "is no index"),
        ("{}", "a..b", "has an empty part"),
    ],
)
def test_a_path_that_does_not_fit_is_refused(body: str, path: str, problem: str) -> None:
    """The error names the path and what stands in its way."""
    with pytest.raises(OperationRefused, match=problem) as refusal:
        with_members(body.encode(), [(path, "1")])
    assert repr(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"drink: mocha", "not valid JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"a":1,"a":2}', "stands twice"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":1e400}', "cannot be edited by members: "),
        (b'{"a":1e-9999999999999999999999}', "more digits"),
        (b'{"a":0.1234567890123456789}', "more digits"),
        (b'{"a":' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    ],
)
def test_what_would_not_survive_is_edited_as_a_whole(body: bytes, problem: str) -> None:
    """A body that reading and writing would change is not touched; it is shown and taken back as text."""
    with pytest.raises(OperationRefused, match=problem) as refusal:
        with_members(body, [("b", "1")])
    assert "--editor" in str(refusal.value)
    if body != b"\xff":
        assert from_text(pretty(body) + "\n") == body


@given(JSON)
def test_editing_without_a_change_changes_nothing(document: object) -> None:
    """What was compact before an editor saw it is compact and the same afterwards."""
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    assert from_text(pretty(body) + "\n") == body
    assert difference(body, body) == ""


def test_deep_json_is_edited_as_text() -> None:
    """JSON too deep to be indented is shown as it is."""
    for depth in (300, 980, 5_000):
        body = b"[" * depth + b"]" * depth
        assert from_text(pretty(body)) == body


def test_the_difference_names_what_changed() -> None:
    """One line for each line that went, one for each that came."""
    lines = difference(b'{"a":1,"b":2}', b'{"a":1,"b":3}').splitlines()
    assert [line for line in lines if line[0] in "+-"][2:] == ['-  "b": 2', '+  "b": 3']


def test_the_longest_bodies_are_not_compared() -> None:
    """Comparing takes too long to be of use there."""
    assert "too long to compare" in difference(b"[]", json.dumps([1] * 30_000).encode())
