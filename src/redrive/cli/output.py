"""What a command prints: tables on a terminal, plain aligned text elsewhere, one JSON object a line with `--json`.

Field names of the JSON are stable. Whatever is printed for people is escaped here, so that no body, error or name from
outside reaches a terminal as it came.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import click

from redrive.cli.printable import printable, shortened, width
from redrive.clock import SystemClock

if TYPE_CHECKING:
    from rich.console import Console

Document = dict[str, Any]
_SHORTEST_BRIEF = 6

Row = tuple[Document, Sequence[object]]
"""One thing twice: as JSON, and as the cells of its line in a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    title: str
    right: bool = False
    """Numbers stand to the right."""
    whole: bool = False
    """Never folded, so that it can be copied."""
    brief: bool = False
    """Takes the room that the others leave, and ends in … where that is too little: a row stays one line."""
    styles: Mapping[str, str] = field(default_factory=dict)
    """Colours of certain values, on a terminal."""


def column(title: str, styles: Mapping[str, str] | None = None) -> Column:
    """A column of words."""
    return Column(title=title, styles=styles or {})


def identity(title: str) -> Column:
    """A column of what is copied into the next command."""
    return Column(title=title, whole=True)


def brief(title: str) -> Column:
    """A column of sentences, of which a list shows what fits."""
    return Column(title=title, brief=True)


def number(title: str) -> Column:
    """A column of numbers."""
    return Column(title=title, right=True)


class Output:
    """Where one command prints to."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.now_ms = SystemClock().now_ms()
        """When the command began: what ages are counted from."""
        self._rich = not as_json and sys.stdout.isatty()

    def table(self, columns: Sequence[Column], rows: Iterable[Row], *, nothing: str) -> None:
        """Print a list; `nothing` says, on standard error, that it is empty."""
        if self.as_json:
            for document, _ in rows:
                self.json(document)
            return
        lines = [[printable(str(cell)) for cell in cells] for _, cells in rows]
        if not lines:
            self.note(nothing)
        elif self._rich:
            self._print_table(columns, lines)
        else:
            _print_aligned(columns, lines)

    def facts(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Print names and values, one pair a line; pairs without a value are left out."""
        shown = [(name, printable(str(value))) for name, value in pairs if value not in {None, ""}]
        longest = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            self._line(f"{name:<{longest}}  ", value)

    def heading(self, text: str) -> None:
        """Begin a part of something long."""
        self._line(f"\n{text}", "")

    def block(self, text: str, *, styles: Mapping[str, str] | None = None) -> None:
        """Print lines, indented; those that begin with a key of `styles` in its colour, on a terminal."""
        for line in printable(text, lines=True).split("\n"):
            self._styled(f"  {line}", (styles or {}).get(line[:1], ""))

    def done(self, sentence: str, **facts: Any) -> None:  # noqa: ANN401 - JSON
        """Say what was done: a sentence, or its facts as JSON."""
        if self.as_json:
            self.json(facts)
        else:
            click.echo(printable(sentence))

    def json(self, document: Document) -> None:
        """Print one JSON object as a line of ASCII, without control characters."""
        click.echo(json.dumps(document).replace("\x7f", "\\u007f"))

    def note(self, sentence: str) -> None:
        """Say something on the side, where it is in no script's way."""
        click.echo(printable(sentence), err=True)

    @cached_property
    def _console(self) -> Console:
        from rich.console import Console  # noqa: PLC0415 - slow to import, and only terminals need it

        return Console(highlight=False, markup=False, emoji=False)

    def _print_table(self, columns: Sequence[Column], lines: list[list[str]]) -> None:
        from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - likewise
        from rich.table import Table  # noqa: PLC0415 - likewise
        from rich.text import Text  # noqa: PLC0415 - likewise

        lines = _fitted(columns, lines, self._console.width)
        table = Table(box=SIMPLE_HEAD, show_edge=False, header_style="bold")
        for one in columns:
            side: Literal["left", "right"] = "right" if one.right else "left"
            table.add_column(one.title, justify=side, overflow="fold", no_wrap=one.whole)
        for cells in lines:
            styled = zip(columns, cells, strict=True)
            table.add_row(*(Text(cell, style=one.styles.get(cell, "")) for one, cell in styled))
        self._console.print(table)

    def _line(self, title: str, value: str) -> None:
        if not self._rich:
            click.echo(f"{title}{value}".rstrip(" "))
            return
        from rich.text import Text  # noqa: PLC0415 - likewise

        self._console.print(Text.assemble((title, "bold"), value), soft_wrap=True)

    def _styled(self, line: str, style: str) -> None:
        if not self._rich:
            click.echo(line.rstrip(" "))
            return
        from rich.text import Text  # noqa: PLC0415 - likewise

        self._console.print(Text(line, style=style), soft_wrap=True)


def _fitted(columns: Sequence[Column], lines: list[list[str]], room: int) -> list[list[str]]:
    """The lines with their brief cells cut to what the other columns leave of a terminal's width."""
    taken = sum(
        max(width(line[at]) for line in [[one.title for one in columns], *lines]) + 3
        for at, one in enumerate(columns)
        if not one.brief
    )
    longest = max(_SHORTEST_BRIEF, room - taken - 2)
    return [
        [shortened(cell, longest) if one.brief else cell for one, cell in zip(columns, cells, strict=True)]
        for cells in lines
    ]


def _print_aligned(columns: Sequence[Column], lines: list[list[str]]) -> None:
    table = [[one.title for one in columns], *lines]
    widths = [max(width(line[at]) for line in table) for at in range(len(columns))]
    for line in table:
        cells = zip(columns, line, widths, strict=True)
        click.echo("  ".join(_padded(cell, wide, right=one.right) for one, cell, wide in cells).rstrip(" "))


def _padded(cell: str, wide: int, *, right: bool) -> str:
    gap = " " * (wide - width(cell))
    return gap + cell if right else cell + gap
