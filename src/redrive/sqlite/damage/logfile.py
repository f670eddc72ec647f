"""The write-ahead log, read by hand: what SQLite would take from it, and what can be saved although it would not.

SQLite takes the frames up to the first one whose checksum does not fit, and of those the ones up to the last commit.
So one flipped bit makes it drop everything behind, however much of that was acknowledged, without a word. Here every
frame is checked by itself, with the checksum that stands in the frame before it; and since a checksum of the log is a
linear function of what it is about, one flipped bit can mostly be found and flipped back.

Source: SQLite, "Database File Format", section 4, "The Write-Ahead Log".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

HEADER = 32
FRAME_HEADER = 24
_MAGIC = 0x377F0682
"""The lowest bit says in which order the bytes of a word are added up."""
_VERSION = 3_007_000
_WORD = 0xFFFF_FFFF

Sums = tuple[int, int]


class Frame(NamedTuple):
    """One page as it was written, and what its frame says of it."""

    number: int
    """1 for the first."""
    page: int
    commit: int
    """Pages of the database after the transaction that ends here; 0: it goes on."""
    is_sound: bool
    """SQLite takes it, as far as the frames before it are sound too."""
    image: bytes | None
    """What was written, after the flipped bit was found; None: take it as it stands."""
    is_lost: bool = False
    """More than one bit is wrong."""


@dataclass(slots=True)
class View:
    """The log, as one of its readers sees it."""

    pages: dict[int, int] = field(default_factory=dict)
    """Where in the log's file each page stands that it holds."""
    images: dict[int, bytes] = field(default_factory=dict)
    """Pages that were mended."""
    count: int | None = None
    """Pages of the database; None: the log says nothing of it."""

    def add(self, frames: list[Frame], page_size: int) -> None:
        """Take one transaction over."""
        for frame in frames:
            self.pages[frame.page] = HEADER + frame.number * (FRAME_HEADER + page_size) - page_size
            self.images.pop(frame.page, None)
            if frame.image is not None:
                self.images[frame.page] = frame.image
        if frames:
            self.count = frames[-1].commit


@dataclass(slots=True)
class LogFile:
    """What a log's file holds of its present generation; what earlier ones left behind it is nothing to anybody."""

    size: int = 0
    """Of the file, in bytes."""
    salts: tuple[int, ...] = ()
    """What its frames have in common."""
    frames: int = 0
    """Up to the last one that ends a transaction."""
    taken: int = 0
    """Frames that SQLite takes."""
    dropped_commits: int = 0
    """Transactions that were written to their end and that SQLite drops."""
    broken: int | None = None
    """The first frame that does not fit; 0: the header."""
    torn: bool = False
    """The last transaction is not whole, by more than one bit: a crash in mid-commit, or damage."""
    sound: View = field(default_factory=View)
    """As SQLite sees it."""
    saved: View = field(default_factory=View)
    """With everything that can be read."""


def read_log(file: BinaryIO, page_size: int) -> LogFile:
    """Read a log from its beginning to its end.

    It costs about 50 µs for each frame, and memory for the numbers of its pages.
    """
    header = file.read(HEADER)
    log = LogFile(size=file.seek(0, 2))
    if len(header) < HEADER or log.size < HEADER + FRAME_HEADER + page_size:
        return log
    reading = _Reading(file, page_size, header)
    log.salts = reading.salts
    log.broken = None if reading.header_is_sound else 0
    before: list[Frame] = []
    transaction: list[Frame] = []
    for frame in reading.frames():
        if not frame.is_sound and log.broken is None:
            log.broken = frame.number
        transaction.append(frame)
        if frame.commit:
            _take(log, transaction, page_size)
            log.saved.add(before, page_size)
            before, transaction = transaction, []
    log.torn = any(frame.is_lost for frame in before)
    log.saved.add([] if log.torn else before, page_size)
    if log.broken is not None and log.broken > log.frames:
        log.broken = None  # a transaction that never came to its end: nobody was told of it
    return log


def _take(log: LogFile, transaction: list[Frame], page_size: int) -> None:
    log.frames = transaction[-1].number
    if log.broken is None:
        log.taken = log.frames
        log.sound.add(transaction, page_size)
    else:
        log.dropped_commits += 1


