"""Cells and records: what stands in one page of a b-tree, read by hand and believed only as far as it makes sense.

Source: SQLite, "Database File Format", sections 1.6, "B-tree Pages", and 2.1, "Record Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from redrive.sqlite.damage.pages import Missing, Pages

INDEX_NODE, TABLE_NODE, INDEX_LEAF, TABLE_LEAF = 2, 5, 10, 13
"""The kinds of page: a node points to pages below it."""
KINDS = (INDEX_NODE, TABLE_NODE, INDEX_LEAF, TABLE_LEAF)

Value = int | float | str | bytes | None

_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_REAL, _ZERO, _ONE, _BLOB, _TEXT = 7, 8, 9, 12, 13
_LONGEST_VARINT = 9
_LARGEST = 16 * 1024 * 1024
"""Bytes of a record. The largest that redrive writes is a value of 2 MiB."""


class Broken(Exception):
    """What stands there is no cell, or no record. Its argument says why."""


class Cell(NamedTuple):
    """One cell of a leaf, or of an index's node."""

    page: int
    offset: int
    kind: int
    """Of the page that it was read from."""
    rowid: int
    """0 in an index."""
    payload: bytes


class Page:
    """A page as a part of a b-tree."""

    def __init__(self, pages: Pages, number: int) -> None:
        """Read it.

        Raises:
            Missing: If it is not there.
        """
        self.number = number
        self.data = pages.read(number)
        self._pages = pages
        self._start = 100 if number == 1 else 0
        self.kind, _, self.count = struct.unpack_from(">BHH", self.data, self._start)

    def is_node(self, kind: int | None = None) -> bool:
        """Whether pages stand below it."""
        return (self.kind if kind is None else kind) in {INDEX_NODE, TABLE_NODE}

    def offsets(self, kind: int) -> Iterator[int]:
        """Where its cells begin, read as a page of this kind."""
        at = self._start + (12 if self.is_node(kind) else 8)
        for place in range(self.count):
            if at + 2 * place + 2 > len(self.data):
                return
            yield int.from_bytes(self.data[at + 2 * place : at + 2 * place + 2])

    def below(self, kind: int) -> list[int]:
        """The pages below, in order, read as a node of this kind."""
        starts = [at for at in self.offsets(kind) if at + 4 <= len(self.data)]
        last = self.data[self._start + 8 : self._start + 12]
        return [int.from_bytes(self.data[at : at + 4]) for at in starts] + [int.from_bytes(last)]

    def cell(self, offset: int, kind: int) -> Cell:
        """The cell that begins there.

        Raises:
            Broken: If there is none.
        """
        at = offset + (4 if kind == INDEX_NODE else 0)
        if not self._start + 8 <= offset < len(self.data):
            raise Broken("it would begin outside of the page")
        size, at = varint(self.data, at)
        rowid = 0
        if kind == TABLE_LEAF:
            rowid, at = varint(self.data, at)
        if not 0 < size <= _LARGEST:
            raise Broken(f"its size would be {size}")
        return Cell(self.number, offset, kind, rowid, self._payload(size, at, kind))

    def _payload(self, size: int, at: int, kind: int) -> bytes:
        local = bytes_in_page(size, len(self.data), kind)
        if at + local + (4 if local < size else 0) > len(self.data):
            raise Broken("it would end outside of the page")
        parts, left = [self.data[at : at + local]], size - local
        following = int.from_bytes(self.data[at + local : at + local + 4]) if left else 0
        passed = {self.number}
        while left:
            if following in passed:
                raise Broken("its pages run in a circle")
            passed.add(following)
            try:
                page = self._pages.read(following)
            except Missing as missing:
                raise Broken(str(missing)) from None
            parts.append(page[4 : 4 + left])
            left -= len(parts[-1])
            following = int.from_bytes(page[:4])
        return b"".join(parts)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, with its sign, and where the next thing begins.

    Raises:
        Broken: If the data ends before it does.
    """
    value = 0
    for place in range(_LONGEST_VARINT):
        if at + place >= len(data):
            raise Broken("it would end outside of its place")
        byte = data[at + place]
        if place == _LONGEST_VARINT - 1:
            value = value << 8 | byte
            return value - (1 << 64) if value >> 63 else value, at + place + 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
            break
    return value, at + place + 1


def record(payload: bytes) -> list[Value]:
    """The values of a record.

    Raises:
        Broken: If it is none: its header does not fit its length, or a text is not UTF-8.
    """
    header, at = varint(payload, 0)
    if not at <= header <= len(payload):
        raise Broken("its header would be longer than it is")
    types: list[int] = []
    while at < header:
        kind, at = varint(payload, at)
        types.append(kind)
    if at != header:
        raise Broken("its header does not end where it says")
    values: list[Value] = []
    for kind in types:
        value, at = _value(payload, at, kind)
        values.append(value)
    if at != len(payload):
        raise Broken(f"it has {len(payload)} bytes, and its columns {at}")
    return values


def _value(payload: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind == 0:
        return None, at
    if kind in {_ZERO, _ONE}:
        return kind - _ZERO, at
    size = _INTEGERS.get(kind, 8 if kind == _REAL else (kind - _BLOB) // 2)
    raw = payload[at : at + size]
    if size < 0 or kind in {10, 11} or len(raw) < size:
        raise Broken("a column would be longer than it is")
    if kind in _INTEGERS:
        return int.from_bytes(raw, signed=True), at + size
    if kind == _REAL:
        return struct.unpack(">d", raw)[0], at + size
    if kind % 2 == 0:
        return raw, at + size
    try:
        return raw.decode(), at + size
    except UnicodeDecodeError:
        raise Broken("a text is not UTF-8") from None


def bytes_in_page(size: int, page: int, kind: int) -> int:
    """How many bytes of a payload stand in the page itself."""
    most = page - 35 if kind == TABLE_LEAF else (page - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (page - 12) * 32 // 255 - 23
    wanted = least + (size - least) % (page - 4)
    return wanted if wanted <= most else least
