"""A failure record, to the letter: what is cut, where, and what is left when it has to shrink."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from redrive.errors import NewerRecord
from redrive.message import MAX_RECORD, Failure, FailureRecord, Notes

FAILURE = Failure(
    at_ms=1,
    kind="raised",
    error="shop.NoMilk",
    text="no milk",
    traceback="line",
    queue="orders",
    dependency="payments",
    worker="w1",
    code_version="1.2",
    took_ms=7,
)
NAMES = ("kind", "error", "queue", "dependency", "worker", "code_version")


def recorded(*failures: Failure, reason: str = "why") -> FailureRecord:
    record: FailureRecord | None = None
    for failure in failures:
        record = FailureRecord.extended(record, failure, reason=reason)
    assert record is not None
    return record


def test_one_failure_is_first_last_and_recent() -> None:
    """The recent ones without their tracebacks."""
    record = recorded(FAILURE)
    slim = replace(FAILURE, traceback="")
    assert record == FailureRecord(reason="why", first=FAILURE, last=FAILURE, recent=(slim,), total=1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("length", "kept"), [(199, 199), (200, 200), (201, 200), (5_000, 200)])
def test_names_are_cut_to_200_characters(name: str, length: int, kept: int) -> None:
    """Whatever names they are."""
    record = recorded(Failure(**{**asdict(FAILURE), name: "x" * length}))
    assert [getattr(one, name) for one in (record.first, record.last, *record.recent)] == ["x" * kept] * 3


@pytest.mark.parametrize(
    ("length", "kept", "recent"), [(200, 200, 200), (201, 201, 200), (1_000, 1_000, 200), (1_001, 1_000, 200)]
)
def test_texts_are_cut_to_1000_characters_and_recent_ones_to_200(length: int, kept: int, recent: int) -> None:
    """From their end."""
    record = recorded(replace(FAILURE, text="y" * length))
    assert (len(record.first.text), len(record.last.text), len(record.recent[0].text)) == (kept, kept, recent)


def test_a_failure_without_a_dependency_has_none() -> None:
    """Cut or not."""
    record = recorded(replace(FAILURE, dependency=None))
    assert record.first.dependency is None
    assert recorded(FAILURE).first.dependency == "payments"


def test_a_traceback_of_6000_characters_is_whole_and_a_longer_one_says_what_is_missing() -> None:
    """A third of what is kept is its begin, and two thirds its end."""
    assert recorded(replace(FAILURE, traceback="z" * 6_000)).first.traceback == "z" * 6_000
    long = "a" * 5_000 + "b" * 5_000
    cut = recorded(replace(FAILURE, traceback=long)).first.traceback
    assert cut == "a" * 2_000 + "\n[... 4000 characters cut ...]\n" + "b" * 4_000


def sized(character: str, text: int, traceback: int, count: int = 1) -> dict[str, object]:
    failure = replace(FAILURE, text=character * text, traceback=character * traceback)
    return recorded(*[failure] * count).to_document()


def test_what_fits_is_not_shrunk() -> None:
    """Twenty failures of the largest size in plain letters."""
    failure = replace(FAILURE, text="x" * 1_000, traceback="y" * 6_000)
    record = recorded(*[failure] * 25)
    assert record.to_document() == {"v": 1, **asdict(record)}
    assert len(json.dumps(record.to_document())) <= MAX_RECORD


def test_tracebacks_go_first() -> None:
    """They shrink to 1,500 characters, and texts to 300."""
    document = sized("☕", 1_000, 6_000)
    for which in ("first", "last"):
        failure = Failure(**document[which])  # type: ignore[arg-type]
        assert failure.text == "☕" * 300
        assert failure.traceback == "☕" * 500 + "\n[... 4500 characters cut ...]\n" + "☕" * 1_000
    assert len(json.dumps(document)) <= MAX_RECORD


def test_then_there_are_no_tracebacks_and_five_failures() -> None:
    """Texts keep 60 characters, names 100."""
    failure = replace(FAILURE, text="𝄞" * 1_000, traceback="𝄞" * 6_000, error="𝄞" * 200)
    read = FailureRecord.from_document(recorded(*[failure] * 25, reason="r" * 1_000).to_document())
    assert read.total == 25
    assert len(read.recent) == 5
    assert read.reason == "r" * 300
    for one in (read.first, read.last, *read.recent):
        assert (one.text, one.traceback, one.error) == ("𝄞" * 60, "", "𝄞" * 100)


def test_in_the_end_there_are_names_and_times() -> None:
    """No texts, and of the recent failures the last one."""
    document = asdict(FAILURE) | dict.fromkeys(NAMES, "𝄞" * 200)
    many = [Failure(**{**document, "at_ms": at, "text": "𝄞" * 1_000}) for at in range(25)]
    written = recorded(*many, reason="𝄞" * 1_000).to_document()
    assert len(json.dumps(written)) <= MAX_RECORD
    read = FailureRecord.from_document(written)
    assert read.reason == "𝄞" * 300
    assert [one.at_ms for one in (read.first, read.last, *read.recent)] == [0, 24, 24]
    for one in (read.first, read.last, *read.recent):
        assert (one.text, one.traceback) == ("", "")
        assert [getattr(one, name) for name in NAMES] == ["𝄞" * 100] * len(NAMES)


def test_a_reason_is_cut_as_texts_are() -> None:
    """To 1,000 characters where everything fits, and never under 300."""
    assert len(str(recorded(FAILURE, reason="r" * 2_000).to_document()["reason"])) == 1_000


def test_a_newer_record_says_how_new() -> None:
    """And what this redrive knows."""
    with pytest.raises(NewerRecord, match="failure record has version 2, and this redrive knows 1"):
        FailureRecord.from_document({"v": 2})


# Notes


def test_noting_a_failure_goes_on_with_the_record() -> None:
    """Its first failure stays, the counters too."""
    notes = Notes(attempts=2).noting(FAILURE, reason="one").noting(replace(FAILURE, at_ms=2), reason="two")
    assert notes.attempts == 2
    assert notes.failure is not None
    assert (notes.failure.total, notes.failure.first.at_ms, notes.failure.last.at_ms) == (2, 1, 2)
    assert notes.failure.reason == "two"


def test_a_forward_holds_the_key_that_it_is_given() -> None:
    """And lets go of the one before when it is given none."""
    held = Notes(forwards=1).forwarded("k")
    assert (held.forwards, held.key) == (2, "k")
    assert (held.forwarded().forwards, held.forwarded().key) == (3, None)


def test_notes_are_written_without_spaces() -> None:
    """Every message that failed carries them."""
    assert Notes(attempts=1, key="k").to_json() == '{"v":1,"attempts":1,"key":"k"}'
