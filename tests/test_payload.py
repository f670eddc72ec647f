"""A body that not everybody reads alike is refused, by name, and what it holds is never said."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from redrive.errors import BodyTooLarge, DeclarationError, PayloadError
from redrive.message import MAX_BODY
from redrive.payload import Payload, check_json

SECRET = "hunter2"  # noqa: S105 - that is what it is here for


class Order(BaseModel):
    order_id: str
    amount: float = 1.0
    size: Literal["small", "large"] = "small"


class Strict(Order):
    model_config = ConfigDict(extra="forbid")


@dataclass
class Plain:
    name: str
    count: int = 0


ORDERS: Payload[Order] = Payload("orders", Order)
ANYTHING: Payload[Any] = Payload("orders", Any)


def refused(body: bytes, payload: Payload[Any] = ORDERS) -> str:
    """What is said of a body; it names the queue, stays on one line and gives away no value."""
    with pytest.raises(PayloadError) as caught:
        payload.decode(body)
    text = str(caught.value)
    assert text.startswith("not a message for queue 'orders': ")
    assert SECRET not in text
    assert "\n" not in text
    assert len(text) < 1_000
    return text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not valid JSON"),
        (b"not json hunter2", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"order_id": "hunter2"', "not valid JSON"),
        (b'{"order_id": "hunter2"} trailing', "not valid JSON"),
        (b'{"order_id": "hunter2",}', "not valid JSON"),
        (b"{'order_id': 'hunter2'}", "not valid JSON"),
        (b'{"order_id": "hunter2\0"}', "not valid JSON"),
        (b'\xef\xbb\xbf{"order_id": "x"}', "not valid JSON"),
        (b'{"order_id": "hunter2", "amount": NaN}', "NaN is not JSON"),
        (b'{"order_id": "hunter2", "amount": Infinity}', "Infinity is not JSON"),
        (b'{"order_id": "hunter2", "amount": -Infinity}', "-Infinity is not JSON"),
        (b'{"order_id": "hunter2", "amount": 1e999}', "too large"),
        (b'{"order_id": "hunter2", "amount": -1e999}', "too large"),
        (b'{"order_id": "x", "order_id": "hunter2"}', "key 'order_id' stands twice"),
        (b'{"order_id": "x", "more": {"a": 1, "a": 2}}', "key 'a' stands twice"),
        (rb'{"order_id": "\ud800hunter2"}', "half of a surrogate pair"),
        (rb'{"order_id": "x", "\uDfff": 1}', "half of a surrogate pair"),
        (b'{"order_id": "\xff"}', "not UTF-8 (byte 14)"),
        (b'{"order_id": "\xed\xa0\x80"}', "not UTF-8"),
        (b'{"amount": ' + b"9" * 5_000 + b"}", "not valid JSON"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_read_differently_is_refused(body: bytes, said: str) -> None:
    """Each with its reason; for a type that would take anything, too."""
    assert said in refused(body)
    assert said in refused(body, ANYTHING)


@pytest.mark.parametrize("depth", [250, 500, *range(880, 1_000, 8), 1_000, 2_000, 100_000])
@pytest.mark.parametrize(
    ("opening", "inside", "closing"),
    [(b"[", b"", b"]"), (b'{"a":', b"1", b"}"), (b"[", rb'"\ud83d\ude00"', b"]"), (b"[", rb'"\ud800"', b"]")],
    ids=["lists", "objects", "pair", "half"],
)
def test_what_is_nested_too_deeply_is_refused(depth: int, opening: bytes, inside: bytes, closing: bytes) -> None:
    """At any depth far beyond 200, whatever stands inside; it never is a RecursionError, nor the end of the process."""
    body = opening * depth + inside + closing * depth
    text = refused(body, ANYTHING)
    assert "nested too deeply" in text or "recursion limit exceeded" in text or "surrogate" in text
    for near in range(depth, depth + 8):
        with contextlib.suppress(PayloadError):
            check_json("orders", opening * near + inside + closing * near)


def test_what_is_nested_deeply_is_read() -> None:
    """Nearly two hundred levels are fine."""
    body = b"[" * 199 + b"]" * 199
    assert json.dumps(ANYTHING.decode(body)).encode() == body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "order_id: "),
        (b'{"order_id": 7}', "order_id: "),
        (b'{"order_id": null}', "order_id: "),
        (b'{"order_id": "x", "amount": "hunter2"}', "amount: "),
        (b'{"order_id": "x", "size": "hunter2"}', "size: "),
        (b"[]", "the whole: "),
        (b'"hunter2"', "the whole: "),
        (b"null", "the whole: "),
        (b'{"amount": "hunter2", "size": 7}', "order_id: "),
    ],
    ids=str,
)
def test_what_does_not_fit_the_type_is_refused_by_field(body: bytes, field: str) -> None:
    """The field and the problem, without the value."""
    assert field in refused(body)


def test_many_problems_are_counted() -> None:
    """Three are told, the others are a number."""
    rows: Payload[list[int]] = Payload("orders", list[int])
    text = refused(json.dumps([SECRET] * 50).encode(), rows)
    assert text.endswith("and 47 more")


def test_unknown_fields_are_ignored_unless_the_type_forbids_them() -> None:
    """A producer may be ahead of its consumer."""
    body = b'{"order_id": "x", "new": 1}'
    assert ORDERS.decode(body) == Order(order_id="x")
    assert "new: " in refused(body, Payload("orders", Strict))


def test_a_body_over_the_limit_is_refused() -> None:
    """With size, limit and remedy; the largest is taken."""
    largest = json.dumps("x" * (MAX_BODY - 2)).encode()
    assert len(largest) == MAX_BODY
    assert len(ANYTHING.decode(largest)) == MAX_BODY - 2
    with pytest.raises(BodyTooLarge, match=f"{MAX_BODY + 1} bytes, over the limit of {MAX_BODY}; keep the content"):
        ANYTHING.decode(largest[:-1] + b'x"')
    with pytest.raises(BodyTooLarge):
        ANYTHING.encode("x" * MAX_BODY)


@pytest.mark.timeout(10)
def test_a_hostile_body_takes_no_time() -> None:
    """A hundred thousand different keys and then one of them twice: found in passing, not by comparing all with all."""
    keys = ",".join(f'"{number}":1' for number in range(70_000))
    assert "key '69999' stands twice" in refused(f'{{{keys},"69999":1}}'.encode(), ANYTHING)


@pytest.mark.parametrize(
    "payload",
    [Order(order_id="x", amount=float("nan")), Order(order_id="x", amount=float("inf")), Order(order_id="\ud800")],
    ids=["nan", "infinity", "surrogate"],
)
def test_what_could_not_be_read_is_not_sent(payload: Order) -> None:
    """It is read back before it is sent, so that the consumer never meets it."""
    with pytest.raises(PayloadError, match="orders"):
        ORDERS.encode(payload)


def test_what_is_no_payload_is_not_sent() -> None:
    """Objects that have no JSON, and those of another type."""
    for odd in (object(), {"order_id": 7}, Plain(name="x"), None):
        with pytest.raises(PayloadError, match="orders"):
            ORDERS.encode(odd)  # type: ignore[arg-type]


def test_what_pydantic_takes_goes_through() -> None:
    """Models, dataclasses and plain types, as their JSON and nothing else."""
    assert ORDERS.encode(Order(order_id="☕")) == '{"order_id":"☕","amount":1.0,"size":"small"}'.encode()
    assert Payload[Plain]("orders", Plain).decode(b'{"name": "x"}') == Plain(name="x")
    rows: Payload[list[int]] = Payload("orders", list[int])
    assert rows.decode(rows.encode([1, 2])) == [1, 2]
    assert ANYTHING.decode(rb'{"a": ["\ud83d\ude00", 1.5, null, true, "\u0000"]}') == {
        "a": ["😀", 1.5, None, True, "\0"]
    }


def test_a_type_that_cannot_be_used_is_said_when_it_is_declared() -> None:
    """As a fault of the declaration, not of a message."""

    class Odd:
        pass

    with pytest.raises(DeclarationError, match="the type of queue 'orders'"):
        Payload[Any]("orders", Odd).decode(b"{}")


def test_envelopes_are_opened() -> None:
    """And an envelope that cannot be is the producer's fault, too."""

    def unwrap(body: bytes) -> bytes:
        return json.dumps(json.loads(body)["detail"]).encode()

    enveloped: Payload[Order] = Payload("orders", Order, unwrap)
    assert enveloped.decode(b'{"detail": {"order_id": "x"}}') == Order(order_id="x")
    assert "its envelope cannot be opened" in refused(b"{hunter2", enveloped)


documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@given(document=documents, ascii_only=st.booleans(), indent=st.sampled_from([None, 2]))
def test_what_is_json_is_read_as_python_reads_it(document: Any, *, ascii_only: bool, indent: int | None) -> None:
    """However it is written: spaces and escapes make no difference."""
    body = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    assert check_json("orders", body) == document
    assert ANYTHING.decode(body) == document


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:\\u0189adeEntflsr-+. \n', max_size=60).map(str.encode))
def test_noise_is_refused_or_read_and_never_anything_else(body: bytes) -> None:
    """Every error is a PayloadError; and both ways of reading agree on what is taken."""
    try:
        strict = check_json("orders", body)
    except PayloadError:
        with pytest.raises(PayloadError):
            ANYTHING.decode(body)
    else:
        assert ANYTHING.decode(body) == strict
