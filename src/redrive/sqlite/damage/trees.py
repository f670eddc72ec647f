"""B-trees, walked around what is broken in them.

SQLite stops at the first page that does not fit. Here a page that cannot be read costs what stands in it and below it,
and what stands below it is found again among the pages that nothing points to (`Forest.strays`).

Source: SQLite, "Database File Format", sections 1.5, "The Freelist", and 1.6, "B-tree Pages".
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from redrive.sqlite.damage.cells import INDEX_LEAF, INDEX_NODE, TABLE_LEAF, TABLE_NODE, Broken, Cell, Page
from redrive.sqlite.damage.pages import USUAL_SIZE, Missing, Pages

T = TypeVar("T")
Reading = Callable[[Cell], T | None]
"""What a cell says; None when it cannot be one of the tree that is walked."""


class Part(NamedTuple, Generic[T]):
    """What stands in one page of a tree."""

    page: int
    cells: list[tuple[Cell, T]]
    broken: list[tuple[int, str]]
    """Offset and reason of what should be a cell and is none."""


class Fault(NamedTuple):
    """A page that is not what it should be."""

    page: int
    problem: str


class Forest:
    """All b-trees of a file. Each page belongs to one of them at most: whoever comes first has it."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._taken = bytearray(pages.count + 1)
        self.free = bytearray(pages.count + 1)
        """Which pages the freelist has."""
        self.faults: list[Fault] = []
        """Of the freelist."""
        self._read_freelist()

    def walk(self, root: int, reading: Reading[T], *, is_index: bool, faults: list[Fault]) -> Iterator[Part[T]]:
        """The pages of a tree that hold cells, in order.

        Args:
            root: its first page.
            reading: reads a cell, and so decides what a page is whose kind is in doubt.
            is_index: which of the two kinds of b-tree it is.
            faults: what does not fit is added here.
        """
        if not 1 <= root <= self._pages.count or self._taken[root]:
            faults.append(Fault(root, "is no first page"))
            return
        self._taken[root] = 1
        try:
            page = Page(self._pages, root)
        except Missing as missing:
            faults.append(Fault(root, str(missing)))
            return
        node, leaf = (INDEX_NODE, INDEX_LEAF) if is_index else (TABLE_NODE, TABLE_LEAF)
        kind, part = self._read(page, node, leaf, reading)
        if kind != page.kind:
            faults.append(Fault(root, f"says that it is of kind {page.kind}"))
        if part is not None:
            faults.extend(Fault(root, f"cell at {offset}: {problem}") for offset, problem in part.broken)
            yield part
        if kind == node:
            for below in page.below(node):
                yield from self.walk(below, reading, is_index=is_index, faults=faults)

    def strays(self) -> Iterator[int]:
        """The pages that belong to no tree and are not free: in a whole file, where long rows go on, and no others."""
        for number in range(2, self._pages.count + 1):
            if not self._taken[number] and not self.free[number]:
                yield number

    def is_overflow(self, number: int) -> bool:
        """Whether a page looks like one on which a long row goes on: those begin with a zero, in files below 64 GB."""
        try:
            return self._pages.read(number)[0] == 0
        except Missing:
            return False

    def stray_part(self, number: int, reading: Reading[T], *, is_index: bool) -> Part[T] | None:
        """What stands in a page that belongs to no tree, if it can be a leaf."""
        leaf = INDEX_LEAF if is_index else TABLE_LEAF
        try:
            page = Page(self._pages, number)
        except Missing:
            return None
        if (page.kind ^ leaf).bit_count() > 1:
            return None
        part = _part(page, leaf, reading)
        return part if part.cells else None

    def _read(self, page: Page, node: int, leaf: int, reading: Reading[T]) -> tuple[int, Part[T] | None]:
        """What the page is: what it says, unless that makes no sense and the other does."""
        if page.kind == node and self._is_node(page, node):
            return node, _part(page, node, reading) if node == INDEX_NODE else None
        part = _part(page, leaf, reading)
        if part.cells or page.kind == leaf or not self._is_node(page, node):
            return leaf, part
        return node, _part(page, node, reading) if node == INDEX_NODE else None

    def _is_node(self, page: Page, node: int) -> bool:
        below = page.below(node)
        good = sum(1 < one <= self._pages.count and not self._taken[one] for one in below)
        return 2 * good >= len(below)

    def _read_freelist(self) -> None:
        trunk, total = struct.unpack_from(">2I", self._first_page(), 32)
        found = 0
        while trunk:
            if not 1 < trunk <= self._pages.count or self.free[trunk]:
                self.faults.append(Fault(trunk, "is no page of free pages"))
                return
            self.free[trunk] = 1
            found += 1
            try:
                page = self._pages.read(trunk)
            except Missing as missing:
                self.faults.append(Fault(trunk, str(missing)))
                return
            following, count = struct.unpack_from(">2I", page)
            for number in struct.unpack_from(f">{min(count, len(page) // 4 - 2)}I", page, 8):
                if 1 < number <= self._pages.count and not self.free[number]:
                    self.free[number] = 1
                    found += 1
                else:
                    self.faults.append(Fault(number, "is no free page"))
            trunk = following
        if found != total:
            self.faults.append(Fault(1, f"says that {total} pages are free, and {found} are"))

    def _first_page(self) -> bytes:
        try:
            return self._pages.read(1)
        except Missing:
            return self._pages.header.ljust(USUAL_SIZE, b"\0")


def _part(page: Page, kind: int, reading: Reading[T]) -> Part[T]:
    part: Part[T] = Part(page.number, [], [])
    for offset in page.offsets(kind):
        try:
            cell = page.cell(offset, kind)
            said = reading(cell)
        except Broken as broken:
            part.broken.append((offset, str(broken)))
            continue
        if said is None:
            part.broken.append((offset, "it is no row of its table"))
        else:
            part.cells.append((cell, said))
    return part


def with_order(
    parts: Iterable[Part[T]], key: Callable[[Cell, T], Any], last: int | None = None
) -> Iterator[tuple[Part[T], set[int]]]:
    """Each part of a tree with the places of those of its cells that stand in order, seen with the page behind it.

    Args:
        parts: the pages of a tree, in order. Nodes, whose cells stand between the leaves, are looked at by themselves.
        key: what the cells are sorted by.
        last: nothing may be greater; None: anything may.
    """
    keys: list[Any] = []
    waiting: Part[T] | None = None
    for part in parts:
        following = [key(*one) for one in part.cells]
        if part.cells and part.cells[0][0].kind == INDEX_NODE:
            yield part, in_order(following)
            continue
        if waiting is not None:
            yield waiting, _within(in_order([*keys, *following]), keys, last)
        waiting, keys = part, following
    if waiting is not None:
        yield waiting, _within(in_order(keys), keys, last)


def _within(places: set[int], keys: Sequence[Any], last: int | None) -> set[int]:
    return {place for place in places if place < len(keys) and (last is None or keys[place] <= last)}


def in_order(keys: Sequence[Any]) -> set[int]:
    """The places whose keys rise: a longest rising sequence, so that one that was changed stands outside of it."""
    tails: list[Any] = []
    places: list[int] = []
    before: list[int] = []
    for place, key in enumerate(keys):
        at = bisect_left(tails, key)
        before.append(places[at - 1] if at else -1)
        tails[at : at + 1] = [key]
        places[at : at + 1] = [place]
    found: set[int] = set()
    place = places[-1] if places else -1
    while place >= 0:
        found.add(place)
        place = before[place]
    return found
