"""Pages, logs, cells and trees, read without SQLite: what is whole is read as SQLite reads it."""

from __future__ import annotations

import contextlib
import random
import struct
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.sqlite.damage.cells import Broken, record, varint
from redrive.sqlite.damage.identity import identified
from redrive.sqlite.damage.index_of_log import read_index
from redrive.sqlite.damage.layout import layout
from redrive.sqlite.damage.logfile import FRAME_HEADER, HEADER, read_log
from redrive.sqlite.damage.pages import Pages
from redrive.sqlite.damage.still import still
from redrive.sqlite.damage.trees import Forest, in_order
from redrive.sqlite.statements import migrations
from tests.sqlite.damage.sample import Sample, everything

PAGE = 4096
FRAME = FRAME_HEADER + PAGE


def flipped(path: Path, offset: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["in_file", "in_log"])
def test_every_row_is_read_as_sqlite_reads_it(kind: str, request: pytest.FixtureRequest) -> None:
    """All tables, with and without numbers, rows that go on over several pages, and what stands in the log alone."""
    sample: Sample = request.getfixturevalue(kind)
    made = layout(len(migrations()))
    with Pages(str(sample.path), saved=True) as pages:
        found, roots = identified(pages, str(sample.path))
        assert found == made
        forest = Forest(pages)
        for name, table in made.tables.items():
            faults: list[Any] = []
            rows = [
                table.row(cell.rowid, record(cell.payload))
                for part in forest.walk(roots[name], lambda cell: cell, is_index=table.is_index, faults=faults)
                for cell, _ in part.cells
            ]
            assert faults == []
            names = [
                column.name for column in sorted(table.columns, key=lambda one: sample.columns[name].index(one.name))
            ]
            assert sorted(tuple(row[column] for column in names) for row in rows if row) == sorted(sample.rows[name])


def test_sqlite_reads_a_file_through_still_pages_and_nothing_appears_beside_it(in_log: Sample, tmp_path: Path) -> None:
    """The log is seen, no -shm is made, and writing is impossible."""
    path = in_log.copy(tmp_path)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    with Pages(str(path), saved=False) as pages, still(pages, str(path)) as connection:
        assert everything(connection) == in_log.rows
        assert connection.execute("PRAGMA integrity_check").get == "ok"
        assert connection.execute("SELECT count(*) FROM (SELECT body FROM message ORDER BY body, id)").get > 0
        with pytest.raises(apsw.ReadOnlyError):
            connection.execute("DELETE FROM message")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


# The log


def test_a_whole_log_is_taken_to_its_last_commit(in_log: Sample) -> None:
    """Nothing is broken, nothing dropped, and both views agree."""
    with Pages(str(in_log.path), saved=False) as pages:
        log = pages.log
        assert (log.frames, log.broken, log.dropped_commits, log.torn) == (log.taken, None, 0, False)
        assert log.frames == (log.size - HEADER) // FRAME
        assert log.sound == log.saved


