"""AWS Signature Version 4, checked: in a header, or in the query of a presigned URL.

A signature covers method, path, query, the named headers and the body, with a key that is made of the secret, the day,
the region and the service. Any region will do: one endpoint stands for all. Source: AWS General Reference, "Signature
Version 4 signing process".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

from redrive.errors import DeclarationError
from redrive.sqs_api.calls import Refused

SKEW = 15 * 60
"""Seconds by which a client's clock may differ."""
LONGEST_LIFE = 7 * 86_400
"""Seconds for which a presigned URL may live."""
VARIABLE = "REDRIVE_ACCESS_KEYS"
_ALGORITHM = "AWS4-HMAC-SHA256"
_SERVICE, _TERMINATOR = "sqs", "aws4_request"
_SCOPE_PARTS = 5
_TIME = "%Y%m%dT%H%M%SZ"
_BLANKS = re.compile("[ \t]+")
_FIELDS = ("Credential", "Signature", "SignedHeaders")
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)


class Message(NamedTuple):
    """What of a request can be signed."""

    method: str
    path: bytes
    """As it came, percent signs and all."""
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes


class _Claim(NamedTuple):
    """What a request says of its signature."""

    credential: str
    signed: str
    signature: str
    time: str
    lives: int
    """Seconds after `time` in which it counts."""


def parsed_keys(text: str) -> dict[str, str]:
    """Secrets by the ids of their keys, from `id:secret,id:secret`.

    Raises:
        DeclarationError: If it is not like that; no part of it is repeated, since it may be a secret.
    """
    keys: dict[str, str] = {}
    for number, entry in enumerate(text.split(","), start=1):
        name, _, secret = entry.strip().partition(":")
        if not name or not secret:
            raise DeclarationError(
                f"entry {number} of {VARIABLE}", "is not ID:SECRET", f"write {VARIABLE}=ID:SECRET,ID:SECRET"
            )
        keys[name] = secret
    return keys


def named_key(authorization: bytes | None) -> str | None:
    """The id of the key in an Authorization header, unchecked."""
    if authorization is None:
        return None
    _, found, rest = authorization.partition(b"Credential=")
    return rest.partition(b"/")[0].decode("latin-1") if found else None


def verify(message: Message, keys: Mapping[str, str], now: float) -> str:
    """The id of the key that signed.

    Args:
        message: the request.
        keys: secrets by id.
        now: seconds since 1970-01-01 UTC.

    Raises:
        Refused: If nobody known did, or not now.
    """
    claim, query = _claim(message)
    key, day, region = _scope(claim.credential)
    secret = keys.get(key)
    if secret is None:
        raise Refused("InvalidClientTokenId", "The security token included in the request is invalid.")
    _check_time(claim, day, now)
    _check_headers(claim, message.headers)
    summary = hashlib.sha256(_canonical(message, query, claim.signed)).hexdigest()
    text = f"{_ALGORITHM}\n{claim.time}\n{day}/{region}/{_SERVICE}/{_TERMINATOR}\n{summary}"
    expected = hmac.digest(_signing_key(secret, day, region), text.encode(), "sha256").hex()
    if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
        raise Refused("SignatureDoesNotMatch", _MISMATCH)
    return key


def _claim(message: Message) -> tuple[_Claim, list[tuple[str, str]]]:
    """What the request claims, and the parameters of its query that are signed."""
    query = _pairs(message.query)
    authorization = message.headers.get(b"authorization")
    if authorization is not None:
        return _from_header(authorization.decode("latin-1"), message.headers), query
    given = dict(query)
    if "X-Amz-Algorithm" not in given and "X-Amz-Signature" not in given:
        raise Refused("AccessDenied", "Access to the resource is denied: the request is not signed.")
    return _from_query(given), [pair for pair in query if pair[0] != "X-Amz-Signature"]


def _from_header(text: str, headers: Mapping[bytes, bytes]) -> _Claim:
    algorithm, _, rest = text.partition(" ")
    if algorithm != _ALGORITHM:
        raise Refused("IncompleteSignature", f"Unsupported AWS 'algorithm': only {_ALGORITHM} is known.")
    given = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    absent = [f"Authorization header requires '{name}' parameter." for name in _FIELDS if not given.get(name)]
    time = headers.get(b"x-amz-date")
    if time is None:
        absent.append("Authorization header requires existence of an 'X-Amz-Date' header.")
    if absent or time is None:
        raise Refused("IncompleteSignature", " ".join(absent))
    return _Claim(given["Credential"], given["SignedHeaders"], given["Signature"], time.decode("latin-1"), SKEW)


