"""One flipped bit, anywhere: nothing wrong is handed out, the doctor sees it, and all that is whole is saved.

Half of the flips are in a file whose log was copied into it, half in one of which much stands in the log alone.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import ManualClock
from redrive.errors import QueueNotFound, RedriveError
from redrive.sqlite.damage.doctor import examine
from redrive.sqlite.damage.findings import State
from redrive.sqlite.damage.pages import Pages
from redrive.sqlite.damage.recover import recover
from redrive.sqlite.damage.still import still
from redrive.sqlite.database import connect
from redrive.sqlite.writer import FileDatabase
from redrive.store import CIRCUITS, LETTERS, TIMERS
from redrive.stores.sqlite import SqliteStore
from tests.sqlite.damage.places import Place, places
from tests.sqlite.damage.sample import NOW, Sample, everything

UNSEEN = {
    "entry": {"value", "version", "expires_at_ms"},
    "queue": {
        *("max_receives", "content_deduplication", "deduplication_by_group", "delay_ms", "retention_ms"),
        *("largest_message", "round", "created_at_ms", "changed_at_ms"),
    },
    "message": {
        *("visible_at_ms", "receipt", "receive_count", "origin", "round"),
        *("first_received_at_ms", "deduplication_id"),
    },
    "sqs_queue": {"attributes", "tags", "purged_at_ms"},
    "sqs_deleted_queue": {"name", "deleted_at_ms"},
    "deduplication": {"message_id", "sequence"},
    "receive_attempt": {"receipts"},
    "move_task": {"destination", "rate", "to_move", "moved", "next_at_ms", "started_at_ms", "failure"},
    "meta": {"clock_high_water_ms"},
}
"""Columns in which a value may become another one that could as well be true: no checksum and no index has them."""
CONTENT = ("sent_at_ms", "id", "group_id", "attributes", "body")
LATER = 13 * 3_600_000
"""When every lease has ended and every delay is over."""


@dataclass(frozen=True)
class Flip:
    """One bit of one file."""

    sample: Sample
    in_log: bool
    offset: int
    bit: int

    def __str__(self) -> str:
        return f"{'log' if self.in_log else 'file'}, byte {self.offset}, bit {self.bit}"

    def copied(self, folder: Path) -> Path:
        """A copy with this bit flipped."""
        path = self.sample.copy(folder)
        broken = Path(f"{path}-wal") if self.in_log else path
        data = bytearray(broken.read_bytes())
        data[self.offset] ^= 1 << self.bit
        broken.write_bytes(data)
        return path

    def hits(self, where: Sequence[Place]) -> set[tuple[str, int]]:
        """The rows of which it is a part."""
        return {
            (place.table, place.row)
            for place in where
            if place.in_log is self.in_log and place.start <= self.offset < place.end
        }


def flips(samples: Sequence[Sample], count: int, seed: int) -> list[Flip]:
    chance = random.Random(seed)  # noqa: S311 - the same each time
    chosen = []
    for number in range(count):
        sample = samples[number % len(samples)]
        log = Path(f"{sample.path}-wal")
        sizes = (sample.path.stat().st_size, log.stat().st_size if log.exists() else 0)
        at = chance.randrange(sum(sizes))
        in_log = at >= sizes[0]
        chosen.append(Flip(sample, in_log, at - sizes[0] if in_log else at, chance.randrange(8)))
    return chosen


def check_the_doctor(flip: Flip, folder: Path) -> str:
    """What does not matter is found or not; what does is found, unless nothing can know it."""
    path = flip.copied(folder)
    before = {one.name: one.read_bytes() for one in folder.iterdir()}
    report = examine(str(path), NOW)
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == before, flip
    if report.state is not State.HEALTHY:
        assert report.findings
        assert not report.counts["unexpected"] or report.counts["definition"], (str(flip), report.findings)
        return "found"
    with Pages(str(path), saved=False) as pages, still(pages, str(path)) as connection:
        rows = everything(connection)
    if rows == flip.sample.rows:
        return "harmless"
    for table, known in flip.sample.rows.items():
        assert len(rows[table]) == len(known), flip
        names = flip.sample.columns[table]
        for one, other in zip(rows[table], known, strict=True):
            changed = {name for name, now, was in zip(names, one, other, strict=True) if now != was}
            assert changed <= UNSEEN.get(table, set()), (str(flip), table, changed)
    return "unseen"


def check_the_recovery(flip: Flip, where: Sequence[Place], folder: Path) -> Counter[str]:
    """Every row that was not hit is in the new file as it was, and of one that was hit nothing wrong."""
    path, new = flip.copied(folder), folder / "new.db"
    hit = flip.hits(where)
    recover(str(path), str(new), NOW)
    report = examine(str(new), NOW)
    assert report.findings == [], (str(flip), report.findings)
    connection = connect(str(new))
    rows = everything(connection)
    connection.close()
    for table in ("message", "entry"):
        now, was = ({row[0]: row for row in found[table]} for found in (rows, flip.sample.rows))
        assert now.keys() <= was.keys(), (str(flip), table)
        for number, row in was.items():
            if (table, number) not in hit:
                expected = _kept_for_ever(flip, row, rows["queue"]) if table == "message" else row
                assert now.get(number) in (row, expected), (str(flip), table, number)
        if table == "message":
            columns = [flip.sample.columns[table].index(name) for name in CONTENT]
            for number, row in now.items():
                assert [row[at] for at in columns] == [was[number][at] for at in columns], (str(flip), number)
    whole = len(flip.sample.rows["message"]) - sum(table == "message" for table, _ in hit)
    return Counter(whole=whole, saved=len(rows["message"]), hit=len(hit))


def _kept_for_ever(flip: Flip, row: tuple[Any, ...], queues: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The row of a message, where what its queue was set to is lost: then nothing in it expires."""
    columns, settings = flip.sample.columns["message"], flip.sample.columns["queue"]
    retention = {one[settings.index("id")]: one[settings.index("retention_ms")] for one in queues}
    at = columns.index("expires_at_ms")
    lost = retention.get(row[columns.index("queue")]) is None
    return (*row[:at], None, *row[at + 1 :]) if lost else row


