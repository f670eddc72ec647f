"""What the documentation says is so: commands, exit codes, numbers, log lines, words and links."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import click
import pytest

from redrive.cli import exits, main
from tests.docs.pages import DOCS, PAGES, README, ROOT, anchors, code, commands, links, prose, rows

WORDS = """
queue, message, body, attributes, producer, consumer, handler, broker, receive count, attempt, bounce, crash, lease,
claim, permit, leadership, settle, park, redrive, move, backoff, jitter, ramp, dead-letter queue, parked,
failure record, catalogue, fingerprint, dependency, circuit breaker, canary, degraded, outage, FIFO queue, group, line,
front, sequence, deduplication, tenant, round, pause, move task, retention, set aside, durability level, saga, step,
compensation, journal, wake-up, signal, point of no return
"""
"""The words of the design whose things exist."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def test_the_readme_is_short_and_sends_nobody_elsewhere() -> None:
    """At most 500 words, no badge, no address but this machine's."""
    text = README.read_text("utf-8")
    assert len(text.split()) <= 500
    assert "badge" not in text
    assert set(re.findall(r"https?://([\w.]+)", text)) <= {"127.0.0.1"}


@each_page
def test_one_sentence_stands_on_a_line(page: Path) -> None:
    """So that a change of a sentence is a change of a line."""
    for number, line in prose(page):
        if not line.startswith(("|", "#")):
            assert not re.search(r"[a-z0-9)`*][.!?] [A-Z`*]", line), f"{page.name}:{number}: {line}"


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    """To a file that exists, and a heading that stands in it."""
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.is_file(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_every_page_is_in_the_index() -> None:
    """Nobody has to guess that a page exists."""
    listed = {link.partition("#")[0] for link in links(DOCS / "index.md")}
    assert {page.name for page in DOCS.glob("*.md")} - {"index.md"} <= listed


def test_the_glossary_has_every_word() -> None:
    """Those of the design, each with its own line."""
    terms = {term for _, line in prose(DOCS / "glossary.md") for term in re.findall(r"\*\*([^*]+)\*\*", line)}
    assert {word.strip() for word in WORDS.replace("\n", " ").split(",")} <= terms


# The command line


@each_page
def test_commands_exist_with_their_options(page: Path) -> None:
    """Every `redrive` of a shell block is a command line that redrive takes."""
    for line in commands(page):
        if line.startswith("redrive"):
            words = shlex.split(line.partition("|")[0])[1:]
            command, name, arguments = _resolved(words)
            with click.Context(command, info_name=name) as context:
                command.make_parser(context).parse_args(arguments)


def test_every_command_is_documented_with_its_options() -> None:
    """And no option that it does not have."""
    page = DOCS / "cli.md"
    shared = page.read_text("utf-8").partition("## Options that the operating commands share")[2].partition("\n## ")[0]
    described = {}
    for cells in rows(page):
        for words in code(cells[0]):
            if words.startswith("redrive "):
                described[" ".join(re.findall(r"(?<= )[a-z]+", words))] = " ".join(cells)
    for name, command in _every_command(main, ()):
        assert name in described, name
        options = [option for one in command.params for option in (*one.opts, *one.secondary_opts)]
        has = {option for option in options if option.startswith("--")}
        says = set(re.findall(r"--[a-z-]+", described[name]))
        assert says <= has, f"{name}: {says - has} does not exist"
        assert has <= says | set(re.findall(r"--[a-z-]+", shared)), f"{name}: {has - says} is not documented"


def test_exit_codes_are_those_of_the_command_line() -> None:
    """The table is the program's own."""
    assert exits.markdown() in (DOCS / "cli.md").read_text("utf-8")


# Numbers and lines


def test_limits_are_those_of_the_code() -> None:
    """All tables: what cannot be changed, the defaults of what can, and the ranges at the port."""
    checked = 0
    for cells in rows(DOCS / "limits.md"):
        places = [place for place in code(cells[-1]) if re.fullmatch(r"redrive[\w.]*:[\w.]+", place)]
        if not places:
            continue
        module, _, attribute = places[0].partition(":")
        found = attrgetter(attribute)(importlib.import_module(module))
        expected = _default(found, code(cells[0])[0]) if callable(found) else found
        said = [number.replace(",", "") for number in re.findall(r"[\d,]*\d(?:\.\d+)?", cells[1])]
        if isinstance(expected, tuple):
            assert tuple(map(float, said)) == expected, cells
        else:
            assert str(expected) == cells[1] or float(said[-1]) == float(expected), cells
        checked += 1
    assert checked == 57


def test_the_readme_s_figures_are_those_of_the_benchmarks() -> None:
    """Measured once and said twice: whoever measures anew writes both."""
    measured = list(rows(DOCS / "benchmarks.md"))
    (policies,) = (cells[1:] for cells in measured if "backoff, 1 s to 60 s" in cells)
    what = ("paid", "dead: wait for a person", "calls that failed", "seconds from the heal until nothing waits")
    columns = [next(cells[1:] for cells in measured if cells[0] == one) for one in what]
    shown = {
        cells[0].strip("*"): [_number(cell) for cell in cells[1:]] for cells in rows(README) if len(cells) > len(what)
    }
    for number, policy in enumerate(policies):
        assert shown[policy] == [round(_number(column[number])) for column in columns], policy


def test_log_lines_are_printed_by_the_code() -> None:
    """What stands with an ellipsis in the failure modes is a line of the source, with what changes left out."""
    source = "\n".join(file.read_text("utf-8") for file in sorted((ROOT / "src").rglob("*.py")))
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    source = re.sub(r"%(?:\.\d)?[a-z]|\{[^{}\n]*\}", "…", source)
    page = DOCS / "failure-modes.md"
    quoted = [span for _, line in prose(page) for span in code(line) if "…" in span]
    assert quoted
    for span in quoted:
        line = span.removeprefix("… ").removesuffix(" …").removesuffix(": …")
        assert line in source, f"{span!r} is printed nowhere"


def test_tests_that_prove_something_exist() -> None:
    """The failure modes name them."""
    named = [span for _, line in prose(DOCS / "failure-modes.md") for span in code(line) if span.startswith("tests/")]
    assert named
    for path in named:
        assert (ROOT / path).is_file(), path


def _resolved(words: list[str]) -> tuple[click.Command, str, list[str]]:
    command: click.Command = main
    name = "redrive"
    while isinstance(command, click.Group) and words:
        name, *words = words
        assert name in command.commands, f"there is no command {name!r}"
        command = command.commands[name]
    return command, name, words


def _every_command(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _every_command(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def _default(function: Any, name: str) -> Any:
    return inspect.signature(function).parameters[name].default


def _number(cell: str) -> float:
    return float(cell.replace(",", "")) if re.fullmatch(r"[\d,]+(\.\d+)?", cell) else float("nan")