@pytest.mark.parametrize("part", ["header", "frame header", "page"])
def test_a_flipped_bit_in_the_log_drops_commits_and_loses_none(in_log: Sample, tmp_path: Path, part: str) -> None:
    """SQLite takes only what stands in front; what is saved is everything, whichever bit it was, but for a row."""
    chance = random.Random(part)  # noqa: S311 - the same each time
    whole_rows = 0
    for _ in range(20):
        path = in_log.copy(tmp_path)
        log = Path(f"{path}-wal")
        frame = HEADER + FRAME * chance.randrange((log.stat().st_size - HEADER) // FRAME)
        starts = {"header": (0, HEADER), "frame header": (frame, FRAME_HEADER), "page": (frame + FRAME_HEADER, PAGE)}
        start, length = starts[part]
        flipped(log, start + chance.randrange(length), chance.randrange(8))
        with Pages(str(path), saved=True) as pages:
            assert pages.log.dropped_commits >= 1
            assert pages.log.frames == (pages.log.size - HEADER) // FRAME
            assert not pages.log.torn
            with still(pages, str(path)) as connection:
                whole_rows += everything(connection) == in_log.rows
    assert whole_rows >= (20 if part == "header" else 12)


def test_what_an_earlier_generation_left_in_the_log_is_nothing(in_log: Sample, tmp_path: Path) -> None:
    """Frames with other salts behind the last commit are not damage."""
    path = in_log.copy(tmp_path)
    log = Path(f"{path}-wal")
    old = bytearray(log.read_bytes()[HEADER : HEADER + FRAME])
    old[8:16] = b"\1" * 8
    with log.open("ab") as file:
        file.write(old * 3)
    with Pages(str(path), saved=False) as pages:
        assert pages.log.broken is None
        assert pages.log.sound == pages.log.saved


def test_a_transaction_that_did_not_come_to_its_end_is_no_damage(in_log: Sample, tmp_path: Path) -> None:
    """A crash in mid-commit: nobody was told of it, and it is left out."""
    path = in_log.copy(tmp_path)
    log = Path(f"{path}-wal")
    data = log.read_bytes()
    log.write_bytes(data[:-FRAME])
    with Pages(str(path), saved=True) as pages:
        assert (pages.log.broken, pages.log.dropped_commits) == (None, 0)
        assert pages.log.taken < (pages.log.size - HEADER) // FRAME
        assert pages.log.sound == pages.log.saved


def test_a_torn_last_transaction_is_left_out(in_log: Sample, tmp_path: Path) -> None:
    """Half of its last page was never written: it is told, and what stands in front is saved."""
    path = in_log.copy(tmp_path)
    log = Path(f"{path}-wal")
    data = bytearray(log.read_bytes())
    data[-2000:] = bytes(2000)
    log.write_bytes(data)
    with Pages(str(path), saved=True) as pages:
        assert pages.log.torn
        assert pages.log.dropped_commits == 1
        assert pages.log.sound == pages.log.saved


def test_a_log_too_short_to_hold_anything_holds_nothing(tmp_path: Path) -> None:
    """Empty, or the beginning of a header."""
    for size in (0, 10, HEADER, HEADER + FRAME - 1):
        path = tmp_path / "a-wal"
        path.write_bytes(bytes(size))
        with path.open("rb") as file:
            log = read_log(file, PAGE)
        assert (log.size, log.frames, log.broken) == (size, 0, None)


def test_the_index_of_a_log_says_how_long_it_was(tmp_path: Path) -> None:
    """With the salts by which the log is known; nothing where there is none, or it is not filled in."""
    path = tmp_path / "a.db"
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    connection.execute("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    index = read_index(f"{path}-shm")
    with Path(f"{path}-wal").open("rb") as file:
        log = read_log(file, PAGE)
    assert index is not None
    assert (index.frames, index.copied, index.salts) == (log.frames, 0, log.salts)
    connection.close()
    assert read_index(f"{path}-shm") is None
    Path(f"{path}-shm").write_bytes(bytes(32768))
    assert read_index(f"{path}-shm") is None


# Records


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary(), max_size=6))
def test_a_record_is_read_as_it_was_written(values: list[Any]) -> None:
    """Every type and size, from SQLite's own file."""
    connection = apsw.Connection(":memory:")
    connection.execute(f"CREATE TABLE t ({', '.join(f'c{number}' for number in range(len(values) + 1))})")
    connection.execute(f"INSERT INTO t VALUES ({', '.join('?' * (len(values) + 1))})", (*values, "end"))  # noqa: S608
    stored = connection.execute("SELECT * FROM t").fetchone()
    page = connection.serialize("main")[PAGE : 2 * PAGE]
    connection.close()
    (at,) = struct.unpack_from(">H", page, 8)
    size, at = varint(page, at)
    if size > 4000:
        return
    _, at = varint(page, at)
    assert record(page[at : at + size]) == list(stored or ())


@given(st.binary(max_size=200))
def test_noise_is_broken_and_never_a_crash(noise: bytes) -> None:
    """Whatever stands where a record should: values, or Broken."""
    with contextlib.suppress(Broken):
        assert isinstance(record(noise), list)


@pytest.mark.parametrize(
    ("keys", "ordered"),
    [
        ([], set()),
        ([1, 2, 3], {0, 1, 2}),
        ([1, 9, 3, 4], {0, 2, 3}),
        ([7, 2, 3, 4], {1, 2, 3}),
        ([1, 2, 3, 0], {0, 1, 2}),
    ],
)
def test_the_key_that_was_changed_stands_out_of_order(keys: list[int], ordered: set[int]) -> None:
    """The longest row of rising ones is right; what is left over is not."""
    assert in_order(keys) == ordered


def test_noise_in_every_page_ends(in_file: Sample, tmp_path: Path) -> None:
    """Circles, pointers to anywhere, sizes without end: walking stops, and says what did not fit."""
    chance = random.Random(3)  # noqa: S311 - the same each time
    made = layout(len(migrations()))
    for _ in range(10):
        path = in_file.copy(tmp_path)
        data = bytearray(path.read_bytes())
        for _ in range(300):
            data[chance.randrange(100, len(data))] = chance.randrange(256)
        path.write_bytes(data)
        with Pages(str(path), saved=True) as pages:
            forest = Forest(pages)
            faults: list[Any] = []
            for name, table in made.tables.items():
                for part in forest.walk(
                    made.roots[name], lambda cell: record(cell.payload), is_index=table.is_index, faults=faults
                ):
                    assert part.page <= pages.count
            assert faults
