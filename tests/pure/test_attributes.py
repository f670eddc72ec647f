"""Message attributes as Amazon SQS has them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.attributes import md5_of_attributes, md5_of_body, refused


@pytest.mark.parametrize(
    ("attributes", "types", "expected"),
    [
        ({"SellerName": "Example Store"}, None, "cd28f3b68aeee4b2eac9c66f2f694b58"),
        ({"timestamp": "1493147359900"}, {"timestamp": "Number"}, "235c5c510d26fb653d073faed50ae77c"),
    ],
    ids=["string", "number"],
)
def test_the_digest_is_the_one_that_senders_expect(
    attributes: dict[str, str], types: dict[str, str] | None, expected: str
) -> None:
    """Digests that clients of Amazon SQS publish in their own tests."""
    assert md5_of_attributes(attributes, types) == expected


def test_a_message_without_attributes_has_no_digest_of_them() -> None:
    """As in the answer of Amazon SQS, where the field is missing. A body has one, empty or not."""
    assert md5_of_attributes({}) is None
    assert md5_of_body(b"") == "d41d8cd98f00b204e9800998ecf8427e"
    assert md5_of_body(b"hello") == "5d41402abc4b2a76b9719d911017c592"


@given(st.dictionaries(st.text("abc.", min_size=1), st.text(min_size=1), min_size=1, max_size=4))
def test_neither_order_nor_borders_make_two_messages_look_alike(attributes: dict[str, str]) -> None:
    """In another order they have the same digest; with another type, or as bytes, another one."""
    backwards = dict(reversed(list(attributes.items())))
    digest = md5_of_attributes(attributes)
    assert md5_of_attributes(backwards) == digest
    name = next(iter(attributes))
    assert md5_of_attributes(attributes, {name: "String.json"}) != digest
    binary = {**attributes, name: base64.b64encode(attributes[name].encode("utf-8", "surrogatepass")).decode()}
    assert md5_of_attributes(binary, {name: "Binary"}) != digest


@pytest.mark.parametrize("name", ["a", "A-b_c.9", "x" * 256, "awsome", "AWSX.y"])
def test_names_that_may_be(name: str) -> None:
    """Letters, digits, _, - and dots that stand alone."""
    assert refused({name: "1"}) is None


@pytest.mark.parametrize("name", ["", ".a", "a.", "a..b", "a b", "ä", "x" * 257, "AWS.a", "aws.a", "Amazon.b", "a\n"])
def test_names_that_may_not_be(name: str) -> None:
    """Each is named in the error."""
    error = refused({name: "1"})
    assert error is not None
    assert error.value == name


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("String", "☕\t\n"),
        ("String.json", "{}"),
        ("Number", "1"),
        ("Number", "-0.5e-10"),
        ("Number", "+.5"),
        ("Number.int", "9" * 38),
        ("Number", "1e126"),
        ("Number", "0000000000000000000000000000000000000000001"),
        ("Binary", "AAEC"),
        ("Binary.gif", "/w=="),
    ],
)
def test_values_that_may_be(kind: str, value: str) -> None:
    """Of each type, with and without a label."""
    assert refused({"a": value}, {"a": kind}) is None


@pytest.mark.parametrize(
    ("kind", "value", "limit"),
    [
        ("String", "", "not empty"),
        ("String", "\x01", "XML"),
        ("String", "\ud800", "XML"),
        ("String", "\uffff", "XML"),
        ("Number", "one", "number"),
        ("Number", "9" * 39, "number"),
        ("Number", "1e127", "number"),
        ("Number", "1e-129", "number"),
        ("Number", "NaN", "number"),
        ("Binary", "no base64!", "base64"),
        ("string", "a", "String, Number or Binary"),
        ("String.", "a", "String, Number or Binary"),
        ("String." + "x" * 250, "a", "String, Number or Binary"),
        ("Text", "a", "String, Number or Binary"),
    ],
)
def test_values_that_may_not_be(kind: str, value: str, limit: str) -> None:
    """The error says which rule."""
    assert limit in str(refused({"a": value}, {"a": kind}))


def test_there_may_be_ten() -> None:
    """And no more."""
    assert refused({str(number): "1" for number in range(10)}) is None
    assert "11; it must be at most 10" in str(refused({str(number): "1" for number in range(11)}))
