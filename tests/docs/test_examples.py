"""What the documentation shows is run: complete examples as printed, and the README's and the tutorial's story."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import httpx
import pytest

import redrive
from tests.docs.pages import DOCS, PAGES, README, Block, blocks, commands, named

TUTORIAL = DOCS / "tutorial.md"
LANGUAGES = {"", "python", "python partial", "sh", "text", "toml"}
PRINTS = re.compile(r"prints:$")
PYTEST = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_complete_examples_run_and_print_what_is_said(page: Path, tmp_path: Path) -> None:
    """A file's name in the first line is its name on disk, `test_*.py` is run by pytest, and output is compared."""
    (tmp_path / "pytest.ini").write_text(PYTEST)
    found = blocks(page)
    for block, following in zip_longest(found, found[1:]):
        if block.language != "python":
            continue
        printed = _run(block, tmp_path)
        if following is not None and following.language == "text" and PRINTS.search(following.before):
            assert printed == following.text, f"{page.name}:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_partial_examples_are_python(page: Path) -> None:
    """They lack what stands around them, and no more."""
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page.name}:{block.line}"
        if block.language.startswith("python"):
            compile(block.text, f"{page.name}:{block.line}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)


@pytest.mark.e2e
def test_the_readme_s_consumer_heals(tmp_path: Path) -> None:
    """As printed, but for the port: served while payments are down, paid by itself once they are up."""
    (example,) = named(README, "coffee.py")
    assert len([line for line in example.splitlines()[1:] if line]) <= 15
    port = _free_port()
    (tmp_path / "coffee.py").write_text(example.replace("9000", str(port)))
    dev, send, serve = (_command(README, start) for start in ("redrive dev", "redrive queue send", "python -m"))
    with _running(dev, tmp_path) as worker:
        _until(worker, "redrive.worker: worker")
        _done(send, tmp_path)
        _until(worker, "latte: served, payment pending")
        with _running(serve.replace("9000", str(port)), tmp_path):
            _until(worker, "latte: paid")


@pytest.mark.e2e
def test_the_tutorial_s_story_happens(tmp_path: Path) -> None:
    """An order is lost to an outage; then none is, the lost one comes back, and what does not fit is mended."""
    port = _free_port()
    (module,) = named(TUTORIAL, "orders.py")
    before, after = named(TUTORIAL, "coffee.py")
    (tmp_path / "orders.py").write_text(module.replace("8001", str(port)))
    (tmp_path / "coffee.py").write_text(before)
    sends = [line for line in commands(TUTORIAL) if line.startswith("redrive queue send")]
    sent = {json.loads(shlex.split(line)[-1])["order_id"]: line for line in sends}
    with _payments(tmp_path, port) as payments:
        with _running("redrive dev", tmp_path) as worker:
            _until(worker, "redrive.worker: worker")
            _done(_only(sent, "1"), tmp_path)
            _until(worker, "latte: paid")
            payments.put("/faults", json={"mode": "down"})
            _done(_only(sent, "2"), tmp_path)
            _until(worker, "is dead: 3 of 3 attempts: httpx.HTTPStatusError")
        (tmp_path / "coffee.py").write_text(after)
        with _running("redrive dev", tmp_path) as worker:
            _until(worker, "redrive.worker: worker")
            for order, drink in (("3", "latte"), ("4", "espresso"), ("5", "filter")):
                _done(_only(sent, order), tmp_path)
                _until(worker, f"{drink}: served, payment pending")
            while _json("redrive parked ls --json", tmp_path)[0]["count"] < 3:
                pass  # the first one was delayed, and is parked within a second
            payments.put("/faults", json={"mode": "none"})
            for _ in range(3):
                _until(worker, ": paid")
            _done(f"redrive dead redrive {_letter(tmp_path)[:20]}", tmp_path)
            _until(worker, "mocha: paid")
            _done(_only(sent, "6"), tmp_path)
            _until(worker, "is dead: the body does not fit the queue's type")
            wrong, right = (line.replace("ID", _letter(tmp_path)) for line in commands(TUTORIAL) if "--set" in line)
            assert "drink: Field required" in _done(wrong, tmp_path, code=1)
            _done(right, tmp_path)
            _until(worker, "mocha: paid")
        paid = [charge["order_id"] for charge in payments.get("/charges").json()["charges"]]
        assert sorted(paid) == ["1", "2", "3", "4", "5", "6"]


def _run(block: Block, folder: Path) -> str:
    name = block.name or "example.py"
    (folder / name).write_text(block.text)
    tool = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if name.startswith("test_") else ["-W", "error"]
    done = subprocess.run(
        [sys.executable, *tool, name], cwd=folder, env=_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{name} of line {block.line}:\n{done.stdout}{done.stderr}"
    return done.stdout


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REDRIVE_", "PYTEST_"))}
    return {**kept, "REDRIVE_APP": "coffee.py:app", "PYTHONUNBUFFERED": "1", **more}


def _command(page: Path, start: str) -> str:
    return next(line for line in commands(page) if line.startswith(start))


def _words(command: str) -> list[str]:
    """The command's words, with the programs of this environment."""
    program, *words = shlex.split(command)
    return [*{"redrive": [sys.executable, "-m", "redrive"], "python": [sys.executable]}[program], *words]


@contextmanager
def _running(command: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A program in the background, ended by Ctrl-C."""
    process = subprocess.Popen(
        _words(command),
        cwd=folder,
        env=_environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


def _until(process: subprocess.Popen[str], text: str) -> None:
    """Read what it prints until it prints this; the test's timeout is the deadline."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
    pytest.fail(f"it ended without printing {text!r}:\n{''.join(seen)}")


def _done(command: str, folder: Path, *, code: int = 0) -> str:
    done = subprocess.run(_words(command), cwd=folder, env=_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def _json(command: str, folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _done(command, folder).splitlines()]


def _letter(folder: Path) -> str:
    (letter,) = _json("redrive dead ls --json", folder)
    return str(letter["id"])


def _only(sent: dict[str, str], order: str) -> str:
    assert order in sent, f"the tutorial sends no order {order}"
    return sent[order]


@contextmanager
def _payments(folder: Path, port: int) -> Iterator[httpx.Client]:
    """The coffee shop's payment system."""
    packaged = Path(redrive.__file__).parent / "demo" / "coffee_shop"
    shop = packaged if packaged.is_dir() else README.parent / "examples" / "coffee_shop"
    command = f"python {shlex.quote(str(shop / 'payments.py'))} --port {port}"
    with _running(command, folder, PAYMENTS_DATABASE=str(folder / "payments.db")) as process:
        _until(process, "payments: http://127.0.0.1")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            yield client


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
