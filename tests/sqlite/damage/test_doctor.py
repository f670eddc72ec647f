"""The doctor: nothing is wrong with what is whole, every fault has a name and a remedy, and nothing changes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest
from hypothesis import settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from redrive.sqlite.damage.checks import RULES, Checks
from redrive.sqlite.damage.doctor import examine
from redrive.sqlite.damage.findings import MOST_SHOWN, Finding, Report, State
from redrive.sqlite.database import connect
from redrive.sqlite.statements import migrations
from tests.sqlite.damage.bad_sectors import run_with_bad_sectors
from tests.sqlite.damage.sample import NOW, Sample, sample
from tests.sqlite.test_engine_against_a_model import AgainstAModel

DAMAGE = {
    "other_kind": "UPDATE message SET phase = 3 WHERE seq = (SELECT seq FROM message WHERE phase = 0 LIMIT 1)",
    "without_receipt": "UPDATE message SET receipt = NULL WHERE phase = 2",
    "with_receipt": "UPDATE message SET receipt = zeroblob(16) WHERE phase = 3",
    "never_received": "UPDATE message SET receive_count = 0 WHERE phase = 2",
    "received_too_often": "UPDATE message SET receive_count = 1001 WHERE queue = 2 AND phase = 0",
    "far_future": "UPDATE message SET visible_at_ms = visible_at_ms + 86400000 WHERE phase = 2",
    "ready_later": "UPDATE message SET visible_at_ms = visible_at_ms + 3600000 WHERE phase = 0",
    "never_expires": "UPDATE message SET expires_at_ms = NULL WHERE queue = 4",
    "expires": "UPDATE message SET expires_at_ms = 1 WHERE queue = 2",
    "expires_late": "UPDATE message SET expires_at_ms = expires_at_ms + 172800000 WHERE queue = 4",
    "unknown_origin": "UPDATE message SET origin = 99 WHERE queue = 1",
    "without_group": "UPDATE message SET group_id = '' WHERE phase = 3",
    "no_line": "DELETE FROM line WHERE group_id = 'group-1'",
    "line_without_messages": "INSERT INTO line VALUES (6, 'nobody', 1, 1)",
    "wrong_line": "UPDATE line SET free_at_ms = free_at_ms + 1 WHERE group_id = 'group-1'",
    "wrong_front": "UPDATE line SET front = front + 1 WHERE group_id = 'group-1'",
    "no_tenant": "DELETE FROM tenant",
    "no_round": "UPDATE message SET round = -1 WHERE phase = 0",
    "dead_letter_queue": "UPDATE queue SET dead_letter_queue = 'nowhere' WHERE name = 'orders'",
    "queue_settings": "UPDATE queue SET allowed_sources = '{' WHERE name = 'orders'",
    "deduplication": "UPDATE deduplication SET sequence = 0",
    "receive_attempt": "UPDATE receive_attempt SET receipts = 'x'",
    "sqs_queue": "UPDATE sqs_queue SET tags = '['",
    "move_task": "UPDATE move_task SET moved = to_move + 1",
}
OTHERS = {
    "checksum": "UPDATE message SET body = CAST(body || x'20' AS BLOB) WHERE seq = (SELECT max(seq) FROM message)",
    "set-aside": "UPDATE message SET phase = 5, receipt = NULL WHERE seq = (SELECT max(seq) FROM message)",
    "entry": "UPDATE entry SET value = x'7b' WHERE namespace = 'circuits'",
    "sequence": "UPDATE sqlite_sequence SET seq = 1 WHERE name = 'message'",
    "definition": "DROP INDEX message_by_id",
    "reference": "PRAGMA foreign_keys = OFF; UPDATE message SET queue = 99 WHERE seq = (SELECT max(seq) FROM message)",
    "text": "UPDATE deduplication SET message_id = CAST(x'ff' AS TEXT)",
    "integrity": "PRAGMA ignore_check_constraints = ON; UPDATE message SET phase = 66 WHERE phase = 2",
    "clock": "UPDATE meta SET clock_high_water_ms = clock_high_water_ms + 3600000",
}


@contextmanager
def changed(path: Path) -> Iterator[apsw.Connection]:
    """A connection of somebody who knows no rules."""
    connection = apsw.Connection(str(path))
    yield connection
    connection.close()


def found(path: Path, kind: str) -> list[Finding]:
    """The findings of a kind; each with a remedy, and without a body."""
    report = examine(str(path), NOW)
    assert report.counts[kind], report.findings
    assert report.state in {State.FINDINGS, State.UNREADABLE}
    for finding in report.findings:
        assert finding.remedy
        assert "filling" not in str(finding)
        assert "\n" not in finding.remedy
    return [one for one in report.findings if one.kind == kind]


@pytest.mark.parametrize("kind", ["in_file", "in_log"])
def test_nothing_is_wrong_with_a_whole_file(kind: str, request: pytest.FixtureRequest) -> None:
    """Every kind of queue and message, leased, delayed, dead and parked: no finding, and everything counted."""
    made: Sample = request.getfixturevalue(kind)
    report = examine(str(made.path), NOW)
    assert (report.state, report.findings, report.notes) == (State.HEALTHY, [], [])
    assert report.messages == len(made.rows["message"])
    assert report.entries == len(made.rows["entry"])
    assert (report.queues, report.unchecked, report.set_aside, report.schema) == (6, 0, 0, len(migrations()))
    assert (report.application_id, report.open_by) == (0x72647276, None)


class UnderTheDoctor(AgainstAModel):
    """The machine that asks everything of the engine; after each step the doctor looks."""

    @invariant()
    def the_doctor_finds_nothing(self) -> None:
        report = Report(path=self.path, known_schema=len(migrations()), schema=len(migrations()))
        checks = Checks(self.connection, report, self.last_ms)
        checks.structure()
        checks.definitions()
        checks.texts()
        checks.rows()
        checks.invariants()
        findings = [one for one in report.findings if one.kind != "dead-letter-queue"]  # it deletes queues too
        assert findings == []


def test_nothing_is_wrong_whatever_the_engine_was_asked() -> None:
    """So that a finding is a fault, and not something that the engine does now and then."""
    run_state_machine_as_test(UnderTheDoctor, settings=settings(max_examples=15, stateful_step_count=50, deadline=None))


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_nothing_is_wrong_whatever_the_engine_was_asked_for_a_long_time() -> None:
    """Fifty thousand steps."""
    run_state_machine_as_test(
        UnderTheDoctor, settings=settings(max_examples=500, stateful_step_count=100, deadline=None)
    )


def test_a_file_s_name_may_be_anything(in_log: Sample, tmp_path: Path) -> None:
    """Question marks and percent signs are no options."""
    path = in_log.copy(tmp_path)
    odd = path.rename(tmp_path / "a?mode=rw#b%20 c'.db")
    Path(f"{path}-wal").rename(f"{odd}-wal")
    report = examine(str(odd), NOW)
    assert (report.state, report.messages) == (State.HEALTHY, len(in_log.rows["message"]))


# What contradicts the engine


def test_every_rule_has_its_damage() -> None:
    """None is there that was never seen to find something."""
    assert DAMAGE.keys() == RULES.keys()


@pytest.mark.parametrize("rule", DAMAGE)
def test_what_the_engine_would_never_write_is_found(in_file: Sample, tmp_path: Path, rule: str) -> None:
    """Each rule, by the kind that scripts see, with the queue and the id or the group."""
    path = in_file.copy(tmp_path)
    with changed(path) as connection:
        connection.execute(DAMAGE[rule])
    findings = found(path, RULES[rule].kind)
    assert all(one.queue for one in findings)
    words = RULES[rule].problem.partition("{")[0] or RULES[rule].problem.rpartition("}")[2]
    assert any(words.strip() in one.problem for one in findings)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_damaged_is_found(in_file: Sample, tmp_path: Path, kind: str) -> None:
    """Contents, definitions, numbers, references, the clock."""
    path = in_file.copy(tmp_path)
    with changed(path) as connection:
        connection.execute(OTHERS[kind])
    (finding, *_) = found(path, kind)
    assert str(path) in str(finding)


def test_of_a_million_findings_a_person_sees_twenty(in_file: Sample, tmp_path: Path) -> None:
    """The others are counted."""
    path = in_file.copy(tmp_path)
    with changed(path) as connection:
        connection.execute("UPDATE message SET checksum = checksum + 1")
    assert len(found(path, "checksum")) == MOST_SHOWN
    assert examine(str(path), NOW).counts["checksum"] == len(in_file.rows["message"])


def test_a_message_from_before_checksums_is_counted_and_no_finding(in_file: Sample, tmp_path: Path) -> None:
    """Unless it cannot be read."""
    path = in_file.copy(tmp_path)
    with changed(path) as connection:
        connection.execute("UPDATE message SET checksum = NULL WHERE seq % 2")
    report = examine(str(path), NOW)
    assert (report.state, report.unchecked) == (State.HEALTHY, sum(row[0] % 2 for row in in_file.rows["message"]))
    with changed(path) as connection:
        connection.execute("UPDATE message SET notes = '{}' WHERE seq = (SELECT min(seq) FROM message WHERE seq % 2)")
    assert len(found(path, "checksum")) == 1


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """One message after the other, however many there are."""
    peaks = []
    for scale in (1, 10):
        folder = tmp_path / str(scale)
        folder.mkdir()
        made = sample(folder, in_log=False, scale=scale)
        tracemalloc.start()
        assert examine(str(made.path), NOW).state is State.HEALTHY
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 300_000


# Nothing changes


def test_nothing_changes_and_nothing_is_left_behind(in_log: Sample, tmp_path: Path) -> None:
    """Not a byte of the file or its log, no -shm, no -lock; with a -shm that is there neither."""
    path = in_log.copy(tmp_path)
    Path(f"{path}-shm").write_bytes(b"\7" * 32768)
    before = {one.name: (one.read_bytes(), one.stat().st_mtime_ns) for one in tmp_path.iterdir()}
    examine(str(path), NOW)
    assert {one.name: (one.read_bytes(), one.stat().st_mtime_ns) for one in tmp_path.iterdir()} == before


def test_it_looks_while_a_worker_writes(short_path: Path) -> None:
    """Beside it, as a reader: healthy, again and again, and the worker goes on."""
    path = short_path / "busy.db"
    process = Path(__file__).parents[1] / "process.py"
    with subprocess.Popen([sys.executable, process, "send", path], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline()
        seen = []
        for _ in range(3):
            code = "import sys, time; from redrive.sqlite.damage.doctor import examine\n"
            code += (
                "r = examine(sys.argv[1], time.time_ns() // 10**6); print(r.state, r.open_by, r.messages, r.findings)"
            )
            looked = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
            state, process_id, messages, findings = looked.stdout.split(maxsplit=3)
            assert (state, findings.strip()) == ("0", "[]")
            assert int(process_id) == worker.pid
            seen.append(int(messages))
            assert worker.stdout.readline()
        worker.send_signal(signal.SIGKILL)
    assert seen == sorted(seen)
    assert seen[-1] > 0
    assert examine(str(path), NOW * 2).open_by is None


# What is no database, or no longer one


def test_a_file_that_does_not_exist_is_said_not_to(tmp_path: Path) -> None:
    """And is not made; a folder is no file."""
    assert "does not exist" in str(found(tmp_path / "no.db", "missing")[0])
    assert "is not a file" in str(found(tmp_path, "missing")[0])
    assert not list(tmp_path.iterdir())


def test_an_empty_file_says_what_it_could_mean(in_log: Sample, tmp_path: Path) -> None:
    """Never used, or everything is gone; and where its log is there, that SQLite would delete it."""
    path = tmp_path / "made.db"
    path.touch()
    assert "restore a copy" in str(found(path, "empty")[0])
    assert examine(str(path), NOW).state is State.UNREADABLE
    in_log.copy(tmp_path)
    path.write_bytes(b"")
    (finding,) = found(path, "empty")
    assert "start no worker" in finding.remedy
    assert "redrive recover" in finding.remedy


@pytest.mark.parametrize("size", [100, 1_500, 4_096, 8_192, 100_000])
def test_a_truncated_file_is_found(in_file: Sample, tmp_path: Path, size: int) -> None:
    """Wherever it was cut; the number of missing pages is said where that is known."""
    path = in_file.copy(tmp_path)
    os.truncate(path, size)
    report = examine(str(path), NOW)
    assert report.state is not State.HEALTHY
    assert report.counts.keys() & {"truncated", "unreadable", "header", "integrity"}
    assert all("redrive recover" in one.remedy for one in report.findings if one.kind != "header")


def test_another_program_s_database_is_called_that(tmp_path: Path) -> None:
    """Nothing more is said of it, for it is none of ours."""
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customer (name TEXT)")
    connection.close()
    assert "belongs to another program" in str(found(path, "foreign")[0])
    assert examine(str(path), NOW).state is State.UNREADABLE


@pytest.mark.parametrize("content", [b"xy", b"not a database" * 100, b"\0" * 4096], ids=len)
def test_what_is_no_database_is_called_that(tmp_path: Path, content: bytes) -> None:
    """A text, or zeros."""
    path = tmp_path / "notes.db"
    path.write_bytes(content)
    assert "is not an SQLite database" in str(found(path, "not-a-database")[0])


def test_a_newer_database_is_told_from_a_damaged_one(in_file: Sample, tmp_path: Path) -> None:
    """Its pages are still checked."""
    path = in_file.copy(tmp_path)
    with changed(path) as connection:
        connection.pragma("user_version", 99)
    (finding,) = found(path, "newer")
    assert "schema 99" in finding.problem
    assert finding.remedy == "install the newer redrive"


def test_an_older_database_is_whole(tmp_path: Path) -> None:
    """A worker brings it to today's schema; until then its pages are checked."""
    path = tmp_path / "old.db"
    with changed(path) as connection:
        connection.execute(migrations()[0])
        connection.pragma("user_version", 1)
        connection.pragma("application_id", 0x72647276)
    report = examine(str(path), NOW)
    assert (report.state, report.schema) == (State.HEALTHY, 1)
    assert "it has schema 1" in report.notes[0]


