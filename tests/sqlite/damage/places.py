"""Which bytes of a sample belong to which row."""

from __future__ import annotations

from dataclasses import dataclass

from redrive.sqlite.damage.cells import TABLE_LEAF, Cell, Page, bytes_in_page, varint
from redrive.sqlite.damage.layout import layout
from redrive.sqlite.damage.pages import Pages
from redrive.sqlite.damage.trees import Forest
from redrive.sqlite.statements import migrations
from tests.sqlite.damage.sample import Sample


@dataclass(frozen=True)
class Place:
    """Some bytes of the file, or of its log."""

    in_log: bool
    start: int
    end: int
    table: str
    row: int


def places(sample: Sample) -> list[Place]:
    """Where the rows of messages and entries stand, with the pages on which long ones go on."""
    found: list[Place] = []
    made = layout(len(migrations()))
    with Pages(str(sample.path), saved=True) as pages:
        for table in ("message", "entry"):
            forest = Forest(pages)
            for part in forest.walk(made.roots[table], lambda cell: cell, is_index=False, faults=[]):
                for cell, _ in part.cells:
                    found += [_place(pages, table, cell.rowid, span) for span in _spans(pages, cell)]
    return found


def _spans(pages: Pages, cell: Cell) -> list[tuple[int, int, int]]:
    """Page, start and end of every part of a cell."""
    page = Page(pages, cell.page)
    size, at = varint(page.data, cell.offset)
    _, at = varint(page.data, at)
    here = bytes_in_page(size, len(page.data), TABLE_LEAF)
    left = size - here
    end = at + here + (4 if left else 0)
    spans = [(cell.page, cell.offset, end)]
    following = int.from_bytes(page.data[end - 4 : end])
    while left > 0:
        spans.append((following, 0, pages.page_size))
        left -= pages.page_size - 4
        following = int.from_bytes(pages.read(following)[:4])
    return spans


def _place(pages: Pages, table: str, row: int, span: tuple[int, int, int]) -> Place:
    page, start, end = span
    in_log = pages.log.saved.pages.get(page)
    begin = (page - 1) * pages.page_size if in_log is None else in_log
    return Place(in_log is not None, begin + start, begin + end, table, row)
