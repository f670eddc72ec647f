"""The pages of the documentation, taken apart: code blocks, prose, tables, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted(DOCS.glob("*.md"))]

_FENCE = re.compile(r"^```(.*)$")
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block."""

    language: str
    """What stands behind the opening fence: `python` is complete and is run, `python partial` is not."""
    text: str
    line: int
    before: str
    """The last line of prose above it."""

    @property
    def name(self) -> str | None:
        """The file's name, if the first line is a comment with one."""
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found[1] if found else None


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    opened: tuple[str, int, str] | None = None
    inside: list[str] = []
    before = ""
    for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened, inside = (fence[1].strip(), number, before), []
        elif opened is not None and line == "```":
            text = "\n".join(inside) + "\n"
            found.append(Block(language=opened[0], text=text, line=opened[1], before=opened[2]))
            opened = None
        elif opened is not None:
            inside.append(line)
        elif line:
            before = line
    assert opened is None, f"{page.name}: the block of line {opened} is never closed"
    return found


def named(page: Path, name: str) -> list[str]:
    """The texts of the blocks with this file name, in order."""
    return [block.text for block in blocks(page) if block.name == name]


def commands(page: Path) -> list[str]:
    """The lines of a page's shell blocks."""
    return [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines outside of code blocks."""
    inside = False
    for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            yield number, line


def rows(page: Path) -> Iterator[list[str]]:
    """The cells of every line of every table, headings included."""
    for _, line in prose(page):
        if line.startswith("|") and not re.fullmatch(r"[|\s:-]+", line):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def code(text: str) -> list[str]:
    """What stands between backticks."""
    return _CODE.findall(text)


def links(page: Path) -> Iterator[str]:
    """Where a page's links and images lead."""
    for _, line in prose(page):
        yield from _LINK.findall(line)


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make."""
    found = (_HEADING.match(line) for _, line in prose(page))
    return {re.sub(r"[^\w -]", "", match[1].lower()).replace(" ", "-") for match in found if match}