@pytest.mark.parametrize(
    ("offset", "bit", "words"),
    [
        (3, 0, "SQLite does not know it"),
        (68, 1, "application id"),
        (63, 7, "schema"),
        (63, 1, "is missing"),
        (16, 4, "SQLite does not know it"),
    ],
    ids=["magic", "application id", "newer schema", "older schema", "page size"],
)
def test_a_flipped_bit_in_the_header_is_found(
    in_file: Sample, tmp_path: Path, offset: int, bit: int, words: str
) -> None:
    """And not taken for another program, nor for nothing."""
    path = in_file.copy(tmp_path)
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)
    report = examine(str(path), NOW)
    assert report.state is not State.HEALTHY
    assert any(words in one.problem for one in report.findings)


@pytest.mark.parametrize(("mode", "kind"), [(0o000, "unreadable"), (0o444, "permission")])
def test_what_this_user_may_not_do_is_said(in_file: Sample, short_path: Path, mode: int, kind: str) -> None:
    """Reading it, or writing to it as a worker would; owner and mode are the remedy. Root becomes nobody first."""
    path = in_file.copy(short_path)
    good = path.with_name("good.db")
    good.write_bytes(path.read_bytes())
    path.chmod(mode)
    short_path.chmod(0o755)
    code = "import json, os, sys; from redrive.sqlite.damage.doctor import examine\n"
    code += "examine(sys.argv[2], 1)\n"  # imports all that it needs, for nobody may not
    code += "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    code += "print(json.dumps([[one.kind, str(one)] for one in examine(sys.argv[1], 1).findings]))"
    done = subprocess.run([sys.executable, "-c", code, path, good], capture_output=True, text=True, check=True)
    told = [sentence for of_kind, sentence in json.loads(done.stdout) if of_kind == kind]
    assert told
    assert all("owner" in sentence for sentence in told)


