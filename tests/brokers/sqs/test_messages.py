"""A message goes through Amazon SQS as it is: what SQS does not carry, our one attribute does."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.attributes import refused
from redrive.broker import Outgoing
from redrive.brokers.sqs.messages import LARGEST, OURS, Written, forwarded, read, written
from redrive.errors import LimitExceeded
from redrive.message import MAX_BODY, MAX_RECORD, NOTHING, Failure, FailureRecord, Message, Notes
from redrive.testing.broker_suite import NOTED, message

_TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
_NAMES = st.one_of(_TEXT, st.sampled_from(["redrive", "traceparent", "a.b", "AWS.x", ".x", "n" * 257]))
_TYPED = st.one_of(
    st.tuples(_TEXT, st.none()),
    st.tuples(st.integers().map(str), st.just("Number")),
    st.tuples(st.binary(max_size=30).map(lambda raw: base64.b64encode(raw).decode()), st.just("Binary.png")),
    st.tuples(_TEXT, st.just("String.json")),
)


def _put(one: Outgoing, *, fifo: bool = False) -> Written:
    found = written(one, fifo=fifo)
    assert isinstance(found, Written), found
    return found


def _raw(one: Written) -> dict[str, Any]:
    """The entry as ReceiveMessage gives it, its blobs in base64."""
    attributes = {
        name: {
            **value,
            **({"BinaryValue": base64.b64encode(value["BinaryValue"]).decode()} if "BinaryValue" in value else {}),
        }
        for name, value in one.entry["MessageAttributes"].items()
    }
    system = {"ApproximateReceiveCount": "1", "SentTimestamp": "5"}
    if "MessageGroupId" in one.entry:
        system["MessageGroupId"] = one.entry["MessageGroupId"]
    return {
        "MessageId": "theirs",
        "ReceiptHandle": "receipt",
        "Body": one.entry["MessageBody"],
        "Attributes": system,
        "MessageAttributes": attributes,
    }


@given(
    body=st.one_of(st.binary(max_size=200), _TEXT.map(str.encode)),
    attributes=st.dictionaries(_NAMES, _TYPED, max_size=15),
    group=st.none() | _TEXT,
    notes=st.sampled_from([NOTHING, NOTED, Notes(attempts=3), Notes(newer='{"v": 7, "x": "é"}')]),
)
def test_whatever_is_sent_is_what_comes_out(
    body: bytes, attributes: dict[str, tuple[str, str | None]], group: str | None, notes: Notes
) -> None:
    """Bytes, odd attributes, more than ten of them, groups with spaces, and notes of a later version."""
    sent = Message(
        id="ours",
        body=body,
        sent_at_ms=17,
        attributes={name: value for name, (value, _) in attributes.items()},
        attribute_types={name: kind for name, (_, kind) in attributes.items() if kind} or None,
        group=group,
        notes=notes,
    )
    entry = _put(Outgoing(message=sent))
    found = read(_raw(entry), "orders").message
    if notes.newer is not None:
        assert json.loads(found.notes.newer or "") == json.loads(notes.newer)
        found, sent = replace(found, notes=NOTHING), replace(sent, notes=NOTHING)
    assert found == sent


@given(attributes=st.dictionaries(_NAMES, _TEXT, max_size=15), group=st.none() | _TEXT, body=st.binary(max_size=50))
def test_nothing_is_sent_that_sqs_refuses(attributes: dict[str, str], group: str | None, body: bytes) -> None:
    """Ten attributes that it takes, a body that it takes, and a group that it takes or none."""
    entry = _put(Outgoing(message=message(body, attributes=attributes, group=group))).entry
    carried = {name: value["StringValue"] for name, value in entry["MessageAttributes"].items()}
    assert refused(carried) is None
    assert carried[OURS].isascii()
    assert refused({"body": entry["MessageBody"]}) is None
    assert group is None or (1 <= len(entry["MessageGroupId"]) <= 128 and entry["MessageGroupId"].isascii())


def test_attributes_are_those_of_sqs_where_it_takes_them() -> None:
    """One to one and with their types, so that others read them; ours is one more, and says no more than it has to."""
    sent = message(b"{}", attributes={"n": "1", "b": "AAH/", "s": "x"}, attribute_types={"n": "Number", "b": "Binary"})
    entry = _put(Outgoing(message=sent)).entry
    ours = entry["MessageAttributes"].pop(OURS)
    assert entry["MessageAttributes"] == {
        "n": {"DataType": "Number", "StringValue": "1"},
        "b": {"DataType": "Binary", "BinaryValue": b"\x00\x01\xff"},
        "s": {"DataType": "String", "StringValue": "x"},
    }
    assert json.loads(ours["StringValue"]) == {"v": 1, "id": sent.id, "sent_at_ms": sent.sent_at_ms}
    assert entry["MessageBody"] == "{}"


def test_the_trace_has_a_place_before_the_rest() -> None:
    """Of more attributes than SQS takes, `traceparent` is never the one that others cannot see."""
    attributes = {f"a{number}": "x" for number in range(12)} | {"traceparent": "00-1-2-01"}
    entry = _put(Outgoing(message=message(attributes=attributes))).entry
    assert entry["MessageAttributes"]["traceparent"]["StringValue"] == "00-1-2-01"
    assert len(entry["MessageAttributes"]) == 10


def test_a_foreign_message_has_the_id_and_time_of_sqs() -> None:
    """Its body and attributes are as its producer sent them."""
    raw = {
        "MessageId": "theirs",
        "ReceiptHandle": "r",
        "Body": "hello",
        "Attributes": {"SentTimestamp": "1700000000000", "ApproximateReceiveCount": "2", "MessageGroupId": "g"},
        "MessageAttributes": {"n": {"DataType": "Number", "StringValue": "1"}},
    }
    delivery = read(raw, "orders")
    assert delivery.message == Message(
        id="theirs",
        body=b"hello",
        sent_at_ms=1_700_000_000_000,
        attributes={"n": "1"},
        attribute_types={"n": "Number"},
        group="g",
    )
    assert (delivery.receipt, delivery.receive_count, delivery.sequence) == ("r", 2, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "1",
        "{}",
        '{"v":1}',
        '{"v":"1","id":"x","sent_at_ms":1}',
        '{"v":1,"id":7,"sent_at_ms":1}',
        '{"v":1,"id":"x","sent_at_ms":"soon"}',
        '{"v":1,"id":"x","sent_at_ms":1,"more":[1]}',
        '{"v":1,"id":"x","sent_at_ms":1,"more":{"a":1}}',
        '{"v":1,"id":"x","sent_at_ms":1,"more":{"a":["b"]}}',
        '{"v":1,"id":"x","sent_at_ms":1,"group":7}',
        '{"v":1,"id":"x","sent_at_ms":1,"body":"base64"}',
        '{"v":1,"id":"x","sent_at_ms":1,"notes":7}',
        '{"v":1,"id":"x","sent_at_ms":1,"notes":{"v":1,"no such note":1}}',
        '{"v":1,"id":"x","sent_at_ms":1,"notes":{"v":1,"failure":{"v":1}}}',
    ],
)
def test_somebody_elses_attribute_of_our_name_is_theirs(text: str) -> None:
    """It makes the message a foreign one and keeps nobody from receiving it; the attribute is still there."""
    raw = {
        "MessageId": "theirs",
        "ReceiptHandle": "r",
        "Body": "é",
        "Attributes": {"SentTimestamp": "1"},
        "MessageAttributes": {OURS: {"DataType": "String", "StringValue": text}},
    }
    found = read(raw, "orders").message
    assert (found.id, found.body, found.attributes) == ("theirs", "é".encode(), {OURS: text})
    again = read(_raw(_put(Outgoing(message=found))), "orders").message
    assert again == found


def test_a_later_version_is_handed_back() -> None:
    """What it says beside the id is not interpreted, and not lost."""
    raw = {
        "MessageId": "theirs",
        "ReceiptHandle": "r",
        "Body": "{}",
        "MessageAttributes": {OURS: {"DataType": "String", "StringValue": '{"v":2,"id":"x","sent_at_ms":1,"new":1}'}},
    }
    found = read(raw, "orders").message
    assert found.id == "x"
    assert json.loads(found.notes.newer or "")["new"] == 1


def test_the_largest_message_with_the_longest_record_fits() -> None:
    """A body of the largest size can still be declared dead."""
    failure = Failure(at_ms=1, kind="raised", error="E" * 200, text="☕" * 1_000, traceback="\n☕" * 4_000)
    record = FailureRecord(reason="☕" * 300, first=failure, last=failure, recent=(failure,) * 20, total=40)
    notes = Notes(attempts=1, failure=record, key="k" * 500)
    assert MAX_RECORD * 0.3 < len(notes.to_json() or "") <= MAX_RECORD + 1_000
    entry = _put(Outgoing(message=message(b"x" * MAX_BODY, notes=notes)))
    assert MAX_BODY < entry.size <= LARGEST


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"x" * (MAX_BODY + 1), str(MAX_BODY)), (b"\xff" * 900_000, "as Amazon SQS carries it")],
)
def test_what_does_not_fit_is_refused(body: bytes, words: str) -> None:
    """With its size, the limit, and what to do; bytes that are no text take a third more."""
    refusal = written(Outgoing(message=message(body)), fifo=False)
    assert isinstance(refusal, LimitExceeded)
    assert words in str(refusal)
    assert "send its key" in str(refusal)


@pytest.mark.parametrize(
    ("outgoing", "words"),
    [
        (Outgoing(message=message(group="a"), delay=1.0), "0 on a FIFO queue"),
        (Outgoing(message=message(group="a b")), "send(..., group=...)"),
        (Outgoing(message=message(group=None)), "send(..., group=...)"),
        (Outgoing(message=message(group="a"), deduplication_id="x" * 129), "deduplication id"),
    ],
)
def test_what_a_line_does_not_take_is_refused(outgoing: Outgoing, words: str) -> None:
    """Before anything is asked of SQS."""
    refusal = written(outgoing, fifo=True)
    assert isinstance(refusal, LimitExceeded)
    assert words in str(refusal)


def test_delays_are_whole_seconds_and_never_too_short() -> None:
    """Rounded up; none at all is the queue's own, and a line takes none."""
    assert _put(Outgoing(message=message(), delay=0.2)).entry["DelaySeconds"] == 1
    assert _put(Outgoing(message=message(), delay=0.0)).entry["DelaySeconds"] == 0
    assert "DelaySeconds" not in _put(Outgoing(message=message())).entry
    assert "DelaySeconds" not in _put(Outgoing(message=message(group="a"), delay=0.0), fifo=True).entry


def test_a_body_that_says_more_than_sqs_takes_is_not_unpacked() -> None:
    """Few bytes can say a lot: such a message is a foreign one, as it stands."""
    bomb = base64.b64encode(zlib.compress(b"0" * (LARGEST + 1))).decode()
    ours = json.dumps({"v": 1, "id": "i", "sent_at_ms": 1, "body": "zlib"})
    raw = _raw(_put(Outgoing(message=message(b"1"))))
    raw |= {"Body": bomb, "MessageAttributes": {OURS: {"DataType": "String", "StringValue": ours}}}
    assert read(raw, "orders").message.body == bomb.encode()


def test_what_fits_is_forwarded_as_it_is() -> None:
    """Nothing is shed or compressed but where there is no room."""
    one = Outgoing(message=replace(message(b"x" * (LARGEST // 2 + 1)), notes=NOTED))
    assert forwarded(one, fifo=False) == written(one, fifo=False)
