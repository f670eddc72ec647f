"""Whatever a client sends: no 5xx, no hang, and a sane request is answered afterwards.

The long forms are for `make test-long`.
"""

from __future__ import annotations

import gzip
import json
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redrive.sqs_api.xml import error, escaped
from tests.sqs_api.wire.endpoint import CONTRACT, KEY, SECRET, Endpoint, parsed, read_xml, until_quiet

PATIENCE = 0.02
"""Seconds after which an endpoint that says nothing waits for the rest of a request."""
SHORT = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
LONG = settings(SHORT, max_examples=10_000)


def shapes() -> dict[str, Any]:
    found = find_spec("botocore")
    assert found is not None
    assert found.submodule_search_locations
    (file,) = Path(found.submodule_search_locations[0]).glob("data/sqs/*/service-2.json.gz")
    return dict(json.loads(gzip.decompress(file.read_bytes()))["shapes"])


SHAPES = shapes()
WILD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**31 - 1, max_value=2**64)
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["", "\x00", "\ud800", "\U0001f375", "<&>", "9" * 5_000, "http://127.0.0.1/0/a", "AAA="]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def values(shape: str) -> st.SearchStrategy[Any]:
    """What fits a shape, and now and then something that does not."""
    return st.integers(0, 15).flatmap(lambda chance: WILD if chance == 15 else _fitting(shape))


def _fitting(name: str) -> st.SearchStrategy[Any]:
    shape = SHAPES[name]
    match shape["type"]:
        case "structure":
            members = {one: values(member["shape"]) for one, member in shape["members"].items()}
            required = {one: members.pop(one) for one in shape.get("required", ())}
            return st.fixed_dictionaries(required, optional={**members, "Unknown": WILD}) | st.fixed_dictionaries(
                {}, optional={**required, **members}
            )
        case "list":
            return st.lists(values(shape["member"]["shape"]), max_size=12)
        case "map":
            return st.dictionaries(st.text(max_size=8), values(shape["value"]["shape"]), max_size=4)
        case "integer" | "long":
            return st.integers(min_value=-1, max_value=50_000)
        case _:
            return st.text(max_size=30)


INPUTS = {name: f"{name}Request" for name in CONTRACT.operations if f"{name}Request" in SHAPES}
CALLS = st.sampled_from(sorted(INPUTS)).flatmap(lambda name: st.tuples(st.just(name), values(INPUTS[name])))
NAMES = st.sampled_from(
    [
        "Action",
        "Version",
        "QueueUrl",
        "MessageBody",
        "Entries",
        "SendMessageBatchRequestEntry",
        "Attribute",
        "MessageAttribute",
        "AttributeName",
        "Tag",
        "Name",
        "Value",
        "StringValue",
        "BinaryValue",
        "member",
        "entry",
        "1",
        "2",
        "0",
        "-1",
        "99999999999",
        "\u00b2",
        "",
    ]
)
FORMS = st.lists(st.tuples(st.lists(NAMES, max_size=20).map(".".join), st.text(max_size=20)), max_size=12)
HEAD = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Amz-Target: AmazonSQS.SendMessage\r\n"
BODY = b'{"QueueUrl":"u","MessageBody":"hello"}'
GOOD = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
PIECES = st.sampled_from(
    [
        GOOD,
        HEAD,
        BODY,
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\x00",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%zz?Action=%zz&%ff=%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET http://127.0.0.1:1/?Action=ListQueues HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET //?Action=ListQueues HTTP/1.0\r\n\r\n",
        b"POST * HTTP/1.1\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Content-Length: 10\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n",
        b"Connection: close\r\n",
        b"Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: a\r\n",
        b"Expect: 100-continue\r\n",
        b"Authorization: AWS4-HMAC-SHA256 Credential=\xff/, =\r\n",
        b"X-Amz-Target: \xff\xfe\r\n",
        b": no name\r\n",
        b"X" * 2_000,
        b"ffffffffffffffff\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"-1\r\n",
        b"5;a=\xff\r\n",
    ]
)
NOISE = st.lists(PIECES | st.binary(max_size=40), max_size=8).map(b"".join)
DAMAGE = st.tuples(st.integers(0, 10_000), st.integers(0, 40), st.binary(max_size=10))


