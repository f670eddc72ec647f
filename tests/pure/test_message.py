"""What is written on a message: it fits, it comes back as it was, and what is newer is left alone."""

from __future__ import annotations

import json
import secrets
import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.errors import NewerRecord
from redrive.message import MAX_RECORD, NOTHING, Failure, FailureRecord, Notes, message_id

texts = st.text(st.characters(), max_size=60)  # lone surrogates, NUL and all
failures = st.builds(
    Failure,
    at_ms=st.integers(0, 2**53),
    kind=st.sampled_from(["raised", "rejected", "timeout"]),
    error=texts,
    text=texts,
    traceback=texts,
    queue=texts,
    dependency=st.none() | texts,
    worker=texts,
    code_version=texts,
    took_ms=st.integers(0, 2**53),
)
HOSTILE = ["x", "é", "☕", "𝄞", "\0", "\ud800", '"', "\\", "\u2028", "\n"]
"""Characters that take 1 to 12 bytes in ASCII JSON."""


def record_of(*many: Failure) -> FailureRecord:
    record = None
    for number, failure in enumerate(many):
        record = FailureRecord.extended(record, failure, reason=f"failure {number}")
    assert record is not None
    return record


@given(st.lists(failures, min_size=1, max_size=30), st.sampled_from(HOSTILE), st.integers(0, 100_000))
def test_a_record_is_never_over_its_limit(many: list[Failure], character: str, length: int) -> None:
    """32 KB of ASCII JSON, whatever the texts hold and however long they, the names and the reason are."""
    long = character * length
    many[0] = replace(many[0], error=long, text=long, traceback=long, queue=long, dependency=long)
    many[-1] = replace(many[-1], error=long, text=long, traceback=long, worker=long, code_version=long, kind=long)
    record = replace(record_of(*many), reason=long)
    written = json.dumps(record.to_document())
    assert written.isascii()
    assert len(written) <= MAX_RECORD
    read = FailureRecord.from_document(json.loads(written))
    assert (read.total, read.first.at_ms, read.last.at_ms) == (len(many), many[0].at_ms, many[-1].at_ms)


def test_what_is_shrunk_keeps_times_and_types() -> None:
    """Texts and tracebacks go first."""
    long = "☕" * 10_000
    many = [
        Failure(at_ms=number, kind="raised", error=f"Error{number}", text=long, traceback=long) for number in range(30)
    ]
    read = FailureRecord.from_document(record_of(*many).to_document())
    assert (read.first.at_ms, read.first.error, read.last.at_ms, read.last.error) == (0, "Error0", 29, "Error29")
    assert read.total == 30
    assert [one.at_ms for one in read.recent] == list(range(30 - len(read.recent), 30))


def test_the_first_failure_is_never_replaced() -> None:
    """The last is, and the last twenty are kept, slim."""
    many = [Failure(at_ms=number, kind="raised", text=f"text {number}", traceback="trace") for number in range(25)]
    record = record_of(*many)
    assert (record.first, record.last, record.total) == (many[0], many[24], 25)
    assert [one.at_ms for one in record.recent] == list(range(5, 25))
    assert {one.traceback for one in record.recent} == {""}
    assert record.reason == "failure 24"


def test_a_long_traceback_loses_its_middle() -> None:
    """Where it began and where it ended stay, with a note of how much is missing."""
    trace = "first line\n" + "frame\n" * 5_000 + "last line"
    kept = record_of(Failure(at_ms=1, kind="raised", traceback=trace)).first.traceback
    assert kept.startswith("first line\n")
    assert kept.endswith("last line")
    assert "characters cut" in kept
    assert len(kept) < 6_100


@given(
    st.builds(
        Notes,
        attempts=st.integers(0, 50),
        bounces=st.integers(0, 50),
        crashes=st.integers(0, 50),
        forwards=st.integers(0, 50),
        degraded_at_ms=st.none() | st.integers(0, 2**53),
        redriven_at_ms=st.none() | st.integers(0, 2**53),
        undegraded=st.booleans(),
        failure=st.none() | st.lists(failures, min_size=1, max_size=4).map(lambda many: record_of(*many)),
    )
)
def test_notes_come_back_as_they_were(notes: Notes) -> None:
    """Whatever was written is read; what says nothing is not written at all."""
    written = notes.to_json()
    assert (written is None) == (notes == NOTHING)
    assert Notes.from_json(written) == notes
    assert written is None or written.isascii()


@pytest.mark.parametrize(
    "newer",
    [
        '{"v": 2, "attempts": 1, "mood": "odd"}',
        '{"v":99}',
        '{"v": 1, "attempts": 1, "failure": {"v": 2, "shape": "other"}}',
    ],
)
def test_newer_notes_are_kept_verbatim(newer: str) -> None:
    """An older worker hands the message back with the very same text, whatever it did with it."""
    notes = Notes.from_json(newer)
    assert notes.newer == newer
    assert notes.to_json() == newer
    assert notes.forwarded().to_json() == newer
    assert notes.noting(Failure(at_ms=1, kind="raised"), reason="r").to_json() == newer
    assert notes.fresh(5).to_json() == newer


def test_a_newer_record_is_not_guessed_at() -> None:
    """It says what it is and what was expected."""
    with pytest.raises(NewerRecord, match="failure record has version 7"):
        FailureRecord.from_document({"v": 7})


def test_a_fresh_start_keeps_the_history() -> None:
    """Counters are zero; record, forwards and the degraded time stay, and it is written when that was."""
    notes = Notes(attempts=1, bounces=2, crashes=3, forwards=4, degraded_at_ms=5).noting(
        Failure(at_ms=1, kind="raised"), reason="r"
    )
    assert notes.fresh(99) == replace(notes, attempts=0, bounces=0, crashes=0, redriven_at_ms=99)
    assert notes.forwarded().forwards == 5


def test_ids_are_uuids_of_version_7() -> None:
    """As RFC 9562 lays them out, with the time in front."""
    for _ in range(200):
        one = uuid.UUID(message_id(1_700_000_000_123, secrets.token_bytes(10)))
        assert (one.version, one.variant) == (7, uuid.RFC_4122)
        assert one.int >> 80 == 1_700_000_000_123
    assert message_id(0, b"\0" * 10) == "00000000-0000-7000-8000-000000000000"
    assert message_id(2**48 - 1, b"\xff" * 10) == "ffffffff-ffff-7fff-bfff-ffffffffffff"


@given(st.integers(0, 2**48 - 2), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_ids_sort_by_time(now_ms: int, one: bytes, other: bytes) -> None:
    """A millisecond later is a later id; other randomness is another id."""
    assert message_id(now_ms, one) < message_id(now_ms + 1, other)


def test_ids_differ() -> None:
    """A hundred thousand in one millisecond."""
    assert len({message_id(1, secrets.token_bytes(10)) for _ in range(100_000)}) == 100_000