def test_a_bad_sector_is_found(in_file: Sample, tmp_path: Path) -> None:
    """What cannot be read is told, and the rest is looked at."""
    said = run_with_bad_sectors(in_file.copy(tmp_path), "doctor")
    assert said.returncode == 1, said.stderr
    document = json.loads(said.stdout)
    assert document["counts"].keys() & {"unreadable", "integrity"}
    assert "Traceback" not in said.stderr


# The log


def test_a_flipped_bit_in_the_log_is_found(in_log: Sample, tmp_path: Path) -> None:
    """Everything behind it would be dropped, and SQLite would not say a word."""
    path = in_log.copy(tmp_path)
    log = Path(f"{path}-wal")
    data = bytearray(log.read_bytes())
    data[5_000] ^= 1
    log.write_bytes(data)
    (finding,) = found(path, "log")
    assert "frame 2" in finding.problem
    assert "before a worker opens it" in finding.remedy
    connection = connect(str(path))
    assert connection.execute("PRAGMA integrity_check").get == "ok"  # and this is why the doctor looks for itself
    connection.close()


def test_a_missing_log_is_found_by_its_index(tmp_path: Path) -> None:
    """What was only in it is counted; a -shm of a log that was copied, or of another one, is no fault."""
    path = tmp_path / "made.db"
    code = "import os, sys; from redrive.sqlite.database import connect\n"
    code += "c = connect(sys.argv[1]); c.execute('UPDATE meta SET clock_high_water_ms = 1'); os._exit(0)"
    subprocess.run([sys.executable, "-c", code, path], check=True)
    assert examine(str(path), NOW).findings == []
    log = Path(f"{path}-wal").read_bytes()
    Path(f"{path}-wal").write_bytes(log[: 32 + 4120 * 3])
    assert "cut off" in found(path, "log")[0].problem
    Path(f"{path}-wal").unlink()
    assert "is missing" in found(path, "log")[0].problem


