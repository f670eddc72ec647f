"""What a command is about is found in one order, and what cannot be found is explained."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from redrive.cli import main
from tests.cli.conftest import APP, Cafe

GOOD = '{"customer":"Ada","drink":"mocha"}'


def run(*arguments: str) -> Result:
    """Run a command without naming anything."""
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_nothing_named_names_both_remedies(cafe: Cafe) -> None:
    """An application, or a broker's address."""
    result = run("queue", "ls")
    assert result.exit_code == 78
    for remedy in ("--app", "REDRIVE_APP", "pyproject.toml", "--broker", "REDRIVE_BROKER", "sqlite:"):
        assert cafe.folder == Path.cwd()
        assert remedy in result.stderr


def test_the_broker_may_come_from_the_environment(cafe: Cafe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative file is looked for where the command runs."""
    monkeypatch.setenv("REDRIVE_BROKER", "sqlite:cafe.db")
    assert "orders" in run("queue", "ls").stdout
    assert "against the schema alone" in run("queue", "send", "orders", GOOD).stdout
    assert len(cafe.messages()) == 1


def test_the_application_may_come_from_the_environment(
    cafe: Cafe, redrive: list[str], environment: dict[str, str]
) -> None:
    """Then bodies are checked against the type; its broker's file is beside its module."""
    (cafe.folder / "elsewhere").mkdir()
    answer = subprocess.run(
        [*redrive, "queue", "send", "orders", GOOD, "--app-dir", str(cafe.folder)],
        env={**environment, "REDRIVE_APP": "cafe:app"},
        cwd=cafe.folder / "elsewhere",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "against the type" in answer.stdout
    assert len(cafe.messages()) == 1


def test_the_application_may_come_from_the_project(cafe: Cafe, redrive: list[str], environment: dict[str, str]) -> None:
    """`[tool.redrive] app` of the nearest pyproject.toml."""
    (cafe.folder / "pyproject.toml").write_text('[tool.redrive]\napp = "cafe.py:app"\n')
    command = [*redrive, "queue", "send", "orders", GOOD]
    answer = subprocess.run(command, env=environment, cwd=cafe.folder, capture_output=True, text=True, check=True)
    assert "against the type" in answer.stdout


def test_a_broker_on_the_command_line_is_enough(cafe: Cafe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configured application is not even imported then."""
    monkeypatch.setenv("REDRIVE_APP", "no_such_module:app")
    assert cafe.json("queue", "ls")[0]["queue"] == "orders"


@pytest.mark.parametrize("command", [["queue", "ls"], ["dev"]])
@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("cafe", "is not a name"),
        ("no_such_module:app", "there is no module 'no_such_module'"),
        ("missing.py:app", "there is no such file"),
        ("cafe:nothing", "is not there"),
        ("broken.py:app", "SyntaxError"),
        ("raising.py:app", "ZeroDivisionError"),
    ],
)
def test_an_application_that_cannot_be_loaded_is_explained(  # noqa: PLR0917 - fixtures and parameters
    cafe: Cafe, redrive: list[str], environment: dict[str, str], command: list[str], target: str, problem: str
) -> None:
    """Exit code 78, the target and what is wrong with it; no traceback."""
    (cafe.folder / "broken.py").write_text("app = (")
    (cafe.folder / "raising.py").write_text("1 / 0")
    arguments = ["--app", target] if command[0] == "queue" else [target]
    answer = subprocess.run(
        [*redrive, *command, *arguments], env=environment, cwd=cafe.folder, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 78, answer.stderr
    assert problem in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""


@pytest.mark.parametrize("command", ["worker", "dev"])
def test_an_application_has_to_be_named(cafe: Cafe, command: str) -> None:
    """With all three ways to do it."""
    result = run(command)
    assert cafe.folder == Path.cwd()
    assert result.exit_code == 78
    for way in ("module:attribute", "REDRIVE_APP", "[tool.redrive]"):
        assert way in result.stderr


def test_what_an_application_prints_is_not_in_the_way(
    cafe: Cafe, redrive: list[str], environment: dict[str, str]
) -> None:
    """Its output goes to standard error, so that JSON stays JSON."""
    (cafe.folder / "cafe.py").write_text(f"print('brewing')\n{APP}")
    command = [*redrive, "queue", "ls", "--json", "--app", "cafe:app"]
    answer = subprocess.run(command, env=environment, cwd=cafe.folder, capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("{")
    assert answer.stderr == "brewing\n"


@pytest.mark.parametrize("address", ["postgres://x", "sqlite:", "cafe.db"])
def test_an_unknown_broker_is_explained(cafe: Cafe, address: str) -> None:
    """With what it could be."""
    assert cafe.folder == Path.cwd()
    result = run("queue", "ls", "--broker", address)
    assert result.exit_code == 78
    assert "use sqlite:FILE" in result.stderr
