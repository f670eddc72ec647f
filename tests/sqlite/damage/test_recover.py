"""Recovery: what is whole is in the new file as it was, the rest is told and kept for a person, the old file stays."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from redrive.broker import Outgoing, QueueSpec
from redrive.errors import DatabaseTooNew, DatabaseUnusable, OperationRefused
from redrive.message import Message
from redrive.sqlite.damage.doctor import examine
from redrive.sqlite.damage.findings import State
from redrive.sqlite.damage.outcome import Outcome
from redrive.sqlite.damage.recover import _Recovery, recover
from redrive.sqlite.database import connect
from redrive.sqlite.engine import Engine
from redrive.sqlite.statements import migrations
from tests.sqlite.damage.bad_sectors import run_with_bad_sectors
from tests.sqlite.damage.sample import NOW, Sample, everything, sample

PAGE = 4096


def recovered(path: Path, **settings: Any) -> tuple[Outcome, dict[str, list[tuple[Any, ...]]]]:
    """Recover, look at the new file with the doctor, and read it."""
    new = path.parent / "new.db"
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    outcome = recover(str(path), str(new), NOW, **settings)
    assert {one.name: one.read_bytes() for one in path.parent.iterdir() if one.name in before} == before
    report = examine(str(new), NOW)
    assert (report.state, report.findings) == (State.HEALTHY, [])
    connection = connect(str(new))
    rows = everything(connection)
    connection.close()
    return outcome, rows


def damaged_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path.parent / "new.db.damaged.jsonl").read_text().splitlines()]


def changed(path: Path, *statements: str, **values: object) -> None:
    """Somebody who knows no rules changes the file."""
    connection = apsw.Connection(str(path))
    connection.pragma("foreign_keys", 0)
    for statement in statements:
        connection.execute(statement, values)
    connection.close()


def overwritten(path: Path, number: int, content: bytes = b"\0" * PAGE) -> None:
    with path.open("r+b") as file:
        file.seek((number - 1) * PAGE)
        file.write(content)


def contents(rows: list[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """What a producer sent: send time, id, group, attributes, body. Notes may be those of an older copy."""
    return {(*row[5:9], row[10]) for row in rows}


def root_of(path: Path, name: str) -> int:
    connection = apsw.Connection(str(path))
    root: int = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).get
    connection.close()
    return root


@pytest.mark.parametrize("kind", ["in_file", "in_log"])
def test_of_a_whole_file_everything_is_saved_as_it_was(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Numbers, leases, counts, notes, entries, deduplication, the move, the clock; tenants as far as they matter."""
    made: Sample = request.getfixturevalue(kind)
    outcome, rows = recovered(made.copy(tmp_path))
    for table in made.rows.keys() - {"tenant"}:
        assert rows[table] == made.rows[table], table
    assert set(rows["tenant"]) <= set(made.rows["tenant"])
    assert outcome.is_whole
    assert (outcome.notes, outcome.mended, outcome.left) == ([], 0, {})
    assert sum(one.messages for one in outcome.queues.values()) == len(made.rows["message"])
    assert not (tmp_path / "new.db.damaged.jsonl").exists()
    assert not [one for one in tmp_path.iterdir() if "unfinished" in one.name]


def test_the_new_file_goes_on_where_the_old_one_was(in_file: Sample, tmp_path: Path) -> None:
    """Numbers go on, lines are received in order, and what is sent again is a duplicate."""
    _, rows = recovered(in_file.copy(tmp_path))
    connection = connect(str(tmp_path / "new.db"))
    engine = Engine(connection)
    given: int = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'message'").get
    later = NOW + 3_600_000
    for _ in range(100):
        for one in engine.receive("line", limit=3, lease=0.001, now_ms=later):
            assert one.sequence in {row[0] for row in rows["message"]}
        later += 1_000
    engine.send("orders", [Outgoing(message=Message(id="next", body=b"1", sent_at_ms=1))], later)
    assert connection.execute("SELECT seq FROM message WHERE id = 'next'").get > given
    connection.close()


# What is damaged


def test_a_damaged_message_is_counted_and_kept_for_a_person(in_file: Sample, tmp_path: Path) -> None:
    """By queue and reason; its columns are in a file that only its owner may read."""
    path = in_file.copy(tmp_path)
    last = in_file.rows["message"][-1]
    changed(path, "UPDATE message SET body = x'ff00' WHERE seq = :last", last=last[0])
    outcome, rows = recovered(path)
    assert rows["message"] == in_file.rows["message"][:-1]
    assert not outcome.is_whole
    (row,) = damaged_rows(path)
    assert (row["table"], row["reason"], row["number"]) == ("message", "it does not fit its checksum", last[0])
    assert outcome.queues[row["queue"]].damaged == {"it does not fit its checksum": 1}
    assert (row["values"]["id"], row["values"]["body"]) == (last[6], {"base64": "/wA="})
    assert stat.S_IMODE((tmp_path / "new.db.damaged.jsonl").stat().st_mode) == 0o600