def damaged(content: bytes, damage: tuple[int, int, bytes]) -> bytes:
    """Without some of its bytes, and with others in their place."""
    where, cut, noise = damage
    at = where % len(content)
    return content[:at] + noise + content[at + cut :]


DAMAGED = DAMAGE.map(lambda damage: damaged(GOOD, damage))


def signed(endpoint: Endpoint) -> bytes:
    """The good request, as botocore signs it."""
    headers = {"Host": f"127.0.0.1:{endpoint.port}", "X-Amz-Target": "AmazonSQS.SendMessage"}
    request = AWSRequest("POST", f"{endpoint.url}/", headers=headers, data=BODY)
    SigV4Auth(Credentials(KEY, SECRET), "sqs", "us-east-1").add_auth(request)
    given = {**dict(request.headers.items()), "Content-Length": str(len(BODY))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"POST / HTTP/1.1\r\n{lines}\r\n".encode() + BODY


def check_json(endpoint: Endpoint, call: tuple[str, Any]) -> None:
    operation, value = call
    answer = endpoint.json(operation, json.dumps(value).encode())
    assert answer.status < 500, answer
    if answer.body:
        answer.json()


def check_form(endpoint: Endpoint, operation: str, form: list[tuple[str, str]]) -> None:
    named = [("Action", operation), *form]
    body = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in named).encode()
    answer = endpoint.ask("POST", "/000000000000/orders", body)
    assert answer.status < 500, answer
    answer.xml()


def check_raw(endpoint: Endpoint, content: bytes) -> None:
    with closing(endpoint.connect()) as connection:
        connection.sendall(content)
        connection.settimeout(PATIENCE)
        answer, _ = until_quiet(connection)  # it may wait for more
    assert answer == b"" or parsed(answer).status < 500, answer
    assert b"HTTP/1.1 5" not in answer


@given(call=CALLS)
@SHORT
def test_json_of_any_shape_is_answered(endpoint: Endpoint, call: tuple[str, Any]) -> None:
    """For every operation, with values that fit and others."""
    endpoint.service.forget(patient=False)
    check_json(endpoint, call)


@given(operation=st.sampled_from(sorted(INPUTS)), form=FORMS)
@SHORT
def test_a_form_of_any_shape_is_answered(endpoint: Endpoint, operation: str, form: list[tuple[str, str]]) -> None:
    """With names that go anywhere."""
    endpoint.service.forget(patient=False)
    check_form(endpoint, operation, form)


@given(content=NOISE | DAMAGED)
@SHORT
def test_any_bytes_are_answered_or_hung_up_on(endpoint: Endpoint, content: bytes) -> None:
    """Truncated, pipelined, chunked without sense, or not HTTP at all."""
    endpoint.service.forget(patient=False)
    check_raw(endpoint, content)
    assert endpoint.is_well()


@given(damage=DAMAGE)
@SHORT
def test_a_signed_request_that_is_damaged_does_what_was_signed_or_nothing(
    locked: Endpoint, damage: tuple[int, int, bytes]
) -> None:
    """Only what the signature does not cover may differ."""
    locked.service.forget(patient=False)
    check_raw(locked, damaged(signed(locked), damage))
    told = [(operation, dict(request)) for operation, request, _ in locked.service.calls]
    assert told in ([], [("SendMessage", {"QueueUrl": "u", "MessageBody": "hello"})])


@given(text=st.text(st.characters()))
@SHORT
def test_any_text_can_stand_in_xml(text: str) -> None:
    """What XML cannot say is marked; all else is read as it was."""
    read = read_xml(f"<a>{escaped(text)}</a>".encode()).text or ""
    assert len(read) == len(text)
    assert all(one in {other, "\ufffd"} for one, other in zip(read, text, strict=True))
    assert read_xml(error("Sender", text, text, "id"))[0][2].text in {read, None}


@pytest.mark.long
@pytest.mark.timeout(600)
@given(call=CALLS, form=FORMS, content=NOISE | DAMAGED)
@LONG
def test_anything_is_answered(
    endpoint: Endpoint, call: tuple[str, Any], form: list[tuple[str, str]], content: bytes
) -> None:
    """All of the above, for minutes."""
    endpoint.service.forget(patient=False)
    check_json(endpoint, call)
    check_form(endpoint, call[0], form)
    check_raw(endpoint, content)
    assert endpoint.is_well()