def test_a_stale_index_of_the_log_is_no_fault(in_log: Sample, tmp_path: Path) -> None:
    """SQLite makes it anew."""
    path = in_log.copy(tmp_path)
    other = tmp_path / "other.db"
    connection = connect(str(other))
    shm = Path(f"{other}-shm").read_bytes()
    connection.close()
    Path(f"{path}-shm").write_bytes(shm)
    report = examine(str(path), NOW)
    assert report.findings == []
    assert "-shm is of another log" in report.notes[0]


# What stands around it


def test_what_stands_beside_the_file_is_listed(in_log: Sample, tmp_path: Path) -> None:
    """With owner, mode and size; and the disk against its floor."""
    path = in_log.copy(tmp_path)
    Path(f"{path}-lock").touch(mode=0o600)
    report = examine(str(path), NOW)
    assert [Path(one.name).name for one in report.files] == [path.name, tmp_path.name, "made.db-wal", "made.db-lock"]
    assert [one.mode for one in report.files][-1] == "-rw-------"
    assert report.files[0].size == path.stat().st_size
    assert report.free_disk is not None
    assert report.floor is not None


def test_what_stands_in_a_worker_s_way_is_found(in_file: Sample, tmp_path: Path) -> None:
    """A folder where the lock should be, a file where sockets should be, a database that everybody may change."""
    path = in_file.copy(tmp_path)
    Path(f"{path}-lock").mkdir()
    Path(f"{path}-wake").touch()
    path.chmod(0o666)
    problems = [one.problem for one in found(path, "in-the-way")]
    assert ["-lock" in one or "-wake" in one for one in problems] == [True, True]
    assert "can be changed by every user" in found(path, "permission")[0].problem


def test_a_finding_is_a_line_of_json(in_file: Sample, tmp_path: Path) -> None:
    """Whatever was read: a damaged id is no text any more."""
    path = in_file.copy(tmp_path)
    with changed(path) as connection:
        connection.execute("UPDATE message SET id = CAST(x'ff00' AS TEXT) WHERE seq = (SELECT max(seq) FROM message)")
    findings = found(path, "checksum")
    assert json.loads(json.dumps([one.id for one in findings])) == ["\\xff\0"]