class _Reading:
    """One pass over a log's file."""

    def __init__(self, file: BinaryIO, page_size: int, header: bytes) -> None:
        self._file, self._page_size = file, page_size
        self._step = FRAME_HEADER + page_size
        magic, version, size, _, *salts, first, second = struct.unpack(">8I", header)
        self._order = self._order_of(header, *("><" if magic & 1 else "<>"))
        facts = (magic | 1, version, size) == (_MAGIC | 1, _VERSION, page_size)
        self.header_is_sound = facts and self._fits(header)
        self.salts = tuple(salts) if self._fits(header) else self._salts(1)[1]
        self._seeds: set[Sums] = {(first, second), self._sums(header[:24], (0, 0))}

    def frames(self) -> Iterator[Frame]:
        """Every frame of this generation, each checked by itself."""
        is_sound = self.header_is_sound
        last = self._last()
        for number in range(1, last + 1):
            frame, stored, computed = self._frame(number)
            is_sound = is_sound and frame.is_sound
            yield frame._replace(is_sound=is_sound)
            self._seeds = {stored, computed}

    def _fits(self, header: bytes) -> bool:
        return self._sums(header[:24], (0, 0)) == struct.unpack(">2I", header[24:])

    def _order_of(self, header: bytes, said: str, other: str) -> str:
        """Which of the two orders of bytes fits the header or the first frame."""
        for self._order in (said, other):
            seeds: list[Sums] = [struct.unpack(">2I", header[24:]), self._sums(header[:24], (0, 0))]
            if self._fits(header) or any(self._follows(0, seed) for seed in seeds):
                return self._order
        return said

    def _salts(self, number: int) -> tuple[int, tuple[int, ...]]:
        self._file.seek(HEADER + (number - 1) * self._step)
        _, commit, *salts = struct.unpack(">4I", self._file.read(16))
        return commit, tuple(salts)

    def _last(self) -> int:
        """The last frame of this generation; earlier ones have other salts, of which one is random."""
        self._file.seek(0, 2)
        numbers = range(1, (self._file.tell() - HEADER) // self._step + 1)
        return max((number for number in numbers if self._is_of_now(self._salts(number)[1])), default=0)

    def _is_of_now(self, salts: tuple[int, ...]) -> bool:
        """Whether the salts are this generation's, but for a bit."""
        return sum((one ^ own).bit_count() for one, own in zip(salts, self.salts, strict=True)) <= 1

    def _frame(self, number: int) -> tuple[Frame, Sums, Sums]:
        self._file.seek(HEADER + (number - 1) * self._step)
        header, image = self._file.read(FRAME_HEADER), self._file.read(self._page_size)
        page, commit, *salts, first, second = struct.unpack(">6I", header)
        stored = (first, second)
        sums = {seed: self._sums(image, self._sums(header[:8], seed)) for seed in self._seeds}
        is_sound = stored in sums.values() and tuple(salts) == self.salts
        if stored in sums.values():
            return Frame(number, page, commit, is_sound, None), stored, stored
        for computed in sums.values():
            if self._follows(number, computed):  # only the checksum is damaged
                return Frame(number, page, commit, False, None), stored, computed  # noqa: FBT003 - a fact
        flips = [one for seed in sums for one in _flips(header[:8] + image, self._order, seed, stored)]
        if len(flips) != 1:
            return Frame(number, page, commit, False, None, is_lost=not flips), stored, stored  # noqa: FBT003 - a fact
        page, commit = struct.unpack(">2I", flips[0][:8])
        return Frame(number, page, commit, False, flips[0][8:]), stored, stored  # noqa: FBT003 - likewise

    def _follows(self, number: int, sums: Sums) -> bool:
        """Whether the next frame was written behind one with this checksum."""
        self._file.seek(HEADER + number * self._step)
        header, image = self._file.read(FRAME_HEADER), self._file.read(self._page_size)
        if len(image) < self._page_size:
            return False
        return self._sums(image, self._sums(header[:8], sums)) == struct.unpack(">2I", header[16:])

    def _sums(self, data: bytes, seed: Sums) -> Sums:
        first, second = seed
        words = iter(struct.unpack(f"{self._order}{len(data) // 4}I", data))
        for word in words:
            first = (first + word + second) & _WORD
            second = (second + next(words) + first) & _WORD
        return first, second


def _flips(data: bytes, order: str, seed: Sums, expected: Sums) -> list[bytes]:
    """The data with one bit flipped back, for each bit with which its checksum is the expected one.

    None: more than one bit is wrong. Several: a sum modulo 2^32 cannot tell the places of high bits apart.

    A word that is `d` too large makes the two sums too large by `d` times two numbers that depend on its place alone.
    They are counted from the end, where they are 1 and 1 (for the last but one word) and 0 and 1 (for the last).
    """
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    first, second = seed
    for place in range(0, len(words), 2):
        first = (first + words[place] + second) & _WORD
        second = (second + words[place + 1] + first) & _WORD
    off = ((first - expected[0]) & _WORD, (second - expected[1]) & _WORD)
    weights = [(1, 1), (0, 1)]
    found = []
    for place in range(len(words) - 1, -1, -1):
        weight = weights[place % 2]
        found += [
            struct.pack(f"{order}{len(words)}I", *words[:place], word, *words[place + 1 :])
            for word in _flipped(words[place], weight, off)
        ]
        total = (weight[0] + weight[1]) & _WORD  # what one more pair of words makes of the difference
        weights[place % 2] = (total, (weight[1] + total) & _WORD)
    return found


def _flipped(word: int, weight: Sums, off: Sums) -> Iterator[int]:
    for bit in range(32):
        change = 1 << bit if word >> bit & 1 else -(1 << bit)  # a set bit may be too much, a clear one too little
        if (change * weight[0]) & _WORD == off[0] and (change * weight[1]) & _WORD == off[1]:
            yield word ^ (1 << bit)