def test_a_message_that_was_set_aside_and_is_whole_comes_back(in_file: Sample, tmp_path: Path) -> None:
    """What did not fit when it was read once may have been the memory's fault; what does not fit now stays out."""
    path = in_file.copy(tmp_path)
    aside = [row[0] for row in in_file.rows["message"] if row[11] in {0, 3}][:2]
    changed(
        path,
        "UPDATE message SET phase = 5, receipt = NULL, expires_at_ms = NULL WHERE seq IN (:one, :other)",
        "UPDATE message SET body = x'00' WHERE seq = :other",
        one=aside[0],
        other=aside[1],
    )
    outcome, rows = recovered(path)
    assert aside[0] in {row[0] for row in rows["message"]}
    assert aside[1] not in {row[0] for row in rows["message"]}
    assert outcome.damaged == {"message": 1}


def test_a_message_from_before_checksums_is_kept_and_counted(in_file: Sample, tmp_path: Path) -> None:
    """Nobody can say that it is whole, and nobody that it is not."""
    path = in_file.copy(tmp_path)
    changed(path, "UPDATE message SET checksum = NULL")
    outcome, rows = recovered(path)
    assert len(rows["message"]) == len(in_file.rows["message"])
    assert sum(one.unchecked for one in outcome.queues.values()) == len(rows["message"])


def test_an_entry_that_is_no_json_is_not_saved(in_file: Sample, tmp_path: Path) -> None:
    """Unless it is a body, which may be anything."""
    path = in_file.copy(tmp_path)
    changed(path, "UPDATE entry SET value = x'7b' WHERE namespace IN ('circuits', 'bodies')")
    outcome, rows = recovered(path)
    circuits = sum(row[1] == "circuits" for row in in_file.rows["entry"])
    assert outcome.damaged == {"entry": circuits}
    assert {row[1] for row in rows["entry"]} == {row[1] for row in in_file.rows["entry"]} - {"circuits"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE message SET visible_at_ms = visible_at_ms + 864000000 WHERE phase = 2",
        "UPDATE message SET receipt = NULL, receive_count = 5000 WHERE phase = 4",
        "UPDATE message SET receipt = zeroblob(16), origin = 99 WHERE phase IN (1, 3)",
        "UPDATE message SET round = -5",
        "UPDATE message SET expires_at_ms = 9000000000000",
        "DELETE FROM line",
        "UPDATE line SET free_at_ms = 1",
        "DELETE FROM tenant",
        "UPDATE sqlite_sequence SET seq = 1",
        "DELETE FROM sqlite_sequence",
        "UPDATE meta SET clock_high_water_ms = clock_high_water_ms + 40000000000000",
        "UPDATE queue SET dead_letter_queue = 'nowhere' WHERE name = 'orders'",
        "UPDATE queue SET dead_letter_queue = 'line-dead' WHERE name = 'orders'",
        "UPDATE queue SET fifo = 1 - fifo",
        "UPDATE move_task SET next_at_ms = 9e15",
        "UPDATE move_task SET source = 'nowhere'",
        "DELETE FROM deduplication",
    ],
)
def test_what_cannot_be_is_mended_and_every_message_saved(in_file: Sample, tmp_path: Path, statement: str) -> None:
    """A message comes too early rather than never, and the doctor finds nothing in the new file."""
    path = in_file.copy(tmp_path)
    changed(path, statement)
    outcome, rows = recovered(path)
    assert outcome.is_whole
    assert [row[5:11] for row in rows["message"]] == [row[5:11] for row in in_file.rows["message"]]
    assert [row[0] for row in rows["message"]] == [row[0] for row in in_file.rows["message"]]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE move_task SET moved = to_move + 1",
        "UPDATE deduplication SET sequence = 1000000",
        "UPDATE receive_attempt SET receipts = '{'",
    ],
)
def test_what_cannot_be_and_is_no_message_is_written_down(in_file: Sample, tmp_path: Path, statement: str) -> None:
    """It is not in the new file, and not gone without a word."""
    path = in_file.copy(tmp_path)
    changed(path, statement)
    outcome, _ = recovered(path)
    assert outcome.damaged.total() == len(damaged_rows(path)) > 0
    assert {row["reason"] for row in damaged_rows(path)} == {"it cannot be"}


