"""What a client may leave unfinished, and how the endpoint stops."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, closing

import pytest

from redrive.sqs_api import bodies, connection, server
from redrive.sqs_api.calls import QueueCounts
from tests.sqs_api.wire.endpoint import DEADLINE, KEY, SECRET, Endpoint, parsed, serving, until_closed

POLL = b'{"QueueUrl":"u","WaitTimeSeconds":20}'


def head(operation: str, length: int, *more: str) -> bytes:
    lines = ["POST / HTTP/1.1", "Host: 127.0.0.1", f"X-Amz-Target: AmazonSQS.{operation}", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *more, "", ""]).encode()


def polling(endpoint: Endpoint) -> socket.socket:
    """A connection with a poll that waits."""
    found = endpoint.connect()
    found.sendall(head("ReceiveMessage", len(POLL)) + POLL)
    assert endpoint.service.waits.acquire(timeout=DEADLINE)
    return found


def test_a_poll_whose_client_has_gone_is_cancelled(endpoint: Endpoint) -> None:
    """So that nothing is leased to nobody."""
    polling(endpoint).close()
    assert endpoint.service.cancelled.acquire(timeout=DEADLINE)
    assert endpoint.is_well()


def test_a_poll_is_cancelled_though_another_request_stands_behind_it(endpoint: Endpoint) -> None:
    """Its client has gone all the same."""
    with closing(endpoint.connect()) as one:
        one.sendall((head("ReceiveMessage", len(POLL)) + POLL) * 2)
        assert endpoint.service.waits.acquire(timeout=DEADLINE)
    assert endpoint.service.cancelled.acquire(timeout=DEADLINE)
    assert not endpoint.service.waits.acquire(blocking=False)


def test_a_poll_by_url_is_cancelled_too(endpoint: Endpoint) -> None:
    """The Query protocol waits alike."""
    with closing(endpoint.connect()) as one:
        one.sendall(b"GET /0/a?Action=ReceiveMessage&WaitTimeSeconds=20 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert endpoint.service.waits.acquire(timeout=DEADLINE)
    assert endpoint.service.cancelled.acquire(timeout=DEADLINE)


def test_a_poll_that_is_answered_is_not_cancelled(endpoint: Endpoint) -> None:
    """And its connection goes on."""
    body = b'{"QueueUrl":"u"}'
    with closing(endpoint.connect()) as one:
        for _ in range(3):
            one.sendall(head("ReceiveMessage", len(body)) + body)
            assert parsed(one.recv(65_536)).status == 200
    assert not endpoint.service.cancelled.acquire(blocking=False)


def test_the_endpoint_stops_at_once_with_polls_that_wait() -> None:
    """Their clients read an empty answer, and that the connection ends."""
    with serving() as endpoint, ExitStack() as stack:
        polls = [stack.enter_context(closing(polling(endpoint))) for _ in range(5)]
        idle = stack.enter_context(closing(endpoint.connect()))
        began = time.monotonic()
        endpoint.stop()
        assert time.monotonic() - began < 1.0
        for one in polls:
            answer = parsed(until_closed(one))
            assert (answer.status, answer.json()) == (200, {})
        assert until_closed(idle) == b""
        assert all(endpoint.service.cancelled.acquire(blocking=False) for _ in polls)


def test_the_endpoint_stops_with_requests_that_are_unfinished() -> None:
    """It gives them half a second."""
    with serving() as endpoint, closing(endpoint.connect()) as one, closing(endpoint.connect()) as other:
        one.sendall(head("SendMessage", 1_000) + b"{")
        other.sendall(b"POST / HT")
        began = time.monotonic()
        endpoint.stop()
        assert time.monotonic() - began < 1.5


def test_a_body_that_does_not_come_is_not_waited_for(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is told, and hung up on."""
    monkeypatch.setattr(bodies, "WITHIN", 0.1)
    answer = parsed(endpoint.raw(head("SendMessage", 1_000) + b"{"))
    assert answer.status == 408
    assert answer.headers["connection"] == "close"
    assert answer.json()["__type"].endswith("#RequestTimeout")
    assert endpoint.is_well()


