"""Message attributes as Amazon SQS has them: what they may be, and the MD5s by which a sender checks what arrived.

Source: Amazon SQS developer guide, "Message metadata": the rules of names, types and values, and "Calculating the MD5
message digest for message attributes".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping

from redrive.errors import LimitExceeded

MOST = 10
"""Attributes on one message."""
LONGEST_NAME = 256
"""Characters of a name, and of a type."""
_NAME = re.compile(r"(?!\.)(?!.*\.\.)(?!(?i:AWS\.|Amazon\.))[A-Za-z0-9_.-]{1,256}(?<!\.)")
_TYPE = re.compile(r"(String|Number|Binary)(\..+)?", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""A character that neither a body nor a value may hold. Source: SendMessage `MessageBody`; XML 1.0, production 2."""
ID = re.compile(r"[!-~]{1,128}")
"""The id of a group, of a message for deduplication, or of a receive attempt.

Source: SendMessage `MessageGroupId`: up to 128 alphanumeric characters and punctuation marks.
"""
_DIGITS = 38
_LARGEST_POWER = 126
_STRING, _BINARY = b"\x01", b"\x02"


def refused(attributes: Mapping[str, str], types: Mapping[str, str] | None = None) -> LimitExceeded | None:
    """Why these are no message attributes of Amazon SQS; None: they are.

    Args:
        attributes: values by name; those of type Binary in base64.
        types: the types of those that are not plain strings.
    """
    if len(attributes) > MOST:
        return LimitExceeded("number of attributes", len(attributes), f"at most {MOST}")
    for name, value in attributes.items():
        kind = (types or {}).get(name, "String")
        if not _NAME.fullmatch(name):
            limit = (
                "1 to 256 of A-Z, a-z, 0-9, _, - and single dots between them, and must not begin with AWS. or Amazon."
            )
            return LimitExceeded("name of an attribute", name, limit)
        if len(kind) > LONGEST_NAME or not _TYPE.fullmatch(kind):
            limit = "String, Number or Binary, with a label after a dot if you like, at most 256 characters"
            return LimitExceeded(f"type of attribute {name!r}", kind, limit)
        if broken := _bad_value(kind, value):
            return LimitExceeded(f"value of attribute {name!r}", f"{len(value)} characters", broken)
    return None


def md5_of_body(body: bytes) -> str:
    """Hexadecimal; `MD5OfMessageBody` of the answer to a send."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def md5_of_attributes(attributes: Mapping[str, str], types: Mapping[str, str] | None = None) -> str | None:
    """Hexadecimal; `MD5OfMessageAttributes` of the answer to a send. None: there are no attributes.

    Sorted by name, each as name, type and value, their lengths before them in four bytes, and one byte before the value
    for how it travels: 1 as text, 2 as bytes.
    """
    if not attributes:
        return None
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        for part in _encoded(name, (types or {}).get(name, "String"), attributes[name]):
            digest.update(part)
    return digest.hexdigest()


def _encoded(name: str, kind: str, value: str) -> Iterator[bytes]:
    binary = kind.startswith("Binary")
    content = base64.b64decode(value) if binary else value.encode()
    yield from _counted(name.encode())
    yield from _counted(kind.encode())
    yield _BINARY if binary else _STRING
    yield from _counted(content)


def _counted(content: bytes) -> Iterator[bytes]:
    yield len(content).to_bytes(4, "big")
    yield content


def _bad_value(kind: str, value: str) -> str | None:
    """The rule that a value breaks."""
    if not value:
        return "not empty"
    match kind.partition(".")[0]:
        case "Number":
            return None if _is_number(value) else f"a number of at most {_DIGITS} digits, between 10^-128 and 10^126"
        case "Binary":
            return None if _is_base64(value) else "base64"
        case _:
            return "text that XML can hold" if UNFIT.search(value) else None


def _is_number(value: str) -> bool:
    found = _NUMBER.fullmatch(value)
    if found is None or len(re.sub(r"\D", "", found[1]).lstrip("0")) > _DIGITS:
        return False
    whole = found[1].partition(".")[0].lstrip("0")
    power = int((found[2] or "e0")[1:]) + max(0, len(whole) - 1)
    return -_LARGEST_POWER - 2 <= power <= _LARGEST_POWER


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