def test_a_queue_whose_row_is_gone_keeps_its_messages(in_file: Sample, tmp_path: Path) -> None:
    """Under a name that says so; its kind is that of its messages."""
    path = in_file.copy(tmp_path)
    changed(path, "DELETE FROM queue WHERE name IN ('line', 'orders')")
    outcome, rows = recovered(path)
    assert [(row[1], row[4]) for row in rows["queue"] if row[0] in {2, 6}] == [("recovered-2", 0), ("recovered-6", 1)]
    assert len(rows["message"]) == len(in_file.rows["message"])
    assert sum("could not be read" in note for note in outcome.notes) >= 2


# Where pages are broken


@pytest.mark.parametrize("table", ["message", "entry", "queue", "message_ready", "sqlite_autoindex_entry_1", "line"])
def test_the_first_page_of_a_tree_may_be_gone(in_file: Sample, tmp_path: Path, table: str) -> None:
    """What stood below it is found on pages that nothing points to any more; what stood in it is told."""
    path = in_file.copy(tmp_path)
    overwritten(path, root_of(path, table))
    outcome, rows = recovered(path)
    lost = len(in_file.rows["message"]) - len(rows["message"])
    assert {row[:11] for row in rows["message"]} <= {row[:11] for row in in_file.rows["message"]}
    assert lost == 0
    assert len(rows["entry"]) == len(in_file.rows["entry"])
    assert outcome.is_whole is (table not in {"message", "entry", "queue"})


def test_every_single_page_may_be_gone(in_file: Sample, tmp_path: Path) -> None:
    """One after the other: what stood on it is lost, nothing else, and nothing comes back that was handled."""
    known = contents(in_file.rows["message"])
    pages = in_file.path.stat().st_size // PAGE
    saved = []
    for number in range(1, pages + 1, 3):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = in_file.copy(folder)
        overwritten(path, number)
        outcome = recover(str(path), str(folder / "new.db"), NOW)
        connection = connect(str(folder / "new.db"))
        rows = everything(connection)["message"]
        connection.close()
        assert contents(rows) <= known
        assert len(contents(rows)) == len(rows)
        told = sum(one.damaged.total() for one in outcome.queues.values())
        assert len(rows) == len(known) or told or outcome.unreadable["message"]
        saved.append(len(rows))
    assert min(saved) > 0.8 * len(known)
    assert sum(count == len(known) for count in saved) > len(saved) / 3


def test_of_noise_everywhere_what_is_whole_is_saved(tmp_path: Path) -> None:
    """Two thousand bytes overwritten at random: no wrong content, and most of what was not hit."""
    made = sample(tmp_path, in_log=False, scale=8)
    known = {row[6]: row[5:11] for row in made.rows["message"]}
    folder = tmp_path / "noise"
    folder.mkdir()
    path = made.copy(folder)
    data = bytearray(path.read_bytes())
    chance = random.Random(5)  # noqa: S311 - the same each time
    for _ in range(200):
        at = chance.randrange(100, len(data) - 10)
        data[at : at + 10] = chance.randbytes(10)
    path.write_bytes(data)
    outcome, rows = recovered(path)
    assert all(known[row[6]] == row[5:11] for row in rows["message"])
    assert len(rows["message"]) > 0.7 * len(known)
    assert len(rows["message"]) + outcome.damaged["message"] >= len(known)


@pytest.mark.parametrize("size", [PAGE * 40, 100_000, PAGE * 9])
def test_of_a_truncated_file_the_beginning_is_saved(in_file: Sample, tmp_path: Path, size: int) -> None:
    """And what an index knows of the rest is counted."""
    path = in_file.copy(tmp_path)
    os.truncate(path, size)
    outcome, rows = recovered(path)
    assert contents(rows["message"]) <= contents(in_file.rows["message"])
    assert len(rows["message"]) + outcome.damaged["message"] <= len(in_file.rows["message"])
    assert outcome.damaged["message"] > 50
    assert not outcome.is_whole


def test_a_bad_sector_costs_what_stands_on_it(in_file: Sample, tmp_path: Path) -> None:
    """A disk that gives no answer for a few pages is read around them."""
    path = in_file.copy(tmp_path)
    said = run_with_bad_sectors(path, "recover", str(tmp_path / "new.db"))
    assert said.returncode == 1, said.stderr
    document = json.loads(said.stdout)
    assert document["unreadable"] or document["damaged"]
    assert document["rows"]["message"] > 0.7 * len(in_file.rows["message"])
    assert examine(str(tmp_path / "new.db"), NOW).findings == []


