"""Requests are signed as botocore signs them, in less time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from redrive.brokers.sqs import SqsAddress, SqsBroker
from redrive.brokers.sqs.client import Client
from redrive.brokers.sqs.signing import Signer
from redrive.errors import BrokerUnavailable
from redrive.testing.broker_suite import message, new_queue, receive, send
from tests.brokers.sqs.server_process import Server, server

_HEADERS = {
    "X-Amz-Target": "AmazonSQS.SendMessage",
    "Content-Type": "application/x-amz-json-1.0",
    "User-Agent": "redrive",
    "X-Amzn-Trace-Id": "Root=1",
    "X-Amz-Meta": "  two  spaces ",
}
_URLS = (
    "https://sqs.eu-west-3.amazonaws.com/",
    "https://sqs.eu-west-3.amazonaws.com:443",
    "http://127.0.0.1:9324/",
    "http://[::1]:9324/123456789012/a%20b/../orders?b=2&a=1",
)
_names = st.sampled_from(["x-amz-meta", "X-Amz-Date", "Host", "date", "Traceparent", "Authorization"])
_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
_bodies = st.one_of(st.binary(max_size=40), st.text(max_size=10), st.just({"Action": "ListQueues"}))
_CONTEXTS: tuple[dict[str, Any], ...] = (
    {},
    {"payload_signing_enabled": False},
    {"checksum": {"request_algorithm": {"in": "trailer"}}},
)


_asked = st.fixed_dictionaries(
    {
        "url": st.sampled_from(_URLS),
        "headers": st.dictionaries(_names, _values, max_size=3).map(lambda some: _HEADERS | some),
        "data": _bodies,
    }
)
_credentials = st.builds(
    ReadOnlyCredentials, st.just("AKIDEXAMPLE"), st.text(min_size=1, max_size=8), st.none() | st.just("a token")
)


def _signed(
    signer: type[SigV4Auth], credentials: ReadOnlyCredentials, asked: dict[str, Any], context: dict[str, Any]
) -> tuple[str, list[tuple[str, str]]]:
    """When a request was signed, and its headers after that."""
    request = AWSRequest(method="POST", **asked)
    request.context = dict(context)
    signer(credentials, "sqs", "eu-west-3").add_auth(request)
    return request.context["timestamp"], request.headers.items()


@given(credentials=_credentials, asked=_asked, context=st.sampled_from(_CONTEXTS))
def test_a_request_is_signed_as_botocore_signs_it(
    credentials: ReadOnlyCredentials, asked: dict[str, Any], context: dict[str, Any]
) -> None:
    """Whatever is in it: every header comes out alike."""
    theirs, ours = (_signed(signer, credentials, asked, context) for signer in (SigV4Auth, Signer))
    while ours[0] != theirs[0]:  # a second began in between
        theirs, ours = ours, _signed(SigV4Auth, credentials, asked, context)
    assert ours == theirs


def test_a_request_can_be_signed_anew() -> None:
    """What was added since is signed too."""
    credentials = ReadOnlyCredentials("AKIDEXAMPLE", "secret", None)
    request = AWSRequest(method="POST", url=_URLS[0], headers=_HEADERS, data=b"{}")
    signer = Signer(credentials, "sqs", "eu-west-3")
    signer.add_auth(request)
    request.headers["X-Amz-Later"] = "1"
    signer.add_auth(request)
    assert ";x-amz-later;" in request.headers["Authorization"]
    assert len(request.headers.get_all("Authorization")) == 1


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An endpoint that takes signed requests alone."""
    with server("endpoint_process.py", str(tmp_path_factory.mktemp("strict")), "AKIDEXAMPLE:a secret") as running:
        yield running


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    given: str = getattr(request, "param", "a secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", given)
    return given


@pytest.mark.usefixtures("secret")
async def test_an_endpoint_that_checks_signatures_is_served(strict: Server) -> None:
    """A message goes there and comes back."""
    broker = SqsBroker(SqsAddress(endpoint_url=strict.url))
    try:
        queue = await new_queue(broker)
        await send(broker, queue, message("ünsigned".encode()))
        (taken,) = await receive(broker, queue, lease=30)
        assert taken.message.body == "ünsigned".encode()
    finally:
        await broker.close()


@pytest.mark.parametrize("secret", ["another secret"], indirect=True)
@pytest.mark.usefixtures("secret")
async def test_a_wrong_secret_is_refused(strict: Server) -> None:
    """The signature is made of it."""
    broker = SqsBroker(SqsAddress(endpoint_url=strict.url))
    try:
        with pytest.raises(BrokerUnavailable, match="credentials are not accepted"):
            await broker.queues()
    finally:
        await broker.close()


async def test_the_quick_signer_is_the_one_in_use(ours: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client's requests go through it."""
    signed: list[AWSRequest] = []
    add_auth = Signer.add_auth

    def noted(signer: Signer, request: AWSRequest) -> None:
        signed.append(request)
        add_auth(signer, request)

    monkeypatch.setattr(Signer, "add_auth", noted)
    client = Client(SqsAddress(endpoint_url=ours.url))
    try:
        await client.read("ListQueues", "*")
    finally:
        await client.close()
    assert [one.headers["X-Amz-Target"] for one in signed] == ["AmazonSQS.ListQueues"]
    assert signed[0].headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")
