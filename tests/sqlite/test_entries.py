"""Entries in the engine: what the store's suite cannot see."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redrive.errors import ValueTooLarge, VersionConflict
from redrive.sqlite.database import MEMORY, connect
from redrive.sqlite.entries import MAX_VALUE, Entries
from redrive.store import ABSENT, Namespace

SPACE = Namespace(name="space", listable=True, timed=True)
OTHER = Namespace(name="other", listable=True, timed=True)
NOW = 1_000


@pytest.fixture
def entries() -> Iterator[Entries]:
    connection = connect(MEMORY)
    yield Entries(connection)
    connection.close()


def put(entries: Entries, space: Namespace, key: str, *, due: int | None = None, until: int | None = None) -> int:
    return entries.put(space, key, b"v", if_version=ABSENT, due_at_ms=due, expires_at_ms=until, now_ms=NOW)


def test_the_next_due_entry_is_the_earliest_of_its_namespace(entries: Entries) -> None:
    """None where nothing is due; other namespaces are other matters."""
    assert entries.next_due_ms(SPACE) is None
    put(entries, SPACE, "never")
    assert entries.next_due_ms(SPACE) is None
    for key, due in (("late", 30), ("soon", 20)):
        put(entries, SPACE, key, due=due)
    put(entries, OTHER, "sooner", due=10)
    assert (entries.next_due_ms(SPACE), entries.next_due_ms(OTHER)) == (20, 10)


def test_sweeping_deletes_what_has_expired_and_nothing_else(entries: Entries) -> None:
    """Some hundreds at once; an entry in its last millisecond is still there."""
    for number in range(501):
        put(entries, SPACE, f"gone/{number:03d}", until=NOW)
    put(entries, SPACE, "stays", until=NOW + 1)
    put(entries, SPACE, "for ever")
    count = entries._execute
    for left in (3, 2, 2):
        entries.sweep(now_ms=NOW)
        assert count("SELECT count(*) FROM entry").get == left
    assert [one.key for one in entries.scan(SPACE, after="", limit=9, now_ms=NOW)] == ["for ever", "stays"]


def test_versions_are_large_and_random(entries: Entries) -> None:
    """62 bits above nothing: no two alike, none that anybody guesses, and each a number that SQLite keeps."""
    versions = [put(entries, SPACE, str(number)) for number in range(200)]
    assert len(set(versions)) == 200
    assert all(0 < version <= 2**62 for version in versions)
    assert max(versions) > 2**60


def test_what_expired_comes_back_as_new(entries: Entries) -> None:
    """With its own due time, or none."""
    for due in (None, 40):
        put(entries, SPACE, f"k{due}", due=10, until=NOW + 1)
        entries.put(SPACE, f"k{due}", b"w", if_version=ABSENT, due_at_ms=due, expires_at_ms=None, now_ms=NOW + 1)
    found = {key: entries.get(SPACE, key, now_ms=NOW + 1) for key in ("kNone", "k40")}
    assert [one and one.due_at_ms for one in found.values()] == [None, 40]


def test_a_version_fits_one_entry(entries: Entries) -> None:
    """Neither another key nor another namespace."""
    version = put(entries, SPACE, "k")
    put(entries, SPACE, "l")
    put(entries, OTHER, "k")
    for space, key in ((SPACE, "l"), (OTHER, "k"), (SPACE, "m")):
        with pytest.raises(VersionConflict):
            entries.put(space, key, b"w", if_version=version, due_at_ms=None, expires_at_ms=None, now_ms=NOW)
        with pytest.raises(VersionConflict):
            entries.delete(space, key, if_version=version, now_ms=NOW)
    found = entries.get(SPACE, "k", now_ms=NOW)
    assert found is not None
    assert (found.value, found.version) == (b"v", version)


def test_entries_due_at_the_same_time_come_by_key(entries: Entries) -> None:
    """In whatever order they were written."""
    for key in ("b", "c", "a"):
        put(entries, SPACE, key, due=5)
    assert [one.key for one in entries.due(SPACE, before_ms=5, limit=9, now_ms=NOW)] == ["a", "b", "c"]


@pytest.mark.parametrize("version", [ABSENT, 7])
def test_a_conflict_names_the_entry(entries: Entries, version: int) -> None:
    """Namespace and key, whether it was there or not."""
    key = "there" if version == ABSENT else "absent"
    put(entries, SPACE, "there")
    with pytest.raises(VersionConflict) as caught:
        entries.put(SPACE, key, b"v", if_version=version, due_at_ms=None, expires_at_ms=None, now_ms=NOW)
    assert caught.value.args == ("space", key)
    with pytest.raises(VersionConflict) as caught:
        entries.delete(SPACE, key, if_version=7, now_ms=NOW)
    assert caught.value.args == ("space", key)


def test_a_value_too_large_is_named_with_its_size_and_the_limit(entries: Entries) -> None:
    """And is not written."""
    with pytest.raises(ValueTooLarge) as caught:
        entries.put(
            SPACE, "k", b"x" * (MAX_VALUE + 1), if_version=ABSENT, due_at_ms=None, expires_at_ms=None, now_ms=NOW
        )
    assert caught.value.args == ("space", "k", MAX_VALUE + 1, MAX_VALUE)
    assert entries.get(SPACE, "k", now_ms=NOW) is None
    entries.put(SPACE, "k", b"x" * MAX_VALUE, if_version=ABSENT, due_at_ms=None, expires_at_ms=None, now_ms=NOW)


def test_an_entry_expires_in_its_last_millisecond(entries: Entries) -> None:
    """For reads, lists and writes alike."""
    version = put(entries, SPACE, "k", due=1, until=NOW + 5)
    for now, there in ((NOW + 4, True), (NOW + 5, False)):
        assert (entries.get(SPACE, "k", now_ms=now) is not None) is there
        assert bool(entries.scan(SPACE, after="", limit=9, now_ms=now)) is there
        assert bool(entries.due(SPACE, before_ms=9, limit=9, now_ms=now)) is there
    for write in (
        lambda: entries.put(SPACE, "k", b"w", if_version=version, due_at_ms=None, expires_at_ms=None, now_ms=NOW + 5),
        lambda: entries.delete(SPACE, "k", if_version=version, now_ms=NOW + 5),
    ):
        with pytest.raises(VersionConflict):
            write()
    entries.put(SPACE, "k", b"w", if_version=ABSENT, due_at_ms=None, expires_at_ms=None, now_ms=NOW + 5)
