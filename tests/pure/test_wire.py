"""Deliveries and settlements cross to the process that runs suspects, and come back as they were."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from redrive.broker import Acknowledge, Forward, Return, Settlement
from redrive.message import NOTHING, Delivery, Failure, Message, Notes
from redrive.wire import delivery_from_json, delivery_to_json, settlement_from_json, settlement_to_json

texts = st.text(st.characters(), max_size=30)
notes = st.one_of(
    st.just(NOTHING),
    st.builds(Notes, attempts=st.integers(0, 9), degraded_at_ms=st.none() | st.integers(0, 2**53)),
    st.just(NOTHING.noting(Failure(at_ms=1, kind="raised", text="\0 ☕ \ud800"), reason="r")),
    st.just(Notes.from_json('{"v": 9, "mood": "odd"}')),
)
messages = st.builds(
    Message,
    id=texts,
    body=st.binary(max_size=200),
    sent_at_ms=st.integers(-(2**53), 2**53),
    attributes=st.dictionaries(texts, texts, max_size=3),
    group=st.none() | texts,
    notes=notes,
)
deliveries = st.builds(Delivery, message=messages, queue=texts, receipt=texts, receive_count=st.integers(1, 1_000))


@given(deliveries)
def test_a_delivery_crosses_unchanged(delivery: Delivery) -> None:
    """On one line of ASCII, whatever it holds."""
    line = delivery_to_json(delivery)
    assert line.isascii()
    assert "\n" not in line
    assert delivery_from_json(line) == delivery


@given(deliveries, notes, st.floats(0, 43_200), st.none() | texts, st.binary(max_size=50))
def test_a_settlement_comes_back_unchanged(
    delivery: Delivery, noted: Notes, delay: float, deduplication_id: str | None, body: bytes
) -> None:
    """Every kind of it, with delay, notes and the edited body, for the delivery that stayed here."""
    settlements: list[Settlement | None] = [
        None,
        Acknowledge(delivery=delivery),
        Return(delivery=delivery, delay=delay),
        Return(delivery=delivery, delay=delay, notes=noted),
        Forward(
            delivery=delivery,
            queue="other",
            message=replace(delivery.message, notes=noted, body=body),
            delay=delay,
            deduplication_id=deduplication_id,
        ),
    ]
    for settlement in settlements:
        line = settlement_to_json(settlement)
        assert line.isascii()
        assert "\n" not in line
        assert settlement_from_json(line, delivery) == settlement
