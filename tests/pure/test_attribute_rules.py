"""The rules of message attributes at their edges, and the words in which they are told."""

from __future__ import annotations

import base64
import hashlib
import struct

import pytest

from redrive.attributes import md5_of_attributes, refused


def by_hand(*attributes: tuple[str, str, bytes, int]) -> str:
    """Source: Amazon SQS developer guide, "Calculating the MD5 message digest for message attributes"."""
    whole = b""
    for name, kind, content, transport in attributes:
        for part in (name.encode(), kind.encode()):
            whole += struct.pack(">I", len(part)) + part
        whole += bytes([transport]) + struct.pack(">I", len(content)) + content
    return hashlib.md5(whole, usedforsecurity=False).hexdigest()


def test_a_digest_is_that_of_the_bytes_which_travel() -> None:
    """Sorted by name; text travels as text, and what is in base64 here as the bytes that it stands for."""
    attributes = {
        "z": "☕",
        "b": base64.b64encode(b"\0\xff").decode(),
        "n": "1.50",
        "p": base64.b64encode(b"x").decode(),
    }
    types = {"b": "Binary", "n": "Number", "p": "Binary.png"}
    expected = by_hand(
        ("b", "Binary", b"\0\xff", 2),
        ("n", "Number", b"1.50", 1),
        ("p", "Binary.png", b"x", 2),
        ("z", "String", "☕".encode(), 1),
    )
    assert md5_of_attributes(attributes, types) == expected


@pytest.mark.parametrize(
    "value",
    [
        "1e126",
        "10e125",
        "100e124",
        "0010e125",
        "0.1e126",
        "1e-128",
        "10e-128",
        "123.456e-100",
        "+1E+5",
        "-1",
        "1.",
        ".5",
    ],
)
def test_numbers_that_may_be(value: str) -> None:
    """Up to 38 digits, between 10^-128 and 10^126: what counts is where the first digit stands."""
    assert refused({"a": value}, {"a": "Number"}) is None


@pytest.mark.parametrize(
    "value", ["1e127", "10e126", "100e125", "1e-129", "1" * 39, "1,5", "e5", "1e", ".", "", "0x1", "1 "]
)
def test_numbers_that_may_not_be(value: str) -> None:
    """Beyond either end, with too many digits, or none at all."""
    assert refused({"a": value}, {"a": "Number"}) is not None


@pytest.mark.parametrize(("kind", "good"), [("String." + "x" * 249, True), ("String." + "x" * 250, False)])
def test_a_type_has_at_most_256_characters(kind: str, *, good: bool) -> None:
    """Its label included."""
    assert len(kind) == (256 if good else 257)
    assert (refused({"a": "1"}, {"a": kind}) is None) is good


@pytest.mark.parametrize(
    ("attributes", "types", "sentence"),
    [
        (
            {str(number): "1" for number in range(11)},
            None,
            "number of attributes is 11; it must be at most 10",
        ),
        (
            {"a..b": "1"},
            None,
            (
                "name of an attribute is 'a..b'; it must be 1 to 256 of A-Z, a-z, 0-9, _, - and single dots between "
                "them, and must not begin with AWS. or Amazon."
            ),
        ),
        (
            {"a": "1"},
            {"a": "Text"},
            (
                "type of attribute 'a' is 'Text'; it must be String, Number or Binary, with a label after a dot if "
                "you like, at most 256 characters"
            ),
        ),
        ({"a": ""}, None, "value of attribute 'a' is '0 characters'; it must be not empty"),
        ({"a": "\x01"}, None, "value of attribute 'a' is '1 characters'; it must be text that XML can hold"),
        ({"a": "!"}, {"a": "Binary.png"}, "value of attribute 'a' is '1 characters'; it must be base64"),
        (
            {"a": "x"},
            {"a": "Number.int"},
            (
                "value of attribute 'a' is '1 characters'; it must be a number of at most 38 digits, "
                "between 10^-128 and 10^126"
            ),
        ),
    ],
)
def test_a_refusal_says_which_rule_is_broken(
    attributes: dict[str, str], types: dict[str, str] | None, sentence: str
) -> None:
    """With the value where it is a name or a type; of what was sent, the length alone."""
    assert str(refused(attributes, types)) == sentence
