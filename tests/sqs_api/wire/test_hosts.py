"""Who may reach an endpoint without keys."""

from __future__ import annotations

import pytest

from redrive.errors import DeclarationError, OperationRefused
from redrive.sqs_api.calls import Refused
from redrive.sqs_api.hosts import Hosts, is_loopback, listen
from tests.sqs_api.wire.endpoint import Endpoint

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what nobody may listen on without keys
LOCAL = ["127.0.0.1:9324", "localhost", "LOCALHOST:1", "sqs.localhost:9324", "[::1]:9324", "127.8.8.8", "my-host:1"]
FOREIGN = [
    "evil.example",
    "127.0.0.1.evil.example:9324",
    "localhost.evil.example",
    "10.0.0.1",
    "[2001:db8::1]",
    EVERYWHERE,
]
NONSENSE = ["", "a b", "a/b", "localhost:", "localhost:999999", "user@localhost", "[::1", "localhost\x00", "\xff"]


@pytest.mark.parametrize("host", LOCAL)
def test_this_machine_is_answered(host: str) -> None:
    """By its loopback names and addresses, and by the name that the endpoint is bound to."""
    assert Hosts("my-host", signed=False).base_url({b"host": host.encode()}) == f"http://{host}"


@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_name_is_not_answered(host: str) -> None:
    """Whoever made it point here wants a browser to believe that this is theirs."""
    with pytest.raises(Refused) as caught:
        Hosts("127.0.0.1", signed=False).base_url({b"host": host.encode()})
    assert caught.value.code == "InvalidAddress"


@pytest.mark.parametrize("host", FOREIGN)
def test_with_keys_any_name_will_do(host: str) -> None:
    """It is signed."""
    assert Hosts(EVERYWHERE, signed=True).base_url({b"host": host.encode()}) == f"http://{host}"


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("host", NONSENSE)
def test_what_is_no_host_is_refused(host: str, *, signed: bool) -> None:
    """Queue URLs are made of it."""
    with pytest.raises(Refused):
        Hosts("127.0.0.1", signed=signed).base_url({b"host": host.encode("latin-1")})


@pytest.mark.parametrize(
    "header", [{"origin": "http://evil.example"}, {"sec_fetch_site": "cross-site"}, {"origin": "null"}]
)
def test_a_web_page_is_not_answered(endpoint: Endpoint, header: dict[str, str]) -> None:
    """A form that a page sends needs nobody's leave to be sent."""
    answer = endpoint.query({"Action": "PurgeQueue", "QueueUrl": "u"}, **header)
    assert answer.status == 403
    assert b"<Code>AccessDenied</Code>" in answer.body
    assert endpoint.service.calls == []


def test_a_person_may_type_an_address(endpoint: Endpoint) -> None:
    """What a browser sends then comes from no page."""
    assert endpoint.ask("GET", "/?Action=ListQueues", sec_fetch_site="none").status == 200


def test_a_foreign_name_is_answered_with_why(endpoint: Endpoint) -> None:
    """And with the remedy."""
    answer = endpoint.json("ListQueues", {}, host="evil.example")
    assert answer.status == 404
    assert "REDRIVE_ACCESS_KEYS" in answer.json()["message"]
    assert endpoint.ask("GET", "/metrics", host="evil.example").status == 403


def test_a_public_url_is_where_queues_are_found() -> None:
    """Whoever asks is told it, by whatever name it was asked."""
    hosts = Hosts("127.0.0.1", signed=True, public_url="HTTPS://sqs.example.net:8443/")
    for name in (b"sqs.example.net:8443", b"127.0.0.1:9324"):
        assert hosts.base_url({b"host": name}) == "https://sqs.example.net:8443"


def test_the_name_in_a_public_url_is_answered() -> None:
    """Without keys it is this machine's own; no other is answered for that."""
    hosts = Hosts("127.0.0.1", signed=False, public_url="https://shop.localhost")
    assert hosts.base_url({b"host": b"shop.localhost"}) == "https://shop.localhost"
    with pytest.raises(Refused):
        hosts.base_url({b"host": b"sqs.example.net"})


def test_a_public_url_for_others_needs_keys() -> None:
    """The proxy would let them in, and no signature would be asked of them."""
    with pytest.raises(DeclarationError, match="REDRIVE_ACCESS_KEYS"):
        Hosts("127.0.0.1", signed=False, public_url="https://sqs.example.net")


@pytest.mark.parametrize(
    "url",
    ["", "sqs.example.net", "ftp://a", "https://a/b", "https://a?b", "https://me@a", "https://a b", "https://a:x"],
)
def test_what_is_no_public_url_is_refused(url: str) -> None:
    """With an example of one."""
    with pytest.raises(DeclarationError, match=r"https://sqs\.example\.net"):
        Hosts("127.0.0.1", signed=True, public_url=url)


@pytest.mark.parametrize("host", [EVERYWHERE, "::"])
def test_others_are_not_let_in_without_keys(host: str) -> None:
    """The endpoint does not even listen."""
    with pytest.raises(DeclarationError, match="REDRIVE_ACCESS_KEYS"):
        listen(host, 0, signed=False)


def test_others_may_come_with_keys() -> None:
    """Then it listens wherever it is told."""
    listen(EVERYWHERE, 0, signed=True).close()


def test_an_address_that_is_taken_is_an_error() -> None:
    """With the address and the remedy."""
    with listen("127.0.0.1", 0, signed=False) as first, pytest.raises(OperationRefused, match="--port"):
        listen("127.0.0.1", first.getsockname()[1], signed=False)


def test_a_name_that_nobody_has_is_an_error() -> None:
    """Likewise."""
    with pytest.raises(OperationRefused):
        listen("no-such-host.invalid", 0, signed=False)


@pytest.mark.parametrize(("name", "is_"), [("127.0.0.1", True), ("::1", True), ("10.0.0.1", False), ("a", False)])
def test_loopback_is_known_by_its_looks(name: str, *, is_: bool) -> None:
    """No name is looked up."""
    assert is_loopback(name) is is_
