"""However a command ends, it ends in one line and a documented exit code."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
from typing import Any

import click
import pytest
from click.testing import CliRunner

from redrive import errors
from redrive.cli import main
from redrive.cli.exits import MEANINGS, Exit, exit_code, markdown
from redrive.operations import Operations
from tests.cli.conftest import Cafe

EXPECTED = {
    Exit.CONFIGURATION: {
        "ConfigurationError",
        "DatabaseTooNew",
        "DatabaseUnusable",
        "DeclarationError",
        "HandlerEnded",
        "NoTransaction",
        "NotConfigured",
        "NotOpen",
        "UndeclaredDependency",
    },
    Exit.NOT_FOUND: {"QueueNotFound", "NotFound"},
    Exit.TEMPORARY: {
        "BrokerUnavailable",
        "DiskNearlyFull",
        "NotPermitted",
        "OutcomeUnknown",
        "StoreUnavailable",
        "VersionConflict",
    },
}


def made(kind: type[errors.RedriveError]) -> errors.RedriveError:
    """An error of a class, with facts of the kinds that it takes."""
    fitting = {"int": 7, "bool": True, "float | None": 1.5, "float": 1.5}
    if "__init__" not in vars(kind):
        return kind("x")
    parameters = list(inspect.signature(kind).parameters.values())
    return kind(*(fitting.get(str(one.annotation), "x") for one in parameters))


@pytest.mark.parametrize(
    "kind", [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.RedriveError)]
)
def test_every_error_has_a_code_and_a_line(kind: type[errors.RedriveError], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever redrive raises: no traceback, one line, and the code that tells what kind it is."""
    error = made(kind)
    expected = next((code for code, names in EXPECTED.items() if kind.__name__ in names), Exit.REFUSED)
    assert exit_code(error) is expected
    result = run_raising(error, monkeypatch)
    assert result.exit_code == expected
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (BrokenPipeError(), 141, ""),
        (click.Abort(), 1, "error: cancelled\n"),
        (
            RecursionError("too\ndeep"),
            1,
            "error: RecursionError: too\\ndeep; `redrive --debug …` shows the traceback\n",
        ),
        (ValueError("\x1b[31m"), 1, "error: ValueError: \\x1b[31m; `redrive --debug …` shows the traceback\n"),
    ],
)
def test_other_ends(error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interruptions and surprises are one line too, or none; what they hold is escaped."""
    result = run_raising(error, monkeypatch)
    assert (result.exit_code, result.stderr) == (code, line)


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the line, for whoever asks for it."""
    result = run_raising(ValueError("surprise"), monkeypatch, "--debug")
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-1] == "error: ValueError: surprise"


def test_the_codes_are_documented() -> None:
    """In the help, and as a table for the documentation."""
    text = CliRunner().invoke(main, ["--help"]).stdout
    for code, meaning in MEANINGS.items():
        assert f"{code.value:>5}  {meaning}" in text
        assert f"| {code.value} | {meaning} |" in markdown().splitlines()


def test_a_database_that_is_missing_is_not_made(cafe: Cafe) -> None:
    """Looking creates nothing; the path is said in full."""
    (cafe.folder / "cafe.db").rename("elsewhere.db")
    for app in (True, False):
        line = cafe.refused("queue", "ls", code=78, app=app)
        assert str(cafe.folder / "cafe.db") in line
        assert "does not exist" in line
    assert not (cafe.folder / "cafe.db").exists()


@pytest.mark.parametrize("content", [b"no database at all, only text\n" * 50, None])
def test_a_database_that_cannot_be_used_is_explained(cafe: Cafe, content: bytes | None) -> None:
    """Not a database, or a folder: exit code 78."""
    (cafe.folder / "cafe.db").unlink()
    if content is None:
        (cafe.folder / "cafe.db").mkdir()
    else:
        (cafe.folder / "cafe.db").write_bytes(content)
    assert str(cafe.folder / "cafe.db") in cafe.refused("queue", "ls", code=78)


def test_whoever_stops_reading_ends_the_command_quietly(
    cafe: Cafe, redrive: list[str], environment: dict[str, str]
) -> None:
    """`redrive dead ls | head -0`: no complaint, and not the exit code of success."""
    ours, theirs = os.pipe()
    os.close(ours)
    command = [*redrive, "dead", "ls", "--json", *cafe.without_code]
    process = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(theirs)
    assert (process.returncode, process.stderr) == (141, b"")


def test_help_is_quick(environment: dict[str, str]) -> None:
    """Nothing heavy is imported before a command runs."""
    heavy = ["rich", "pydantic", "apsw", "httpx", "uvicorn", "redrive.operations", "redrive.demo", "jsonschema_rs"]
    code = f"import sys, redrive.cli; print([one for one in {heavy} if one in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_version(redrive: list[str], environment: dict[str, str]) -> None:
    """One line, under its own name however it was started."""
    answer = subprocess.run([*redrive, "--version"], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout == "redrive 0.1.0\n"
    wrong = subprocess.run([*redrive, "brew"], env=environment, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("Usage: redrive ")


def test_a_terminal_without_letters_for_it_is_no_error(
    cafe: Cafe, redrive: list[str], environment: dict[str, str]
) -> None:
    """What its encoding lacks is escaped."""
    body = '{"customer":"Zoë ☕","drink":"tea"}'
    cafe.run("queue", "send", "orders", body)
    answer = subprocess.run(
        [*redrive, "queue", "peek", "orders", *cafe.without_code],
        env={**environment, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
    )
    assert b"Zo\xeb \\u2615" in answer.stdout


def run_raising(error: BaseException, monkeypatch: pytest.MonkeyPatch, *options: str) -> Any:
    """Run a command whose operation raises."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(asyncio, "run", lambda coroutine: (coroutine.close(), fail()))
    monkeypatch.setattr(Operations, "overview", fail)
    return CliRunner().invoke(main, [*options, "queue", "ls", "--broker", "sqlite:x.db"])
