"""On a terminal: tables in colour, questions, typed confirmations, Ctrl-C. A real pseudo-terminal."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.cli.conftest import Cafe

pty = pytest.importorskip("pty")
DEADLINE = 30.0
EDITOR = """
import os, pathlib, signal, sys

os.kill(os.getppid(), signal.SIGINT)
path = pathlib.Path(sys.argv[1])
text = path.read_text()
path.write_text(text.replace("7", '"tea"') if "drink" in text else text.replace('"price"', '"drink": 7, "price"'))
"""
STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A person at a terminal."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int) -> None:
        self.process, self._screen = process, screen
        self.text = ""

    def read_until(self, part: str) -> None:
        """Read what appears until some text does."""
        ends = time.monotonic() + DEADLINE
        while part not in self.text:
            assert self._read(ends), f"{part!r} did not appear in {self.text!r}"

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._screen, f"{text}\n".encode())

    def press(self, key: str) -> None:
        """Press a control key until it has an effect.

        A signal in the microseconds before Python's `input` reads is kept until the next key; a person is slower.
        """
        ends = time.monotonic() + DEADLINE
        while self.process.poll() is None and time.monotonic() < ends:
            os.write(self._screen, key.encode())
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)

    def end(self) -> int:
        """Read to the end; the exit code."""
        ends = time.monotonic() + DEADLINE
        while self._read(ends):
            pass
        code = self.process.wait(DEADLINE)
        self.text = self.text.replace("\r\n", "\n")
        return code

    def _read(self, ends: float) -> bool:
        if not select.select([self._screen], [], [], max(0.0, ends - time.monotonic()))[0]:
            return False
        try:
            got = os.read(self._screen, 65_536)
        except OSError:  # Linux: the other end is closed
            return False
        self.text += got.decode()
        return bool(got)


Open = Callable[..., AbstractContextManager[Terminal]]


@pytest.fixture
def terminal(cafe: Cafe, redrive: list[str], environment: dict[str, str]) -> Open:
    """Opens a terminal on which a command of redrive runs."""

    @contextlib.contextmanager
    def opened(*arguments: str, **settings: str) -> Iterator[Terminal]:
        screen, line = pty.openpty()
        process = subprocess.Popen(
            [*redrive, *arguments, *cafe.without_code],
            stdin=line,
            stdout=line,
            stderr=line,
            cwd=cafe.folder,
            env={**environment, "COLUMNS": "200", **settings},
            start_new_session=True,
            preexec_fn=_make_controlling,  # noqa: PLW1509 - so that Ctrl-C is a signal
        )
        os.close(line)
        try:
            yield Terminal(process, screen)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
            os.close(screen)

    return opened


def _make_controlling() -> None:
    import fcntl  # noqa: PLC0415 - not on every system
    import termios  # noqa: PLC0415 - likewise

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_tables_are_drawn(cafe: Cafe, terminal: Open) -> None:
    """With a rule below the titles, in colour."""
    with terminal("dead", "ls") as person:
        assert person.end() == 0
    assert "─" in person.text
    assert STYLE.search(person.text)
    assert cafe.bomb in person.text


@pytest.mark.parametrize("command", ["ls", "show"])
def test_letters_cannot_command_it(cafe: Cafe, terminal: Open, command: str) -> None:
    """Apart from our own colours no escape sequence comes through, and markup is text."""
    seen = ""
    for identity in (cafe.hostile, cafe.bomb):
        with terminal("dead", command, *([identity] if command == "show" else [])) as person:
            assert person.end() == 0
            seen += person.text
    assert all(line.isprintable() for line in STYLE.sub("", seen).split("\n"))
    assert "[red]alarm[/red]" in seen
    assert "\x1b[31mred" not in seen


def test_colours_can_be_refused(terminal: Open) -> None:
    """NO_COLOR is honoured."""
    with terminal("circuit", "ls", NO_COLOR="1") as person:
        assert person.end() == 0
    assert "\x1b[31" not in person.text


def test_ids_can_be_copied_from_a_narrow_terminal(cafe: Cafe, terminal: Open) -> None:
    """Reasons are folded, ids are not."""
    with terminal("dead", "ls", COLUMNS="80") as person:
        assert person.end() == 0
    assert all(identity in person.text for identity in (cafe.malformed, cafe.hostile, cafe.bomb))
    assert max(len(line) for line in STYLE.sub("", person.text).splitlines()) <= 80


def test_discarding_has_to_be_typed(cafe: Cafe, terminal: Open) -> None:
    """The words are said in the question."""
    with terminal("dead", "discard", "--all") as person:
        person.read_until("type 'discard 3' to go on")
        person.type("discard 3")
        assert person.end() == 0
    assert cafe.dead() == set()


@pytest.mark.parametrize(
    ("command", "word"), [(["queue", "purge", "orders"], "yes"), (["dead", "discard", "--all"], "")]
)
def test_the_wrong_words_change_nothing(cafe: Cafe, terminal: Open, command: list[str], word: str) -> None:
    """A yes is not enough, nor is Return."""
    cafe.run("queue", "send", "orders", '{"customer":"Ada","drink":"mocha"}')
    with terminal(*command) as person:
        person.read_until("to go on")
        person.type(word)
        assert person.end() == 1
    assert "was not confirmed" in person.text
    assert len(cafe.messages()) == 1
    assert len(cafe.dead()) == 3


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_a_question_can_be_left(cafe: Cafe, terminal: Open, key: str) -> None:
    """By Ctrl-C or Ctrl-D, at once, without a traceback."""
    with terminal("dead", "discard", "--all") as person:
        person.read_until("to go on")
        person.press(key)
        assert person.end() == 1
    assert person.text.endswith("error: cancelled\n")
    assert len(cafe.dead()) == 3


@pytest.mark.parametrize(("answer", "dead"), [("", 2), ("y", 2), ("n", 3)])
def test_an_edit_is_sent_after_a_question(cafe: Cafe, terminal: Open, answer: str, dead: int) -> None:
    """The difference and how it was checked are shown first; Return means yes."""
    with terminal("dead", "edit", cafe.malformed, "--set", "drink=mocha") as person:
        person.read_until("send it to orders under its own id?")
        assert '"drink": "mocha"' in STYLE.sub("", person.text)
        person.type(answer)
        assert person.end() == 0
    assert len(cafe.dead()) == dead
    assert len(cafe.messages()) == 3 - dead


def test_an_edit_can_be_sent_unasked(cafe: Cafe, terminal: Open) -> None:
    """With --yes."""
    with terminal("dead", "edit", cafe.malformed, "--set", "drink=mocha", "--yes") as person:
        assert person.end() == 0
    assert len(cafe.messages()) == 1


def test_a_bad_edit_is_given_back_to_its_editor(cafe: Cafe, terminal: Open) -> None:
    """What was typed is not lost because it does not fit yet; Ctrl-C belongs to the editor."""
    (cafe.folder / "editor.py").write_text(EDITOR)
    editor = f"{sys.executable} {cafe.folder / 'editor.py'}"
    with terminal("dead", "edit", cafe.malformed, EDITOR=editor, VISUAL=editor) as person:
        person.read_until("edit it again?")
        assert "error: not a message for queue 'orders': drink" in person.text
        person.type("y")
        person.read_until("under its own id?")
        person.type("y")
        assert person.end() == 0
    assert cafe.messages()[0].body == b'{"customer":"Ada","drink":"tea","price":1.1}'


def test_json_is_json_on_a_terminal_too(cafe: Cafe, terminal: Open) -> None:
    """No colours, no tables."""
    with terminal("dead", "ls", "--json") as person:
        assert person.end() == 0
    assert "\x1b" not in person.text
    assert len(person.text.splitlines()) == 3
    assert cafe.bomb in person.text
