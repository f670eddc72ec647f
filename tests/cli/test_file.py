"""`redrive doctor` and `redrive recover`."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from redrive.cli import main
from tests.cli.conftest import Cafe


def run(*arguments: str, code: int = 0) -> Result:
    """Run a command that takes no broker."""
    result = CliRunner().invoke(main, [*arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    return result


def document(*arguments: str, code: int = 0) -> dict[str, Any]:
    """What a command prints with --json: one document."""
    (line,) = run(*arguments, "--json", code=code).stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def damage(cafe: Cafe) -> Path:
    """Change the body of a dead letter behind redrive's back."""
    path = cafe.folder / "cafe.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE message SET body = x'7b7d' WHERE id = ?", (cafe.bomb,))
    connection.close()
    return path


@pytest.mark.parametrize("target", ["file", "address", "app", "environment", "configured"])
def test_the_doctor_finds_the_file_that_is_meant(cafe: Cafe, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, by its address, as the broker of an application, or by the environment."""
    path = str(cafe.folder / "cafe.db")
    arguments = {"file": [path], "address": [cafe.address], "app": ["cafe:app", "--app-dir", str(cafe.folder)]}
    if target == "environment":
        monkeypatch.setenv("REDRIVE_BROKER", cafe.address)
    if target == "configured":
        monkeypatch.setenv("REDRIVE_APP", "cafe.py:app")
    found = document("doctor", *arguments.get(target, []))["path"]
    assert Path(found).name == "cafe.db"  # a module is imported once: the application is that of the first test
    assert target in {"app", "configured"} or found == path


def test_a_healthy_file_is_said_to_be(cafe: Cafe) -> None:
    """With what it is, what is in it and what stands beside it."""
    path = str(cafe.folder / "cafe.db")
    said = run("doctor", path).stdout
    assert said.splitlines()[-1] == f"{path} is healthy"
    assert "application id  0x72647276" in said
    assert f"{cafe.folder}" in said
    found = document("doctor", path)
    assert (found["state"], found["findings"], found["messages"]) == ("healthy", [], 4)
    assert found["size"] == Path(path).stat().st_size
    assert {"schema", "known_schema", "free_disk", "floor", "log_size", "open_by", "counts", "notes"} <= found.keys()
    assert [one["name"] for one in found["files"]][:2] == [path, str(cafe.folder)]


def test_findings_are_told_with_their_remedy(cafe: Cafe) -> None:
    """Exit code 1, a sentence each, and no body in it."""
    path = damage(cafe)
    said = run("doctor", str(path), code=1).stdout
    assert "1 finding\n" in said
    assert f"message '{cafe.bomb}' of queue 'orders-dead'" in said
    assert f"`redrive recover {path} NEW_FILE` saves what is whole" in said
    assert "Eve" not in said
    found = document("doctor", str(path), code=1)
    (finding,) = found["findings"]
    assert (finding["kind"], finding["queue"], finding["id"]) == ("checksum", "orders-dead", cafe.bomb)
    assert found["counts"] == {"checksum": 1}


def test_what_cannot_be_read_ends_with_two(cafe: Cafe) -> None:
    """A file that is not there, or no database; the reason is a finding like any other."""
    assert "does not exist" in run("doctor", "nothing.db", code=2).stdout
    Path("notes.db").write_text("notes" * 1000)
    found = document("doctor", "notes.db", code=2)
    assert (found["state"], found["findings"][0]["kind"]) == ("unreadable", "not-a-database")
    assert not (cafe.folder / "nothing.db").exists()


def test_the_doctor_has_to_be_told_what_to_look_at(cafe: Cafe) -> None:
    """The remedy names every way."""
    error = run("doctor", code=78).stderr
    assert cafe.folder.exists()
    assert "REDRIVE_APP" in error
    assert "REDRIVE_BROKER" in error


def test_a_damaged_file_is_recovered(cafe: Cafe) -> None:
    """What is whole is in the new file, which redrive opens; what is not is counted and kept for a person."""
    path = damage(cafe)
    said = run("recover", str(path), "new.db", code=1)
    assert f"3 messages saved to {cafe.folder / 'new.db'}" in said.stdout
    assert "damaged in orders-dead" in said.stdout
    assert "only its owner may read it" in said.stderr
    damaged = cafe.folder / "new.db.damaged.jsonl"
    assert stat.S_IMODE(damaged.stat().st_mode) == 0o600
    assert json.loads(damaged.read_text())["values"]["id"] == cafe.bomb
    assert run("doctor", "new.db").stdout.splitlines()[-1].endswith("new.db is healthy")
    shutil.copy(cafe.folder / "new.db", path)
    assert cafe.json("queue", "ls")[0]["parked"] == 1


def test_a_whole_file_is_recovered_with_code_zero(cafe: Cafe) -> None:
    """And the facts are one document."""
    found = document("recover", str(cafe.folder / "cafe.db"), "new.db")
    assert (found["action"], found["new_path"]) == ("saved", str(cafe.folder / "new.db"))
    assert {one["queue"]: one["saved"] for one in found["queues"]} == {
        "orders": 0,
        "orders-dead": 3,
        "orders-parked-payments": 1,
    }
    assert found["damaged"] == {}
    assert found["damaged_path"] is None
    assert found["rows"]["message"] == 4


def test_a_dry_run_makes_nothing(cafe: Cafe) -> None:
    """It says what would be saved."""
    path = damage(cafe)
    before = set(cafe.folder.iterdir())
    said = run("recover", str(path), "new.db", "--dry-run", code=1).stdout
    assert f"3 messages would be saved to {cafe.folder / 'new.db'}" in said
    assert document("recover", str(path), "new.db", "--dry-run", code=1)["action"] == "would save"
    assert set(cafe.folder.iterdir()) == before


def test_the_new_file_must_not_exist(cafe: Cafe) -> None:
    """Refused in one line; nothing is overwritten."""
    Path("new.db").write_text("mine")
    error = run("recover", "cafe.db", "new.db", code=1).stderr
    assert "exists, and is not overwritten; name another file" in error
    assert (cafe.folder / "new.db").read_text() == "mine"


def test_ids_that_damage_made_cannot_command_a_terminal(cafe: Cafe) -> None:
    """Whatever stands in the file is escaped."""
    path = cafe.folder / "cafe.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE message SET id = ?", ("\x1b[2J\x07",))
    connection.close()
    said = run("doctor", str(path), code=1).stdout
    assert "\\x1b[2J\\x07" in said
    assert all(one.isprintable() for one in said.splitlines())