def test_an_empty_file_with_its_log_gives_what_the_log_has(in_log: Sample, tmp_path: Path) -> None:
    """SQLite would delete that log."""
    path = in_log.copy(tmp_path)
    path.write_bytes(b"")
    _, rows = recovered(path)
    assert rows["message"]
    assert {row[6]: row[10] for row in rows["message"]}.items() <= {
        row[6]: row[10] for row in in_log.rows["message"]
    }.items()


def test_a_flipped_bit_in_the_log_costs_nothing(in_log: Sample, tmp_path: Path) -> None:
    """All transactions behind it are there, which SQLite would have dropped."""
    path = in_log.copy(tmp_path)
    log = Path(f"{path}-wal")
    data = bytearray(log.read_bytes())
    data[32 + 10] ^= 1
    log.write_bytes(data)
    outcome, rows = recovered(path)
    assert rows["message"] == in_log.rows["message"]
    assert outcome.is_whole
    assert "transactions were read from its log that SQLite would have dropped" in outcome.notes[0]


def test_what_was_handled_does_not_come_back(in_file: Sample, tmp_path: Path) -> None:
    """A broken list of free pages makes old copies look like lost rows: the indexes know them apart."""
    path = in_file.copy(tmp_path)
    connection = connect(str(path))
    connection.execute("DELETE FROM message WHERE queue = (SELECT id FROM queue WHERE name = 'orders-dead')")
    connection.execute("DELETE FROM message WHERE body IN (SELECT body FROM message WHERE length(body) > 4096)")
    left = everything(connection)["message"]
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()
    data = bytearray(path.read_bytes())
    assert int.from_bytes(data[36:40]) > 5  # free pages
    data[32:40] = bytes(8)
    path.write_bytes(data)
    _, rows = recovered(path)
    assert [row[0] for row in rows["message"]] == [row[0] for row in left]


# Schemas


def test_an_older_file_is_recovered_to_today_s_schema(tmp_path: Path) -> None:
    """Its messages are older than checksums; they are ready, delayed or in flight as they were."""
    path = tmp_path / "old.db"
    changed(
        path,
        migrations()[0],
        "INSERT INTO queue (name) VALUES ('orders')",
        "INSERT INTO message (queue, visible_at_ms, sent_at_ms, id, body) VALUES (1, :now, 1, 'ready', x'31')",
        "INSERT INTO message (queue, visible_at_ms, receipt, receive_count, sent_at_ms, id, body)"
        " VALUES (1, :now + 60000, zeroblob(16), 1, 1, 'leased', x'32')",
        "INSERT INTO entry (namespace, key, version, value) VALUES ('circuits', 'payments', 1, x'7b7d')",
        "UPDATE meta SET clock_high_water_ms = :now",
        "PRAGMA user_version = 1",
        "PRAGMA application_id = 1919185526",
        now=NOW,
    )
    outcome, rows = recovered(path)
    assert (outcome.schema, outcome.queues["orders"].unchecked, outcome.is_whole) == (1, 2, True)
    assert [(row[6], row[10], row[4]) for row in rows["message"]] == [("ready", b"1", 0), ("leased", b"2", 1)]
    assert len(rows["entry"]) == 1


def test_the_schema_s_own_page_may_be_gone(in_file: Sample, tmp_path: Path) -> None:
    """The tables are looked for where a new file has them."""
    path = in_file.copy(tmp_path)
    data = bytearray(path.read_bytes())
    data[100:PAGE] = bytes(PAGE - 100)
    path.write_bytes(data)
    _, rows = recovered(path)
    assert rows["message"] == in_file.rows["message"]
    assert rows["queue"] == in_file.rows["queue"]


# What is refused


@pytest.mark.parametrize("name", ["new.db", "new.db.damaged.jsonl"])
def test_nothing_is_overwritten(in_file: Sample, tmp_path: Path, name: str) -> None:
    """Neither the new file nor the one beside it, be it only a link to nowhere."""
    path = in_file.copy(tmp_path)
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(OperationRefused, match="not overwritten"):
        recover(str(path), str(tmp_path / "new.db"), NOW)
    assert {one.name for one in tmp_path.iterdir()} == {"made.db", name}


def test_a_file_in_use_is_refused(in_file: Sample, tmp_path: Path) -> None:
    """It would change while it is read, and its messages would be in two files."""
    path = in_file.copy(tmp_path)
    code = "import sys; from redrive.sqlite.database import connect\n"
    code += "c = connect(sys.argv[1]); c.execute('SELECT 1 FROM meta').get; print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline()
        with pytest.raises(OperationRefused, match=f"open in process {worker.pid}; stop the workers"):
            recover(str(path), str(tmp_path / "new.db"), NOW)


