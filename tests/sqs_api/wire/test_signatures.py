"""Signature Version 4, as botocore signs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from redrive.errors import DeclarationError
from redrive.sqs_api.calls import Refused
from redrive.sqs_api.signatures import Message, parsed_keys, verify
from tests.sqs_api.wire.endpoint import KEY, SECRET, Endpoint

KEYS = {KEY: SECRET, "other": "another"}
MINUTE = 60.0
WRONG = "not-the-secret"
URL = "http://127.0.0.1:9324"
Change = Callable[[dict[bytes, bytes]], object]


def signed(
    path: str = "/",
    body: bytes = b"{}",
    *,
    secret: str = SECRET,
    service: str = "sqs",
    auth: Any = SigV4Auth,
    **more: Any,
) -> tuple[Message, float]:
    """A request as botocore signs it, and when it did."""
    method = "POST" if body else "GET"
    headers = {"Host": "127.0.0.1:9324", "X-Amz-Target": "AmazonSQS.ListQueues", "Odd": "  two   words "}
    request = AWSRequest(method, URL + path, headers=headers if body else {"Host": "127.0.0.1:9324"}, data=body)
    auth(Credentials(KEY, secret, "a-token"), service, "eu-west-3", **more).add_auth(request)
    parts = urlsplit(request.url)
    found = {name.lower().encode(): value.encode() for name, value in request.headers.items()}
    return Message(method, parts.path.encode(), parts.query.encode(), found, body), datetime.now(UTC).timestamp()


def presigned(path: str = "/1/orders?Action=SendMessage&MessageBody=a%20%26%2Bb", **more: Any) -> tuple[Message, float]:
    return signed(path, b"", auth=SigV4QueryAuth, **{"expires": 60, **more})


def refusal(message: Message, now: float, keys: dict[str, str] | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        verify(message, KEYS if keys is None else keys, now)
    return caught.value


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", b"{}"),
        ("/000000000000/orders", b"Action=ListQueues"),
        ("/a%20b/%C3%A9~", b"{}"),
        ("/?Action=ListQueues&QueueNamePrefix=%C3%A9%20%2F&a=", b"{}"),
        ("/?b=2&a=1&a=0", b"\xff\x00"),
    ],
)
def test_what_botocore_signs_is_accepted(path: str, body: bytes) -> None:
    """With its path, its query and its body, whatever is in them, from any region."""
    message, now = signed(path, body)
    assert verify(message, KEYS, now) == KEY


def test_what_botocore_presigns_is_accepted_for_its_time() -> None:
    """And no longer."""
    message, now = presigned()
    assert verify(message, KEYS, now) == KEY
    assert verify(message, KEYS, now + 59) == KEY
    assert "expired" in refusal(message, now + 62).message


@pytest.mark.parametrize("minutes", [-14.9, 14.9])
def test_clocks_may_differ_by_fifteen_minutes(minutes: float) -> None:
    """In either direction."""
    message, now = signed()
    assert verify(message, KEYS, now + minutes * MINUTE) == KEY


@pytest.mark.parametrize(("minutes", "word"), [(-15.1, "not yet current"), (15.1, "expired")])
def test_clocks_may_not_differ_by_more(minutes: float, word: str) -> None:
    """A signature that was overheard is worth nothing for long."""
    message, now = signed()
    refused = refusal(message, now + minutes * MINUTE)
    assert refused.code == "SignatureDoesNotMatch"
    assert word in refused.message


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "PUT"},
        {"path": b"/000000000000/other"},
        {"query": b"Action=PurgeQueue"},
        {"body": b'{"a":1}'},
        {"body": b""},
    ],
)
def test_a_request_that_was_changed_is_refused(changed: dict[str, Any]) -> None:
    """Whatever part of it."""
    message, now = signed()
    assert refusal(message._replace(**changed), now).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("name", [b"host", b"x-amz-target", b"x-amz-date", b"x-amz-security-token", b"odd"])
def test_a_signed_header_that_was_changed_is_refused(name: bytes) -> None:
    """Or taken away."""
    message, now = signed()
    value = message.headers[name]
    other = value[:-2] + (b"1Z" if value[-2:] != b"1Z" else b"2Z")
    assert refusal(message._replace(headers={**message.headers, name: other}), now).code == "SignatureDoesNotMatch"
    without = {key: one for key, one in message.headers.items() if key != name}
    assert refusal(message._replace(headers=without), now).code in {"SignatureDoesNotMatch", "IncompleteSignature"}


def test_what_a_request_does_has_to_be_signed() -> None:
    """Or who overhears a signed request could make another of it."""
    message, now = signed("/", b"{}")
    headers = {key: one for key, one in message.headers.items() if key != b"x-amz-target"}
    request = AWSRequest("POST", f"{URL}/", headers={"Host": "127.0.0.1:9324"}, data=b"{}")
    SigV4Auth(Credentials(KEY, SECRET), "sqs", "eu-west-3").add_auth(request)
    headers = {name.lower().encode(): value.encode() for name, value in request.headers.items()}
    assert verify(message._replace(headers=headers), KEYS, now) == KEY
    refused = refusal(message._replace(headers={**headers, b"x-amz-target": b"AmazonSQS.PurgeQueue"}), now)
    assert "'x-amz-target' must be" in refused.message


def test_a_wrong_secret_is_refused() -> None:
    """In a header and in a URL."""
    for message, now in (signed(secret=WRONG), presigned(secret=WRONG)):
        assert refusal(message, now).code == "SignatureDoesNotMatch"
        assert WRONG not in refusal(message, now).message


def test_an_unknown_key_is_refused() -> None:
    """By another name than a wrong secret, as AWS does."""
    message, now = signed()
    assert refusal(message, now, {"other": SECRET}).code == "InvalidClientTokenId"


def test_a_signature_for_another_service_is_refused() -> None:
    """Even with the right secret."""
    message, now = signed(service="sns")
    assert "correct service: 'sqs'" in refusal(message, now).message


def test_an_unsigned_request_is_refused() -> None:
    """Where there are keys."""
    assert refusal(Message("GET", b"/", b"Action=ListQueues", {b"host": b"a"}, b""), 0.0).code == "AccessDenied"


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic abc",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=a/20260101/r/sqs/aws4_request, SignedHeaders=host",
        "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 =,=,=",
        "AWS4-ECDSA-P256-SHA256 Credential=a/20260101/sqs/aws4_request, SignedHeaders=host, Signature=0",
    ],
)
def test_an_incomplete_signature_is_refused(authorization: str) -> None:
    """With what it lacks, and without what it says."""
    message, now = signed()
    headers = {**message.headers, b"authorization": authorization.encode()}
    refused = refusal(message._replace(headers=headers), now)
    assert refused.code == "IncompleteSignature"
    assert "Signature=0" not in refused.message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"X-Amz-Expires=60", b"X-Amz-Expires=9999999"),
        (b"X-Amz-Expires=60", b"X-Amz-Expires=-1"),
        (b"X-Amz-Expires=60", b"X-Amz-Expires=%C2%B2"),
        (b"X-Amz-Expires=60", b""),
        (b"X-Amz-Date=2", b"X-Amz-Date=x"),
        (b"X-Amz-Algorithm=AWS4-HMAC-SHA256", b"X-Amz-Algorithm=none"),
        (b"X-Amz-SignedHeaders=host", b"X-Amz-SignedHeaders="),
    ],
)
def test_an_incomplete_url_is_refused(old: bytes, new: bytes) -> None:
    """Or one that would live too long."""
    message, now = presigned()
    assert old in message.query
    assert refusal(message._replace(query=message.query.replace(old, new)), now).code == "IncompleteSignature"


def test_a_url_cannot_be_changed() -> None:
    """Its host has to be signed, and its parameters are."""
    message, now = presigned()
    query = message.query.replace(b"SignedHeaders=host", b"SignedHeaders=date")
    assert "'host' must be" in refusal(message._replace(query=query), now).message
    query = message.query.replace(b"SendMessage", b"PurgeQueue")
    assert refusal(message._replace(query=query), now).code == "SignatureDoesNotMatch"


def test_boto3_is_let_in_by_its_key(locked: Endpoint) -> None:
    """And the service learns which it was."""
    assert locked.client().list_queues()["QueueUrls"]
    assert locked.service.calls[0][2].access_key == KEY


@pytest.mark.parametrize(
    ("key", "secret", "code", "name"),
    [
        (KEY, WRONG, "SignatureDoesNotMatch", "InvalidSignatureException"),
        ("unknown", SECRET, "InvalidClientTokenId", "UnrecognizedClientException"),
    ],
)
def test_boto3_is_kept_out_without_it(locked: Endpoint, key: str, secret: str, code: str, name: str) -> None:
    """And nothing is called."""
    with pytest.raises(ClientError) as caught:
        locked.client(key, secret).list_queues()
    response = caught.value.response
    assert (response["Error"]["Code"], response["Error"]["QueryErrorCode"]) == (code, name)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert locked.service.calls == []


def test_a_presigned_url_is_let_in(locked: Endpoint) -> None:
    """As by curl."""
    request = AWSRequest("GET", f"{locked.queue}?Action=SendMessage&MessageBody=a%20b")
    SigV4QueryAuth(Credentials(KEY, SECRET), "sqs", "us-east-1", expires=60).add_auth(request)
    assert locked.ask("GET", request.url.removeprefix(locked.url)).status == 200
    assert locked.service.calls[0][1] == {"QueueUrl": locked.queue, "MessageBody": "a b"}


def test_an_unsigned_request_is_kept_out(locked: Endpoint) -> None:
    """In both protocols."""
    assert locked.json("ListQueues", {}).status == 403
    answer = locked.query({"Action": "ListQueues"})
    assert answer.status == 403
    assert b"<Code>AccessDenied</Code>" in answer.body
    assert locked.service.calls == []


def test_keys_are_read_from_one_line() -> None:
    """A secret may hold what base64 holds."""
    assert parsed_keys("a:s/e+c=, b:t") == {"a": "s/e+c=", "b": "t"}


@pytest.mark.parametrize("text", ["hunter2", "a:b,hunter2", "a:b,:hunter2", "hunter2:", "a:b,"])
def test_keys_that_cannot_be_read_are_not_shown(text: str) -> None:
    """They may be secrets."""
    with pytest.raises(DeclarationError) as caught:
        parsed_keys(text)
    assert "hunter2" not in str(caught.value)
    assert "ID:SECRET" in str(caught.value)