@pytest.mark.parametrize("begun", [b"", b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-"])
def test_a_head_that_does_not_end_is_not_waited_for(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """Nor a client that says nothing at all."""
    monkeypatch.setattr(connection, "HEAD_WITHIN", 0.1)
    assert endpoint.raw(begun) == b""
    assert endpoint.is_well()


def test_a_connection_may_rest_between_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """SDKs keep theirs; only an unfinished head is in a hurry."""
    monkeypatch.setattr(connection, "HEAD_WITHIN", 0.1)
    monkeypatch.setattr(server, "LOOK_EVERY", 0.01)
    body = b'{"QueueUrl":"u"}'
    with serving() as endpoint, closing(endpoint.connect()) as one:
        for _ in range(2):
            one.sendall(head("ReceiveMessage", len(body)) + body)
            assert parsed(one.recv(65_536)).status == 200
            assert endpoint.raw(b"") == b""  # this one was looked at meanwhile, and found too slow


@pytest.mark.parametrize("line", [b"X-Filler: " + b"x" * 200_000, b"\r\n".join([b"X-Filler: x"] * 20_000)])
def test_a_head_without_end_is_refused(endpoint: Endpoint, line: bytes) -> None:
    """In one line or in many."""
    answer = endpoint.raw(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + line)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert endpoint.is_well()


def test_pipelined_requests_are_answered_in_order(endpoint: Endpoint) -> None:
    """Each with its own."""
    bodies_ = [f'{{"QueueUrl":"u","MessageBody":"{number}"}}'.encode() for number in range(5)]
    requests = b"".join(head("SendMessage", len(one)) + one for one in bodies_[:-1])
    last = head("SendMessage", len(bodies_[-1]), "Connection: close") + bodies_[-1]
    assert endpoint.raw(requests + last).count(b"HTTP/1.1 200 OK") == 5
    assert [request["MessageBody"] for _, request, _ in endpoint.service.calls] == list("01234")


def test_a_chunked_body_is_read(endpoint: Endpoint) -> None:
    """In whatever pieces it comes."""
    body = b'{"QueueUrl":"u","MessageBody":"hello"}'
    lines = head("SendMessage", 0, "Transfer-Encoding: chunked", "Connection: close")
    chunks = b"".join(b"1\r\n%c\r\n" % one for one in body) + b"0\r\n\r\n"
    answer = parsed(endpoint.raw(lines.replace(b"Content-Length: 0\r\n", b"") + chunks))
    assert answer.status == 200
    assert endpoint.service.calls[0][1]["MessageBody"] == "hello"


def test_a_client_may_ask_first_whether_to_send(endpoint: Endpoint) -> None:
    """`Expect: 100-continue`."""
    body = b'{"QueueUrl":"u","MessageBody":"hello"}'
    answer = endpoint.raw(head("SendMessage", len(body), "Expect: 100-continue", "Connection: close") + body)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH"])
def test_only_get_and_post_are_known(endpoint: Endpoint, method: str) -> None:
    """The answer says so."""
    answer = endpoint.ask(method, "/")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_another_protocol_is_refused(endpoint: Endpoint, protocol: str) -> None:
    """Rather than a request be taken for one without its body."""
    body = b'{"QueueUrl":"u","MessageBody":"hello"}'
    lines = (f"Upgrade: {protocol}", "Connection: Upgrade, HTTP2-Settings")
    answer = parsed(endpoint.raw(head("SendMessage", len(body), *lines) + body))
    assert answer.status == 400
    assert b"HTTP/1.1 only" in answer.body
    assert endpoint.service.calls == []


def test_health_is_told_to_everybody(locked: Endpoint) -> None:
    """A probe has no key and asks by address."""
    assert locked.ask("GET", "/health", host="10.0.0.1").status == 200
    assert locked.ask("HEAD", "/health").status == 200


def test_metrics_are_told(endpoint: Endpoint) -> None:
    """Counts of each queue, and of requests; what has no count is left out, and labels are escaped."""
    endpoint.service.counts = [
        QueueCounts(queue='a"\\\n', visible=1, not_visible=2, delayed=3, sent=4),
        QueueCounts(queue="b", visible=0, not_visible=0, delayed=0),
    ]
    endpoint.json("DeleteQueue", {"QueueUrl": "u"})
    answer = endpoint.ask("GET", "/metrics")
    lines = answer.body.decode().splitlines()
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert r'redrive_sqs_messages{queue="a\"\\\n",state="not_visible"} 2' in lines
    assert r'redrive_sqs_messages_sent_total{queue="a\"\\\n"} 4' in lines
    assert not [line for line in lines if line.startswith("redrive_sqs_messages_received_total{")]
    assert any(line.startswith('redrive_sqs_requests_total{operation="DeleteQueue",status="200"}') for line in lines)


def test_metrics_ask_for_a_key_where_there_are_some(locked: Endpoint) -> None:
    """By Basic authentication, which scrapers know."""
    import base64  # noqa: PLC0415 - here only

    def asked(text: str) -> int:
        encoded = base64.b64encode(text.encode()).decode()
        return locked.ask("GET", "/metrics", authorization=f"Basic {encoded}").status

    assert asked(f"{KEY}:{SECRET}") == 200
    assert [asked(f"{KEY}:wrong"), asked("nobody:x"), asked("\xff")] == [401, 401, 401]
    assert locked.ask("GET", "/metrics").status == 401
    assert locked.ask("GET", "/metrics", authorization="Basic \xff=").status == 401