def test_a_file_that_changes_while_it_is_read_is_refused(
    in_file: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker was started in the middle of it: no new file, and none with damaged rows."""
    path = in_file.copy(tmp_path)
    changed(path, "UPDATE message SET checksum = 1 WHERE seq = (SELECT max(seq) FROM message)")
    run = _Recovery.run

    def interrupted(recovery: _Recovery, *arguments: Any) -> None:
        run(recovery, *arguments)
        changed(path, "UPDATE meta SET clock_high_water_ms = 1")

    monkeypatch.setattr(_Recovery, "run", interrupted)
    with pytest.raises(OperationRefused, match="changed while it was read"):
        recover(str(path), str(tmp_path / "new.db"), NOW)
    assert {one.name for one in tmp_path.iterdir()} == {"made.db"}


def test_a_full_disk_leaves_nothing_behind(in_file: Sample, tmp_path: Path) -> None:
    """The new file was begun, and is gone."""
    path = in_file.copy(tmp_path)
    code = "import resource, sys; from redrive.sqlite.damage.recover import recover\n"
    code += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); recover(sys.argv[1], sys.argv[2], 1)"
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "new.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "DatabaseUnusable" in done.stderr.splitlines()[-1]
    assert "cannot be written" in done.stderr
    assert {one.name for one in tmp_path.iterdir()} == {"made.db"}


def _foreign(path: Path) -> None:
    changed(path, "CREATE TABLE customer (name TEXT)")


def _newer(path: Path) -> None:
    connect(str(path)).close()
    changed(path, "CREATE TABLE saga (n)", "PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda _: None, DatabaseUnusable, "does not exist"),
        (lambda path: path.write_bytes(b"not a database" * 1000), DatabaseUnusable, "nothing of redrive"),
        (lambda path: path.touch(), DatabaseUnusable, "nothing of redrive"),
        (_foreign, DatabaseUnusable, "belongs to another program"),
        (_newer, DatabaseTooNew, "schema 99"),
    ],
    ids=["missing", "noise", "empty", "foreign", "newer"],
)
def test_what_is_not_ours_is_refused(
    tmp_path: Path, make: Callable[[Path], object], error: type[Exception], words: str
) -> None:
    """And no new file is made."""
    path = tmp_path / "made.db"
    make(path)
    with pytest.raises(error, match=words):
        recover(str(path), str(tmp_path / "new.db"), NOW)
    assert "new.db" not in {one.name for one in tmp_path.iterdir()}


def test_a_folder_that_does_not_exist_is_named(in_file: Sample, tmp_path: Path) -> None:
    """Nothing is made that nobody asked for."""
    path = in_file.copy(tmp_path)
    with pytest.raises(DatabaseUnusable, match=r"make .* first"):
        recover(str(path), str(tmp_path / "no" / "new.db"), NOW)


def test_a_dry_run_says_the_same_and_makes_nothing(in_file: Sample, tmp_path: Path) -> None:
    """No new file, no file with damaged rows."""
    path = in_file.copy(tmp_path)
    changed(path, "UPDATE message SET checksum = checksum + 1 WHERE seq % 3 = 0")
    before = {one.name for one in tmp_path.iterdir()}
    dry = recover(str(path), str(tmp_path / "new.db"), NOW, dry_run=True)
    assert {one.name for one in tmp_path.iterdir()} == before
    outcome, _ = recovered(path)
    assert (dry.queues, dry.rows, dry.damaged) == (outcome.queues, outcome.rows, outcome.damaged)


def test_the_new_file_has_the_owner_and_mode_of_the_old_one(in_file: Sample, tmp_path: Path) -> None:
    """So that root may recover what belongs to the workers."""
    path = in_file.copy(tmp_path)
    path.chmod(0o640)
    recovered(path)
    assert stat.S_IMODE((tmp_path / "new.db").stat().st_mode) == 0o640
    assert (tmp_path / "new.db").stat().st_uid == path.stat().st_uid


def test_a_new_queue_is_no_different(tmp_path: Path) -> None:
    """A file without a message gives one without a message."""
    path = tmp_path / "new-queue.db"
    connection = connect(str(path))
    Engine(connection).declare([QueueSpec(name="orders")], NOW)
    connection.close()
    outcome, rows = recovered(path)
    assert (outcome.rows["queue"], rows["message"]) == (1, [])