def _from_query(given: Mapping[str, str]) -> _Claim:
    if given.get("X-Amz-Algorithm") != _ALGORITHM:
        raise Refused("IncompleteSignature", f"Unsupported AWS 'algorithm': only {_ALGORITHM} is known.")
    names = [f"X-Amz-{name}" for name in (*_FIELDS, "Date", "Expires")]
    absent = [f"AWS query-string parameters must include '{name}'." for name in names if not given.get(name)]
    if absent:
        raise Refused("IncompleteSignature", " ".join(absent))
    lives = given["X-Amz-Expires"]
    if not lives.isascii() or not lives.isdecimal() or len(lives) > len(str(LONGEST_LIFE)) or int(lives) > LONGEST_LIFE:
        raise Refused("IncompleteSignature", f"X-Amz-Expires must be a number of seconds up to {LONGEST_LIFE}.")
    credential, signature, signed, time = (given[name] for name in names[:4])
    return _Claim(credential, signed, signature, time, int(lives))


def _scope(credential: str) -> tuple[str, str, str]:
    """Key, day and region of a credential."""
    parts = credential.rsplit("/", _SCOPE_PARTS - 1)
    if len(parts) != _SCOPE_PARTS:
        shape = f"Credential must have at least {_SCOPE_PARTS} slash-delimited elements"
        raise Refused("IncompleteSignature", f"{shape}, KEYID/DATE/REGION/{_SERVICE}/{_TERMINATOR}.")
    key, day, region, service, terminator = parts
    if service != _SERVICE:
        raise Refused("SignatureDoesNotMatch", f"Credential should be scoped to correct service: '{_SERVICE}'.")
    if terminator != _TERMINATOR:
        raise Refused("SignatureDoesNotMatch", f"Credential should be scoped with a valid terminator: '{_TERMINATOR}'.")
    return key, day, region


def _check_time(claim: _Claim, day: str, now: float) -> None:
    signed_at = _instant(claim.time)
    if not claim.time.startswith(day):
        raise Refused("SignatureDoesNotMatch", "Date in Credential scope does not match the date of the request.")
    if now > signed_at + claim.lives:
        limit = _shown(now - claim.lives)
        raise Refused("SignatureDoesNotMatch", f"Signature expired: {claim.time} is now earlier than {limit}.")
    if signed_at > now + SKEW:
        limit = f"{_shown(now + SKEW)} ({_shown(now)} + 15 min.)"
        raise Refused("SignatureDoesNotMatch", f"Signature not yet current: {claim.time} is still later than {limit}.")


def _check_headers(claim: _Claim, headers: Mapping[bytes, bytes]) -> None:
    """What decides where a request goes and what it does has to be signed, or it could be sent elsewhere."""
    signed = claim.signed.split(";")
    for name in ("host", "x-amz-target"):
        if name not in signed and name.encode() in headers:
            raise Refused("SignatureDoesNotMatch", f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")


def _canonical(message: Message, query: list[tuple[str, str]], signed: str) -> bytes:
    parameters = "&".join(f"{name}={value}" for name, value in sorted((_quoted(n), _quoted(v)) for n, v in query))
    path = quote(message.path or b"/", safe="/~")
    lines = [message.method, path, parameters]
    lines += [f"{name}:{_header(message.headers, name)}" for name in signed.split(";")]
    lines += ["", signed, hashlib.sha256(message.body).hexdigest()]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _header(headers: Mapping[bytes, bytes], name: str) -> str:
    value = headers.get(name.encode("utf-8", "replace"), b"").decode("utf-8", "surrogateescape")
    return (_BLANKS.sub(" ", value) if "  " in value or "\t" in value else value).strip()


def _pairs(query: bytes) -> list[tuple[str, str]]:
    if not query:
        return []
    try:
        return parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        raise Refused("MalformedQueryString", "The query string is not UTF-8.") from None


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


def _shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(_TIME)


@lru_cache(maxsize=256)
def _instant(text: str) -> float:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        shape = "Date must be in ISO-8601 'basic format': YYYYMMDD'T'HHMMSS'Z'."
        raise Refused("IncompleteSignature", shape) from None


@lru_cache(maxsize=256)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, _SERVICE, _TERMINATOR):
        key = hmac.digest(key, part.encode("utf-8", "replace"), "sha256")
    return key