async def check_what_is_handed_out(flip: Flip, folder: Path) -> Counter[str]:
    """Open it as a worker does, receive everything: what was sent, or an error that names the file and the doctor."""
    path = flip.copied(folder)
    told: Counter[str] = Counter()
    with contextlib.suppress(RedriveError):
        database = FileDatabase(str(path), ManualClock(NOW + LATER))
        try:
            told = await _receive_everything(database, flip)
        finally:
            database.close()
        return told
    return Counter(refused=1)


async def _receive_everything(database: FileDatabase, flip: Flip) -> Counter[str]:
    broker, store = SqliteBroker(database), SqliteStore(database)
    told: Counter[str] = Counter()
    with contextlib.suppress(RedriveError):
        for queue in await broker.queues():
            error = await _receive_all(broker, queue, flip, told)
            assert error is None or isinstance(error, QueueNotFound) or database.path in str(error), (str(flip), error)
            told["errors"] += error is not None
        await store.scan(CIRCUITS, limit=1_000)
        await store.scan(LETTERS, limit=1_000)
        await store.due(TIMERS, before_ms=2 * NOW, limit=1_000)
    return told


async def _receive_all(broker: SqliteBroker, queue: str, flip: Flip, told: Counter[str]) -> RedriveError | None:
    try:
        while deliveries := await broker.receive(queue, limit=1_000, lease=3_600):
            for one in deliveries:
                _check_content(flip, one.message)
            told["received"] += len(deliveries)
            if told["received"] > 2 * len(flip.sample.sent):
                return None  # a damaged phase, which leaves it in front for ever; the doctor finds it
    except RedriveError as error:
        return error
    return None


def _check_content(flip: Flip, message: Any) -> None:
    sent = flip.sample.sent[message.id]
    assert (message.body, message.sent_at_ms, message.group, message.attributes) == (
        sent.body,
        sent.sent_at_ms,
        sent.group,
        sent.attributes,
    ), (str(flip), message.id)


async def flip_many(samples: Sequence[Sample], count: int, seed: int) -> None:
    """All checks of all flips; what came of them is printed."""
    where = {sample.path: places(sample) for sample in samples}
    tally: Counter[str] = Counter()
    for flip in flips(samples, count, seed):
        with tempfile.TemporaryDirectory(prefix="r-") as name:
            folder = Path(name)
            tally[check_the_doctor(flip, folder)] += 1
            tally += check_the_recovery(flip, where[flip.sample.path], folder)
        with tempfile.TemporaryDirectory(prefix="r-") as name:
            tally += await check_what_is_handed_out(flip, Path(name))
    print(f"{count} flips, seed {seed}: {dict(tally)}")  # noqa: T201 - for whoever asks with -s
    assert tally["found"] + tally["harmless"] + tally["unseen"] == count
    assert tally["found"] > count / 2
    assert tally["unseen"] < count / 20


async def test_a_flipped_bit_is_harmless_or_found_and_what_is_whole_is_saved(in_file: Sample, in_log: Sample) -> None:
    """Sixty bits."""
    await flip_many([in_file, in_log], 60, seed=1)


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("seed", range(1, 6))
async def test_many_flipped_bits_are_harmless_or_found(in_file: Sample, in_log: Sample, seed: int) -> None:
    """Three hundred bits each."""
    await flip_many([in_file, in_log], 300, seed=seed)
